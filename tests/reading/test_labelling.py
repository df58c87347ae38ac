import os

from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import REPLACEMENT, Charset
from crnn_jax.core.errors import UserError
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


def test_every_image_that_is_left_out_is_counted(tmp_path):
    labels = Labels(str(tmp_path / "new.tsv"), 0.5)
    labels.add("a.png", Reading("right", 0.5))
    assert str(labels) == f"{tmp_path / 'new.tsv'}: 1 of 1"
    labels.add("b.png", Reading("unsure", 0.4999))
    labels.add("c.png", Reading("", 1.0))
    labels.add("d.png", Reading(f"a{REPLACEMENT}", 1.0))
    labels.add("e.png", UserError("damaged"))
    labels.add("f\t.png", Reading("right", 1.0))
    assert labels.lines == [f"{os.path.relpath('a.png', tmp_path)}\tright"]
    assert str(labels).startswith(f"{tmp_path / 'new.tsv'}: 1 of 6; left out: 1 below 0.5, ")
    assert len(labels.left_out) == 5
