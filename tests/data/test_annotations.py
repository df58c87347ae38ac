import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.data import annotations
from crnn_jax.data.annotations import Annotation

# The three annotation files of CRNN.tf2's example.
EXAMPLES = {
    "mjsynth": {
        "images/1_Paintbrushes_55044.jpg 55044": "Paintbrushes",
        "images/2_Reimbursing_64165.jpg 64165": "Reimbursing",
        "images/3_Creationisms_17934.jpg 17934": "Creationisms",
    },
    "icdar": {
        'images/word_1.png, "Tiredness"': "Tiredness",
        'images/word_2.png, "kills"': "kills",
        'images/word_3.png, "A"': "A",
    },
    "simple": {
        "images/1_Paintbrushes_55044.jpg Paintbrushes": "Paintbrushes",
        "images/2_Reimbursing_64165.jpg Reimbursing": "Reimbursing",
        "images/word_1.png Tiredness": "Tiredness",
        "images/word_2.png kills": "kills",
    },
    "tsv": {"a b.png\thello world": "hello world", "c.png\t5": "5"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_formats_are_found_and_parsed(name):
    lines, labels = list(EXAMPLES[name]), list(EXAMPLES[name].values())
    assert annotations.detect(lines, "file") == name
    parsed = [annotations.parser(name)(line) for line in lines]
    assert [label for _, label in parsed] == labels
    assert all(line.startswith(path) for line, (path, _) in zip(lines, parsed, strict=True))


@pytest.mark.parametrize(
    ("name", "line", "path", "label"),
    [
        ("mjsynth", "./2425/1/115_Lube_45484.jpg 45484", "./2425/1/115_Lube_45484.jpg", "Lube"),
        ("mjsynth", "a_b/c_d/1_x_2.jpg  2 ", "a_b/c_d/1_x_2.jpg", "x"),  # folders hold `_`
        ("mjsynth", "my set/1_x_2.jpg\t2", "my set/1_x_2.jpg", "x"),
        ("mjsynth", "1__2.jpg 2", "1__2.jpg", ""),
        ("icdar", 'a.png, "x, y"', "a.png", "x, y"),
        ("icdar", r'a.png, "READER\""', "a.png", 'READER"'),
        ("icdar", r'a.png, "\"SCAN\""', "a.png", '"SCAN"'),
        ("icdar", 'a.png, "5" disk"', "a.png", '5" disk'),
        ("icdar", 'a.png,"no space" ', "a.png", "no space"),
        ("icdar", 'a.png, ""', "a.png", ""),
        ("icdar", 'a.png, " both ends "', "a.png", " both ends "),
        ("icdar", 'a.png, "b.png, "c""', "a.png", 'b.png, "c"'),
        ("tsv", "a b.png\tx\ty ", "a b.png", "x\ty "),
        ("tsv", "a.png\t", "a.png", ""),
        ("simple", "a.png  hello  world ", "a.png", "hello  world"),
        ("simple", "a.png", "a.png", ""),
        ("name", "2b827.png", "2b827.png", "2b827"),
        ("name", "x/LABEL_17.jpg", "x/LABEL_17.jpg", "LABEL"),
        ("name", "two words_x_3.png", "two words_x_3.png", "two words_x"),
        ("name", "_7.png", "_7.png", "_7"),
        ("name", "a.b.png", "a.b.png", "a.b"),
    ],
)
def test_lines(name, line, path, label):
    assert annotations.parser(name)(line) == (path, label)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mjsynth", "1_x_2.jpg"),
        ("mjsynth", "1_x_2.jpg two"),
        ("mjsynth", "1_x_2.jpg ²"),  # a digit to Python, no number of a lexicon
        ("mjsynth", "word_1.png 1"),
        ("icdar", 'a.png "x"'),
        ("icdar", "a.png, x"),
        ("icdar", 'a.png, "x'),
        ("tsv", "a.png x"),
        ("tsv", "\tx"),
        ("simple", "  "),
    ],
)
def test_lines_that_do_not_fit(name, line):
    with pytest.raises(ValueError, match="want"):
        annotations.parser(name)(line)


def test_precedence():
    detect = annotations.detect
    assert detect(["a_7_9.png 9"], "f") == "mjsynth"
    assert detect(["a_7_9.png 2010"], "f") == "simple"  # not the name's own number
    assert detect(['a.png, "x"\t'], "f") == "icdar"
    assert detect(['a.png\tx, "y"'], "f") == "tsv"
    assert detect(["a.png x", "b.png"], "f") == "simple"


def test_one_broken_line_does_not_change_the_format():
    lines = ["1_x_2.jpg 2"] * 5
    assert annotations.detect([*lines, "broken"], "f") == "mjsynth"
    assert annotations.detect(["broken", *lines], "f") == "mjsynth"


