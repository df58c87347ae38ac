"""The prefix beam search itself, compiled by numba; `beam_search` is what to call.

Every prefix that was ever kept is a node of a tree (parent, last class), found again through a
hash over (parent, class) whose keys are compared in full: equal prefixes are one node, and their
probabilities are added, never those of different ones. A prefix carries two numbers, log p of its
alignments that end in a blank and of those that end in its last class (A. Hannun et al., arXiv
1408.2873, algorithm 1; A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks",
2012, section 7.5).

Prefixes are walked from the best to the worst. One that what stays and what its betters wrote has
already pushed out is not prolonged: without it in the beam its extension would gain nothing from it
in later frames, and take a place from one that does. The papers prolong it, and on noisy frames
find the less probable text more often. Classes are walked from the best as well, so the first
candidate that cannot be kept ends the walk; that changes no result.
"""

import numba
import numpy as np

from crnn_jax.decoding.add_logs import add_logs
from crnn_jax.decoding.beam_memory import new_heap, new_kept, new_tree
from crnn_jax.decoding.bounded_heap import offer, sort_descending
from crnn_jax.decoding.constraint_kernel import child, lm_step
from crnn_jax.decoding.language_model import Automaton
from crnn_jax.decoding.lexicon import Trie
from crnn_jax.decoding.prefix_table import find, insert


