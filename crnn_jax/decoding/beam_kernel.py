"""The prefix beam search itself, compiled by numba, for `beam_search.beam_search`.

Every prefix that was ever kept is a node of a tree (parent, last class), found through a hash
table: equal prefixes are one node, and their probabilities are added. A prefix carries log p of its
alignments that end in a blank and of those that end in its last class (A. Hannun et al., arXiv
1408.2873, algorithm 1; A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks",
2012, section 7.5).

Prefixes are extended from the best to the worst, and not at all once better ones have pushed them
out: their extensions would take a place and gain nothing from them in later frames. The papers
extend them, and find the less probable text more often on noisy frames. Classes are tried from the
best as well, so the first candidate that cannot be kept ends the loop.

All compiled functions are in this file: numba does not notice changes in others.
"""

import math

import numba
import numpy as np

from crnn_jax.decoding.language_model import Automaton
from crnn_jax.decoding.lexicon import Trie

LOST = -36.75  # ln(2 ** -53): a float64's sum loses a smaller term
SPREAD = -7046029254386353131  # 2 ** 64 / golden ratio: neighbouring keys are spread

# A prefix; node 0 is the empty text, whose last class and parent are -1.
NODE = np.dtype(
    [
        ("parent", np.int32),
        ("last", np.int32),
        ("place", np.int32),  # among the prefixes kept now; -1 where it is not
        ("trie", np.int32),  # node of the lexicon
        ("state", np.int32),  # of the language model
        ("extra", np.float64),  # all of the score that is not log p
    ],
    align=True,
)
# A prefix that is kept after a frame.
KEPT = np.dtype(
    [
        ("node", np.int64),
        ("blank", np.float64),  # log p of the alignments that end in a blank
        ("same", np.float64),  # log p of those that end in the last class
        ("total", np.float64),  # of both
        ("score", np.float64),  # total + extra
    ]
)
CANDIDATE = np.dtype([("score", np.float64), ("item", np.int64)])


@numba.njit(nogil=True, cache=True)
def search_rows(
    log_probs: np.ndarray,
    lengths: np.ndarray,
    width: int,
    blank_id: int,
    min_log_prob: float,
    trie: Trie,
    lm: Automaton,
    weights: tuple[float, float],
    found: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    start: int,
    stop: int,
) -> None:
    """Searches the rows [start, stop) of a batch for `beam_search.beam_search`.

    Args:
        min_log_prob: classes below it prolong no prefix in that frame, without a lexicon.
        trie, lm: `NO_TRIE`, `NO_MODEL` where there is none.
        weights: (weight of the language model, bonus of a character).
        found: arrays to be filled, see `beam_search`.
    """
    nodes = lengths[start:stop].max() * width + 1
    buckets = 4
    while buckets < 2 * nodes:
        buckets *= 2
    tree, table = np.empty(nodes, NODE), np.empty(buckets, np.int32)
    now, after, new = np.empty(width, KEPT), np.empty(width, KEPT), np.empty(width, KEPT)
    heap = np.empty(width, CANDIDATE)
    # One extension of a prefix, a repeat, may count for less than its class: so the class of rank
    # width + 2 has `width` better extensions ahead of it. A language model changes the order; a
    # lexicon's trie names the classes itself.
    k = log_probs.shape[2]
    limit = min(k - 1, width + 1) if len(lm.end) == 0 else k - 1
    tokens = np.empty(0 if len(trie.label) > 0 else limit, CANDIDATE)

    for row in range(start, stop):
        table[:] = -1
        root = tree[0]
        root.parent, root.last, root.place, root.trie, root.state = -1, -1, 0, 0, lm.start
        root.extra = trie.best[0] if len(trie.best) > 0 else 0.0
        now[0].node, now[0].blank, now[0].same, now[0].total = 0, 0.0, -np.inf, 0.0
        now[0].score = root.extra
        kept, nodes = 1, 1
        for t in range(lengths[row]):
            frame = log_probs[row, t]
            best = tokens[: _best_classes(frame, blank_id, min_log_prob, tokens)]
            size = _stay(frame, blank_id, tree, now[:kept], after, heap)
            size = _prolong(
                frame, best, trie, lm, weights, tree, table, now[:kept], after, heap, size
            )
            _sort(heap, size)
            nodes = _advance(
                frame, trie, lm, weights, tree, table, nodes, now[:kept], after, heap[:size], new
            )
            now, new, kept = new, now, size
        _write(row, trie, lm, weights, tree, now[:kept], heap, found)
        if len(trie.label) > 0 and found[1][row, 0] < 0:
            _best_word(log_probs[row, : lengths[row]], blank_id, trie, lm, weights, row, found)


