"""How far a share of right answers may be from the truth."""

import math

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson(right: int, count: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Unlike the textbook's p +- z * sqrt(p (1 - p) / n) it stays within [0, 1] and is not empty at
    0 of n and n of n, where good readers are (E. B. Wilson, JASA 22, 1927).

    Args:
        right: successes, 0 <= right <= count.
        count: trials.
        z: width in standard deviations; the default gives 95 %.

    Returns:
        (low, high) as shares of 1; (0, 1) if there was no trial.
    """
    if count == 0:
        return 0.0, 1.0
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    reach = z * spread / (1 + z * z / count)
    # At the ends the formula is exact but its rounding is not.
    low = 0.0 if right == 0 else max(0.0, centre - reach)
    high = 1.0 if right == count else min(1.0, centre + reach)
    return low, high
