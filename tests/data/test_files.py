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
from crnn_jax.data.files import COMPOSED, STRIPPED, FileSource
from crnn_jax.data.plan import Plan
from crnn_jax.data.source import CHANGED, NO_LABEL, UNKNOWN_CHARACTER
from tests.data.conftest import write_picture

LOWER = Charset.from_characters("abcdefghijklmnopqrstuvwxyz0123456789", ignore_case=True)


def annotation(tmp_path, text, name="labels.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels_by_hand(source):
    flat, offsets = source.labels
    return [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize(
    ('text', 'found', 'count'),
    [
        ('i/1_Paintbrushes_55044.jpg 55044\ni/2_Reimbursing_64165.jpg 64165\ni/3_A_1.jpg 1',
         'mjsynth', 3),
        ('i/word_1.png, "Tiredness"\ni/word_2.png, "kills"\ni/word_3.png, "A"', 'icdar', 3),
        ('i/1_Paintbrushes_5.jpg Paintbrushes\ni/word_1.png Tiredness\nc kills\nd A', 'simple', 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_example_files_of_crnn_tf2(tmp_path, text, found, count, mark, end):
    lines = (mark + text).replace("\n", end)
    for last in ("", end, end + end):
        source = FileSource(annotation(tmp_path, lines + last), LOWER)
        assert source.format == found
        assert (len(source), source.usable.sum()) == (count, count)
        assert source.identity(0) == str(tmp_path / text.split("\n")[0].split()[0].rstrip(","))
        assert source.text(count - 1) == "a"
        assert labels_by_hand(source)[-1] == [0]


def test_labels_and_texts(words):
    source = FileSource(words.path, words.charset)
    assert source.format == "tsv"
    assert labels_by_hand(source) == [[ord(c) - 97 for c in w] for w in words.labels]
    ids = np.array([7, 3, 7, 99])
    flat, offsets = source.labels_of(ids)
    assert offsets.tolist() == np.cumsum([0, *(len(words.labels[i]) for i in ids)]).tolist()
    assert flat.tolist() == [ord(c) - 97 for i in ids for c in words.labels[i]]
    assert [source.text(i) for i in range(100)] == words.labels


def test_sizes_and_pictures(words):
    source = FileSource(words.path, words.charset)
    ids = np.arange(100)[::-1]
    assert source.sizes(ids).tolist() == [list(words.sizes[i]) for i in ids]
    pictures = source.read(np.array([5, 2]))
    assert [p.shape for p in pictures] == [(*words.sizes[5], 1), (*words.sizes[2], 1)]
    colour = FileSource(words.path, words.charset, channels=3)
    assert colour.read(np.array([5]))[0].shape == (*words.sizes[5], 3)


def test_every_line_that_cannot_be_used_is_counted(tmp_path):
    path = annotation(tmp_path, "a.png\tok\nb.png\t\n\nc.png\tx?y\nd.png\t!!\n")
    source = FileSource(path, LOWER)
    assert len(source) == 4
    assert source.usable.tolist() == [True, False, False, False]
    assert source.reasons.counts == {NO_LABEL: 1, UNKNOWN_CHARACTER: 2}
    assert source.reasons.examples[NO_LABEL] == [f"{path}:2 ''"]
    assert source.reasons.examples[UNKNOWN_CHARACTER] == [f"{path}:4 'x?y'", f"{path}:5 '!!'"]
    assert source.index.unknown == {"?": 1, "!": 2}
    assert source.text(2) == "x?y"
    stripped = FileSource(path, LOWER, unknown="strip")
    assert labels_by_hand(stripped)[2] == [23, 24]
    assert stripped.reasons.counts == {NO_LABEL: 2}  # nothing was left of the last one
    assert stripped.text(2) == "x?y"
    assert source.notes.counts == {}
    assert stripped.notes.counts == {STRIPPED: 2}
    composed = FileSource(annotation(tmp_path, "a.png e\u0301\nb.png a"), LOWER)
    assert composed.notes.counts == {COMPOSED: 1}
    assert composed.notes.lines() == [f"1 {COMPOSED}"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("1_x_2.jpg 2\n1_y_3.jpg 3\n\n1_z_4.jpg\n", 4, "'1_z_4.jpg' is not mjsynth"),
        ('a.png, "x"\nb.png, "y"\nc.png "z"\n', 3, "is not icdar"),
        ("a.png\tx\nb.png\ty\nc.png z", 3, "is not tsv"),
        (b"a.png x\nb.png \xff\n", 2, "not UTF-8 (byte 0xff)"),
        ("1_x_2.jpg 2\n" * 50 + 'a.png, "x"\n' * 50, 51, "is not mjsynth"),
        ("a.png x\n" * 200 + "./9/1_x_2.jpg 2\n", 201, "is not simple: it reads as mjsynth"),
        ('a.png x\nb.png y\nc.png, "z"\n', 3, "is not simple: it reads as icdar"),
    ],
)
def test_the_line_that_differs_is_named(tmp_path, text, line, what):
    with pytest.raises(UserError) as error:
        FileSource(annotation(tmp_path, text), LOWER)
    assert str(error.value).startswith(f"{tmp_path}/labels.txt:{line}: ")
    assert what in str(error.value)


def test_parts_of_parts(words):
    source = FileSource(words.path, words.charset)
    part = source.part(np.arange(50)).part(np.array([7, 3]), "few")
    assert (part.name, len(part)) == ("few", 2)
    assert part.text(1) == words.labels[3]
    assert part.sizes(np.array([0])).tolist() == [list(words.sizes[7])]
    assert part.read(np.array([1]))[0].shape == (*words.sizes[3], 1)
    flat, offsets = part.labels
    assert flat[: offsets[1]].tolist() == [ord(c) - 97 for c in words.labels[7]]
    assert part.usable.tolist() == [True, True]
    assert part.reasons.total() == part.notes.total() == 0


def test_a_named_format_is_not_disputed(tmp_path):
    path = annotation(tmp_path, "a.png x\na.png y\n./9/1_x_2.jpg 2\n")
    assert FileSource(path, LOWER, format="simple").text(2) == "2"


def test_a_line_far_down_is_named_too(tmp_path):
    text = "1_x_2.jpg 2\n" * 400_000 + "broken\n"  # beyond one block
    with pytest.raises(UserError, match=r"labels\.txt:400001: "):
        FileSource(annotation(tmp_path, text), LOWER)


@pytest.mark.parametrize("block_bytes", [1, 7, 40])
def test_small_blocks_change_nothing(tmp_path, monkeypatch, block_bytes):
    table = Charset.from_characters("abéß")
    lines = ["ä.png\té", "ö.png\tAB", "", "b.png\tßa", "ü ü.png\tÉ", "c.png\tb\r", "d.png\tab"]
    path = annotation(tmp_path, "\ufeff" + "\n".join(lines))
    whole = FileSource(path, table)
    assert [whole.text(i) for i in range(len(whole))] == ["é", "AB", "ßa", "É", "b", "ab"]
    assert whole.line(3)[0] == "ü ü.png"
    assert whole.case_note() == f"{path}:2 'AB'"
    monkeypatch.setattr(annotations, "BLOCK_BYTES", block_bytes)
    parts = FileSource(path, table)
    assert labels_by_hand(parts) == labels_by_hand(whole)
    assert parts.index.places.tolist() == whole.index.places.tolist()
    assert parts.index.counts == whole.index.counts
    assert parts.index.unknown == whole.index.unknown
    late = annotation(tmp_path, "x.png\ta\n" * 20 + "y.png\tA\n" + "z.png\tB\n")
    assert FileSource(late, table).case_note() == f"{late}:21 'A'"


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


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.txt: no annotation file: No such file"):
        FileSource(tmp_path / "nowhere.txt", LOWER)
    with pytest.raises(UserError, match="no lines"):
        FileSource(annotation(tmp_path, ""), LOWER)
    with pytest.raises(UserError, match="no samples in this tsv set"):
        FileSource(annotation(tmp_path, "\n  \n"), LOWER, format="tsv")
    with pytest.raises(UserError, match="no pictures in this folder"):
        FileSource(tmp_path, LOWER)
    path = annotation(tmp_path, "a.png x")
    with pytest.raises(UserError, match=r"data\.images='nowhere': no such folder"):
        FileSource(path, LOWER, images="nowhere")
    write_picture(tmp_path / "x.png", 9, 9)
    with pytest.raises(UserError, match=r"is a folder; want mjsynth \| name"):
        FileSource(tmp_path, LOWER, format="icdar")
    with pytest.raises(UserError, match=r"labels\.txt:1: no picture .*a\.png; paths start"):
        FileSource(path, LOWER).require_pictures()


def test_pictures_that_cannot_be_read(tmp_path):
    write_picture(tmp_path / "good.png", 20, 30)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")
    lines = ["good.png a", "missing.png a", "empty.png a", "text.png a"]
    source = FileSource(annotation(tmp_path, "\n".join(lines)), LOWER)
    expected = [images.MISSING, images.EMPTY, images.NO_PICTURE]
    assert source.read(np.arange(4))[1:] == expected
    sizes = source.sizes(np.arange(4))
    assert sizes[0].tolist() == [20, 30]
    assert sizes[1:, 0].tolist() == [0, 0, 0]
    assert [images.REASONS[-k] for k in sizes[1:, 1]] == expected
    source.require_pictures()


def test_a_picture_that_changed_since_its_header_was_read(tmp_path):
    write_picture(tmp_path / "a.png", 20, 30)
    source = FileSource(annotation(tmp_path, "a.png a"), LOWER)
    assert source.read(np.array([0]))[0].shape == (20, 30, 1)
    source.sizes(np.array([0]))
    write_picture(tmp_path / "a.png", 20, 31)
    assert source.read(np.array([0])) == [CHANGED]


def test_a_folder_of_named_pictures(tmp_path):
    for name in ("b/AB_2.jpg", "2b827.png", ".hidden.png", ".git/x.png"):
        write_picture(tmp_path / name, 20, 30)
    (tmp_path / "README.txt").write_text("no picture")
    source = FileSource(tmp_path, LOWER)
    assert [source.text(i) for i in range(len(source))] == ["2b827", "ab"]
    assert source.identity(1) == str(tmp_path / "b/AB_2.jpg")
    assert source.read(np.array([1]))[0].shape == (20, 30, 1)
    write_picture(tmp_path / "line\nbreak.png", 20, 30)
    assert FileSource(tmp_path, LOWER).reader.left_out == ["line\nbreak.png"]


def test_images_may_lie_elsewhere(tmp_path):
    write_picture(tmp_path / "pictures/a.png", 20, 30)
    path = annotation(tmp_path, "./a.png a")
    source = FileSource(path, LOWER, images=str(tmp_path / "pictures"))
    assert source.read(np.array([0]))[0].shape == (20, 30, 1)
    assert list(source.written_paths()) == ["a.png"]


def test_an_annotation_in_the_working_folder(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", 20, 30)
    annotation(tmp_path, "a.png a")
    monkeypatch.chdir(tmp_path)
    assert FileSource("labels.txt", LOWER).read(np.array([0]))[0].shape == (20, 30, 1)


def test_case_alone(tmp_path):
    plain = Charset.from_characters("abcdefghijklmnopqrstuvwxyz")
    path = annotation(tmp_path, "x.png ab\n" * 98 + "x.png Ab\nx.png a?\n")
    FileSource(path, plain).require_case()  # 1 %, not more
    path = annotation(tmp_path, "x.png ab\n" * 97 + "x.png Ab\nx.png AB\nx.png A?\n")
    source = FileSource(path, plain)
    with pytest.raises(UserError, match=r"labels\.txt:98 'Ab': .* 2\.0 % .*ignore_case"):
        source.require_case()
    FileSource(path, LOWER).require_case()


def test_a_pickled_source_is_the_same(words):
    source = FileSource(words.path, words.charset)
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert copy.text(42) == source.text(42)
    assert copy.read(np.array([42]))[0].shape == source.read(np.array([42]))[0].shape


def test_the_first_path_out_of_the_folder_is_named(tmp_path):
    path = annotation(tmp_path, "a.png\tab\n../b.png\tab\n/c.png\tab\n", "labels.tsv")
    (found,) = FileSource(path, LOWER).path_notes().to_json().values()
    assert found == {"count": 2, "examples": [f"{path}:2 '../b.png'"]}


def test_a_picture_that_was_mended_meanwhile_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"half a picture")
    source = FileSource(annotation(tmp_path, "a.png\tab\n", "labels.tsv"), LOWER)
    assert source.sizes(np.arange(1))[0, 0] == 0
    write_picture(tmp_path / "a.png", 20, 30)
    (picture,) = source.read(np.arange(1))
    assert picture.shape == (20, 30, 1)
