"""One class further in a lexicon's trie and in a language model, compiled by numba."""

import numba

from crnn_jax.decoding.language_model import Automaton
from crnn_jax.decoding.lexicon import Trie


@numba.njit(nogil=True, cache=True, inline="always")
def child(trie: Trie, node: int, c: int) -> int:
    """The node of a `lexicon.Trie` after class `c`, -1 where no word goes on so."""
    low, stop = trie.first[node], trie.first[node + 1]
    place = _search(trie.label, low, stop, c)
    return place if place < stop and trie.label[place] == c else -1


@numba.njit(nogil=True, cache=True)
def lm_step(lm: Automaton, state: int, c: int) -> tuple[float, int]:
    """(log p of class `c` after `state`, the state then) of a `language_model.Automaton`."""
    back_off = 0.0
    while state > 0:
        stop = lm.first[state + 1]
        place = _search(lm.label, lm.first[state], stop, c)
        if place < stop and lm.label[place] == c:
            return back_off + lm.log_prob[place], lm.next_state[place]
        back_off += lm.back_off[state]
        state = lm.shorter[state]
    return back_off + lm.log_prob[c], lm.next_state[c]  # state 0 has every class, in order


@numba.njit(nogil=True, cache=True, inline="always")
def _search(labels, low, high, c):
    """The first place in labels[low:high], which rise, that is not below `c`."""
    while low < high:
        middle = (low + high) >> 1
        if labels[middle] < c:
            low = middle + 1
        else:
            high = middle
    return low
