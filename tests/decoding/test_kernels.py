import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.decoding import compiled

heaps = compiled.kernels("bounded_heap")
table = compiled.kernels("prefix_table")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-9, 9).map(float), max_size=40), st.integers(0, 12))
def test_the_best_of_many_in_order(candidates, limit):
    keys, items, size = np.zeros(limit + 1), np.zeros(limit + 1, np.int64), 0
    for i, key in enumerate(candidates):
        size = heaps.offer(keys, items, size, limit, key, i)
    heaps.sort_descending(keys, items, size)
    assert keys[:size].tolist() == sorted(candidates, reverse=True)[:limit]
    assert [candidates[i] for i in items[:size]] == keys[:size].tolist()
    assert len(set(items[:size].tolist())) == size


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([40, 6625 * 2000]))
def test_a_key_is_found_among_those_that_share_its_bucket(seed, most):
    random = np.random.default_rng(seed)
    keys, values = np.full(64, -1, np.int64), np.zeros(64, np.int32)
    known = {}
    for node, key in enumerate(random.integers(0, most, 32).tolist()):
        assert table.find(keys, values, key) == known.get(key, -1)
        if key not in known:
            table.insert(keys, values, key, node)
            known[key] = node
    assert {key: table.find(keys, values, key) for key in known} == known
