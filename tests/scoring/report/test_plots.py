"""Plots and heat map: well-formed, and their numbers add up."""

import collections
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.scoring.report.plots import (
    HEIGHT,
    WIDTH,
    coverage_plot,
    edit_lists,
    groups_plot,
    heat_map,
    reliability_plot,
    visible,
)
from crnn_jax.scoring.result import Row, by_length

CHARACTER = st.characters(exclude_categories=["Cs"], exclude_characters=["\x00"])


def parsed(svg):
    # XML knows neither control characters nor entities of HTML; the report uses none.
    return ET.fromstring(svg)


def numbers(element, *names):
    return [float(element.get(name)) for name in names]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50))
def test_plots_of_confidence_stay_inside(found):
    confidence = np.array([c for c, _ in found], float)
    right = np.array([r for _, r in found], bool)
    for svg in (reliability_plot(confidence, right), coverage_plot(confidence, right)):
        for dot in parsed(svg).iter("circle"):
            x, y = numbers(dot, "cx", "cy")
            assert 0 < x < WIDTH
            assert 0 < y < HEIGHT


def test_a_point_stands_where_it_should():
    svg = parsed(reliability_plot(np.full(4, 0.5), np.array([1, 0, 0, 0], bool)))
    (dot,) = svg.iter("circle")
    x, y = numbers(dot, "cx", "cy")
    ideal = next(line for line in svg.iter("line") if line.get("class") == "ideal")
    x1, x2, y1, y2 = numbers(ideal, "x1", "x2", "y1", "y2")
    assert x == pytest.approx((x1 + x2) / 2, abs=0.1)  # confidence 0.5
    assert y == pytest.approx(y1 + 0.25 * (y2 - y1), abs=0.1)  # one of four right


def test_a_bar_is_as_high_as_its_share():
    rows = [Row(i, "p", "s", "cat", "cat" if i else "x", 0.5) for i in range(4)]
    rows += [Row(9, "p", "s", "doge", "doge", 0.5)]
    bars = list(parsed(groups_plot(by_length(rows), "<&>")).iter("rect"))
    short, long = (numbers(bar, "height")[0] for bar in bars)
    assert short / long == pytest.approx(0.75, abs=0.01)
    assert bars[0][0].text == "<&> 3: 3 of 4 right, 75.0 %"


PAIRS = st.dictionaries(
    st.tuples(st.just("") | CHARACTER, st.just("") | CHARACTER).filter(lambda p: p[0] != p[1]),
    st.integers(1, 2000),
    max_size=60,
)


@given(PAIRS)
def test_the_map_holds_every_edit(found):
    counts = collections.Counter(found)
    svg = parsed(heat_map(counts))
    told = [rect[0].text for rect in svg.iter("rect")]
    assert sum(int(text.rpartition(": ")[2]) for text in told) == counts.total()
    side = numbers(svg, "width")[0]
    for rect in svg.iter("rect"):
        x, width = numbers(rect, "x", "width")
        assert x + width < side
        assert 0 < float(rect.get("fill-opacity")) <= 1


def test_thousands_of_characters_leave_a_map_of_the_same_size():
    counts = collections.Counter({(chr(0x4E00 + i), chr(0x4E01 + i)): i for i in range(1, 6600)})
    assert len(heat_map(counts)) < 40_000
    assert float(parsed(heat_map(counts)).get("width")) < 700


def test_lists_of_edits():
    counts = collections.Counter({("a", "<"): 3, ("a", "o"): 9, ("b", ""): 2, ("", " "): 1})
    assert list(edit_lists(counts)) == [
        ("Substitutions (12)", [("<b>a</b> → <b>o</b>", 9), ("<b>a</b> → <b>&lt;</b>", 3)]),
        ("Missed (2)", [("<b>b</b>", 2)]),
        ("Extra (1)", [("<b>␣</b>", 1)]),
    ]


@pytest.mark.parametrize(
    ("character", "text"),
    [(" ", "␣"), ("\t", "U+0009"), ("\u200b", "U+200B"), ("\u0301", "◌\u0301"), ("&", "&")],
)
def test_characters_that_cannot_be_seen(character, text):
    assert visible(character) == text
