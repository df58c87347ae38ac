"""Adding probabilities of which only the logs are kept, compiled by numba."""

import math

import numba

# Where the smaller of two is lost in a float64's sum: ln(2 ** -53).
LOST = -36.75


@numba.njit(nogil=True, cache=True, inline="always")
def add_logs(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); -inf is log 0."""
    if a < b:
        a, b = b, a
    # -inf - -inf is NaN, and no comparison with it holds.
    if b - a > LOST:
        return a + math.log(1.0 + math.exp(b - a))
    return a
