"""Arrays of any shape under the names of a CRNN: a network, or one line."""

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.errors import UserError
from crnn_jax.importing.imported import assemble
from crnn_jax.importing.torch_layers import name_tensors
from tests.testdata.pth_files import crnn_shapes


def network(**changes):
    """crnn.pytorch's tensors, all ones; `changes` replace shapes or, as arrays, tensors."""
    given = crnn_shapes() | changes
    tensors = {k: np.ones(v, np.float32) if isinstance(v, tuple) else v for k, v in given.items()}
    return name_tensors(tensors, "x.pth")[0]


def test_one_unit_a_layer_is_a_network():
    assert assemble(network(), "x.pth")[1].num_classes == 3


shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
oddities = st.sampled_from(
    [np.zeros(1, "i4"), np.full(1, np.nan), np.full(1, 1e300), -np.ones(1), np.array("a")]
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(crnn_shapes())), shapes | oddities, max_size=3))
def test_any_shape_is_taken_or_told(changes):
    with contextlib.suppress(UserError):
        _, config = assemble(network(**changes), "x.pth")
        assert min(config.filters) > 0
