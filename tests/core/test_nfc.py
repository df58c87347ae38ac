import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.nfc import MAX_MARKS, _is_mark, nfc


@settings(max_examples=100)
@given(st.text(st.sampled_from("aé\u0300\u0316\u05b0日\U0001e8d0"), min_size=90, max_size=200))
def test_the_same_as_python_while_marks_are_few(text):
    longest = max(
        len(run) for run in text.translate(dict.fromkeys(map(ord, "aé日"), " ")).split(" ")
    )
    if longest > MAX_MARKS:
        with pytest.raises(UserError, match="combining marks"):
            nfc(text)
    else:
        assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("place", ["{}", "ab{}", "{}ab", "日{}日"])
def test_marks_are_counted_wherever_they_stand(place):
    marks = "\u0316\u0300" * (MAX_MARKS // 2)
    assert nfc(place.format(marks)) == unicodedata.normalize("NFC", place.format(marks))
    with pytest.raises(UserError, match="over 100 combining marks"):
        nfc(place.format(marks + "\u0300"))


def test_a_megabyte_of_marks_ends_at_once():
    with pytest.raises(UserError, match="combining marks"):
        Charset.from_characters("ab").encode("a" + "\u0316\u0300" * 500_000)


def test_all_marks_are_known():
    marks = {c for c in range(sys.maxunicode + 1) if unicodedata.combining(chr(c))}
    assert {int(c) for c in _is_mark().nonzero()[0]} == marks
    assert not _is_mark()[-1]  # stands for all behind
