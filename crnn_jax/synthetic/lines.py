"""What a line says: running text as a language sets it, titles, the tokens of letters and bills.

Nothing here means anything: dates may be impossible and addresses are nobody's. What counts is
which characters stand beside each other, and where spaces are.
"""

import json
import re
import string
import unicodedata
from collections.abc import Sequence
from importlib import resources
from itertools import accumulate
from typing import TYPE_CHECKING

from crnn_jax.synthetic.rng import Rng

if TYPE_CHECKING:
    from crnn_jax.synthetic.styles import Style

_DATA = json.loads(resources.files(__package__).joinpath("line_tokens.json").read_text("utf-8"))
# 0 any digit; <w> a word, <W> with a capital, <U> in capitals; <A> a capital of ASCII, <a> a small
# letter; <n> a name of ASCII letters, <t> the end of a web address; <p> a price, <d> an amount
PATTERNS: dict[str, list[str]] = _DATA["patterns"]
NUMBERS: list[str] = _DATA["numbers"]  # of words that are one; 0 any digit
DECORATIONS: list[str] = _DATA["decorations"]  # of words with punctuation; {} the word
QUOTES: dict[str, str] = _DATA["quotes"]  # pair -> the languages that open and close so
MONEY: dict[str, str] = _DATA["money"]  # language -> its currencies
KEYBOARD = str.maketrans("“”„«»‘’–—×", '"""""\'\'--x', "") | {ord("…"): "..."}
ENDS = ("com", "org", "net", "eu", "info", "de", "fr", "it", "es", "co.uk", "pl", "nl", "ru", "gr")
POINT = ("en", "ms", "fil")  # before decimals, a comma elsewhere
BEFORE = ("$", "£", "RM", "Rp", "Rs", "₱", "R$")  # the amount; others mostly follow it
# French and Italian words that a vowel has shortened, as they stand in their lists
ELIDED = frozenset((*"ldjnscmt", "qu", "un", "all", "dell", "nell", "dall", "sull", "quell"))
ELIDING = ("fr", "it", "ca")
TOKENS = tuple(kind for kind in PATTERNS if kind not in ("item", "field", "mark"))  # in texts


def capitals(text: str, language: str = "") -> str:
    """The text in capitals, as Turkish has them, or Greek without its accents."""
    if language == "tr":
        text = text.replace("i", "İ")
    text = text.upper()
    if language == "el":
        bare = "".join(c for c in unicodedata.normalize("NFD", text) if c != "\u0301")
        text = unicodedata.normalize("NFC", bare)
    return text


