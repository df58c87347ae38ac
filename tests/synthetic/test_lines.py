"""Lines: what they say, in whose letters, and streams of several styles and languages."""

import hashlib
import json
import pickle
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.synthetic.lines import MONEY, PATTERNS, Lines, capitals
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import STYLES, easy, get_style, get_styles
from crnn_jax.synthetic.text import Texts, word_list

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "pretrained"
TABLE = Charset.read(FOLDER / "characters.txt")
# what Pillow's own font draws
PLAIN = Charset.from_characters("".join(map(chr, range(32, 127))) + "“”‘’«»‹›…·°©™±")
WORDS = {
    "de": "die der straße große häuser über können mädchen zeitung bücher",
    "fr": "l le été garçon français déjà maison qu elle où",
    "es": "el niño mañana está qué señor aquí también",
    "el": "και το της μας ένα προϊόν ελληνικά ώρα",
    "tr": "bir için değil ışık iyi güzel kişi",
    "ru": "и не что это ёлка съезд щука",
    "xx": "red green blue words",
    "early": "a bade cafe face cab deaf",
    "late": "u sun nuts story stout toy",
}


@pytest.fixture
def lines_style(tmp_path):
    """A JSON file of lines of every kind in what all fonts have."""

    def make(**changes):
        file = tmp_path / f"style{len(list(tmp_path.iterdir()))}.json"
        kinds = dict.fromkeys(("running", "title", *PATTERNS), 1.0)
        shares = {"line_share": 0.8, "common_share": 0.0, "number_share": 0.05}
        base = {"base": "plain", "line_kinds": kinds, "early_power": 2.0, **shares}
        file.write_text(json.dumps({**base, **changes}))
        return str(file)

    return make


@pytest.fixture
def word_files(tmp_path):
    def make(*codes):
        for code in codes:
            (tmp_path / f"{code}.txt").write_text("\n".join(WORDS[code].split()), encoding="utf-8")
        return ",".join(str(tmp_path / f"{code}.txt") for code in codes)

    return make


@pytest.mark.parametrize("code", WORDS)
def test_labels_are_nfc_and_single_spaced_and_of_the_table(lines_style, code):
    style = get_style(lines_style(line_share=1.0))
    words = tuple(WORDS[code].split())
    texts = Texts(words, style, TABLE, code, [frozenset(TABLE.characters)])
    kinds = Counter()
    for i in range(1500):
        drawn, label = texts.write(0, i)
        assert drawn == label == unicodedata.normalize("NFC", label)
        assert label == label.strip()
        assert "  " not in label
        assert set(label) <= set(TABLE.characters)
        assert len(label) <= 130
        kinds["words"] += " " in label
        kinds["digits"] += any(c.isdigit() for c in label)
        kinds["capitals"] += label.isupper()
    assert min(kinds.values()) > 50


@pytest.mark.parametrize("kind", PATTERNS)
def test_every_token_has_only_characters_of_the_table(kind):
    for code in (*WORDS, *MONEY):
        words = WORDS.get(code, WORDS["xx"]).split()
        lines = Lines(words, code, STYLES["plain"])
        for i in range(40):
            token = unicodedata.normalize("NFC", lines.token(kind, Rng(0, "text", i)))
            assert set(token) <= set(TABLE.characters), token
            assert not re.search("<.>", token)  # nothing is left to be filled in
            assert token == " ".join(token.split())


def test_punctuation_is_that_of_the_language(lines_style):
    kinds = dict.fromkeys(("running", "title", *PATTERNS), 0.0) | {"running": 1.0}
    style = lines_style(line_share=1.0, typographic_share=1.0, line_kinds=kinds)
    spaced = lines_style(line_share=1.0, line_kinds=kinds, spaced_marks_share=1.0)
    everything = frozenset(TABLE.characters)

    def found(code, *signs, style=style):
        texts = Texts(tuple(WORDS[code].split()), get_style(style), TABLE, code, [everything])
        text = "\n".join(texts.write(0, i)[1] for i in range(400))
        return [sign in text for sign in signs]

    assert found("fr", "« ", " »", " ?", " ;", "l’été", "„", "¿") == [True] * 5 + [False] * 2
    assert found("de", "„", "“", " ?", "«") == [True, True, False, False]
    assert found("es", "¿", "¡", "«") == [True] * 3
    assert found("el", ";", "·", "? ") == [True, True, False]
    assert found("de", "n,", " ,") == [True, False]
    assert found("de", "n,", " ,", style=spaced) == [False, True]
    assert capitals("iyi ışık", "tr") == "İYİ IŞIK"
    assert capitals("προϊόν ελληνικά", "el") == "ΠΡΟΪΟΝ ΕΛΛΗΝΙΚΑ"