@numba.njit(nogil=True, cache=True)
def search_rows(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    start: int,
    stop: int,
    width: int,
    blank_id: int,
    min_log_prob: float,
    trie: Trie,
    lm: Automaton,
    weights: tuple[float, float],
    found: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Searches the rows [start, stop) of a batch; see `beam_search.beam_search`.

    Args:
        log_probs: float32 [b, t, k].
        lengths: int64 [b], at most t.
        start, stop: the rows.
        width: prefixes kept.
        blank_id: class id of the blank.
        min_log_prob: classes below it prolong no prefix in that frame, without a lexicon.
        trie: `Trie`; without nodes there is no lexicon.
        lm: `Automaton`; without states there is no language model.
        weights: (weight of the language model, bonus of a character).
        found: (ids int32 [b, n, t], number of ids int32 [b, n], log p float64 [b, n], score
            float64 [b, n]), to be filled; the number of ids is -1 where fewer than n texts are.
    """
    frames = 1
    for row in range(start, stop):
        frames = max(frames, lengths[row])
    k = log_probs.shape[2]
    tree = new_tree(frames * width + 1)
    now, after, new = new_kept(width), new_kept(width), new_kept(width)
    tokens = new_heap(k)
    heap = new_heap(width)
    # A prefix has one extension that may count for less than its class is worth (a repeat), so
    # ahead of the class of rank width + 2 there are `width` better extensions of the same prefix.
    # A language model orders them otherwise; a lexicon's trie names the classes itself.
    limit = min(k - 1, width + 1) if len(lm.end) == 0 else k - 1
    if len(trie.label) > 0:
        limit = 0

    for row in range(start, stop):
        tree.keys[:] = -1
        tree.parent[0], tree.last[0], tree.place[0] = -1, -1, 0
        tree.trie[0], tree.state[0], tree.extra[0] = 0, lm.start, 0.0
        if len(trie.label) > 0:
            tree.extra[0] = trie.best[0]
        now.node[0], now.blank[0], now.same[0] = 0, 0.0, -np.inf
        now.total[0], now.score[0] = 0.0, tree.extra[0]
        kept, nodes = 1, 1
        for t in range(lengths[row]):
            frame = log_probs[row, t]
            n_tokens = _best_classes(
                frame, blank_id, min_log_prob, tokens.keys, tokens.items, limit
            )
            size = _stay(frame, blank_id, tree, now, kept, after, heap, width)
            size = _prolong(
                frame,
                tokens,
                n_tokens,
                trie,
                lm,
                weights,
                tree,
                now,
                kept,
                after,
                heap,
                size,
                width,
            )
            sort_descending(heap.keys, heap.items, size)
            nodes = _advance(
                k, frame, trie, lm, weights, tree, nodes, now, kept, after, new, heap, size, width
            )
            now, new, kept = new, now, size
        _write(row, trie, lm, weights, tree, now, kept, heap, found)


@numba.njit(nogil=True, cache=True)
def _best_classes(frame, blank_id, min_log_prob, keys, items, limit):
    """Sorts the frame's best classes into `keys` and `items`; returns how many there are."""
    size, least = 0, min_log_prob
    for c in range(len(frame) if limit > 0 else 0):
        log_prob = frame[c]
        # This loop meets every class of every frame: most are refused by this comparison.
        if log_prob >= least and c != blank_id:
            size = offer(keys, items, size, limit, log_prob, c)
            if size == limit:
                least = max(least, keys[0])
    sort_descending(keys, items, size)
    return size


@numba.njit(nogil=True, cache=True)
def _stay(frame, blank_id, tree, now, kept, after, heap, width):
    """Prefixes that stay: by a blank, by their last class, or written anew from their parent.

    Their numbers are left in `after`, in the places of `now`. Returns the heap's size.
    """
    nodes, blank, same, total = now.node, now.blank, now.same, now.total
    parents, last, place, extra = tree.parent, tree.last, tree.place, tree.extra
    after_blank, after_same, after_total = after.blank, after.same, after.total
    keys, items = heap.keys, heap.items
    of_blank = frame[blank_id]
    size = 0
    for i in range(kept - 1, -1, -1):  # from the worst: then few have to rise in the heap
        node = nodes[i]
        stays = total[i] + of_blank
        written = -np.inf
        if node > 0:
            c, parent = last[node], parents[node]
            log_prob = frame[c]
            written = same[i] + log_prob
            source = place[parent]
            if source >= 0:
                # A class after itself needs a blank between.
                before = blank[source] if last[parent] == c else total[source]
                written = add_logs(written, before + log_prob)
        both = add_logs(stays, written)
        after_blank[i], after_same[i], after_total[i] = stays, written, both
        score = both + extra[node]
        if score > -np.inf:
            size = offer(keys, items, size, width, score, i)
    return size


@numba.njit(nogil=True, cache=True)
def _prolong(frame, tokens, n_tokens, trie, lm, weights, tree, now, kept, after, heap, size, width):
    """Prefixes prolonged by a class: into the heap as width + place * k + class."""
    # Names of their own for arrays and flags: numba counts a reference at every look into a tuple.
    token_keys, token_items, keys, items = tokens.keys, tokens.items, heap.keys, heap.items
    nodes, values, place, last = tree.keys, tree.values, tree.place, tree.last
    best, labels = trie.best, trie.label
    has_trie, has_lm = len(trie.label) > 0, len(lm.end) > 0
    lm_weight, bonus = weights
    k = len(frame)
    here, first, count = 0, 0, n_tokens
    for i in range(kept):
        node, total, blank = now.node[i], now.total[i], now.blank[i]
        if size == width and after.total[i] + tree.extra[node] < keys[0]:
            continue
        at_most = now.score[i] + bonus  # neither lexicon nor language model adds to a score
        extra = tree.extra[node] + bonus
        last_class = last[node]
        if has_trie:
            here = tree.trie[node]
            first = trie.first[here]
            count = trie.first[here + 1] - first
            extra -= best[here]
        for j in range(count):
            if has_trie:
                c = np.int64(labels[first + j])
                log_prob = np.float64(frame[c])
            else:
                c, log_prob = token_items[j], token_keys[j]
            if size == width and at_most + log_prob <= keys[0]:
                if has_trie:
                    continue
                break  # what comes is no better
            score = (blank if c == last_class else total) + log_prob + extra
            if has_trie:
                score += best[first + j]
            if has_lm:
                score += lm_weight * lm_step(lm, tree.state[node], c)[0]
            if score == -np.inf or (size == width and score <= keys[0]):
                continue
            known = find(nodes, values, node * k + c)
            if known < 0 or place[known] < 0:  # else it is among those that stay
                size = offer(keys, items, size, width, score, width + i * k + c)
    return size


@numba.njit(nogil=True, cache=True)
def _advance(k, frame, trie, lm, weights, tree, nodes, now, kept, after, new, heap, size, width):
    """Makes `new` what the heap holds, best first; returns the number of nodes then."""
    for i in range(kept):
        tree.place[now.node[i]] = -1
    for r in range(size):
        item = heap.items[r]
        if item < width:
            new.node[r] = now.node[item]
            new.blank[r], new.same[r] = after.blank[item], after.same[item]
            new.total[r] = after.total[item]
        else:
            i, c = divmod(item - width, k)
            parent = now.node[i]
            before = now.blank[i] if tree.last[parent] == c else now.total[i]
            new.blank[r], new.same[r] = -np.inf, before + frame[c]
            new.total[r] = new.same[r]
            node = find(tree.keys, tree.values, parent * k + c)
            if node < 0:
                node = nodes
                nodes += 1
                insert(tree.keys, tree.values, parent * k + c, node)
                tree.parent[node], tree.last[node] = parent, c
                extra = tree.extra[parent] + weights[1]
                if len(trie.label) > 0:
                    below = child(trie, tree.trie[parent], c)
                    extra += trie.best[below] - trie.best[tree.trie[parent]]
                    tree.trie[node] = below
                if len(lm.end) > 0:
                    log_prob, tree.state[node] = lm_step(lm, tree.state[parent], c)
                    extra += weights[0] * log_prob
                tree.extra[node] = extra
            new.node[r] = node
        new.score[r] = heap.keys[r]
    for r in range(size):
        tree.place[new.node[r]] = r
    return nodes


@numba.njit(nogil=True, cache=True)
def _write(row, trie, lm, weights, tree, now, kept, heap, found):
    """Writes the best complete texts of a row into `found`."""
    ids, id_lengths, log_probs, scores = found
    size = 0
    for i in range(kept):
        node = now.node[i]
        score = now.score[i]
        if len(trie.label) > 0:
            score += trie.word[tree.trie[node]] - trie.best[tree.trie[node]]
        if len(lm.end) > 0:
            score += weights[0] * lm.end[tree.state[node]]
        if score > -np.inf:  # no word ends there
            size = offer(heap.keys, heap.items, size, min(ids.shape[1], kept), score, i)
    sort_descending(heap.keys, heap.items, size)
    for r in range(size):
        i = heap.items[r]
        log_probs[row, r], scores[row, r] = min(now.total[i], 0.0), heap.keys[r]
        n, node = 0, now.node[i]
        while node > 0:
            n, node = n + 1, tree.parent[node]
        id_lengths[row, r] = n
        node = now.node[i]
        while node > 0:
            n -= 1
            ids[row, r, n] = tree.last[node]
            node = tree.parent[node]
