"""Texts that stand in no word list: numbers as signs write them, marks, and invented words."""

from __future__ import annotations

import string
from itertools import accumulate

from crnn_jax.synthetic.dice import Dice

# 0 stands for any digit
NUMBER_PATTERNS = (
    "1900", "2000", "00:00", "0.00", "00.00", "$0.00", "$00", "00%", "0,000", "00,000", "000-0000",
    "00/00", "#00", "00-00", "0000", "00th", "0st", "A0", "B00", "0am", "0pm", "00m", "00km",
    "No.0", "00kg", "0x0", "00.0", "+00", "(000)", "0/0", "00'", "00.00.00", "(00)", "0-0",
    "000000", "X00",
)  # fmt: skip
DECORATIONS = (
    "{}.", "{},", "{}!", "{}?", "{}:", "({})", '"{}"', "'{}'", "{}'s", "{};", "{}-", "-{}", "&{}",
    "{}...", "{}*", "@{}", "#{}", "www.{}", "{}.com", "{}/", "{}.", "{},", "[{}]", "{}&", "({}",
    "{})", '"{}', "{}'", "_{}", "{}+", "{}=", "<{}>", "{}|", "~{}", "\\{}", "{}^", "{}{{", "}}{}",
    "{}$", "{}%", "`{}",
)  # fmt: skip


def decorate(dice: Dice, text: str, allowed: frozenset[str]) -> str:
    """The text with marks as they stand on signs, or as it is where a mark is not allowed."""
    drawn = dice.pick(DECORATIONS).format(text)
    return drawn if all(c in allowed for c in drawn if c in string.punctuation) else text


class Inventor:
    """Words that no list has: letters follow each other as in the list (order two).

    Names of shops and people are in no dictionary; a reader that has met only dictionary words
    corrects them to some other word.
    """

    def __init__(self, words: list[str], most: int = 20_000):
        step = max(1, len(words) // most)
        follow: dict[str, dict[str, int]] = {}
        for word in words[::step]:
            spelled = "^^" + word.lower() + "$"
            for at in range(2, len(spelled)):
                counts = follow.setdefault(spelled[at - 2 : at], {})
                counts[spelled[at]] = counts.get(spelled[at], 0) + 1
        self._follow = {
            pair: (list(counts), list(accumulate(counts.values())))
            for pair, counts in follow.items()
        }

    def invent(self, dice: Dice, longest: int = 12) -> str:
        """A word of 1 to `longest` lower-case letters."""
        text = ""
        while len(text) < longest:
            letter = dice.pick_weighted(*self._follow[("^^" + text)[-2:]])
            if letter == "$":
                break
            text += letter
        return text
