import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, REPLACEMENT, UNKNOWN, Charset
from crnn_jax.core.errors import UserError

# CRNN.tf2's table: the unknown first, the blank last.
TABLE = "\n".join([UNKNOWN, *"0123456789abcdefghijklmnopqrstuvwxyz", BLANK])

characters = (
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")
    .map(lambda c: unicodedata.normalize("NFC", c))
    .filter(lambda c: len(c) == 1)
)
alphabets = st.lists(characters, min_size=1, max_size=30, unique=True)


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
    ("text", "message"),
    [
        ("a\nb\na\n<BLK>", r"table\.txt:3: .*line 1 already"),
        ("a\n\nb\n<BLK>", r"table\.txt:2: .*<SPACE>"),
        ("a\nbc\n<BLK>", r"table\.txt:2: 'bc' is not one character"),
        (b"a\n\xff\n<BLK>", r"table\.txt:2: not UTF-8"),
        ("a\n" + "b" * 10**6 + "\n<BLK>", r"table\.txt:2: a line of over 256 bytes"),
        ("a\nb", r"table\.txt: .*<BLK>"),
        ("<BLK>", "no characters"),
    ],
)
def test_broken_tables_name_the_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


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


def test_case_is_folded_to_what_the_table_has():
    charset = Charset.from_characters("abCDeE", ignore_case=True)
    assert charset.decode(charset.encode("AbcDE")[0]) == charset.normalize("AbcDE") == "abCDe"
    assert Charset.from_characters("ab").normalize("AB") == "AB"


def test_gaps_of_ranges_that_are_mostly_there():
    letters = "abcdefghiklmnoprstuvwyz"
    assert Charset.from_characters(letters).gaps == "jqx"
    assert Charset.from_characters(letters + "0123456" + "ABC").gaps == "789jqx"
    assert Charset.from_characters("012345" + string.ascii_lowercase[:17]).gaps == ""
    assert Charset.from_characters(string.digits + string.ascii_uppercase).gaps == ""


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charset": ["a", "a", BLANK]}, "'a' stands twice"),
        ({"charset": ["a", "bc", BLANK]}, "'bc' is not one character"),
        ({"blank_id": 0}, "class 0 is not the blank"),
        ({"blank_id": "2"}, "blank_id"),
    ],
)
def test_metadata_of_no_table(change, message):
    metadata = Charset.from_characters("ab").to_metadata() | change
    with pytest.raises(UserError, match=f"charset: .*{message}"):
        Charset.from_metadata(metadata)
