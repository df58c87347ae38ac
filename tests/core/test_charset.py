import contextlib
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, REPLACEMENT, UNKNOWN, Charset
from crnn_jax.core.errors import UserError

# CRNN.tf2's table: the unknown first, the blank last.
TABLE = "\n".join([UNKNOWN, *"0123456789abcdefghijklmnopqrstuvwxyz", BLANK])

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r").filter(
    lambda c: len(unicodedata.normalize("NFC", c)) == 1
)
alphabets = st.lists(
    characters.map(lambda c: unicodedata.normalize("NFC", c)), min_size=1, max_size=30, unique=True
)


def read(tmp_path, text, ignore_case=False):
    path = tmp_path / "table.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Charset.read(path, ignore_case)


def test_the_table_of_crnn_tf2(tmp_path):
    charset = read(tmp_path, TABLE, ignore_case=True)
    assert charset.num_classes == 38
    assert (charset.unknown_id, charset.blank_id) == (0, 37)
    assert charset.characters == tuple("0123456789abcdefghijklmnopqrstuvwxyz")
    ids, unknown = charset.encode("Tiredness")
    assert unknown == ""
    assert ids.dtype == np.int32
    assert ids.tolist() == [11 + ord(c) - ord("a") for c in "tiredness"]
    assert charset.decode(ids) == "tiredness"


@pytest.mark.parametrize(
    ("text", "symbols", "blank", "unknown"),
    [
        ("<BLK>\na\nb", (BLANK, "a", "b"), 0, -1),
        ("a\n<BLK>\nb\n<UNK>", ("a", BLANK, "b", UNKNOWN), 1, 3),
        ("a\nblank\nb", ("a", BLANK, "b"), 1, -1),  # the only other line of several characters
        ("a\n<SPACE>\n<BLK>", ("a", " ", BLANK), 2, -1),
        ("a\n \n<BLK>", ("a", " ", BLANK), 2, -1),
        ("a\r\n \r\n<BLK>\r\n", ("a", " ", BLANK), 2, -1),
        ("\ufeffa\n<BLK>\n\n\n", ("a", BLANK), 1, -1),
        ("e\u0301\n<BLK>", ("é", BLANK), 1, -1),  # composed to one character
        ("\u2028\n\x0c\n<BLK>", ("\u2028", "\x0c", BLANK), 2, -1),  # not line ends of a table
    ],
)
def test_table_files(tmp_path, text, symbols, blank, unknown):
    charset = read(tmp_path, text)
    assert charset.symbols == symbols
    assert (charset.blank_id, charset.unknown_id) == (blank, unknown)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\nb\na\n<BLK>", 3, "line 1 already"),
        ("é\ne\u0301\n<BLK>", 2, "line 1 already"),
        (" \n<SPACE>\n<BLK>", 2, "line 1 already"),
        ("a\n\nb\n<BLK>", 2, "<SPACE>"),
        ("a\nbc\n<BLK>", 2, "'bc' is not one character"),
        ("a\nbc\nde", 3, "one line <BLK>"),
        (b"a\n\xff\n<BLK>", 2, "UTF-8"),
    ],
)
def test_broken_tables_name_the_line(tmp_path, text, line, what):
    with pytest.raises(UserError, match=f"table.txt:{line}: .*") as error:
        read(tmp_path, text)
    assert what in str(error.value)


@pytest.mark.parametrize(("text", "what"), [("a\nb", "<BLK>"), ("<BLK>", "no char"), ("", "<BLK>")])
def test_tables_without_blank_or_characters(tmp_path, text, what):
    with pytest.raises(UserError, match=what):
        read(tmp_path, text)