class Lines:
    """Lines of one language, from its words in the order of their frequency."""

    def __init__(self, words: Sequence[str], language: str, style: "Style"):
        self.words, self.language, self.style = words, language, style
        self._kinds = list(style.line_kinds)
        self._sums = list(accumulate(style.line_kinds.values()))
        pair = next((q for q, codes in QUOTES.items() if language in codes.split()), "“”")
        gap = " " if language == "fr" else ""
        self._quotes = (pair[0] + gap, gap + pair[1])
        self._money = (*MONEY.get(language, "").split(), "€", "€", "EUR")

    def write(self, rng: Rng) -> str:
        """One line; no spaces at its ends, no two side by side."""
        kind = self._kinds[rng.index(self._sums)]
        low, high = self.style.line_length
        length = int(low + (high + 1 - low) * rng.random() ** self.style.line_power)
        if kind in PATTERNS:
            text = self.token(kind, rng)
        elif kind == "title":
            text = _capital(self._word(rng))
            while len(text) < length and rng.chance(0.7):
                word = self._word(rng)
                text += " " + (word if rng.chance(0.3) else _capital(word))
        else:
            text = self._running(rng, length)
        if kind != "web" and rng.chance(self.style.line_capitals_share):
            text = capitals(text, self.language)
        if rng.chance(self.style.typographic_share):
            return text.replace("...", "…").replace("'", "’")
        return text.translate(KEYBOARD)  # what a keyboard has

    def token(self, kind: str, rng: Rng) -> str:
        """A date, a price, an address ...; `kind` is one of PATTERNS."""
        return re.sub("0|<.>", lambda found: self._fill(found[0], rng), rng.pick(PATTERNS[kind]))

    def _fill(self, mark: str, rng: Rng) -> str:
        """What stands for a mark of a pattern."""
        if mark in ("<w>", "<W>", "<U>"):
            word = self._word(rng)
            if mark == "<U>":
                return capitals(word, self.language)
            return _capital(word) if mark == "<W>" else word
        if mark in ("<p>", "<d>"):
            return self._price(rng) if mark == "<p>" else self._amount(rng)
        if mark in ("<n>", "<N>"):
            text = self._name(rng)
        else:
            choices = {"0": string.digits, "<t>": ENDS, "<T>": ENDS}
            text = rng.pick(choices.get(mark, string.ascii_lowercase))
        return text.upper() if mark.isupper() else text

    def _word(self, rng: Rng) -> str:
        return self.words[int(len(self.words) * rng.random() ** self.style.early_power)]

    def _name(self, rng: Rng) -> str:
        """ASCII letters: a word without accents, or syllables where its script is another one."""
        plain = unicodedata.normalize("NFD", self._word(rng))
        text = "".join(c for c in plain if c in string.ascii_lowercase)
        count = 0 if text else rng.integer(2, 4)
        return text + "".join(rng.pick("bdfgklmnprstvz") + rng.pick("aeiou") for _ in range(count))

    def _amount(self, rng: Rng) -> str:
        point = "." if self.language in POINT or rng.chance(0.3) else ","
        whole = str(rng.integer(0, 10 ** rng.integer(1, 4) - 1))
        if len(whole) > 3 and rng.chance(0.6):
            whole = f"{whole[:-3]}{rng.pick((' ', ',' if point == '.' else '.'))}{whole[-3:]}"
        cents = rng.pick((rng.integer(0, 99), 10 * rng.integer(0, 9), 0, 50, 99))  # as shops round
        return f"{whole}{point}{cents:02}" if rng.chance(0.9) else whole

    def _price(self, rng: Rng) -> str:
        sign, amount = rng.pick(self._money), self._amount(rng)
        gap = " " if rng.chance(0.5 if len(sign) == 1 else 0.9) else ""
        before = rng.chance(0.9 if sign in BEFORE else 0.2)
        return sign + gap + amount if before else amount + gap + sign

    def _running(self, rng: Rng, length: int) -> str:
        """A part of a text of at least so many characters; its ends may cut sentences and words."""
        text = self._word(rng)[-4:] + " " if rng.chance(0.06) else ""
        begins, close, closing, end = rng.chance(0.4), "", 0, ""
        if begins and rng.chance(0.15):  # speech, lists
            text = rng.pick(("– ", "— ", "- ", "—", "-", "• ", "0. ", "(a) ", "* ", "§ 0 ", "1) "))
            text = text.replace("0", rng.pick(string.digits))
        while True:
            word = self.token(rng.pick(TOKENS), rng) if rng.chance(0.04) else self._word(rng)
            if begins or rng.chance(0.25 if self.language == "de" else 0.06):
                word = _capital(word)
            if self.language in ELIDING and word.lower() in ELIDED and len(text) < length:
                text += word + "'"
                continue
            if begins and self.language == "es" and rng.chance(0.2):
                end = rng.pick("?!")
                text += "¿" if end == "?" else "¡"
            if not close and rng.chance(0.05):
                opened, close = rng.pick((self._quotes, self._quotes, ("(", ")"), ("‘", "’")))
                text, closing = text + opened, rng.integer(1, 4)
            text, begins = text + word, False
            closing -= 1
            if close and closing <= 0:
                text, close = text + close, ""
            if rng.chance(0.2):
                mark, begins = self._mark(rng, end)
                text, end = text + mark, "" if begins else end
            if len(text) >= length:
                break
            text += "-" if rng.chance(0.01) else " "
        if word.isalpha() and text.endswith(word) and len(word) > 5 and rng.chance(0.2):
            text = text[: -rng.integer(2, len(word) - 2)] + "-"
        return text

    def _mark(self, rng: Rng, end: str) -> tuple[str, bool]:
        """Punctuation behind a word, with its space, and whether it ends the sentence."""
        kind = rng.random()
        if kind < 0.45:
            mark = ","
        elif kind < 0.85 or end:
            mark = end or rng.pick(".......!?") or "."
            mark = "..." if mark == "." and rng.chance(0.06) else mark
            if self.language == "el" and mark == "?":
                mark = ";"
        else:
            mark = rng.pick((";", ":", ":", " –", " –", " -", "—"))
            if self.language == "el" and mark == ";":
                mark = "·"
        spaced = self.language == "fr" and mark in ";:!?"
        spaced |= self.style.spaced_marks_share > 0 and rng.chance(self.style.spaced_marks_share)
        return " " * spaced + mark, mark in (".", "...", "!", "?") or (kind < 0.85 and mark == ";")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if len(text[:1].upper()) == 1 else text
