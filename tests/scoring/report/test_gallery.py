"""Which mistakes are shown, and each one's picture and card."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crnn_jax.scoring.confusions import ERROR_KINDS
from crnn_jax.scoring.report.gallery import (
    HEIGHT,
    WIDTH,
    Mark,
    Thumbnail,
    choose,
    mistake_card,
    mistakes,
    thumbnail,
)
from crnn_jax.scoring.result import Row

CHARACTER = st.characters(exclude_categories=["Cs"], exclude_characters=["\x00"])
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
    assert {m.kind for m in chosen} == set(ERROR_KINDS)
    assert len(chosen) == 30


def decoded(small):
    return Image.open(io.BytesIO(base64.b64decode(small.uri.partition(",")[2])))


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((100, 32), (200, HEIGHT)),  # small ones are drawn larger, not stored larger
        ((1000, 200), (320, HEIGHT)),
        ((3000, 60), (WIDTH, 14)),
        ((50, 400), (16, 128)),
        ((5000, 1), (WIDTH, 1)),
    ],
)
def test_sizes(tmp_path, size, shown):
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "a.png")
    small = thumbnail(str(tmp_path / "a.png"))
    assert (small.width, small.height) == shown
    assert small.given_width == size[0]
    stored = decoded(small)
    assert stored.size == (shown if shown[0] < size[0] else size)
    assert stored.mode == "RGB"


def test_grey_pictures_have_no_colours(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (32, 100), np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "grey.png")
    assert decoded(thumbnail(str(tmp_path / "grey.png"))).mode == "L"


def test_no_picture(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert thumbnail(str(tmp_path / "broken.png")) is None
    assert thumbnail(str(tmp_path / "none.png")) is None


def make_card(label, text, marks, confidence=0.25, reason=None, picture=True):
    (mistake,) = mistakes([Row(0, "a/./b.png", "s", label, text, confidence, reason)])
    small = Thumbnail("data:,", 100, 64, 50) if picture else None
    return mistake_card(mistake, 3, small, marks)


def test_spans_lie_over_the_picture():
    marks = [Mark("c", 0.99, 0, 10), Mark("o", 0.6, 10, 30), Mark("t", 0.2, 30, 50)]
    html = make_card("cat", "cot", marks)
    svg = ET.fromstring(re.search("<svg.*?</svg>", html)[0])
    spans = [
        [float(r.get("x")), float(r.get("width"))]
        for r in svg.iter("rect")
        if r.get("class") == "span"
    ]
    assert spans == [[0, 20], [20, 40], [60, 40]]  # twice the picture's own pixels
    assert [g.get("class") for g in svg.iter("g")] == ["c3", "c1", "c0"]
    assert [t.text for t in svg.iter("text")] == ["c", "o", "t"]
    assert html.count('class="chip c1 off"') == 1  # the one that is wrong
    assert "<small>60</small>" in html
    assert "c<mark>a</mark>t" in html
    assert 'title="a/b.png"' in html


def test_a_mistake_is_never_shown_as_certain():
    assert ">99.9 %" in make_card("cat", "cot", None, 0.99999)


def test_markup_in_a_label_stays_text():
    html = make_card("<b>x", "<b>y", None)
    assert "&lt;b&gt;<mark>x</mark>" in html
    assert "&lt;b&gt;<mark>y</mark>" in html


def test_cards_of_what_is_missing():
    nothing = make_card("cat", "", [])
    assert "nothing" in nothing
    assert "<mark>c</mark><mark>a</mark><mark>t</mark>" in nothing
    unreadable = make_card("cat", None, None, math.nan, "missing file", picture=False)
    assert "missing file" in unreadable
    assert "no picture" in unreadable
    assert 'data-sure="0.000000"' in unreadable
    assert "empty" in make_card("", "x", None)
    assert len(make_card("a" * 5000, "b" * 5000, None)) < 15_000


@given(st.text(CHARACTER, max_size=5), st.text(CHARACTER, max_size=5))
def test_whatever_a_label_holds_the_card_is_well_formed(label, text):
    if label == text:
        return
    marks = [Mark(c, 0.5, i, i + 1) for i, c in enumerate(text)]
    html = make_card(label, text, marks)
    stack = []
    for closing, name, empty in re.findall(r"<(/?)([a-zA-Z]+)[^<>]*?(/?)>", html):
        if closing:
            assert stack.pop() == name
        elif not empty:
            stack.append(name)
    assert stack == []
    assert len(re.findall("<dd", html)) == 2
    assert html.count('class="chip') == len(text)
