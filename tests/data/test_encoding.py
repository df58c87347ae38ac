import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.core.charset import BLANK, UNKNOWN, Charset
from crnn_jax.data.encoding import STATUS, LabelEncoder, LabelError, count_denormalized
from crnn_jax.data.source import NO_LABEL, UNKNOWN_CHARACTER, USABLE

texts = st.lists(
    st.text(st.sampled_from("abcABCéÉe\u0301ΣσςİßﬀΩ1 ?"), max_size=8), min_size=1, max_size=20
)


def charset(ignore_case):
    return Charset((UNKNOWN, *"abcEé1σς", BLANK), 9, 0, ignore_case)


@given(texts, st.booleans(), st.sampled_from(["unusable", "strip", "map"]))
def test_many_labels_are_encoded_as_one_by_one(labels, ignore_case, rule):
    table = charset(ignore_case)
    encoded = LabelEncoder(table, rule)(labels)
    ends = np.cumsum([0, *encoded.lengths])
    met = ""
    for i, label in enumerate(labels):
        ids, unknown = table.encode(label, rule)
        met += unknown
        assert encoded.flat[ends[i] : ends[i + 1]].tolist() == ids.tolist()
        assert encoded.has_unknown[i] == bool(unknown)
        usable = USABLE if ids.size else NO_LABEL
        expected = UNKNOWN_CHARACTER if unknown and rule == "unusable" else usable
        assert STATUS[encoded.status[i]] == expected
    assert "".join(sorted(encoded.unknown.elements())) == "".join(sorted(met))


def test_labels_that_fail_on_case_alone():
    encoded = LabelEncoder(Charset.from_characters("abC"))(["ab", "AB", "Ab?", "c", "", "?"])
    assert encoded.case_alone.tolist() == [False, True, False, True, False, False]
    assert encoded.has_unknown.tolist() == [False, True, True, True, False, True]


def test_ids_are_small():
    assert LabelEncoder(Charset.from_characters("ab"))(["ab"]).flat.dtype == np.uint16
    large = Charset.from_characters(chr(c) for c in range(0x20000, 0x20000 + 70_000))
    encoded = LabelEncoder(large)([chr(0x20000 + 69_999)])
    assert encoded.flat.tolist() == [69_999]


def test_a_line_break_in_a_label():
    with pytest.raises(LabelError, match="line break") as told:
        LabelEncoder(Charset.from_characters("ab"))(["a", "a\nb", "b"])
    assert told.value.indices == [1]


def test_labels_of_marks():
    many = "e" + "\u0301" * 101
    with pytest.raises(LabelError, match="over 100 combining marks") as told:
        LabelEncoder(Charset.from_characters("ab"))(["a", many, "e\u0301", many])
    assert told.value.indices == [1, 3]


def test_labels_not_in_nfc_are_counted():
    assert count_denormalized(["a", "é", "e\u0301", ""]) == 1
