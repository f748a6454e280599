"""How sure a measured share or mean is: Wilson and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def wilson(hits: int, num: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share by Wilson's score: honest for few rows and near 0 and 1.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        hits: how many were right, 0 to num.
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


def bootstrap(
    values: Sequence[float], *, rng: np.random.Generator, num_draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """The interval of a mean by drawing rows anew, with replacement (percentile bootstrap, Efron 1979).

    Args:
        values: one number a row, e.g. 1 for right and 0 for wrong.
        rng: where the draws come from.
        num_draws: how many times all rows are drawn.
        level: probability that such intervals cover the true mean.
    Returns:
        Lower and upper end.
    """
    rows = np.asarray(values, dtype=np.float64)
    if not len(rows):
        raise ValueError("the bootstrap of no values; expected at least one")
    means = [rows[rng.integers(0, len(rows), len(rows))].mean() for _ in range(num_draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
