"""The report: its page as a whole, and what a person's labels and a large set may do to it."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.reading.recognizer import Character
from crnn_jax.scoring.compare import compare
from crnn_jax.scoring.evaluation import EvaluationResult, Row
from crnn_jax.scoring.html_report import (
    choose,
    mistakes,
    write_report,
)
from crnn_jax.scoring.metrics import ERROR_KINDS

pytest.importorskip("matplotlib", reason="the report is an extra")
GOLDEN = Path(__file__).with_name("report.golden.html")
NASTY = "<script>document.title='run'</script>"
SETS = ("first.txt", f'"{NASTY}&.txt')


def make_report(folder, readings):
    """(page, file) of (label, text, confidence), with every character's place and confidence."""
    path = str(folder / "0 <b>&.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    Image.fromarray(noise).save(path)
    result, characters = EvaluationResult(), {}
    for i, (label, text, confidence) in enumerate(readings):
        reason = "damaged or truncated image" if text is None else None
        row = Row(i, path, SETS[i % 3 == 0], label, text, confidence, reason)
        result.add(row)
        if len(text or "") < 10:  # of others the alignment is not known
            characters[row.set, i] = [
                Character(c, 0.1 * k, 8 * k, 8 * k + 8) for k, c in enumerate(text or "")
            ]
    about = {"model": f"{NASTY}.safetensors", "decoder": "greedy"}
    chosen, compared = choose(mistakes(result.rows)), compare(result, result)
    report = str(folder / "report")
    file = write_report(report, result, about, chosen, characters, compared)
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


def test_the_page_is_the_golden_one(small, tmp_path):
    """Without what depends on the versions of matplotlib and Pillow, styles and script."""
    page = re.sub(r"(?s)<(style|script|svg class=.plot).*?</(style|script|svg)>", r"<\1>", small[0])
    page = re.sub("(sha256-|base64,)[A-Za-z0-9+/=]+", r"\1...", page)
    (tmp_path / GOLDEN.name).write_text(page, encoding="utf-8")
    message = f"look at both, and if the new one is right copy it: {tmp_path / GOLDEN.name}"
    assert page == GOLDEN.read_text(encoding="utf-8"), message


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


def test_nothing_wrong_and_nothing_at_all(tmp_path):
    for rows, message in (
        ([], "No character was read wrong."),
        ([Row(0, "a\udcff.png", "one", "cat", "cat", 0.9)], "Everything was read correctly."),
    ):
        result = EvaluationResult()
        for row in rows:
            result.add(row)
        file = write_report(str(tmp_path / "b.html"), result, {}, choose(mistakes(rows)), {})
        assert message in Path(file).read_text()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(str(tmp_path / "b.html" / "c"), result, {}, [], {})


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
