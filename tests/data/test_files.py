import itertools
import pickle
import tracemalloc

import numpy as np
import pytest

from crnn_jax.core import images
from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data import annotations
from crnn_jax.data.annotations import LEFT_OUT
from crnn_jax.data.files import CHANGED_LABEL, NUMBERED, FileSource
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import CHANGED, NO_LABEL, UNKNOWN_CHARACTER
from tests.data.conftest import write_picture

LOWER = Charset.from_characters("abcdefghijklmnopqrstuvwxyz0123456789", ignore_case=True)


def annotation(tmp_path, text, name="labels.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels_of(source):
    flat, offsets = source.labels
    return [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "i/1_Paintbrushes_55044.jpg 55044\ni/2_Creation_64165.jpg 64165\ni/3_A_1.jpg 1",
            "mjsynth",
        ),
        ('i/word_1.png, "Tiredness"\ni/word_2.png, "kills"\ni/word_3.png, "A"', "icdar"),
        ("i/1_Paintbrushes_5.jpg Paintbrushes\ni/word_1.png Tiredness\nd A", "simple"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_formats_line_ends_and_byte_order_marks(tmp_path, text, found, mark, end):
    for last in ("", end + end):
        source = FileSource(annotation(tmp_path, (mark + text).replace("\n", end) + last), LOWER)
        assert (source.format, len(source), source.usable.sum()) == (found, 3, 3)
        assert source.identity(0) == str(tmp_path / text.split("\n")[0].split()[0].rstrip(","))
        assert (source.text(2), labels_of(source)[2]) == ("a", [0])


def test_labels_sizes_and_images(words):
    source = FileSource(words.path, words.charset)
    assert labels_of(source) == [[ord(c) - 97 for c in w] for w in words.labels]
    flat, offsets = source.labels_of(np.array([7, 3, 7]))
    assert flat.tolist() == [ord(c) - 97 for i in (7, 3, 7) for c in words.labels[i]]
    assert np.diff(offsets).tolist() == [len(words.labels[i]) for i in (7, 3, 7)]
    ids = np.arange(100)[::-1]
    assert source.sizes(ids).tolist() == [list(words.sizes[i]) for i in ids]
    found = source.read(np.array([5, 2]))
    assert [image.shape for image in found] == [(*words.sizes[5], 1), (*words.sizes[2], 1)]
    colour = FileSource(words.path, words.charset, channels=3)
    assert colour.read(np.array([5]))[0].shape == (*words.sizes[5], 3)
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301
    np.testing.assert_array_equal(copy.read(np.array([5]))[0], found[0])


def test_every_line_that_cannot_be_used_is_counted(tmp_path):
    path = annotation(tmp_path, "a.png\tok\nb.png\t\n\nc.png\tx?y\nd.png\t!!\n")
    source = FileSource(path, LOWER)
    assert source.usable.tolist() == [True, False, False, False]
    assert source.reasons.counts == {NO_LABEL: 1, UNKNOWN_CHARACTER: 2}
    assert source.reasons.examples[NO_LABEL] == [f"{path}:2 ''"]
    assert source.reasons.examples[UNKNOWN_CHARACTER] == [f"{path}:4 'x?y'", f"{path}:5 '!!'"]
    assert source.index.unknown == {"?": 1, "!": 2}
    stripped = FileSource(path, LOWER, unknown="strip")
    assert labels_of(stripped)[2] == [23, 24]
    assert stripped.reasons.counts == {NO_LABEL: 2}  # nothing was left of the last one
    assert stripped.text(2) == "x?y"
    assert (source.notes.counts, stripped.notes.counts) == ({}, {CHANGED_LABEL["strip"]: 2})


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("1_x_2.jpg 2\n1_y_3.jpg 3\n\n1_z_4.jpg\n", 4, "'1_z_4.jpg' is not mjsynth"),
        ("a.png\tx\nb.png\ty\nc.png z", 3, "is not tsv"),
        (b"a.png x\nb.png \xff\n", 2, "not UTF-8 (byte 0xff)"),
        ("a.png x\n" * 200 + "./9/1_x_2.jpg 2\n", 201, "is not simple: it reads as mjsynth"),
        ('a.png x\nb.png y\nc.png, "z"\n', 3, "is not simple: it reads as icdar"),
        ("1_x_2.jpg 2\n" * 400_000 + "broken\n", 400_001, "is not mjsynth"),  # beyond one block
    ],
    ids=["mjsynth", "tsv", "bytes", "simple", "icdar", "far down"],
)
def test_the_line_that_differs_is_named(tmp_path, text, line, what):
    with pytest.raises(UserError) as error:
        FileSource(annotation(tmp_path, text), LOWER)
    assert str(error.value).startswith(f"{tmp_path}/labels.txt:{line}: ")
    assert what in str(error.value)


