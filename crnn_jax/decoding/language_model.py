r"""Character n-gram language models: estimated from texts, stored as ARPA files.

    model = NGram.estimate(lines, order=6)
    beam_search(log_probs, lengths, width=10, blank_id=36, lm=model.for_charset(charset))

The estimate is Witten-Bell's, interpolated, which has no parameter to tune:

    p(c | h) = (count(hc) + T(h) p(c | shorter h)) / (count(h) + T(h))

T(h) is the number of different characters seen after h (I. Witten and T. Bell, IEEE Transactions on
Information Theory 37, 1991; S. Chen and J. Goodman, TR-10-98, section 2.4).

An ARPA file, as KenLM and SRILM write it too:

    \data\
    ngram 1=39
    \1-grams:
    -1.2041	a	-0.3010
    \2-grams:
    -0.4771	<s> t
    \end\

A line holds log10 p of the last token after the others, the tokens, and log10 of their back-off
weight. A token is one character; a space is <SPACE>, as in table files.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError

# Private-use characters for a text's begin, its end and unseen characters.
# Noncharacters, which no text holds.
BEGIN, END, UNKNOWN = "\ufdd0", "\ufdd1", "\ufdd2"
TOKENS = {"<s>": BEGIN, "</s>": END, "<unk>": UNKNOWN, "<SPACE>": " "}
WRITTEN = {c: token for token, c in TOKENS.items()}
# Other programs' names for them.
TOKENS |= {"<UNK>": UNKNOWN, "<space>": " ", "\N{LOWER ONE EIGHTH BLOCK}": " "}

# Log p of the impossible, about ARPA's 10 ** -100: finite, because 0 * inf is NaN.
NEVER = -230.0
LOG_10 = math.log(10)
MAX_NGRAMS = 10_000_000  # up to 0.8 kB of memory each
MAX_LINE = 1 << 16  # bytes of a line of an ARPA file


class Automaton(NamedTuple):
    """A back-off automaton over class ids, for compiled code.

    A state is a context, 0 the empty one. log p(class | state) is `log_prob` of the state's arc
    with that label, or without one `back_off[state]` plus log p(class | shorter[state]). All logs
    are natural and finite. `NGram.for_charset` makes one; a search checks no index.
    """

    start: int  # the state at the beginning of a text
    first: np.ndarray  # int32 [states + 1], arcs of state s are first[s] to first[s + 1] - 1
    # int32 [arcs], class ids, rising within a state; all of them (the blank's too) in state 0.
    label: np.ndarray
    log_prob: np.ndarray  # float32 [arcs]
    next_state: np.ndarray  # int32 [arcs]
    # int32 [states], of the context without its first character; below its own state.
    shorter: np.ndarray
    back_off: np.ndarray  # float32 [states]
    end: np.ndarray  # float32 [states], log p(the text ends | state)


NO_MODEL = Automaton(0, *(np.zeros(0, x) for x in ("i4", "i4", "f4", "i4", "i4", "f4", "f4")))


@dataclasses.dataclass(frozen=True, eq=False)
class NGram:
    """A back-off model over characters."""

    order: int  # characters of the longest n-gram
    # n-gram -> natural logs of (p of its last character after the others, its back-off weight).
    entries: dict[str, tuple[float, float]]

    @classmethod
    def estimate(cls, texts: Iterable[str], order: int = 6) -> "NGram":
        """Counts and smooths texts, each with its begin and end; of equal ones each counts.

        Raises:
            UserError: there is no character, or more n-grams than fit into memory.
        """
        # By length of the context: context -> character after it -> how often.
        followers: list[dict[str, collections.Counter[str]]] = [
            collections.defaultdict(collections.Counter) for _ in range(order)
        ]
        grams = 0
        for text, times in collections.Counter(texts).items():
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
        followers[0][""][UNKNOWN] = 0  # a character like others, but never seen
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
        """The same model over a table's class ids.

        Characters that it has not seen are as probable as unknown ones; n-grams with characters
        outside the table are left out.
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
            """Of the longest known end of a context."""
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


def read_arpa(lines: Iterable[str], name: str) -> NGram:
    """Reads a model over characters; n-grams with tokens of several characters are left out.

    Raises:
        UserError: it is no such model; names the file and the line.
    """
    order, of_characters = 0, False
    entries: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines, 1):
        if (words := line.split()) == ["\\end\\"]:
            break
        if not words:
            continue
        if section := re.fullmatch(r"\\([1-9]\d?)-grams:", words[0]):
            order = int(section[1])
            if order > 1 and not of_characters:  # ahead of the gigabytes that may follow
                break
        elif order:
            gram, numbers = _entry(line.strip("\r\n"), order, f"{name}:{number}")
            if gram is not None:
                entries[gram] = numbers
                of_characters |= order == 1 and gram not in WRITTEN
    else:
        raise UserError(f"{name}: no ARPA language model, or cut short: it has no line \\end\\")
    if not of_characters:
        raise UserError(f"{name}: its tokens are words; a reader of characters wants one of these")
    return NGram(max(map(len, entries)), entries)


def arpa_lines(model: NGram) -> Iterator[str]:
    """The model as lines of an ARPA file, without line ends; shorter n-grams first."""
    by_length: list[list[str]] = [[] for _ in range(model.order)]
    for gram in sorted(model.entries):
        by_length[len(gram) - 1].append(gram)
    yield "\\data\\"
    yield from (f"ngram {n}={len(grams)}" for n, grams in enumerate(by_length, 1))
    for n, grams in enumerate(by_length, 1):
        yield from ("", f"\\{n}-grams:")
        for gram in grams:
            log_prob, back_off = model.entries[gram]
            line = f"{log_prob / LOG_10:.7g}\t{' '.join(WRITTEN.get(c, c) for c in gram)}"
            yield line + (f"\t{back_off / LOG_10:.7g}" if back_off else "")
    yield from ("", "\\end\\")


def _entry(line: str, order: int, where: str) -> tuple[str | None, tuple[float, float]]:
    """(n-gram, None if it is not of characters; its natural logs)."""
    # Between the columns are TABs, between tokens spaces; some writers put spaces everywhere. Not
    # str.split(): a no-break space is a character like any other.
    cells = [cell for cell in line.replace("\t", " ").split(" ") if cell]
    tokens = [TOKENS.get(token, token) for token in cells[1 : order + 1]]
    try:
        numbers = [float(cell) * LOG_10 for cell in (cells[0], *cells[order + 1 :])]
    except (ValueError, IndexError):
        numbers = []
    # Neither NaN nor a probability of 10 ** 1000; -inf is an impossible character.
    if len(tokens) != order or len(numbers) not in (1, 2) or not all(x <= 1000 for x in numbers):
        raise UserError(f"{where}: want log10 p, {order} tokens, perhaps a weight: {line[:60]!r}")
    if any(len(c) != 1 for c in tokens):
        return None, (0.0, 0.0)
    return "".join(tokens), (numbers[0], numbers[1] if len(numbers) > 1 else 0.0)


def _floored(logs: list[float]) -> np.ndarray:
    return np.maximum(np.array(logs, np.float32), np.float32(NEVER))
