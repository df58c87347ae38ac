"""What one sample says, without any font: the text that is drawn, and its label.

They differ where the table lacks what is drawn: a table of 0-9a-z labels `Don't!` as `dont`, the
way scene-text models for lower case are scored.
"""

import hashlib
import os
import string
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from itertools import accumulate

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines
from crnn_jax.synthetic.lines import DECORATIONS, NUMBERS, Lines, capitals
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import Style

TRIES = 20
LONGEST = 40  # characters, from which on no further word is added to a line
MAX_LINE = 1000  # bytes of a word list's line
BUILTIN, COMMON = "builtin", "common_words.txt"
DICTIONARIES = (
    "/usr/share/dict/american-english",  # larger lists add words that no sign shows
    "/usr/share/dict/british-english",
    "/usr/share/dict/words",
)


def word_list(name: str) -> tuple[str, ...]:
    """Words of a list in its order, without doubles.

    It is 'auto' (the first of the system's dictionaries, else 'builtin'), 'builtin' (the common
    English and sign words of the package), or a file of one word a line (UTF-8).
    """
    if name == "auto":
        found = next(filter(os.path.isfile, DICTIONARIES), BUILTIN)
        # one word in five of these lists is another one with 's, which styles add themselves
        return tuple(w for w in word_list(found) if not w.endswith("'s"))
    if name == BUILTIN:
        return tuple(resources.files(__package__).joinpath(COMMON).read_text("utf-8").split())
    stripped = (line.strip() for line in text_lines(os.path.expanduser(name), MAX_LINE))
    words = tuple(dict.fromkeys(word for word in stripped if word))
    if not words:
        raise UserError(f"{name}: no words in it; one word a line is expected")
    return words


