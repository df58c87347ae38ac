import string
from collections import Counter
from pathlib import Path

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.styles import STYLES, get_style
from crnn_jax.synthetic.text import Texts, word_list

LOWER = Charset.from_characters(string.digits + string.ascii_lowercase, ignore_case=True)
FULL = Charset.from_characters(string.digits + string.ascii_letters + string.punctuation)


def texts(charset, style="scene", words=None, count=2000):
    made = Texts(words or word_list("builtin"), STYLES[style], charset)
    return [made.write(0, i) for i in range(count)]


def test_every_kind_and_case_comes():
    drawn = [d for d, _ in texts(LOWER)]
    kinds = Counter(
        "upper" if d.isupper() else "lower" if d.islower() else "title" if d.istitle() else "x"
        for d in drawn
    )
    assert kinds["upper"] > 0.35 * len(drawn)
    assert kinds["lower"] > 0.1 * len(drawn)
    assert kinds["title"] > 0.1 * len(drawn)
    assert 0.05 < sum(d.isdigit() for d in drawn) / len(drawn) < 0.2
    assert any(set(d) & set(string.punctuation) for d in drawn)
    assert {1, 2, 3, 4, 5, 6, 7, 8} <= {len(d) for d in drawn}


def test_labels_hold_only_what_the_table_has():
    for drawn, label in texts(LOWER):
        assert label == "".join(c for c in drawn.lower() if c in LOWER.characters)
        assert label
    assert all(label == drawn for drawn, label in texts(FULL))
    assert all(label == drawn.lower() for drawn, label in texts(LOWER, "plain"))


@pytest.mark.parametrize("symbols", ["23456789", "bcdfg", "\u00e9\u00fcabc"])
def test_tables_that_no_word_fits(symbols):
    found = texts(Charset.from_characters(symbols, ignore_case=True), count=300)
    assert all(label and set(label) <= set(symbols) for _, label in found)
    if "\u00e9" in symbols:
        assert any("\u00c9" in drawn and "\u00e9" in label for drawn, label in found)


def test_a_table_of_capitals_writes_words_in_capitals():
    capitals = Charset.from_characters(string.ascii_uppercase)
    labels = {label for _, label in texts(capitals, words=("harbour", "Quay"))}
    assert {"HARBOUR", "QUAY"} <= labels


def test_a_language_that_the_table_cannot_write():
    table = Charset.from_characters("abc")
    made = Texts(("\u03ba\u03b1\u03b9",), get_style("plain"), table, "el", [frozenset("abc")])
    assert {c for i in range(50) for c in made.write(0, i)[1]} == set("abc")


def test_lines_where_the_table_has_a_space():
    line = Charset.from_characters(FULL.characters + (" ",))
    labels = [label for _, label in texts(line, count=500)]
    assert any(" " in label for label in labels)
    assert not any(label.startswith(" ") or "  " in label for label in labels)
    assert not any(" " in label for _, label in texts(FULL, count=500))


def test_words_come_from_the_list(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffKraftwerk\n\nStra\u00dfe\nKraftwerk\n", encoding="utf-8")
    assert word_list(str(file)) == ("Kraftwerk", "Stra\u00dfe")
    style = tmp_path / "words.json"
    style.write_text(
        '{"base": "plain", "common_share": 0, "number_share": 0, "case_shares": {"as_listed": 1}}'
    )
    charset = Charset.from_characters("Kaeftrwk", ignore_case=False)
    made = Texts(word_list(str(file)), get_style(str(style)), charset)
    assert {made.write(0, i)[1] for i in range(50)} == {"Kraftwerk"}
    file.write_text("\n")
    with pytest.raises(UserError, match="no words"):
        word_list(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"bordr_share": 0.5}', "bordr_share"),
        ('{"case_shares": {"title": 1}}', "case_shares"),
        ("[1]", "object"),
        ("{", "JSON"),
        ('{"curve": [90, 15]}', "curve should look like"),
        ('{"case_shares": {}}', "case_shares should look like"),
        ('{"line_kinds": {}}', "line_kinds should look like"),
        ('{"blur_pixels": [0, 0], "blur_share": 1.0}', "blur_pixels should look like"),
        ('{"early_power": 0}', "early_power should look like"),
        ('{"noise_share": NaN}', "noise_share should look like"),
        ('{"base": "style.json"}', "is its own base"),
        ('{"faces": "("}', "faces should look like"),
    ],
)
def test_a_broken_style_file_is_told(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("style.json").write_text(text)
    with pytest.raises(UserError, match=rf"^style\.json: .*{message}"):
        get_style("style.json")
