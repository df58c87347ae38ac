import html.parser
import math
import os
import re

import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.scoring.compare import compare
from crnn_jax.scoring.confusions import RIGHT, error_kind
from crnn_jax.scoring.report.page import MAX_BYTES, page, report_file, write_report
from crnn_jax.scoring.result import EvaluationResult, Row


class Seen(html.parser.HTMLParser):
    """Tags and attributes as a browser meets them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]


@pytest.fixture(scope="module")
def text(small):
    with open(small[0], encoding="utf-8") as stream:
        return stream.read()


def test_labels_and_names_stay_text(text):
    seen = Seen(text)
    assert seen.tags.count("script") == 1  # the report's own
    assert "img" not in seen.tags
    assert not [a for a in seen.attributes if a[1].startswith("on")]
    assert "&lt;script&gt;document.title=" in text
    assert "&lt;b&gt;&amp;.png" in text


def test_nothing_is_loaded(text):
    seen = Seen(text)
    links = [
        a for a in seen.attributes if a[1] in ("href", "src", "xlink:href", "action", "srcset")
    ]
    assert links
    assert all(value.startswith("data:image/jpeg;base64,") for _, _, value in links)
    outside = re.sub('href="data:[^"]*"', "", text)
    assert "http:" not in outside
    assert "https:" not in outside
    assert "url(" not in outside
    assert "@import" not in outside
    (policy,) = [v for t, n, v in seen.attributes if t == "meta" and n == "content" and "src" in v]
    assert "default-src 'none'" in policy


def test_five_thousand_samples_stay_light(large):
    file, result = large
    assert os.path.getsize(file) < 5_000_000
    with open(file, encoding="utf-8") as stream:
        text = stream.read()
    wrong = sum(error_kind(row) != RIGHT for row in result.rows)
    shown = text.count("<article")
    assert 100 < shown <= 300
    assert sum(map(len, re.findall("<article.*?</article>", text))) <= MAX_BYTES
    assert f"{shown} of {wrong:,} mistakes are shown" in text


def test_every_mistake_is_counted_shown_or_not(small, text):
    _, result = small
    wrong = sum(error_kind(row) != RIGHT for row in result.rows)
    assert f"{wrong} of {wrong} mistakes are shown" in text
    assert text.count("<article") == wrong


def test_nothing_wrong_and_nothing_at_all():
    right = EvaluationResult()
    right.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    assert "Everything was read right." in page(right, {}, [], {})
    assert "<h1>" in page(EvaluationResult(), {}, [], {})
    nothing = EvaluationResult()
    nothing.add(Row(0, "a.png", "one", "", None, math.nan, "missing file"))
    assert "missing file" in page(nothing, {}, [], {})


def test_two_models_are_compared():
    result = EvaluationResult()
    result.add(Row(0, "a.png", "one", "cat", "cat", 0.9))
    assert "McNemar" not in page(result, {}, [], {})
    assert "McNemar" in page(result, {}, [], {}, compare(result, result))


def test_where_it_is_written(tmp_path):
    assert report_file("x.html") == "x.html"
    assert report_file("x") == os.path.join("x", "report.html")
    assert write_report(str(tmp_path / "a" / "b.html"), EvaluationResult(), {}, [], {})
    assert (tmp_path / "a" / "b.html").exists()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(str(tmp_path / "a" / "b.html" / "c"), EvaluationResult(), {}, [], {})


def test_odd_file_names_do_not_end_it(tmp_path):
    result = EvaluationResult()
    result.add(Row(0, "a\udcff.png", "one\udcff", "cat", "dog", 0.9))
    from crnn_jax.scoring.report.gallery import choose, mistakes

    write_report(str(tmp_path), result, {}, choose(mistakes(result.rows)), {})
    assert "a?.png" in (tmp_path / "report.html").read_text()