class Texts:
    """Texts for (seed, index), by a style's shares; words the table cannot write are left out.

    `faces` are the characters of some faces, one of which can draw any text: given for lines and
    for one of several languages, whose texts then have no characters and words but their own.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        style: Style,
        charset: Charset,
        language: str = "",
        faces: Sequence[frozenset[str]] = (),
    ):
        self.style, self.charset, self.language, self._faces = style, charset, language, faces
        self.words_hash = hashlib.sha256("\n".join(words).encode()).hexdigest()
        self._symbols = frozenset(c for c in charset.characters if c == " " or not c.isspace())
        self._has_space = " " in self._symbols  # others, such as U+00A0, are never drawn
        # what may be drawn for a table in lower case: both cases
        drawable = set(self._symbols) - {" "}
        if charset.ignore_case:
            drawable |= {c.upper() for c in drawable if len(c.upper()) == 1}
        unlabelled = style.draw_unlabelled
        usable, self._by_length, self._followers = _prepared(words, charset, unlabelled)
        self.has_words = bool(usable)
        self._lines = Lines(usable, language, style) if self._has_space and usable else None
        if faces and usable:
            own = frozenset().union(*usable)
            own |= {c.upper() for c in own}
            drawable = {c for c in drawable if c in own or not c.isalpha()}
        self._random_symbols = sorted(drawable)
        self._digits = sorted(drawable & set(string.digits))
        self._letters = sorted(c for c in drawable if c.isalpha())
        self._lengths = sorted(self._by_length)
        weight = style.length_weights
        self._length_sums = list(accumulate(weight[min(n, len(weight)) - 1] for n in self._lengths))
        self._common = [] if faces else _prepared(word_list(BUILTIN), charset, unlabelled)[0]
        self._punctuation = {c for c in string.punctuation if c in self._symbols or unlabelled}
        shares = {
            "word": style.word_share if self._length_sums and self._length_sums[-1] else 0.0,
            "common": style.common_share if self._common else 0.0,
            "invented": style.invented_share if self._followers else 0.0,
            "number": style.number_share if self._digits else 0.0,
            "letters": style.letters_share if self._letters else 0.0,
            "random": style.random_share,
        }
        if not sum(shares.values()):
            shares["random"] = 1.0
        self._kinds = list(shares)
        self._kind_sums = list(accumulate(shares.values()))
        cases = style.case_shares
        self._cases, self._case_sums = list(cases), list(accumulate(cases.values()))

    def _fits(self, drawn: str, label: str) -> bool:
        if not self._faces:
            return bool(label.strip())
        labelled = self.style.draw_unlabelled or len(label) == len(drawn)
        needed = frozenset(drawn) - {" "}
        return bool(label) and labelled and any(needed <= face for face in self._faces)

    def label(self, drawn: str) -> str:
        """The label of a drawn text: folded, without the characters the table lacks."""
        label = "".join(c for c in self.charset.normalize(drawn) if c in self._symbols)
        # what is left out leaves the spaces on both its sides
        return " ".join(filter(None, label.split(" "))) if self._has_space else label

    def write(self, seed: int, index: int) -> tuple[str, str]:
        """(drawn text, label) of one sample; the label is never empty."""
        rng = Rng(seed, "text", index)
        for _ in range(TRIES):
            if self._lines and self.style.line_share and rng.chance(self.style.line_share):
                drawn = self._lines.write(rng)
            else:
                drawn = self._word(rng)
                if self._has_space:
                    while rng.chance(self.style.more_words_share) and len(drawn) < LONGEST:
                        drawn += " " + self._word(rng)
            label = self.label(drawn)
            if self._fits(drawn, label):
                return drawn, label
        drawn = rng.pick(self._random_symbols)
        return drawn, self.label(drawn)

    def _word(self, rng: Rng) -> str:
        kind = self._kinds[rng.index(self._kind_sums)]
        if kind == "random":
            count = rng.integer(*self.style.random_length)
            return "".join(rng.pick(self._random_symbols) for _ in range(count))
        if kind == "number":
            return self._number(rng)
        if kind == "letters":
            count = rng.integer(*self.style.letters_length)
            text = "".join(rng.pick(self._letters) for _ in range(count))
        elif kind == "common":
            text = rng.pick(self._common)
        elif kind == "invented":
            text = self._invented(rng)
        else:
            words = self._by_length[self._lengths[rng.index(self._length_sums)]]
            text = words[int(len(words) * rng.random() ** self.style.early_power)]
        text = self._cased(rng, text)
        if self._punctuation and rng.chance(self.style.punctuation_share):
            decorated = rng.pick(DECORATIONS).format(text)
            if self._punctuation.issuperset(c for c in decorated if c in string.punctuation):
                return decorated
        return text

    def _invented(self, rng: Rng, longest: int = 12) -> str:
        """A word of 1 to `longest` lower-case letters, by `_followers`."""
        text = ""
        while len(text) < longest:
            letters, sums = self._followers[("^^" + text)[-2:]]
            if (letter := letters[rng.index(sums)]) == "$":
                break
            text += letter
        return text

    def _cased(self, rng: Rng, text: str) -> str:
        case = self._cases[rng.index(self._case_sums)]
        if case == "as_listed":
            return text
        if case == "capital":
            changed = text[:1].upper() + text[1:].lower()
        else:
            changed = capitals(text, self.language) if case == "upper" else text.lower()
        # a table of capitals only, or letters that change their count (German sharp s)
        return changed if len(self.label(changed)) == len(self.label(text)) else text

    def _number(self, rng: Rng) -> str:
        """Years, prices, times, house numbers; 0 stands for any digit the table has."""
        pattern = rng.pick(NUMBERS) if rng.chance(0.5) else "0" * rng.integer(1, 6)
        drawn = "".join(rng.pick(self._digits) if c == "0" else c for c in pattern)
        return "".join(c for c in drawn if self.style.draw_unlabelled or c in self._symbols)


@lru_cache(64)
def _prepared(
    words: tuple[str, ...], charset: Charset, draw_unlabelled: bool
) -> tuple[list[str], dict[int, list[str]], dict[str, tuple[list[str], list[int]]]]:
    """Words the table can write; the same by their length; `_followers`. All styles share them."""
    symbols, usable = {c for c in charset.characters if c == " " or not c.isspace()}, []
    by_length: dict[int, list[str]] = {}
    for listed in words:
        forms = (listed, listed.upper())  # a table may have capitals only
        counts = [sum(c in symbols for c in charset.normalize(form)) for form in forms]
        count, word = max(counts), forms[counts[0] < counts[1]]
        if count and (draw_unlabelled or count == len(word)):
            usable.append(word)
            by_length.setdefault(len(word), []).append(word)
    return usable, by_length, _followers(usable) if len(usable) >= 100 else {}


def _followers(words: list[str], most: int = 20_000) -> dict[str, tuple[list[str], list[int]]]:
    """Two letters -> the letters that follow them, and the running sums of their counts."""
    # Names of shops and people are in no dictionary; a reader that has met only dictionary words
    # corrects them to some other word. So words are invented whose letters follow as in the list.
    step = max(1, len(words) // most)
    counts: dict[str, dict[str, int]] = {}
    for word in words[::step]:
        spelled = "^^" + word.lower() + "$"
        for at in range(2, len(spelled)):
            after = counts.setdefault(spelled[at - 2 : at], {})
            after[spelled[at]] = after.get(spelled[at], 0) + 1
    return {pair: (list(after), list(accumulate(after.values()))) for pair, after in counts.items()}