@numba.njit(nogil=True)
def _best_classes(frame, blank_id, min_log_prob, tokens):
    """Sorts the frame's best classes into `tokens`; returns how many there are."""
    size, least = 0, min_log_prob
    for c in range(len(frame) if len(tokens) > 0 else 0):
        log_prob = frame[c]
        # This loop meets every class of every frame: most are refused by this comparison.
        if log_prob >= least and c != blank_id:
            size = _offer(tokens, size, log_prob, c)
            if size == len(tokens):
                least = max(least, tokens[0].score)
    _sort(tokens, size)
    return size


@numba.njit(nogil=True)
def _stay(frame, blank_id, tree, now, after, heap):
    """Prefixes that stay, by a blank, their last class, or written again from their parent.

    Writes `after`, in the order of `now`; returns the heap's size.
    """
    size = 0
    for i in range(len(now) - 1, -1, -1):  # from the worst: then few have to rise in the heap
        kept, node = now[i], tree[now[i].node]
        stays, written, c = kept.total + frame[blank_id], -np.inf, node.last
        if c >= 0:
            written = kept.same + frame[c]
            parent = tree[node.parent]
            if parent.place >= 0:
                # A class after itself needs a blank between.
                source = now[parent.place]
                before = source.blank if parent.last == c else source.total
                written = _add_logs(written, before + frame[c])
        total = _add_logs(stays, written)
        after[i].blank, after[i].same, after[i].total = stays, written, total
        score = total + node.extra
        if score > -np.inf:
            size = _offer(heap, size, score, i)
    return size


@numba.njit(nogil=True)
def _prolong(frame, tokens, trie, lm, weights, tree, table, now, after, heap, size):
    """Prefixes extended by a class: into the heap as width + place * k + class."""
    # Names of their own for arrays: numba counts a reference at every look into a tuple.
    firsts, labels, best = trie.first, trie.label, trie.best
    has_trie, has_lm = len(labels) > 0, len(lm.end) > 0
    lm_weight, bonus = weights
    k, width = len(frame), len(heap)
    first, count = 0, len(tokens)
    for i in range(len(now)):
        kept, node = now[i], tree[now[i].node]
        if size == width and after[i].total + node.extra < heap[0].score:
            continue
        at_most = kept.score + bonus  # neither lexicon nor language model adds to a score
        extra = node.extra + bonus
        if has_trie:
            first = firsts[node.trie]
            count = firsts[node.trie + 1] - first
            extra -= best[node.trie]
        for j in range(count):
            if has_trie:
                c = np.int64(labels[first + j])
                log_prob = np.float64(frame[c])
            else:
                c, log_prob = tokens[j].item, tokens[j].score
            if size == width and at_most + log_prob <= heap[0].score:
                if has_trie:
                    continue
                break  # what comes is no better
            score = (kept.blank if c == node.last else kept.total) + log_prob + extra
            if has_trie:
                score += best[first + j]
            if has_lm:
                score += lm_weight * _lm_step(lm, node.state, c)[0]
            if score == -np.inf or (size == width and score <= heap[0].score):
                continue
            known = table[_bucket(table, tree, kept.node, c)]
            if known < 0 or tree[known].place < 0:  # else it is among those that stay
                size = _offer(heap, size, score, width + i * k + c)
    return size