def test_a_missing_table_and_a_folder(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.txt: no character table"):
        Charset.read(tmp_path / "nowhere.txt")
    with pytest.raises(UserError, match="no character table"):
        Charset.read(tmp_path)


@given(alphabets, st.booleans())
def test_a_written_table_reads_back(tmp_path_factory, alphabet, ignore_case):
    charset = Charset.from_characters(alphabet, ignore_case)
    assert charset.symbols == (*alphabet, BLANK)
    path = tmp_path_factory.mktemp("table") / "table.txt"
    charset.write(path)
    assert Charset.read(path, ignore_case) == charset
    assert Charset.from_metadata(charset.to_metadata()) == charset


@given(alphabets, st.data())
def test_encoding_and_decoding_are_inverse(alphabet, data):
    charset = Charset.from_characters(alphabet)
    text = charset.normalize(data.draw(st.text(st.sampled_from(alphabet))))
    ids, unknown = charset.encode(text)
    if not unknown:  # composition may have made a character outside the alphabet
        assert charset.decode(ids) == text
        assert charset.blank_id not in ids


@given(st.text(), st.booleans())
def test_normalizing_twice_changes_nothing(text, ignore_case):
    charset = Charset.from_characters("abCDé", ignore_case)
    once = charset.normalize(text)
    assert charset.normalize(once) == once


def test_case_is_folded_to_what_the_table_has():
    charset = Charset.from_characters("abCDeE", ignore_case=True)
    assert charset.normalize("AbcDE") == "abCDe"
    assert charset.decode(charset.encode("AbcDE")[0]) == "abCDe"
    assert Charset.from_characters("ab").normalize("AB") == "AB"


def test_unknown_characters_by_rule(tmp_path):
    charset = read(tmp_path, "a\n<UNK>\nb\n<BLK>")
    assert charset.encode("a?b!")[0].tolist() == []
    assert charset.encode("a?b!")[1] == "?!"
    assert charset.encode("a?b!", "strip")[0].tolist() == [0, 2]
    ids, unknown = charset.encode("a?b!", "map")
    assert (ids.tolist(), unknown) == ([0, 1, 2, 1], "?!")
    assert charset.decode(ids) == f"a{REPLACEMENT}b{REPLACEMENT}"
    assert charset.encode("<UNK>")[1] != ""  # the symbol's name is no text
    with pytest.raises(UserError, match="strip"):
        charset.encode("a", "drop")
    with pytest.raises(UserError, match="no line <UNK>"):
        Charset.from_characters("a").encode("a", "map")


def test_decoding_leaves_padding_and_blanks_out():
    charset = Charset.from_characters("ab")
    assert charset.decode(np.array([0, 2, 1, -1, -1])) == "ab"
    assert charset.decode([]) == ""


def test_characters_may_stand_once():
    with pytest.raises(UserError, match="'a' stands twice"):
        Charset.from_characters("aba")


def test_a_table_of_any_size_is_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"table\.txt:2: a line of over 256 bytes"):
        read(tmp_path, "a\n" + "b" * 10**6 + "\n<BLK>")
    monkeypatch.setattr("crnn_jax.core.charset.MAX_CLASSES", 3)
    assert read(tmp_path, "a\nb\n<BLK>").num_classes == 3
    with pytest.raises(UserError, match=r"table\.txt: over 3 lines"):
        read(tmp_path, "a\nb\n<BLK>\n" + "\n" * 100)


def test_a_hundred_thousand_characters_make_a_table():
    every = [chr(c) for c in range(0x1A000) if not 0xD800 <= c < 0xE000]
    made = {"charset": [*every, BLANK], "blank_id": len(every), "ignore_case": False}
    assert Charset.from_metadata(made).num_classes == len(every) + 1
    with pytest.raises(UserError, match="'a' stands twice"):
        Charset.from_characters([*every, "a"])


odd = st.sampled_from(["a", "é", "e\u0301", " ", "<SPACE>", BLANK, UNKNOWN, "xy", ""])


@settings(max_examples=100)
@given(
    st.lists(odd | st.text(max_size=3), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\0"]),
    st.binary(max_size=2),
)
def test_any_lines_are_a_table_or_told(tmp_path_factory, lines, end, behind):
    path = tmp_path_factory.mktemp("any") / "table.txt"
    path.write_bytes(end.join(line.encode("utf-8", "surrogatepass") for line in lines) + behind)
    with contextlib.suppress(UserError):
        charset = Charset.read(path)
        assert charset.symbols[charset.blank_id] == BLANK
        assert all(len(c) == 1 for c in charset.characters)
        assert Charset.from_metadata(json.loads(json.dumps(charset.to_metadata()))) == charset
