import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.groups import aspect_group, by_aspect, by_length, length_group
from crnn_jax.scoring.kinds import KINDS, RIGHT, kind_of
from crnn_jax.scoring.metrics import Sums
from crnn_jax.scoring.row import Row

ROWS = st.lists(
    st.tuples(
        st.text("abAB1", max_size=120),
        st.none() | st.text("abAB1", max_size=12),
        st.none() | st.floats(0.01, 100),
    )
)


def as_rows(found):
    rows = [
        Row(i, "p", "s", label, text, 0.5 if text is not None else math.nan)
        for i, (label, text, _) in enumerate(found)
    ]
    aspects = {("s", i): aspect for i, (_, _, aspect) in enumerate(found) if aspect is not None}
    return rows, aspects


@given(ROWS)
def test_every_sample_is_in_one_group(found):
    rows, aspects = as_rows(found)
    whole = Sums()
    for row in rows:
        whole.add(row.label, row.text)
    for groups in (by_length(rows), by_aspect(rows, aspects)):
        parts = sum(groups.values(), Sums())
        assert parts.similarity == pytest.approx(whole.similarity)
        parts.similarity = whole.similarity
        assert parts == whole


@pytest.mark.parametrize(
    ("length", "name"),
    [(0, "0"), (1, "1"), (10, "10"), (11, "11-15"), (15, "11-15"), (16, "16-20"), (100, "51-100")]
    + [(101, "over 100")],
)
def test_groups_of_length(length, name):
    assert length_group(length) == name


@pytest.mark.parametrize(
    ("aspect", "name"),
    [(0.99, "under 1"), (1, "1-2"), (1.99, "1-2"), (2, "2-3"), (19.9, "12-20")]
    + [(20, "20 or more"), (None, "unknown")],
)
def test_groups_of_aspect(aspect, name):
    assert aspect_group(aspect) == name


def test_groups_come_in_order():
    rows, _ = as_rows([("a" * n, "", 30 / n) for n in (30, 2, 12, 200, 9)])
    assert list(by_length(rows)) == ["2", "9", "11-15", "21-30", "over 100"]
    assert list(by_aspect(rows, {("s", 0): 5.0, ("s", 1): 0.5})) == ["under 1", "4-6", "unknown"]


@pytest.mark.parametrize(
    ("label", "text", "kind"),
    [
        ("cat", "cat", RIGHT),
        ("cat", None, "unreadable"),
        ("", None, "unreadable"),
        ("cat", "", "empty"),
        ("", "", RIGHT),
        ("Cat", "cAT", "case only"),
        ("cat", "ct", "missing characters"),
        ("cat", "xcat", "extra characters"),
        ("", "x", "extra characters"),
        ("cat", "cot", "wrong"),
        ("cat", "ot", "wrong"),  # one missing and one wrong
        ("cat", "dogs", "wrong"),
    ],
)
def test_kinds_of_errors(label, text, kind):
    assert kind_of(Row(0, "p", "s", label, text, 0.5)) == kind


@given(st.text(string.ascii_letters, max_size=5), st.none() | st.text("abC", max_size=5))
def test_every_error_has_a_kind(label, text):
    kind = kind_of(Row(0, "p", "s", label, text, 0.5))
    assert (kind == RIGHT) == (label == text)
    assert kind in (RIGHT, *KINDS)
