import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.decoding.greedy import emittable, greedy_decode
from tests.testdata.brute_force import collapse

B, T, K = 4, 7, 4  # one shape for all examples: one compilation


def logits_of(paths):
    """Logits [b t k] whose best classes are `paths` [b t]."""
    return np.eye(K, dtype=np.float32)[paths] * 3


paths = st.lists(st.lists(st.integers(0, K - 1), min_size=T, max_size=T), min_size=B, max_size=B)


@settings(max_examples=60)
@given(paths, st.lists(st.integers(0, T), min_size=B, max_size=B), st.sampled_from([0, K - 1]))
def test_equals_collapsing_the_best_path(paths, lengths, blank_id):
    ids, id_lengths = greedy_decode(
        logits_of(np.array(paths)), np.array(lengths, np.int32), blank_id=blank_id
    )
    for i in range(B):
        want = list(collapse(paths[i][: lengths[i]], blank_id))
        assert ids[i].tolist() == want + [-1] * (T - len(want))
        assert id_lengths[i] == len(want)


def test_unknown_is_never_emitted():
    logits = logits_of(np.array([[1, 1, 2, 1]]))
    logits[..., 3] = 1  # what is read where class 1 may not be
    masked = emittable(logits, unknown_id=1)
    ids, lengths = greedy_decode(masked, np.array([4], np.int32), blank_id=0)
    assert ids[0, : lengths[0]].tolist() == [3, 2, 3]
    np.testing.assert_array_equal(np.delete(masked, 1, axis=2), np.delete(logits, 1, axis=2))
    assert np.isfinite(jax.nn.log_softmax(masked)).all()
    assert np.exp(jax.nn.log_softmax(masked))[..., 1].max() == 0
    np.testing.assert_array_equal(emittable(logits, unknown_id=-1), logits)
