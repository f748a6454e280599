"""How sure a measured share is: the Wilson interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


def wilson(hits: float, num: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share by Wilson's score: honest for few rows and near 0 and 1.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        hits: how many were right, 0 to num; of worths from 0 to 1 their sum.
        num: how many there were; 0 gives (0, 1), knowing nothing.
        level: probability that such intervals cover the true share.
    Returns:
        Lower and upper end, in [0, 1].
    """
    if not 0 <= hits <= num:
        raise ValueError(f"{hits} hits of {num}; expected 0 to {num}")
    if num == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / num
    centre = share + z * z / (2 * num)
    reach = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    low, high = (centre - reach) / (1 + z * z / num), (centre + reach) / (1 + z * z / num)
    return (0.0 if hits == 0 else max(low, 0.0)), (1.0 if hits == num else min(high, 1.0))


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Answers that were right or wrong."""

    num: int
    hits: int
    """Those that were right."""

    @property
    def accuracy(self) -> float:
        """Share of those that were right."""
        return self.hits / self.num

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true accuracy lies, 95 times of 100; see `wilson`."""
        return wilson(self.hits, self.num)