def test_words_of_a_sample_come_from_one_list(make_source, lines_style, word_files):
    """Two lists that share no letter: a sample has letters of one, whatever its kind."""
    kinds = dict.fromkeys(("running", "title", *PATTERNS), 0.0) | {"title": 1.0}
    shares = {"line_share": 0.4, "number_share": 0.0, "random_share": 0.2, "letters_share": 0.1}
    style = lines_style(line_kinds=kinds, common_share=0.2, more_words_share=0.5, **shares)
    source = make_source(PLAIN, style=style, words=word_files("early", "late") + "*3")
    own = {code: {c for c in WORDS[code] if c.isalpha()} for code in ("early", "late")}
    lists = Counter()
    for i in range(1000):
        letters = {c for c in source.text(i).lower() if c.isalpha()}
        (code,) = (code for code in own if letters <= own[code]) if letters else ("none",)
        lists[code] += 1
    assert 0.7 < lists["late"] / (lists["late"] + lists["early"]) < 0.8
    assert lists["none"] < 50


def test_styles_are_mixed_by_their_shares(make_source, lines_style):
    lines = lines_style(line_share=1.0)
    source = make_source(PLAIN, style=f"scene*0.6,{lines}*0.4")
    scene, other = get_styles(f"scene*0.6,{lines}*0.4")
    assert scene == (STYLES["scene"], 0.6)
    assert other[1] == 0.4
    drawn = [source.layout(i).style for i in range(500)]
    assert 0.34 < sum(style in (other[0], source.looks[1].easy) for style in drawn) / 500 < 0.46
    assert source.fingerprint() != make_source(PLAIN, style=f"scene*0.4,{lines}*0.6").fingerprint()
    assert source.fingerprint() != make_source(PLAIN, style="scene").fingerprint()


def test_the_same_lines_in_any_order_and_process(make_source, lines_style, word_files):
    names = word_files("early", "xx", "late")
    effects = "clog worn faint bands binary speckle dots letter_tones bounce justified neighbour"
    harsh = lines_style(**{f"{effect}_share": 0.5 for effect in (*effects.split(), "paper")})
    style = f"{lines_style(monospaced_share=1.0, word_space=[0.2, 0.6])},{harsh}"
    source = make_source(PLAIN, style=style, words=names, max_aspect=40.0)
    ids = [0, 3, 2**33, 41, 7]
    here = source.read(ids)
    other = pickle.loads(pickle.dumps(source))  # noqa: S301 - as workers get it
    assert [other.text(i) for i in ids[::-1]] == [source.text(i) for i in ids[::-1]]
    for one, again in zip(here, other.read(ids[::-1])[::-1], strict=True):
        np.testing.assert_array_equal(one, again)
    for i, image in zip(range(40), source.read(range(40)), strict=True):
        assert image.shape[:2] == tuple(source.sizes([i])[0])
        assert image.std() > 2.0  # nothing is worn away


@pytest.mark.parametrize(
    ("style", "color", "expected"),
    [("scene", "grey", "d64dc84f0b511482"), ("plain", "rgb", "7129d09a9ca8b3b8")],
)
def test_words_are_drawn_as_by_earlier_versions(make_source, style, color, expected):
    """One list and one style: a run that is resumed or repeated meets the same images."""
    digest = hashlib.sha256()
    source = make_source(style=style, color=color)
    for i in range(300):
        digest.update(source.text(i).encode() + source.draw(i).tobytes())
    assert digest.hexdigest()[:16] == expected


def test_spaces_between_words(make_source, lines_style):
    """Spaces are as wide as the style says; a monospaced face has cells."""
    kinds = dict.fromkeys(("running", "title", *PATTERNS), 0.0) | {"running": 1.0}
    wide = {}
    for low, high in ((0.2, 0.21), (1.0, 1.01)):
        style = lines_style(line_share=1.0, line_kinds=kinds, word_space=[low, high])
        source = make_source(PLAIN, style=style, max_aspect=100.0)
        layouts = [source.layout(i) for i in range(20)]
        wide[low] = sum(at.width / at.height for at in layouts) / 20
    assert wide[1.0] > 1.1 * wide[0.2]


@pytest.mark.parametrize("path", sorted((FOLDER / "lines").glob("*.json")), ids=lambda p: p.stem)
def test_the_styles_of_lines_open_and_write(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    style = get_style(str(path))
    assert not style.draw_unlabelled
    assert style.common_share == 0.0  # the built-in list is English
    texts = Texts(word_list("builtin"), style, TABLE, "en", [frozenset(TABLE.characters)])
    labels = [texts.write(1, i)[1] for i in range(200)]
    assert len(set(labels)) > 150
    mild = easy(style)  # never harder than the style itself
    assert mild.contrast[0] >= style.contrast[0]
    assert mild.jpeg_quality >= style.jpeg_quality
    assert mild.noise[1] <= style.noise[1]
    assert mild.rotation <= style.rotation
    assert mild.blur_share < style.blur_share