@numba.njit(nogil=True)
def _advance(frame, trie, lm, weights, tree, table, nodes, now, after, heap, new):
    """Makes `new` what the heap holds, best first; returns the number of nodes then."""
    width, k = len(new), len(frame)
    for kept in now:
        tree[kept.node].place = -1
    for r in range(len(heap)):
        item, kept = heap[r].item, new[r]
        kept.score = heap[r].score
        if item < width:
            stays = after[item]
            kept.node, kept.blank = now[item].node, stays.blank
            kept.same, kept.total = stays.same, stays.total
            continue
        i, c = divmod(item - width, k)
        parent = tree[now[i].node]
        kept.blank = -np.inf
        kept.same = (now[i].blank if parent.last == c else now[i].total) + frame[c]
        kept.total = kept.same
        bucket = _bucket(table, tree, now[i].node, c)
        if table[bucket] < 0:
            table[bucket] = nodes
            node = tree[nodes]
            node.parent, node.last = now[i].node, c
            node.extra = parent.extra + weights[1]
            if len(trie.label) > 0:
                first, stop = trie.first[parent.trie], trie.first[parent.trie + 1]
                node.trie = _search(trie.label, first, stop, c)
                node.extra += trie.best[node.trie] - trie.best[parent.trie]
            if len(lm.end) > 0:
                log_prob, node.state = _lm_step(lm, parent.state, c)
                node.extra += weights[0] * log_prob
            nodes += 1
        kept.node = table[bucket]
    for r in range(len(heap)):
        tree[new[r].node].place = r
    return nodes


@numba.njit(nogil=True)
def _write(row, trie, lm, weights, tree, now, heap, found):
    """Writes the best complete texts of a row into `found`."""
    ids, id_lengths, log_probs, scores = found
    heap = heap[: min(ids.shape[1], len(now))]
    size = 0
    for i in range(len(now)):
        node, score = tree[now[i].node], now[i].score
        if len(trie.label) > 0:
            score += trie.word[node.trie] - trie.best[node.trie]
        if len(lm.end) > 0:
            score += weights[0] * lm.end[node.state]
        if score > -np.inf:  # no word ends there
            size = _offer(heap, size, score, i)
    _sort(heap, size)
    for r in range(size):
        kept = now[heap[r].item]
        log_probs[row, r], scores[row, r] = min(kept.total, 0.0), heap[r].score
        n, node = 0, kept.node
        while node > 0:
            n, node = n + 1, tree[node].parent
        id_lengths[row, r] = n
        node = kept.node
        while node > 0:
            n -= 1
            ids[row, r, n], node = tree[node].last, tree[node].parent


@numba.njit(nogil=True)
def _best_word(log_probs, blank_id, trie, lm, weights, row, found):
    """Writes the best word of all into `found`, which the beam has lost; nothing if none fits.

    A path completes a prefix in one frame only: so log p of all texts that begin with it is a sum
    over frames. Where that, with the most that may be added, is no better than a word, they are
    left out.
    """
    ids, id_lengths, found_log_probs, scores = found
    firsts, labels, best, word = trie.first, trie.label, trie.best, trie.word
    frames = len(log_probs)
    # By characters and frames: log p of the alignments that end in a blank, and of all.
    blanks = np.full((frames + 1, frames + 1), -np.inf)
    blanks[0, 0], blanks[0, 1:] = 0.0, np.cumsum(log_probs[:, blank_id])
    totals = blanks.copy()
    # By characters: the node of the trie, its next child, the language model's state.
    path, child, state = np.zeros((3, frames + 1), np.int64)
    child[0], state[0], extra = firsts[0], lm.start, np.zeros(frames + 1)
    depth, highest = 0, -np.inf
    while depth >= 0:
        node, i, n = path[depth], child[depth], depth + 1
        if depth == frames or i == firsts[node + 1]:
            depth -= 1
            continue
        child[depth] += 1
        c, same, begun = labels[i], -np.inf, -np.inf
        for t in range(depth, frames):  # a prefix has at most a character a frame
            # A class after itself needs a blank between.
            new = log_probs[t, c] + (blanks if c == labels[node] else totals)[depth, t]
            begun, same = _add_logs(begun, new), _add_logs(same + log_probs[t, c], new)
            blanks[n, t + 1] = totals[n, t] + log_probs[t, blank_id]
            totals[n, t + 1] = _add_logs(blanks[n, t + 1], same)
        path[n], child[n], extra[n], end = i, firsts[i], extra[depth] + weights[1], 0.0
        if len(lm.end) > 0:
            log_prob, state[n] = _lm_step(lm, state[depth], c)
            extra[n] += weights[0] * log_prob
            end = weights[0] * lm.end[state[n]]
        if begun + best[i] + extra[n] + max(weights[1], 0.0) * (frames - n) > highest:
            depth = n
            score = totals[n, frames] + word[i] + extra[n] + end
            if score > highest:
                highest, id_lengths[row, 0], scores[row, 0] = score, n, score
                found_log_probs[row, 0] = min(totals[n, frames], 0.0)
                for j in range(n):
                    ids[row, 0, j] = labels[path[j + 1]]


