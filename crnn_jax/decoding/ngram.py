"""A character n-gram language model, estimated from texts with Witten-Bell's smoothing.

Synopsis:

    model = NGram.estimate(lines, order=6)
    beam_search(log_probs, lengths, width=10, blank_id=36, lm=model.for_charset(charset))

    p(c | h) = (count(hc) + T(h) p(c | shorter h)) / (count(h) + T(h))

T(h) is the number of different characters seen after h: what has been followed by many things will
be followed by new ones (I. Witten and T. Bell, IEEE Transactions on Information Theory 37, 1991;
interpolated as in S. Chen and J. Goodman, TR-10-98, section 2.4). It has no parameter to tune and,
unlike Kneser-Ney, suits a small alphabet, where everything follows everything sooner or later.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.decoding.language_model import NEVER, Automaton

# Private characters that stand for a text's begin, its end and any character never seen.
BEGIN, END, UNKNOWN = "\ue000", "\ue001", "\ue002"
# What is kept while counting.
MAX_NGRAMS = 10_000_000  # 0.4 kB each
MAX_TEXTS = 10_000_000
MAX_CHARACTERS = 1 << 28


@dataclasses.dataclass(frozen=True, eq=False)
class NGram:
    """A back-off model over characters.

    Attributes:
        order: characters of the longest n-gram.
        entries: n-gram -> (log p of its last character after the others, log weight of backing
            off from it as a context), natural logs.
    """

    order: int
    entries: dict[str, tuple[float, float]]

    @classmethod
    def estimate(cls, texts: Iterable[str], order: int = 6) -> "NGram":
        """Counts and smooths.

        Args:
            texts: each begins and ends; of equal ones each counts.
            order: characters of the longest n-gram, the predicted one included; at least 1.

        Raises:
            UserError: there is no character, or more text than fits into memory.
            ValueError: the order is below 1.
        """
        if order < 1:
            raise ValueError(f"order={order}: at least 1")
        # By length of the context: context -> character after it -> how often.
        followers: list[dict[str, collections.Counter[str]]] = [
            collections.defaultdict(collections.Counter) for _ in range(order)
        ]
        grams = 0
        for text, times in _count(texts).items():
            whole = BEGIN + text + END
            for i in range(1, len(whole) if text else 0):
                for n in range(min(order, i + 1)):
                    counts = followers[n][whole[i - n : i]]
                    grams += whole[i] not in counts
                    counts[whole[i]] += times
                if grams > MAX_NGRAMS:
                    raise UserError(f"over {MAX_NGRAMS:,} n-grams; less text, or a lower order")
        if not followers[0]:
            raise UserError("a language model of texts without characters")
        followers[0][""][UNKNOWN] = 0  # it is among the characters, and has been seen never
        probs: dict[str, float] = {}
        back_off: dict[str, float] = {}
        for level in followers:
            for context, counts in level.items():
                total = counts.total()
                kinds = len(counts) - (UNKNOWN in counts)
                for c, n in counts.items():
                    shorter = probs[context[1:] + c] if context else 1 / len(counts)
                    probs[context + c] = (n + kinds * shorter) / (total + kinds)
                back_off[context] = math.log(kinds / (total + kinds))
        entries = {gram: (math.log(p), back_off.get(gram, 0.0)) for gram, p in probs.items()}
        entries[BEGIN] = (NEVER, back_off.get(BEGIN, 0.0))
        return cls(order, entries)

    def log_prob(self, text: str) -> float:
        """log p of a text and its end, in nats."""
        whole = BEGIN + text + END
        return sum(
            self._log_prob(whole[max(0, i + 1 - self.order) : i + 1]) for i in range(1, len(whole))
        )

    def for_charset(self, charset: Charset) -> Automaton:
        """The same model over a table's class ids, as a search walks it.

        Characters that the model has never seen are as probable as it says of unknown ones;
        n-grams with characters outside the table are left out.

        Raises:
            UserError: the model has seen none of the table's characters.
        """
        special = (charset.blank_id, charset.unknown_id)
        id_of = {s: i for i, s in enumerate(charset.symbols) if i not in special}
        if not any(c in self.entries for c in id_of):
            raise UserError("the language model has seen none of the model's characters")
        arcs: dict[str, dict[int, float]] = {"": {}}
        for gram, (log_prob, back_off) in self.entries.items():
            context, c = gram[:-1], gram[-1]
            if all(x in id_of for x in context.removeprefix(BEGIN)):
                if c in id_of:
                    arcs.setdefault(context, {})[id_of[c]] = log_prob
                elif c == END:
                    arcs.setdefault(context, {})
                if back_off and (c in id_of or gram == BEGIN):
                    arcs.setdefault(gram, {})
        unknown = self._log_prob(UNKNOWN)
        arcs[""] = {i: arcs[""].get(i, unknown) for i in range(charset.num_classes)}
        contexts = sorted(arcs, key=lambda context: (len(context), context))
        state_of = {context: i for i, context in enumerate(contexts)}

        def state(context: str) -> int:
            """Of the longest end of a context that something is known about."""
            while context not in state_of:
                context = context[1:]
            return state_of[context]

        sorted_arcs = [(x, i, arcs[x][i]) for x in contexts for i in sorted(arcs[x])]
        return Automaton(
            state(BEGIN),
            np.cumsum([0] + [len(arcs[x]) for x in contexts], dtype=np.int32),
            np.array([i for _, i, _ in sorted_arcs], np.int32),
            _floored([log_prob for _, _, log_prob in sorted_arcs]),
            np.array([state(x + charset.symbols[i][:1]) for x, i, _ in sorted_arcs], np.int32),
            np.array([state(x[1:]) for x in contexts], np.int32),
            _floored([self.entries.get(x, (0.0, 0.0))[1] for x in contexts]),
            _floored([self._log_prob(x + END) for x in contexts]),
        )

    def _log_prob(self, gram: str) -> float:
        """log p of a string's last character after the others."""
        if gram in self.entries:
            return self.entries[gram][0]
        if len(gram) == 1:
            return self.entries.get(UNKNOWN, (NEVER, 0.0))[0]
        return self.entries.get(gram[:-1], (0.0, 0.0))[1] + self._log_prob(gram[1:])


def _count(texts: Iterable[str]) -> collections.Counter[str]:
    counted: collections.Counter[str] = collections.Counter()
    characters = 0
    for text in texts:
        counted[text] += 1
        if counted[text] == 1:
            characters += len(text)
            if characters > MAX_CHARACTERS or len(counted) > MAX_TEXTS:
                raise UserError(
                    f"over {MAX_TEXTS:,} different texts or {MAX_CHARACTERS:,} characters in them"
                )
    return counted


def _floored(logs: list[float]) -> np.ndarray:
    return np.maximum(np.array(logs, np.float32), np.float32(NEVER))
