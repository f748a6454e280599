"""The order of training: a keyed bijection of the rows, cut into global batches. Pure arithmetic, no state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Protocol

import numpy as np

from diptych.errors import UsageError

ROUNDS = 8


def permute(position: int, size: int, *, seed: int, epoch: int) -> int:
    """The row that stands at `position` in the order of an epoch: a bijection of [0, size).

    Raises:
        ValueError: `position` is outside.
    """
    return int(permute_many(np.array([position]), size, seed=seed, epoch=epoch)[0])


def permute_many(positions: np.ndarray, size: int, *, seed: int, epoch: int) -> np.ndarray:
    """`permute` for an array of positions.

    A Feistel network on (left, right) with left in [0, a), right in [0, b) and a · b just above `size`: every round
    adds to one half a keyed hash of the other, which can be undone, so the whole is a bijection of [0, a · b). What
    falls outside [0, size) goes through again until it is inside (cycle walking), which keeps it one.
    """
    if np.any((positions < 0) | (positions >= size)):
        raise ValueError(f"positions must be in [0, {size}), found {positions.min()} to {positions.max()}")
    keys = _round_keys(seed, epoch)
    a = isqrt(size - 1) + 1
    b = -(-size // a)
    rows = _feistel(positions.astype(np.uint64), a, b, keys)
    while np.any(outside := rows >= size):
        rows[outside] = _feistel(rows[outside], a, b, keys)
    return rows.astype(np.int64)


@lru_cache(maxsize=16)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    digest = hashlib.blake2b(f"order\0{seed}\0{epoch}".encode(), digest_size=8 * ROUNDS).digest()
    return tuple(int.from_bytes(digest[i : i + 8], "little") for i in range(0, len(digest), 8))


def _feistel(rows: np.ndarray, a: int, b: int, keys: tuple[int, ...]) -> np.ndarray:
    left: np.ndarray = rows // np.uint64(b)
    right: np.ndarray = rows % np.uint64(b)
    for number, key in enumerate(keys):
        if number % 2:
            right = (right + _hash(left, key) % np.uint64(b)) % np.uint64(b)
        else:
            left = (left + _hash(right, key) % np.uint64(a)) % np.uint64(a)
    return left * np.uint64(b) + right


def _hash(values: np.ndarray, key: int) -> np.ndarray:
    """The finalizer of SplitMix64 over value + key; overflow of uint64 arrays wraps, as it should."""
    x = values + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class StepOrder(Protocol):
    """Which rows make up which step, for one rank: a pure function, so that a run goes on anywhere."""

    @property
    def num_rows(self) -> int:
        """Of the table's split."""

    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def rank(self) -> int: ...  # noqa: D102
    @property
    def world_size(self) -> int: ...  # noqa: D102
    @property
    def batch_rows(self) -> int:
        """Rows of a global batch, over all ranks, at most."""

    @property
    def steps_per_epoch(self) -> int: ...  # noqa: D102
    def epoch(self, step: int) -> int:
        """The epoch that `step`, counted from 0 over all epochs, is in."""

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of this rank's part of the step's global batch."""


def check_order(order: StepOrder) -> None:
    """Raises UsageError of an order of no rows, or for a rank that is none."""
    if order.num_rows < 1:
        raise UsageError("the split to train on has no rows; expected at least one")
    if not 0 <= order.rank < order.world_size:
        raise UsageError(f"rank must be in [0, {order.world_size}), found {order.rank}")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which rows make up which step. The unit is the global batch, of which each rank takes its slice."""

    num_rows: int
    batch: int
    """Rows of a global batch; a smaller table gives batches of all its rows."""
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        check_order(self)
        if self.batch < 1:
            raise UsageError(f"training.batch is {self.batch}; expected at least one row a step")
        if self.batch_rows < self.world_size:
            raise UsageError(f"a batch of {self.batch_rows} rows cannot be shared by {self.world_size} ranks")

    @property
    def batch_rows(self) -> int:
        """Rows of every global batch, over all ranks."""
        return min(self.batch, self.num_rows)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rows that are left over are other ones in every epoch."""
        return self.num_rows // self.batch_rows

    def epoch(self, step: int) -> int:
        """The epoch that `step` is in."""
        return step // self.steps_per_epoch

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of this rank's slice of the global batch of `step`, counted from 0 over all epochs."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.batch_rows
        first = start + self.batch_rows * self.rank // self.world_size
        last = start + self.batch_rows * (self.rank + 1) // self.world_size
        rows = permute_many(np.arange(first, last), self.num_rows, seed=self.seed, epoch=epoch)
        return [(epoch, row) for row in rows.tolist()]


def spread_rows(num_rows: int, limit: int | None) -> Sequence[int]:
    """At most `limit` rows of [0, num_rows), evenly spaced, ascending and the same every time; None: all of them.

    A table is often in the order of its classes, so that its first rows speak for few of them.
    """
    if limit is None or limit >= num_rows:
        return range(num_rows)
    return [row * num_rows // limit for row in range(limit)]


def scattered_rows(num_rows: int, limit: int | None) -> Sequence[int]:
    """`spread_rows`, but of each equal stretch a row by chance: of kinds that take turns none is passed over."""
    if limit is None or limit >= num_rows:
        return range(num_rows)
    bounds = np.arange(limit + 1) * num_rows // limit
    chance = _hash(np.arange(limit, dtype=np.uint64), 0) % np.diff(bounds).astype(np.uint64)
    return (bounds[:-1] + chance.astype(np.int64)).tolist()