def test_memory_of_a_large_file(tmp_path, monkeypatch):
    count = 60_000
    lines = (f"./{i // 300}/{i % 300}_Recognisers_{i % 9999}.jpg {i % 9999}" for i in range(count))
    path = annotation(tmp_path, "\n".join(lines))
    # What is looked at together is as small beside this file as usual beside millions of lines.
    monkeypatch.setattr(annotations, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("crnn_jax.data.source.CHUNK", 1 << 12)
    FileSource(annotation(tmp_path, "a.png a", "small.txt"), LOWER)  # what is loaded once
    tracemalloc.start()
    source = FileSource(path, LOWER)
    rule = Preprocessing(width=100)
    plan = Plan(source, batch_size=64, preprocessing=rule, geometry="keras", window=1 << 12)
    plan.row(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source) == plan.num_samples == count
    table = 4 * 0x110000  # of the encoder, whatever the file's size
    assert (peak - table) / count < 90  # with 11 characters a label; 100 are the promise


def test_mistakes(tmp_path):
    path = annotation(tmp_path, "a.png x")
    write_picture(tmp_path / "set/x.png", 9, 9)
    (tmp_path / "empty").mkdir()
    for given, options, what in (
        ("nowhere.txt", {}, r"nowhere\.txt: no annotation file"),
        (annotation(tmp_path, "\n  \n", "blank"), {"format": "tsv"}, "no samples in this tsv set"),
        (tmp_path / "empty", {}, "no images in this folder"),
        (path, {"images": "nowhere"}, r"data\.images='nowhere'"),
        (tmp_path / "set", {"format": "icdar"}, r"data\.format='icdar'"),
    ):
        with pytest.raises(UserError, match=what):
            FileSource(given, LOWER, **options)
    source = FileSource(path, LOWER)
    annotation(tmp_path, "b.png x\n")
    with pytest.raises(UserError, match="was changed while it was in use"):
        source.text(0)


def test_images_that_cannot_be_read_and_one_that_changes(tmp_path):
    write_picture(tmp_path / "good.png", 20, 30)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("text")
    lines = "good.png a\nmissing.png a\nempty.png a\ntext.png a\n"
    source = FileSource(annotation(tmp_path, lines), LOWER)
    expected = [images.MISSING, images.EMPTY, images.NO_IMAGE]
    assert source.read(np.arange(4))[1:] == expected
    sizes = source.sizes(np.arange(4))
    assert (sizes[0].tolist(), sizes[1:, 0].tolist()) == ([20, 30], [0, 0, 0])
    assert [images.REASONS[-k] for k in sizes[1:, 1]] == expected
    source.require_images()
    write_picture(tmp_path / "good.png", 20, 31)  # since its header was read
    write_picture(tmp_path / "text.png", 20, 30)  # mended
    first, *_, last = source.read(np.arange(4))
    assert (first, last.shape) == (CHANGED, (20, 30, 1))


def test_cached_sizes_that_are_wrong_are_read_anew_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_jax.data.index.WORTH_SECONDS", -1.0)
    path = annotation(tmp_path, "a.png a\n")

    def opened():
        source = FileSource(path, LOWER, cache=True)
        return source.sizes(np.arange(1)).tolist(), source.read(np.arange(1))[0]

    write_picture(tmp_path / "a.png", 20, 30)
    opened()
    write_picture(tmp_path / "a.png", 20, 31)
    assert opened() == ([[20, 30]], CHANGED)
    sizes, image = opened()
    assert (sizes, image.shape) == ([[20, 31]], (20, 31, 1))


def test_a_folder_of_named_images(tmp_path):
    for name in (
        "b/AB_2.jpg",
        "2b827.png",
        "x1.png",
        ".hidden.png",
        ".git/x.png",
        "line\nbreak.png",
    ):
        write_picture(tmp_path / name, 20, 30)
    (tmp_path / "README.txt").write_text("no picture")
    source = FileSource(tmp_path, LOWER)
    assert [source.text(i) for i in range(len(source))] == ["2b827", "ab", "x1"]
    assert source.identity(1) == str(tmp_path / "b/AB_2.jpg")
    assert source.read(np.array([1]))[0].shape == (20, 30, 1)
    assert source.reader.left_out == ["line\nbreak.png"]
    assert source.notes.counts == {LEFT_OUT: 1, NUMBERED: 1}
    assert source.notes.examples[NUMBERED] == [f"{tmp_path}/b/AB_2.jpg 'AB'"]
    assert [NUMBERED in source.part(np.array([i])).notes.counts for i in (0, 1)] == [False, True]
    for name in ("1_2_3.png", "5_67_8.png"):  # as MJSynth's
        write_picture(tmp_path / "dates" / name, 20, 30)
    source = FileSource(tmp_path / "dates", LOWER)
    assert [source.text(i) for i in range(2)] == ["2", "67"]
    assert source.notes.counts == {NUMBERED: 2}
    lines = annotation(tmp_path, "b/AB_2.jpg\tAB\n")
    assert FileSource(lines, LOWER).notes.counts == {}  # as it is written