@numba.njit(nogil=True)
def _add_logs(a, b):
    """log(exp(a) + exp(b)); -inf is log 0."""
    if a < b:
        a, b = b, a
    # -inf - -inf is NaN, and no comparison with it holds.
    return a + math.log(1.0 + math.exp(b - a)) if b - a > LOST else a


@numba.njit(nogil=True)
def _bucket(table, tree, parent, c):
    """Where the table holds the node of (parent, class), or is free (-1) for it."""
    mask = len(table) - 1
    bucket = (((parent << 20) + c) * SPREAD >> 29) & mask  # the high bits are the best
    while table[bucket] >= 0:
        node = tree[table[bucket]]
        if node.parent == parent and node.last == c:
            break
        bucket = (bucket + 1) & mask
    return bucket


@numba.njit(nogil=True)
def _lm_step(lm, state, c):
    """(log p of class `c` after a state of a language model, the state then)."""
    back_off = 0.0
    while state > 0:
        stop = lm.first[state + 1]
        place = _search(lm.label, lm.first[state], stop, c)
        if place < stop and lm.label[place] == c:
            return back_off + lm.log_prob[place], lm.next_state[place]
        back_off += lm.back_off[state]
        state = lm.shorter[state]
    return back_off + lm.log_prob[c], lm.next_state[c]  # state 0 has every class, in order


@numba.njit(nogil=True)
def _search(labels, low, high, c):
    """The first place in labels[low:high], which rise, that is not below `c`."""
    while low < high:
        middle = (low + high) >> 1
        if labels[middle] < c:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(nogil=True)
def _offer(heap, size, score, item):
    """Keeps (score, item) if it is among the best len(heap); returns how many are kept now.

    The worst is at index 0. A candidate that only equals it is refused: the earlier one stays.
    """
    if size < len(heap):
        place = size
        while place > 0 and heap[(place - 1) >> 1].score > score:
            heap[place] = heap[(place - 1) >> 1]
            place = (place - 1) >> 1
        heap[place].score, heap[place].item = score, item
        return size + 1
    if size > 0 and score > heap[0].score:
        _sink(heap, size, score, item)
    return size


@numba.njit(nogil=True)
def _sort(heap, size):
    """Turns the heap into a list, best first."""
    for end in range(size - 1, 0, -1):
        score, item = heap[end].score, heap[end].item
        heap[end] = heap[0]
        _sink(heap, end, score, item)


@numba.njit(nogil=True)
def _sink(heap, size, score, item):
    """Puts (score, item) in the place of the worst, which is given up."""
    place, below = 0, 1
    while below < size:
        if below + 1 < size and heap[below + 1].score < heap[below].score:
            below += 1
        if heap[below].score >= score:
            break
        heap[place] = heap[below]
        place, below = below, 2 * below + 1
    heap[place].score, heap[place].item = score, item