MJSYNTH, ICDAR, SIMPLE, TSV = "1_x_2.jpg 2", 'a.png, "x"', "a.png x", "a b.png\tx"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([MJSYNTH, ICDAR], "mjsynth"),  # not simple, which reads both and neither right
        ([TSV, TSV, SIMPLE, MJSYNTH], "tsv"),
        ([SIMPLE, SIMPLE, TSV, MJSYNTH], "simple"),
        ([SIMPLE, TSV], "simple"),
        ([SIMPLE, MJSYNTH], "mjsynth"),
        (['a.png He said, "x"', SIMPLE, SIMPLE], "simple"),
    ],
)
def test_the_format_that_most_lines_have(lines, name):
    assert annotations.detect(lines, "f") == name


def test_lines_that_cannot_be_simple():
    for line in (MJSYNTH, ICDAR):
        with pytest.raises(ValueError, match="it reads as"):
            annotations.parse_only_simple(line)
    for line in (SIMPLE, 'a.png He said, "x"', "1_x_2.jpg 3", 'a.png, x"', "a.png"):
        assert annotations.parse_only_simple(line) == annotations.parse_simple(line)


def test_no_format_at_all():
    with pytest.raises(UserError, match=r"list.txt:1: 'a.png' has no label"):
        annotations.detect(["a.png", "b.png"], "list.txt")
    with pytest.raises(UserError, match=r"list.txt: no lines"):
        annotations.detect([], "list.txt")


def test_folders():
    assert annotations.detect_names(["1_a_2.png", "x/33_b_4.png"]) == "mjsynth"
    assert annotations.detect_names(["1_a_2.png", "2b827.png"]) == "name"
    assert annotations.FOLDER_PARSERS["mjsynth"]("12_New York_3.png")[1] == "New York"


def test_ones_own_parser(tmp_path):
    assert annotations.parser("os.path:split")("a/b") == ("a", "b")
    for wrong in ("csv", "os.path:", "os.path:nothing", "no_such_package_here:f", "os:name", ":f"):
        with pytest.raises(UserError, match=f"data.format={wrong!r}"):
            annotations.parser(wrong)
    path = tmp_path / "labels"
    path.write_text("abc\n")
    for wrong in ("builtins:len", "builtins:tuple"):
        with pytest.raises(UserError, match=rf"labels:1: 'abc' is not {wrong}: "):
            list(Annotation(str(path), wrong).blocks())


paths = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=12)
labels = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@given(paths.map(lambda p: p.replace(",", ".")), labels)
def test_what_is_written_is_read(path, label):
    quoted = label.replace('"', '\\"')
    if '\\"' not in label and not label.endswith("\\"):
        assert annotations.parse_icdar(f'{path}, "{quoted}"') == (path, label)
    assert annotations.parse_tsv(f"{path}\t{label}") == (path, label)
    assert annotations.parse_simple(f"{path} {label}") == (path, label.strip())


mjsynth_labels = st.from_regex(r"[^_/.\s\x00]{0,10}", fullmatch=True)


@given(st.integers(0, 99), mjsynth_labels, st.integers(0, 999))
def test_mjsynth_names(number, label, lexicon):
    line = f"./1_2/{number}_{label}_{lexicon}.jpg {lexicon}"
    assert annotations.parse_mjsynth(line)[1] == label
    assert annotations.detect([line], "f") == "mjsynth"


@given(
    st.lists(st.text("ab\té", max_size=6), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
    st.sampled_from([1, 7, 40, 1 << 20]),
)
def test_lines_are_found_again(tmp_path_factory, labels, end, mark, ends, block_bytes):
    lines = [f"p{i}\t{label}" for i, label in enumerate(labels)]
    lines.insert(len(lines) // 2, "  ")
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes((mark + end.join(lines) + end * ends).encode())
    reader = Annotation(str(path), "tsv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotations, "BLOCK_BYTES", block_bytes)
        patch.setattr(annotations, "LINE_BYTES", 2)
        blocks = list(reader.blocks())
        places = list(itertools.chain(*(block.places for block in blocks)))
        assert list(itertools.chain(*(block.labels for block in blocks))) == labels
        assert list(itertools.chain(*(block.paths for block in blocks))) == [
            f"p{i}" for i in range(len(labels))
        ]
        assert blocks[-1].done <= reader.total == path.stat().st_size
        for i, place in enumerate(places):
            assert reader.line(place) == (f"p{i}", labels[i])
            assert reader.where(place) == f"{path}:{i + 1 + (i >= len(labels) // 2)}"
