import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.data import annotations
from crnn_jax.data.annotations import Annotation, detect, list_image_paths, parser
from crnn_jax.data.files import FileSource

MJSYNTH, ICDAR, SIMPLE, TSV = "1_x_2.jpg 2", 'a.png, "x"', "a.png x", "a b.png\tx"


@pytest.mark.parametrize(
    ("name", "line", "path", "label"),
    [
        ("mjsynth", "./2425/1/115_Lube_45484.jpg 45484", "./2425/1/115_Lube_45484.jpg", "Lube"),
        ("mjsynth", "a_b/c_d/1_x_2.jpg  2 ", "a_b/c_d/1_x_2.jpg", "x"),  # folders hold `_`
        ("icdar", 'a.png, "x, y"', "a.png", "x, y"),
        ("icdar", r'a.png, "READER\""', "a.png", 'READER"'),
        ("icdar", 'a.png, "b.png, "c""', "a.png", 'b.png, "c"'),
        ("tsv", "a b.png\tx\ty ", "a b.png", "x\ty "),
        ("simple", "a.png  hello  world ", "a.png", "hello  world"),
        ("simple", "a.png", "a.png", ""),
        ("name", "2b827.png", "2b827.png", "2b827"),
        ("name", "x/two words_x_3.png", "x/two words_x_3.png", "two words_x"),
    ],
)
def test_lines(name, line, path, label):
    assert parser(name)(line) == (path, label)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mjsynth", "1_x_2.jpg"),
        ("mjsynth", "1_x_2.jpg ²"),  # a digit to Python, no number of a lexicon
        ("icdar", "a.png, x"),
        ("icdar", 'a.png, "x'),
        ("tsv", "a.png x"),
        ("simple", "  "),
    ],
)
def test_lines_that_do_not_fit(name, line):
    with pytest.raises(ValueError, match="want"):
        parser(name)(line)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["1_7_9.png 9"], "mjsynth"),
        (["1_7_9.png 2010"], "simple"),  # not the name's own number
        (["meter_0_4000.png 4000"], "simple"),  # a label that the name holds too
        (['a.png, "x"\t'], "icdar"),
        (['a.png\tx, "y"'], "tsv"),
        (["a.png x", "b.png"], "simple"),
        (["broken", *[MJSYNTH] * 5], "mjsynth"),  # one broken line does not change the format
        ([MJSYNTH, ICDAR], "mjsynth"),  # not simple, which reads both and neither right
        ([TSV, TSV, SIMPLE, MJSYNTH], "tsv"),
        ([SIMPLE, TSV], "simple"),
        (['a.png He said, "x"', SIMPLE, SIMPLE], "simple"),
    ],
)
def test_the_format_that_most_lines_have(lines, name):
    assert detect(lines, "f") == name


def test_no_format_at_all():
    with pytest.raises(UserError, match=r"list.txt:1: 'a.png' has no label"):
        detect(["a.png", "b.png"], "list.txt")
    with pytest.raises(UserError, match=r"list.txt: no lines"):
        detect([], "list.txt")


def test_ones_own_parser(tmp_path):
    assert parser("os.path:split")("a/b") == ("a", "b")
    for wrong in ("xml", "os.path:nothing", "no_such_package_here:f", "os:name", ":f"):
        with pytest.raises(UserError, match=f"data.format={wrong!r}"):
            parser(wrong)
    path = tmp_path / "labels"
    path.write_text("abc\n")
    with pytest.raises(UserError, match=r"labels:1: 'abc' is not builtins:len: "):
        list(Annotation(str(path), "builtins:len").blocks())


def test_names_whose_number_is_no_part_of_the_label(tmp_path):
    cut = [
        "AC-1_7.png",
        "a__7.png",
        "x_1/b_1.tar_22.png",
        "a_7",
        "é_12.jpg",
        "dir.d/x_1.jpeg",
        "7_7.png",
    ]
    whole = ["_7.png", "a_7b.png", "d_1/e.png", "a_7.5.png", "a_.png", "7.png", "d_1/_2.png"]
    path = tmp_path / "names"
    path.write_text("\n".join(f"{a}\n{b}" for a, b in zip(cut, whole, strict=True)))
    reader = Annotation(str(path), "name")
    assert [reader.line(place)[0] for place in reader.numbered()] == cut
    for names, number in ((cut, True), (whole, False)):  # as the parser has it
        assert [reader.parse(n)[1] != Path(n).stem for n in names] == [number] * len(names)


@pytest.mark.parametrize("name", ["mjsynth", "gt"])
def test_a_folder_whose_names_do_not_fit(tmp_path, name):
    (tmp_path / "logo.png").write_bytes(b"")
    with pytest.raises(UserError, match=f"'logo.png' is not {name}: want"):
        list(Annotation(str(tmp_path), name).blocks())


def test_a_folder_without_a_usable_name_says_what_it_leaves_out(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no images in this folder$"):
        list_image_paths(str(tmp_path))
    (tmp_path / os.fsdecode(b"\xe9.png")).touch()
    with pytest.raises(UserError, match=r"not UTF-8, .* left out: '\\udce9\.png'"):
        list_image_paths(str(tmp_path))

    def denied(top):
        raise PermissionError(13, "Permission denied", top)

    monkeypatch.setattr("os.scandir", denied)
    monkeypatch.setattr("os.listdir", denied)
    with pytest.raises(UserError, match=r"unreadable folder, left out: '\.'"):
        FileSource(tmp_path, Charset.from_characters("a"))


@pytest.mark.parametrize("size", [5 << 20, 9 << 20])
def test_no_line_is_endless(tmp_path, size):
    (path := tmp_path / "labels").write_bytes(b"b.png b\n" + b"x" * size + b"\nc.png c\n")
    with pytest.raises(UserError, match="labels:2: a line of over 4,194,304 bytes"):
        list(Annotation(str(path), "simple").blocks())


def test_a_label_longer_than_any_image_has_frames_is_cut(tmp_path):
    accents = "e" + "\u0301\u0323" * 500_000  # NFC's time grows with the square of their number
    (path := tmp_path / "labels").write_text(f"a.png {accents}\nb.png b\n", encoding="utf-8")
    reader = Annotation(str(path), "simple")
    (block,) = reader.blocks()
    assert (list(map(len, block.labels)), reader.line(0)[1]) == ([20_000, 1], accents[:20_000])


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(UserError, match="is not a file; want an annotation file"):
            Annotation(path)


@given(
    st.lists(st.text("ab\té", max_size=6), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
    st.sampled_from([20, 40, 1 << 20]),
)
def test_lines_are_found_again(tmp_path_factory, labels, end, mark, ends, block_bytes):
    """Whatever ends them, with or without a byte-order mark, however the file is cut to be read."""
    lines = [f"p{i}\t{label}" for i, label in enumerate(labels)]
    lines.insert(len(lines) // 2, "  ")
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes((mark + end.join(lines) + end * ends).encode())
    reader = Annotation(str(path), "tsv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotations, "BLOCK_BYTES", block_bytes)
        patch.setattr(annotations, "LINE_BYTES", 2)
        blocks = list(reader.blocks())
        assert list(itertools.chain(*(block.labels for block in blocks))) == labels
        assert blocks[-1].done <= reader.total == path.stat().st_size
        for i, place in enumerate(itertools.chain(*(block.places for block in blocks))):
            assert reader.line(place) == (f"p{i}", labels[i])
            assert reader.where(place) == f"{path}:{i + 1 + (i >= len(labels) // 2)}"
