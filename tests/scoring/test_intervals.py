import pytest

from crnn_jax.scoring.intervals import wilson


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_values(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(count - right, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_ends_are_exact_and_nothing_tells_nothing():
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1
    assert wilson(0, 0) == (0, 1)


def test_wider_where_asked():
    assert wilson(5, 10, z=2.5758)[0] < wilson(5, 10)[0] < 0.5 < wilson(5, 10)[1]
