"""A list of words as a trie in flat arrays, built for a million words in seconds.

lexicon = Lexicon.from_words(words, charset)
beam_search(log_probs, lengths, width=10, blank_id=charset.blank_id, lexicon=lexicon)
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError


class Trie(NamedTuple):
    """Every beginning of a word is a node, 0 the empty one, level by level."""

    first: np.ndarray  # int32 [n + 1], children of node i are first[i] to first[i + 1] - 1
    label: np.ndarray  # int32 [n], class id that leads there; rising among siblings, -1 for node 0
    best: np.ndarray  # float32 [n], the highest log prior among the words that begin so
    word: np.ndarray  # float32 [n], log prior of the word that ends there, -inf where none does


NO_TRIE = Trie(*(np.zeros(0, dtype) for dtype in ("i4", "i4", "f4", "f4")))


@dataclasses.dataclass(frozen=True, eq=False)
class Lexicon:
    """Words a reading may be."""

    trie: Trie
    given: int  # words of the list
    left_out: int = 0  # those of them with characters that are not read, or none at all

    def __len__(self) -> int:
        return int(np.isfinite(self.trie.word).sum())

    @classmethod
    def from_words(
        cls,
        words: Sequence[str],
        charset: Charset,
        log_priors: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
    ) -> "Lexicon":
        """Builds the trie; raises UserError where no word is left.

        Args:
            words: as people write them; the charset normalizes them (NFC, one case). Of equal
                ones the highest prior counts.
            charset: turns characters into class ids.
            log_priors: float [len(words)], natural logs, finite; None: 0 for every word.
            allowed: bool [k], the classes that words may hold; None: all of the table's.
        """
        priors = np.zeros(len(words)) if log_priors is None else log_priors
        ids, start, length = _encode(words, charset, allowed)
        usable = np.flatnonzero(length > 0)
        if len(usable) == 0:
            those = "the table's characters" if allowed is None else "the characters to read"
            raise UserError(f"lexicon: none of {len(words)} words is of {those}")
        trie = _build(ids, start[usable], length[usable], priors[usable], charset.num_classes)
        return cls(trie, len(words), len(words) - len(usable))


def _encode(
    words: Sequence[str], charset: Charset, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class ids of all words at once: (ids, each word's start, its length or 0 if unusable)."""
    text = charset.normalize("\n".join(words))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ids = charset.ids_by_code_point()[codes]
    if allowed is not None:
        ids = np.where(allowed[ids], ids, -1)  # what is -1 stays so
    line_ends = np.append(np.flatnonzero(codes == ord("\n")), len(codes))
    if len(line_ends) != max(len(words), 1):
        raise ValueError("a word of several lines")
    start = np.concatenate([[0], line_ends[:-1] + 1])
    unknown = np.concatenate([[0], np.cumsum(ids < 0)])
    usable = unknown[line_ends] == unknown[start]
    return ids, start, np.where(usable, line_ends - start, 0)


def _build(
    ids: np.ndarray, start: np.ndarray, length: np.ndarray, priors: np.ndarray, k: int
) -> Trie:
    """The trie of the words ids[start : start + length]."""
    parents, labels = [np.array([-1])], [np.array([-1])]
    node = np.zeros(len(start), np.int64)  # where each word has got to
    going, nodes = np.arange(len(start)), 1
    for depth in range(int(length.max())):
        key = node[going] * k + ids[start[going] + depth]
        # Sorted, so that siblings lie side by side, in the order of their parents and classes.
        level, place = np.unique(key, return_inverse=True)
        parents.append(level // k)
        labels.append(level % k)
        node[going] = nodes + place
        nodes += len(level)
        going = going[length[going] > depth + 1]
    parent = np.concatenate(parents)
    word = np.full(nodes, -np.inf, np.float32)
    np.maximum.at(word, node, priors.astype(np.float32))
    best = word.copy()
    stop = nodes
    for level in reversed(parents[1:]):  # from the leaves to the root
        np.maximum.at(best, level, best[stop - len(level) : stop])
        stop -= len(level)
    first = 1 + np.searchsorted(parent[1:], np.arange(nodes + 1))
    label = np.concatenate(labels)
    return Trie(first.astype(np.int32), label.astype(np.int32), best, word)
