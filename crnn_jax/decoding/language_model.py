"""What a beam search asks of a language model: an automaton in flat arrays.

A model that is given as arrays can be walked by compiled code, a step for every prefix and class
and frame, where a call into Python would cost a thousand times as much. Any n-gram model is such
an automaton (`ngram.NGram.for_charset` makes one), and so is a grammar.
"""

from typing import NamedTuple, Protocol

import numpy as np

# Of a class that a model has never heard of; finite, because 0 * inf is NaN.
NEVER = -230.0  # ARPA's 10 ** -100


class LanguageModel(Protocol):
    """A back-off automaton over class ids (the blank's is never asked for).

    A state is a context, 0 the empty one. log p(class | state) is `log_prob` of the arc that
    carries the class, or else `back_off[state]` plus log p(class | `shorter[state]`). All logs
    are natural and finite.

    Attributes:
        start: the state at the beginning of a text.
        first: int32 [states + 1], the arcs of state s are first[s] to first[s + 1] - 1.
        label: int32 [arcs], class ids, rising within a state; those of state 0 are 0, 1, ... k - 1.
        log_prob: float32 [arcs], log p(class | state).
        next_state: int32 [arcs].
        shorter: int32 [states], the state of the context without its first character.
        back_off: float32 [states].
        end: float32 [states], log p(the text ends | state).
    """

    @property
    def start(self) -> int: ...
    @property
    def first(self) -> np.ndarray: ...
    @property
    def label(self) -> np.ndarray: ...
    @property
    def log_prob(self) -> np.ndarray: ...
    @property
    def next_state(self) -> np.ndarray: ...
    @property
    def shorter(self) -> np.ndarray: ...
    @property
    def back_off(self) -> np.ndarray: ...
    @property
    def end(self) -> np.ndarray: ...


class Automaton(NamedTuple):
    """The plainest `LanguageModel`: just its arrays."""

    start: int
    first: np.ndarray
    label: np.ndarray
    log_prob: np.ndarray
    next_state: np.ndarray
    shorter: np.ndarray
    back_off: np.ndarray
    end: np.ndarray


_TYPES = Automaton(
    np.int64, np.int32, np.int32, np.float32, np.int32, np.int32, np.float32, np.float32
)


def automaton(model: LanguageModel | None) -> Automaton:
    """A model as compiled code takes it; without any state for None.

    Raises:
        ValueError: its arrays contradict each other.
    """
    if model is None:
        return Automaton(0, *(np.zeros(0, dtype) for dtype in _TYPES[1:]))
    arrays = [
        np.require(getattr(model, name), dtype, ["C", "W"])  # one type, or numba compiles anew
        for name, dtype in zip(Automaton._fields[1:], _TYPES[1:], strict=True)
    ]
    made = Automaton(int(model.start), *arrays)
    states, arcs = len(made.end), len(made.label)
    fits = (
        states > 0
        and len(made.first) == states + 1
        and len(made.shorter) == len(made.back_off) == states
        and len(made.log_prob) == len(made.next_state) == arcs == made.first[-1]
        and 0 <= made.start < states
        and bool(((made.next_state >= 0) & (made.next_state < states)).all())
        and np.array_equal(made.label[: made.first[1]], np.arange(made.first[1]))
    )
    if not fits:
        raise ValueError("a language model whose arrays contradict each other")
    if not all(np.isfinite(a).all() for a in (made.log_prob, made.back_off, made.end)):
        raise ValueError("a language model with a log-probability that is not finite")
    return made


def log_prob(model: LanguageModel, ids: np.ndarray) -> float:
    """log p of a whole text and its end.

    Args:
        model: the language model.
        ids: int [n], class ids.
    """
    state, total = int(model.start), 0.0
    for c in np.asarray(ids).tolist():
        while True:
            low, high = int(model.first[state]), int(model.first[state + 1])
            place = low + int(np.searchsorted(model.label[low:high], c))
            if place < high and model.label[place] == c:
                break
            if state == 0:
                raise ValueError(f"class {c} is not among the language model's")
            total += float(model.back_off[state])
            state = int(model.shorter[state])
        total += float(model.log_prob[place])
        state = int(model.next_state[place])
    return total + float(model.end[state])
