import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_jax.reading.pictures import (
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_STRETCH,
    padded_width,
    plan_batches,
)


@given(st.lists(st.integers(1, 5000), max_size=300))
def test_every_image_stands_in_one_batch_that_holds_it(widths):
    plans = plan_batches(widths)
    assert sorted(i for plan in plans for i in plan.indices) == list(range(len(widths)))
    for plan in plans:
        inside = [widths[i] for i in plan.indices]
        assert max(inside) <= plan.width
        assert max(inside) <= MAX_STRETCH * min(inside)
        assert len(inside) <= plan.rows < 2 * len(inside)
        assert plan.rows & (plan.rows - 1) == 0
        assert plan.rows <= MAX_ROWS
        assert plan.rows == 1 or plan.rows * plan.width <= MAX_COLUMNS


@given(st.integers(1, 100_000))
def test_widths_have_few_steps(width):
    padded = padded_width(width)
    assert width <= padded
    assert padded % 32 == 0
    assert padded - width < max(32, width / 4)


def test_100_shapes_are_compiled_at_most():
    widths = {padded_width(w) for w in range(1, 1025)}
    assert len(widths) == 16
    assert sum(min(MAX_ROWS, MAX_COLUMNS // width).bit_length() for width in widths) <= 100


@pytest.mark.parametrize("width", [100, 32])
def test_a_fixed_width_is_not_rounded(width):
    assert {plan.width for plan in plan_batches([width] * 70, width)} == {width}
