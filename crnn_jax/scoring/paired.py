"""Whether one of two models is better where both have read the same samples.

The samples are paired, so only those count that one model alone reads right: a difference is seen
with far fewer samples than two intervals side by side would need.
"""

import math
from typing import Any, NamedTuple

from crnn_jax.scoring.intervals import Z_95, wilson


class Pairs(NamedTuple):
    """Samples by who reads them right."""

    both: int
    only_a: int
    only_b: int
    none: int

    @property
    def samples(self) -> int:
        """All samples."""
        return sum(self)

    @property
    def difference(self) -> float:
        """B's share of right readings - A's; 0 of no samples."""
        return (self.only_b - self.only_a) / self.samples if self.samples else 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, shares of 1."""
        return self._asdict() | {
            "count": self.samples,
            "difference": self.difference,
            "difference_interval": list(newcombe(self)),
            "mcnemar_p": mcnemar(self.only_a, self.only_b),
        }


def newcombe(pairs: Pairs, z: float = Z_95) -> tuple[float, float]:
    """The interval of B's share - A's share; (-1, 1) of no samples.

    References:
        R. G. Newcombe, "Improved confidence intervals for the difference between binomial
        proportions based on paired data", Statistics in Medicine 17, 1998, method 10: Wilson's
        intervals of both shares, joined by their correlation.
    """
    both, only_a, only_b, none = pairs
    count = pairs.samples
    if count == 0:
        return -1.0, 1.0
    right_a, right_b = both + only_a, both + only_b
    share_a, share_b = right_a / count, right_b / count
    low_a, high_a = wilson(right_a, count, z)
    low_b, high_b = wilson(right_b, count, z)
    spread = right_a * (count - right_a) * right_b * (count - right_b)
    together = float(both * none - only_a * only_b)
    if together > 0:  # corrected towards no correlation, the careful side
        together = max(together - count / 2, 0.0)
    correlation = together / math.sqrt(spread) if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    low = pairs.difference - reach(share_b - low_b, high_a - share_a)
    high = pairs.difference + reach(high_b - share_b, share_a - low_a)
    return max(low, -1.0), min(high, 1.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """The chance of so uneven a split, or a more uneven one, between equally good models.

    McNemar's exact test, two-sided: of the samples that one model alone reads right, each is as
    likely A's as B's.
    """
    count, fewer = only_a + only_b, min(only_a, only_b)
    ways, total = 1, 0
    for k in range(fewer + 1):
        total += ways
        ways = ways * (count - k) // (k + 1)
    # Whole numbers up to this division, which Python rounds once: 2 ** 5000 is no float.
    return min(1.0, 2 * total / 2**count)


def p_text(p: float) -> str:
    """A p value for people."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
