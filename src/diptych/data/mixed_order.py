"""The order of training over several tables: which of them a step is of, by shares. Pure arithmetic, no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from math import gcd

import numpy as np

from diptych.data.sampler import StepOrder, permute_many
from diptych.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class MixedOrder:
    """Which rows make up which step, where each step is of one of several tables.

    UNITER, arXiv:1909.11740, appendix; its release draws a data set a step. As many steps as the shares add up to are a
    round. Which table each of them is of is a permutation by (seed, round), so that every round has the shares exactly;
    the steps of one table, taken alone, are those of its own order, one after the other.
    Differs: the release draws each step by itself, so that its shares hold on average.
    """

    orders: tuple[StepOrder, ...]
    """Of each table, for one rank."""
    shares: tuple[int, ...]
    """Steps of each table in a round."""
    seed: int

    def __post_init__(self) -> None:
        check_shares(self.shares, len(self.orders))

    @property
    def num_rows(self) -> int:
        """Of all tables, which stand one behind the other."""
        return self._starts[-1]

    @property
    def rank(self) -> int:
        """The orders'."""
        return self.orders[0].rank

    @property
    def world_size(self) -> int:
        """The orders'."""
        return self.orders[0].world_size

    @property
    def batch_rows(self) -> int:
        """Rows of a global batch of the table whose batches are the largest."""
        return max(order.batch_rows for order in self.orders)

    @property
    def steps_per_epoch(self) -> int:
        """As many as all tables have together."""
        return sum(order.steps_per_epoch for order in self.orders)

    def epoch(self, step: int) -> int:
        """The epoch that the table of `step` is in."""
        place, own = self.turn(step)
        return self.orders[place].epoch(own)

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of this rank's part of the step's global batch, all of one table."""
        place, own = self.turn(step)
        start = self._starts[place]
        return [(epoch, start + row) for epoch, row in self.orders[place].rows(own)]

    def turn(self, step: int) -> tuple[int, int]:
        """The table of a step, and which of that table's steps it is, both counted from 0."""
        if len(self.orders) == 1:
            return 0, step
        number, within = divmod(step, sum(self.shares))
        places = _round(self.shares, self.seed, number)
        place = int(places[within])
        return place, number * self.shares[place] + int(np.count_nonzero(places[:within] == place))

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate((order.num_rows for order in self.orders), initial=0))


def mixed_order(orders: Sequence[StepOrder], shares: Sequence[int] | None, seed: int) -> MixedOrder:
    """The order over several tables.

    Args:
        orders: of each table, for one rank.
        shares: steps of each table, in proportion; None: as many as it has, so that all rows are seen equally often.
        seed: of the turns; each order has its own.
    Raises:
        UsageError: there is not a share for each table.
    """
    found = tuple(order.steps_per_epoch for order in orders) if shares is None else tuple(shares)
    common = max(gcd(*found), 1)
    return MixedOrder(orders=tuple(orders), shares=tuple(share // common for share in found), seed=seed)


def check_shares(shares: Sequence[int], num_tables: int) -> None:
    """Raises UsageError where there is not a share for each table."""
    if len(shares) != num_tables:
        raise UsageError(
            f"training.shares is {','.join(map(str, shares))}, and tables to train on: {num_tables}; expected a share "
            "for each --data, in their order, or --set training.shares=none: all rows equally often"
        )


@lru_cache(maxsize=4)
def _round(shares: tuple[int, ...], seed: int, number: int) -> np.ndarray:
    """(steps of a round,) the table of each."""
    steps = sum(shares)
    turns = permute_many(np.arange(steps), steps, seed=seed, epoch=number)
    return np.searchsorted(np.cumsum(shares), turns, side="right").astype(np.int16)
