"""What one sample says, without any font: the text that is drawn, and its label.

They differ where the table lacks what is drawn: a table of 0-9a-z labels `Don't!` as `dont`, the
way scene-text models for lower case are scored.

Synopsis:
    writer = Writer(word_list("auto"), style, charset)
    drawn, label = writer.write(seed=0, index=17)
"""

from __future__ import annotations

import hashlib
import string
from itertools import accumulate

from crnn_jax.core.charset import Charset
from crnn_jax.synthetic.dice import Dice
from crnn_jax.synthetic.spelling import NUMBER_PATTERNS, Inventor, decorate
from crnn_jax.synthetic.styles import Style
from crnn_jax.synthetic.words import builtin_words

TRIES = 20
LONGEST = 40  # characters, from which on no further word is added to a line


class Writer:
    """Texts for (seed, index), by the shares of a style.

    Args:
        words: the word list.
        style: a Style; its text part is read here.
        charset: the table the labels are written in; words it cannot write are left out.
    """

    def __init__(self, words: tuple[str, ...], style: Style, charset: Charset):
        self.style = style
        self.words_hash = hashlib.sha256("\n".join(words).encode()).hexdigest()
        self.charset = charset
        self._symbols = frozenset(charset.characters)
        self._has_space = " " in self._symbols
        # what may be drawn for a table in lower case: both cases
        drawable = set(self._symbols) - {" "}
        if charset.ignore_case:
            drawable |= {c.upper() for c in drawable if len(c.upper()) == 1}
        self._random_symbols = sorted(drawable)
        self._digits = sorted(drawable & set(string.digits))
        letters = sorted(c for c in drawable if c.isalpha())
        usable = [w for w in words if self._writable(w)]
        self._by_length: dict[int, list[str]] = {}
        for word in usable:
            self._by_length.setdefault(len(word), []).append(word)
        self._lengths = sorted(self._by_length)
        weight = style.length_weights
        self._length_sums = list(accumulate(weight[min(n, len(weight)) - 1] for n in self._lengths))
        self._common = [w for w in builtin_words() if self._writable(w)]
        self._inventor = Inventor(usable) if len(usable) >= 100 else None
        self._punctuation = [
            c for c in string.punctuation if c in self._symbols or style.draw_unlabelled
        ]
        shares = {
            "word": style.word_share if self._length_sums and self._length_sums[-1] else 0.0,
            "common": style.common_share if self._common else 0.0,
            "invented": style.invented_share if self._inventor else 0.0,
            "number": style.number_share if self._digits else 0.0,
            "letters": style.letters_share if letters else 0.0,
            "random": style.random_share,
        }
        if not sum(shares.values()):
            shares["random"] = 1.0
        self._letters = letters
        self._kinds = list(shares)
        self._kind_sums = list(accumulate(shares.values()))
        cases = style.case_shares
        self._cases, self._case_sums = list(cases), list(accumulate(cases.values()))

    def _writable(self, word: str) -> bool:
        label = self.label(word)
        return bool(label) and (len(label) == len(word) or self.style.draw_unlabelled)

    def label(self, drawn: str) -> str:
        """The label of a drawn text: folded, without the characters the table lacks."""
        return "".join(c for c in self.charset.normalize(drawn) if c in self._symbols)

    def write(self, seed: int, index: int) -> tuple[str, str]:
        """(drawn text, label) of one sample; the label is never empty."""
        dice = Dice(seed, "text", index)
        for _ in range(TRIES):
            drawn = self._one(dice)
            if self._has_space:
                while dice.chance(self.style.more_words_share) and len(drawn) < LONGEST:
                    drawn += " " + self._one(dice)
            label = self.label(drawn)
            if label.strip():
                return drawn, label
        drawn = dice.pick(self._random_symbols)
        return drawn, self.label(drawn)

    def _one(self, dice: Dice) -> str:
        kind = dice.pick_weighted(self._kinds, self._kind_sums)
        if kind == "random":
            count = dice.integer(*self.style.random_length)
            return "".join(dice.pick(self._random_symbols) for _ in range(count))
        if kind == "letters":
            count = dice.integer(*self.style.letters_length)
            text = "".join(dice.pick(self._letters) for _ in range(count))
        elif kind == "number":
            return self._number(dice)
        elif kind == "common":
            text = dice.pick(self._common)
        elif kind == "invented" and self._inventor:
            text = self._inventor.invent(dice)
        else:
            text = dice.pick(self._by_length[dice.pick_weighted(self._lengths, self._length_sums)])
        text = self._case(dice, text)
        if self._punctuation and dice.chance(self.style.punctuation_share):
            text = decorate(dice, text, frozenset(self._punctuation))
        return text

    def _case(self, dice: Dice, text: str) -> str:
        case = dice.pick_weighted(self._cases, self._case_sums)
        if case == "upper":
            changed = text.upper()
        elif case == "lower":
            changed = text.lower()
        elif case == "capital":
            changed = text[:1].upper() + text[1:].lower()
        else:
            return text
        # a table of capitals only, or letters that change their count (German sharp s)
        return changed if len(self.label(changed)) == len(self.label(text)) else text

    def _number(self, dice: Dice) -> str:
        """Years, prices, times, house numbers; 0 stands for any digit the table has."""
        pattern = dice.pick(NUMBER_PATTERNS) if dice.chance(0.5) else "0" * dice.integer(1, 6)
        drawn = "".join(dice.pick(self._digits) if c == "0" else c for c in pattern)
        if self.style.draw_unlabelled:
            return drawn
        return "".join(c for c in drawn if c in self._symbols)
