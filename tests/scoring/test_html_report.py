"""The report: its page as a whole, and what a person's labels and a large set may do to it."""

import math
import os
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.reading.recognizer import Character
from crnn_jax.scoring import plots
from crnn_jax.scoring.compare import compare
from crnn_jax.scoring.evaluation import EvaluationResult, Row
from crnn_jax.scoring.html_report import (
    MAX_BYTES,
    choose,
    mistakes,
    require_libraries,
    write_report,
)
from crnn_jax.scoring.metrics import ERROR_KINDS

pytest.importorskip("matplotlib", reason="the report is an extra")
NASTY = "<script>document.title='run'</script>"
SETS = ("first.txt", f'"{NASTY}&.txt')


def make_report(folder, readings, images=1, comparison=True):
    """The report's file of (label, text, confidence), with every character's place and sureness."""
    random = np.random.default_rng(0)
    paths = [str(folder / f"{i} <b>&.png") for i in range(images)]
    for path in paths:  # noise, the least that JPEG can make small
        noise = random.integers(0, 256, (64, random.integers(20, 720) if images > 1 else 80, 3))
        Image.fromarray(noise.astype(np.uint8)).save(path)
    result, characters = EvaluationResult(), {}
    for i, (label, text, confidence) in enumerate(readings):
        reason = "damaged or truncated picture" if text is None else None
        row = Row(i, paths[i % images], SETS[i % 3 == 0], label, text, confidence, reason)
        result.add(row)
        if len(text or "") < 10:  # of others the alignment is not known
            characters[row.set, i] = [
                Character(c, 0.1 * k, 8 * k, 8 * k + 8) for k, c in enumerate(text or "")
            ]
    for name in SETS:
        result.note_aspects(name, random.integers(10, 100, (len(result.rows), 2)))
    about = {"model": f"{NASTY}.safetensors", "decoder": "greedy"}
    compared = compare(result, result) if comparison else None
    image_of = {row.id: row.path for row in result.rows}
    file = write_report(
        str(folder / "report"),
        result,
        about,
        choose(mistakes(result.rows)),
        characters,
        compared,
        lambda row: os.path.join(folder, image_of[row.id]),
    )
    return Path(file).read_text(encoding="utf-8").replace(str(folder), "FOLDER"), file


READINGS = [
    ("cat", "cat", 0.9),
    ("hotel", "hot el", 0.99995),
    (NASTY, NASTY[:-1], 0.75),
    ("img", "<img src=x onerror=f()>", 0.5),
    ("Cat", "cAT", 0.25),
    ("dog", "", 0.0625),
    ("", "x", 0.03125),
    ("bird", None, math.nan),
]


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("small"), READINGS)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """5,000 samples in 6,600 characters, with mistakes of every kind."""
    random = np.random.default_rng(0)
    table = [chr(0x4E00 + i) for i in range(6500)] + [chr(i) for i in range(32, 127)]
    readings = []
    for _ in range(5000):
        label = "".join(random.choice(table, random.integers(1, 25)))
        other = str(random.choice(table))
        texts = [label, other + label[1:], label[1:], label + other, label.swapcase(), "", None]
        text = texts[random.integers(len(texts))]
        readings.append((label, text, math.nan if text is None else float(random.beta(4, 1))))
    return make_report(tmp_path_factory.mktemp("large"), readings, images=40)


class Seen(HTMLParser):
    """Tags and attributes as a browser meets them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]


def test_labels_and_names_stay_text_and_nothing_is_loaded(small):
    seen = Seen(small[0])
    assert seen.tags.count("script") == 1  # the report's own
    assert "img" not in seen.tags
    assert not [a for a in seen.attributes if a[1].startswith("on")]
    assert "&lt;script&gt;document.title=" in small[0]
    links = [v for _, n, v in seen.attributes if n in ("href", "xlink:href", "src", "action")]
    assert all(re.match("data:image/jpeg;base64,|#[a-z0-9]+$", link) for link in links)
    outside = re.sub(r'href="data:[^"]*"|xmlns(:xlink)?="[^"]*"', "", small[0])
    assert not re.search(r"https?:|@import|url\((?!#)", outside)
    policy = next(v for t, n, v in seen.attributes if n == "content" and "src" in v)
    assert "default-src 'none'" in policy


def test_five_thousand_samples_stay_light(large):
    text, file = large
    assert os.path.getsize(file) < 5_000_000
    shown = text.count("<article")
    assert 100 < shown <= 300
    assert sum(map(len, re.findall('base64,[^"]*', text))) <= MAX_BYTES
    assert re.search(rf"{shown} of 3,\d{{3}} mistakes are shown", text)
    assert text.count('<th scope="col">') < 30


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "No character was read wrong."),
        ([Row(0, "a\udcff.png", "one", "cat", "cat", 0.9)], "Everything was read right."),
        ([Row(0, "a\udcff.png", "one", "", None, math.nan, "missing file")], "missing file"),
    ],
)
def test_nothing_wrong_and_nothing_at_all(tmp_path, rows, told):
    result = EvaluationResult()
    for row in rows:
        result.add(row)
    file = write_report(str(tmp_path / "b.html"), result, {}, choose(mistakes(result.rows)), {})
    text = Path(file).read_text()
    assert told in text
    assert "McNemar" not in text
    with pytest.raises(UserError, match="cannot be written"):
        write_report(str(tmp_path / "b.html" / "c"), result, {}, [], {})


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_library_is_told(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"needs {missing}: pip install 'crnn_jax\[report\]'"):
        require_libraries()


def as_rows(found):
    return [Row(i, f"{i}", name, label, text, sure) for i, (name, label, text, sure) in found]


def test_the_surest_the_worst_and_some_of_every_kind_in_every_set():
    many = [("x", "abcdefgh", "abcdefgx", 0.9 - i / 10_000) for i in range(500)]
    rare = [("y", "ab", "Ab", 0.01), ("y", "ab", "", 0.01), ("y", "ab", None, math.nan)]
    rare += [("x", "ab", "a", 0.01), ("x", "ab", "abc", 0.01), ("x", "abcd", "zzzz", 0.001)]
    chosen = choose(mistakes(as_rows(enumerate(many + rare))), 30)
    assert [m.row.id for m in chosen[:10]] == list(range(10))
    assert "zzzz" in {m.row.text for m in chosen}
    assert {m.kind for m in chosen} == set(ERROR_KINDS)
    assert len(chosen) == 30


def places(svg, tag="use"):
    """(x, y) of the points, or of the bars' tops, from 0 to 1."""
    root = ET.fromstring(svg.replace("xlink:", ""))
    return [(float(e.get("x")) - 44, 250 - float(e.get("y"))) for e in root.iter(tag)]


def test_plots_say_what_they_should():
    confidence = np.full(4, 0.5)
    svg = plots.reliability_plot(confidence, np.array([1, 0, 0, 0], bool))
    assert "<title>25.0 % right at 50.0 % confidence, n = 4</title>" in svg
    (x, y) = places(svg)[-1]
    assert (x / 404, y / 236) == pytest.approx((0.5, 0.25), abs=0.01)
    assert "all: 25.0 % right" in plots.coverage_plot(confidence, np.array([1, 0, 0, 0], bool))
    result = EvaluationResult()
    for i, (label, text) in enumerate([("cat", "cat")] * 3 + [("cat", "x"), ("doge", "doge")]):
        result.add(Row(i, "p", "s", label, text, 0.5))
    svg = plots.groups_plot(result.groups("s")["by_length"], "characters")
    assert "<title>characters 3: 3 of 4 right, 75.0 %</title>" in svg
    assert "#00000" not in svg  # every colour is the page's
