import math

from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.kinds import KINDS
from crnn_jax.scoring.report.choice import choose, mistakes
from crnn_jax.scoring.row import Row

TEXT = st.text("abB", max_size=4)
ROWS = st.lists(st.tuples(st.sampled_from("xy"), TEXT, st.none() | TEXT, st.floats(0, 1)))


def as_rows(found):
    return [
        Row(i, f"{i}", name, label, text, math.nan if text is None else sure)
        for i, (name, label, text, sure) in enumerate(found)
    ]


@given(ROWS, st.integers(0, 12))
def test_as_many_as_fit_none_twice_and_the_surest_first(found, limit):
    every = mistakes(as_rows(found))
    chosen = choose(every, limit)
    assert len({m.row.id for m in chosen}) == len(chosen) == min(limit, len(every))
    assert [m.confidence for m in chosen] == sorted((m.confidence for m in chosen), reverse=True)


def test_only_mistakes_and_how_wrong_they_are():
    rows = as_rows([("x", "cat", "cat", 1), ("x", "cat", "cot", 1), ("x", "cat", None, 0)])
    rows += as_rows([("x", "", "ab", 0.5)])
    assert [(m.kind, m.distance) for m in mistakes(rows)] == [
        ("wrong", 1 / 3),
        ("unreadable", 1.0),
        ("extra characters", 1.0),
    ]


def test_the_surest_the_worst_and_some_of_every_kind_in_every_set():
    many = [("x", "abcdefgh", "abcdefgx", 0.9 - i / 10_000) for i in range(500)]
    worst = [("x", "abcdefgh", "zzzzzzzz", 0.001)]
    rare = [("y", "ab", "Ab", 0.01), ("y", "ab", "", 0.01), ("y", "ab", None, 0.0)]
    rare += [("x", "ab", "a", 0.01), ("x", "ab", "abc", 0.01)]
    chosen = choose(mistakes(as_rows(many + worst + rare)), 30)
    assert [m.row.id for m in chosen[:10]] == list(range(10))
    assert "zzzzzzzz" in {m.row.text for m in chosen}
    assert {m.kind for m in chosen} == set(KINDS)
    assert len(chosen) == 30
