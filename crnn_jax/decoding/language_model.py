"""What a beam search asks of a language model: an automaton in flat arrays.

A model that is given as arrays can be walked by compiled code, a step for every text, class and
frame, where a call into Python would cost a thousand times as much. Any n-gram model is such an
automaton (`ngram.NGram.for_charset` makes one), and so is a grammar.
"""

from typing import NamedTuple, Protocol

import numpy as np

# Log p of what a model holds for impossible: finite, because 0 * inf is NaN.
NEVER = -230.0  # about ARPA's 10 ** -100


class Automaton(NamedTuple):
    """A back-off automaton over class ids, itself the plainest `LanguageModel`.

    A state is a context, 0 the empty one. log p(class | state) is `log_prob` of the state's arc
    with that label, or where there is none `back_off[state]` plus log p(class | shorter[state]).
    All logs are natural and finite.

    Attributes:
        start: the state at the beginning of a text.
        first: int32 [states + 1], the arcs of state s are first[s] to first[s + 1] - 1.
        label: int32 [arcs], class ids, rising within a state; those of state 0 are 0, 1, ... k - 1
            (the blank's is never asked for).
        log_prob: float32 [arcs].
        next_state: int32 [arcs].
        shorter: int32 [states], of the context without its first character; below its own state.
        back_off: float32 [states].
        end: float32 [states], log p(the text ends | state).
    """

    start: int
    first: np.ndarray
    label: np.ndarray
    log_prob: np.ndarray
    next_state: np.ndarray
    shorter: np.ndarray
    back_off: np.ndarray
    end: np.ndarray

    def automaton(self) -> "Automaton":
        """Itself."""
        return self


class LanguageModel(Protocol):
    """Whatever can be written as an automaton over a table's class ids."""

    def automaton(self) -> Automaton:
        """The model as arrays; called for every batch, so it should not make them anew."""


NO_MODEL = Automaton(
    0,
    *(np.zeros(0, dtype) for dtype in ("i4", "i4", "f4", "i4", "i4", "f4", "f4")),
)


def checked(model: Automaton, num_classes: int) -> Automaton:
    """The automaton in the one form that compiled code takes.

    Compiled code checks no index, so what would let it read elsewhere is found here.

    Raises:
        ValueError: the arrays contradict each other, are not finite, or are of other classes.
    """
    arrays = [
        np.require(given, empty.dtype, ["C", "W"])
        for given, empty in zip(model[1:], NO_MODEL[1:], strict=True)
    ]
    made = Automaton(int(model.start), *arrays)
    states, arcs = len(made.end), len(made.label)
    fits = (
        states > 0
        and len(made.first) == states + 1
        and made.first[0] == 0
        and bool((np.diff(made.first) >= 0).all())
        and len(made.log_prob) == len(made.next_state) == arcs == made.first[-1]
        and len(made.shorter) == len(made.back_off) == states
        and 0 <= made.start < states
        and bool(((made.next_state >= 0) & (made.next_state < states)).all())
        and made.shorter[0] == 0
        and bool((made.shorter >= 0).all())
        and bool((made.shorter[1:] < np.arange(1, states)).all())
    )
    if not fits:
        raise ValueError("a language model whose arrays contradict each other")
    if not np.array_equal(made.label[: made.first[1]], np.arange(num_classes)):
        raise ValueError(f"a language model of {made.first[1]} classes for {num_classes}")
    if not all(np.isfinite(x).all() for x in (made.log_prob, made.back_off, made.end)):
        raise ValueError("a language model with a log-probability that is not finite")
    return made
