import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data.source import Source

IDS = [0, 3, 2**33, 41, 7]  # a run's later epochs have large numbers

IN_ANOTHER_PROCESS = """
import hashlib, pickle, sys
source = pickle.load(open(sys.argv[1], "rb"))
for i in map(int, sys.argv[2:]):
    image, = source.read([i])
    print(source.text(i), *image.shape, hashlib.sha256(image.tobytes()).hexdigest())
"""


def lines(source, ids):
    found = []
    for i, image in zip(ids, source.read(ids), strict=True):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        found.append(" ".join(map(str, (source.text(i), *image.shape, digest))))
    return found


def test_another_process_and_another_order_draw_the_same(make_source, tmp_path, root):
    source = make_source()
    assert isinstance(source, Source)
    here = lines(source, IDS)
    file = tmp_path / "source.pickle"
    file.write_bytes(pickle.dumps(source))
    arguments = [sys.executable, "-c", IN_ANOTHER_PROCESS, file, *map(str, IDS[::-1])]
    answer = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == here[::-1]


def test_texts_are_those_of_earlier_versions(make_source):
    """A run that is resumed, or repeated with a later version, meets the same words."""
    words = " ".join(make_source().texts.write(0, i)[0] for i in range(200))
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == "223e3f519b40c60c"


def test_seeds_and_numbers_differ(make_source):
    source, other = make_source(), make_source(seed=1)
    assert len(set(lines(source, range(8)))) == 8
    assert not set(lines(source, range(8))) & set(lines(other, range(8)))


@pytest.mark.parametrize("style", ["plain", "scene"])
@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_sizes_and_labels_are_those_of_the_images(make_source, style, color):
    source = make_source(style=style, color=color)
    ids = np.arange(24) + 5000
    sizes = source.sizes(ids)
    flat, offsets = source.labels_of(ids)
    assert sizes.dtype == np.int32
    assert sizes.shape == (24, 2)
    assert flat.dtype == np.int32
    assert offsets.dtype == np.int64
    for j, image in enumerate(source.read(ids)):
        assert image.dtype == np.uint8
        assert image.shape == (*sizes[j], 1 if color == "grey" else 3)
        assert 32 <= sizes[j, 0] <= 40
        assert image.flags.c_contiguous
        label = flat[offsets[j] : offsets[j + 1]]
        assert label.size > 0
        assert source.charset.decode(label) == source.text(ids[j])
        drawn = source.layout(ids[j]).drawn
        assert source.texts.label(drawn) == source.text(ids[j])


def test_a_space_that_no_face_draws_is_not_written(make_source, tmp_path):
    (tmp_path / "words.txt").write_text("ab\u00a0cd\nef\n", encoding="utf-8")
    table = Charset.from_characters("abcdef \u00a0")
    source = make_source(table, style="plain", words=str(tmp_path / "words.txt"))
    assert len(source.sizes(range(300))) == 300
    texts = {source.text(i) for i in range(300)}
    assert any("ef" in text for text in texts)
    assert not any("\u00a0" in text for text in texts)


def test_fingerprint_follows_what_is_drawn(make_source):
    first = make_source().fingerprint()
    assert first == make_source().fingerprint()
    for change in ({"seed": 1}, {"style": "plain"}, {"heights": (32, 48)}, {"color": "rgb"}):
        assert make_source(**change).fingerprint() != first


def test_words_that_the_table_lacks_are_told(make_source, tmp_path):
    words = tmp_path / "ru.txt"
    words.write_text("\u0434\u043e\u043c\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"ru\.txt: the character table can write none"):
        make_source(words=str(words))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": "baroque"}, "baroque"),
        ({"color": "blue"}, "synthetic.color"),
        ({"count": 0}, "synthetic.count"),
        ({"heights": (0, 0)}, "synthetic.heights"),
        ({"heights": (32,)}, r"synthetic.heights=\(32,\): \(low, high\)"),
        ({"max_aspect": 0.0}, "synthetic.max_aspect"),
        ({"max_aspect": float("nan")}, "synthetic.max_aspect"),
        ({"max_aspect": float("inf")}, "synthetic.max_aspect"),
        ({"fonts": "no/such/folder"}, "no/such/folder"),
        ({"words": "no/such/words.txt"}, "no/such/words.txt"),
        ({"charset": Charset.from_characters("ab\u4e00")}, "no face draws"),
    ],
)
def test_mistakes_are_told(make_source, changes, message):
    with pytest.raises(UserError, match=message):
        make_source(**changes)
