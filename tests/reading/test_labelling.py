import os

from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import REPLACEMENT, Charset
from crnn_jax.data.files import FileSource
from crnn_jax.reading.labelling import Labels
from crnn_jax.reading.recognizer import Reading

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
NAMES = st.text(st.sampled_from("aä \t\n\r.,\"'/\\\udc80"), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, TEXTS))
def test_what_is_written_is_read_as_it_was_meant(tmp_path_factory, texts):
    file = tmp_path_factory.mktemp("labels") / "new.tsv"
    labels = Labels(str(file))
    for name, text in texts.items():
        labels.add(f"{file.parent}/x/{name}.png", Reading(text, 1.0))
    labels.write()
    assert len(labels.lines) + labels.left_out.total() == len(texts)
    if not labels.lines:
        return
    source = FileSource(file, Charset.from_characters("a"), format="tsv")
    kept = [
        (os.path.normpath(f"{file.parent}/x/{name}.png"), text)
        for name, text in texts.items()
        if not set("\t\n\r\udc80") & set(name) and not set("\n\r" + REPLACEMENT) & set(text)
    ]
    found = [(os.path.normpath(source.identity(i)), source.line(i)[1]) for i in range(len(source))]
    assert found == kept
