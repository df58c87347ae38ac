import string
from collections import Counter
from pathlib import Path

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.styles import STYLES, get_style
from crnn_jax.synthetic.words import builtin_words, word_list
from crnn_jax.synthetic.writer import Writer

LOWER = Charset.from_characters(string.digits + string.ascii_lowercase, ignore_case=True)
FULL = Charset.from_characters(string.digits + string.ascii_letters + string.punctuation)


def texts(charset, style="scene", words=None, count=2000):
    writer = Writer(words or builtin_words(), STYLES[style], charset)
    return [writer.write(0, i) for i in range(count)]


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
    for drawn, label in texts(FULL):
        assert label == drawn


def test_plain_words_are_labelled_as_drawn():
    assert all(label == drawn.lower() for drawn, label in texts(LOWER, "plain"))


def test_tables_that_no_word_fits():
    digits = Charset.from_characters("23456789")
    assert all(set(label) <= set("23456789") for _, label in texts(digits, count=200))
    odd = Charset.from_characters("bcdfg", ignore_case=True)
    assert all(set(label) <= set("bcdfg") for _, label in texts(odd, count=200))


def test_lines_where_the_table_has_a_space():
    line = Charset.from_characters(FULL.characters + (" ",))
    labels = [label for _, label in texts(line, count=500)]
    assert any(" " in label for label in labels)
    assert not any(label.startswith(" ") or "  " in label for label in labels)
    assert not any(" " in label for _, label in texts(FULL, count=500))


def test_characters_beyond_ascii():
    found = texts(Charset.from_characters("\u00e9\u00fcabc", ignore_case=True), count=300)
    assert any("\u00c9" in drawn and "\u00e9" in label for drawn, label in found)
    assert all(set(label) <= set("\u00e9\u00fcabc") for _, label in found)


def test_words_come_from_the_list(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffKraftwerk\n\nStra\u00dfe\nKraftwerk\n", encoding="utf-8")
    assert word_list(str(file)) == ("Kraftwerk", "Stra\u00dfe")
    style = tmp_path / "words.json"
    style.write_text(
        '{"base": "plain", "common_share": 0, "number_share": 0, "case_shares": {"as_listed": 1}}'
    )
    charset = Charset.from_characters("Kaeftrwk", ignore_case=False)
    writer = Writer(word_list(str(file)), get_style(str(style)), charset)
    assert {writer.write(0, i)[1] for i in range(50)} == {"Kraftwerk"}
    file.write_text("\n")
    with pytest.raises(UserError, match="no words"):
        word_list(str(file))


def test_a_word_list_without_end_is_left_where_it_is_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("crnn_jax.synthetic.words.MOST", 3)
    file = tmp_path / "words.txt"
    file.write_text("a\nb\nb\nc\n")
    assert word_list(str(file)) == ("a", "b", "c")
    file.write_text("a\nb\nc\nd\n")
    with pytest.raises(UserError, match=r"words\.txt: more than 3 words"):
        word_list(str(file))


def test_a_style_file_changes_keys(tmp_path):
    file = tmp_path / "style.json"
    file.write_text('{"base": "plain", "border_share": 0.5, "margin": [0.0, 0.1]}')
    style = get_style(str(file))
    assert (style.border_share, style.margin, style.rotation) == (0.5, (0.0, 0.1), 0.0)


def test_a_style_file_may_change_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.json").write_text('{"margin": [0, 1], "case_shares": {"upper": 1}}')
    Path("two.json").write_text('{"base": "one.json", "noise": [0.5, 2]}')
    Path("three.json").write_text(
        '{"base": "two.json", "margin": [0.5, 0.6], "case_shares": {"lower": 1}}'
    )
    style = get_style("three.json")
    assert (style.margin, style.noise) == ((0.5, 0.6), (0.5, 2))
    assert style.case_shares == {"lower": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"bordr_share": 0.5}', "bordr_share"),
        ('{"border_share": "often"}', "border_share"),
        ('{"margin": [0.1]}', "margin"),
        ('{"case_shares": {"title": 1}}', "case_shares"),
        ("[1]", "object"),
        ("{", "JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"noise_share": NaN}', "NaN is not finite"),
        ('{"noise_share": 1.5}', "noise_share should look like"),
        ('{"blur_pixels": [1, 1e9]}', "blur_pixels should look like"),
        ('{"curve": [90, 15]}', "curve should look like"),
        ('{"slant": -1}', "slant should look like"),
        ('{"letters_length": [1.5, 4]}', "letters_length should look like"),
        ('{"case_shares": {"upper": 0}}', "case_shares should look like"),
        ('{"length_weights": []}', "length_weights should look like"),
        ('{"length_weights": [1, "2"]}', "length_weights should look like"),
        ('{"draw_unlabelled": 1}', "draw_unlabelled should look like"),
        ('{"base": "style.json"}', "is its own base"),
    ],
)
def test_a_broken_style_file_is_told(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("style.json").write_text(text)
    with pytest.raises(UserError, match=rf"^style\.json: .*{message}"):
        get_style("style.json")
