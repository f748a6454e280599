"""Batches of about as many tokens: rows of like length stand together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from diptych.data.batch import Inputs
from diptych.data.sample import Sample
from diptych.data.sampler import check_order, permute_many
from diptych.data.table import Rows
from diptych.errors import DataError, UsageError
from diptych.progress import Progress

BUCKET = 8192
"""Rows that are sorted by length at a time."""
UNIT = 8
"""Batches have a multiple of so many rows, which matrix products like, where as many fit."""


def token_batches(
    rows: np.ndarray,
    lengths: np.ndarray,
    *,
    budget: int,
    bucket: int = BUCKET,
    longest_of: Literal["batch", "bucket"] = "batch",
    keep_last: bool = False,
) -> Iterator[np.ndarray]:
    """Cuts `rows` into batches that have at most `budget` tokens when they are padded to their longest.

    UNITER, arXiv:1909.11740, section A of its appendix; the release measures every batch of a bucket by the bucket's
    longest row, so that the batches of short rows are small too.

    Args:
        rows: (N,) int64 in the order of an epoch.
        lengths: tokens of each row of the table.
        budget: tokens of a batch, padding among them.
        bucket: rows that are sorted by length at a time.
        longest_of: what a batch is measured by: its own longest row, or that of its bucket, as in the release.
        keep_last: whether the rest of a bucket, which does not fill a batch, is one too.
    Yields:
        Rows of each batch, longest first.
    Raises:
        UsageError: a row alone has more tokens than the budget.
    """
    for start in range(0, len(rows), bucket):
        of_bucket = rows[start : start + bucket]
        of_bucket = of_bucket[np.argsort(-lengths[of_bucket], kind="stable")]
        at = 0
        while at < len(of_bucket):
            size = _rows_within(budget, int(lengths[of_bucket[0 if longest_of == "bucket" else at]]))
            batch = of_bucket[at : at + size]
            at += size
            if len(batch) == size or keep_last:
                yield batch


def _rows_within(budget: int, longest: int) -> int:
    if longest > budget:
        raise UsageError(
            f"a row of {longest} tokens does not fit into a batch of {budget}; expected training.batch_tokens of at "
            "least as many as the longest row has"
        )
    most = budget // max(longest, 1)
    return most // UNIT * UNIT or most


@dataclass(frozen=True, kw_only=True)
class TokenOrder:
    """Which rows make up which step, where a step is measured in tokens: what `Order` is for steps of so many rows."""

    lengths: np.ndarray
    """(N,) tokens of each row of the table, at most."""
    tokens: int
    """Of a global batch, padding among them."""
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        check_order(self)

    @property
    def num_rows(self) -> int:
        """Of the table."""
        return len(self.lengths)

    @cached_property
    def batch_rows(self) -> int:
        """Rows of the first epoch's largest global batch, over all ranks."""
        return max(map(len, self._batches(0)))

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches of the first epoch. Later ones are cut anew, and have one or two more or fewer: what is over is left
        out, and what is missing comes a second time, so that a step's epoch is arithmetic."""
        return len(self._batches(0))

    def epoch(self, step: int) -> int:
        """The epoch that `step` is in."""
        return step // self.steps_per_epoch

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of this rank's part of the global batch of `step`, counted from 0 over all epochs.

        Ranks take turns over the rows, of which the longest come first, so that their parts are of like length.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        batches = self._batches(epoch)
        batch = batches[within % len(batches)]
        return [(epoch, row) for row in batch[self.rank :: self.world_size].tolist()]

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Those of an epoch, in the order of training; the last two epochs that were asked for are kept."""
        if epoch not in self._kept:
            while len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            self._kept[epoch] = self._cut(epoch)
        return self._kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, list[np.ndarray]]:
        return {}

    def _cut(self, epoch: int) -> list[np.ndarray]:
        rows = permute_many(np.arange(self.num_rows), self.num_rows, seed=self.seed, epoch=epoch)
        # The rest of a bucket is kept: it is always made of the shortest rows, which would be seen less often.
        cut = token_batches(rows, self.lengths, budget=self.tokens, keep_last=True)
        batches = [batch for batch in cut if len(batch) >= self.world_size]
        if not batches:
            raise UsageError(f"no batch of {self.tokens} tokens has a row for each of {self.world_size} ranks")
        turns = permute_many(np.arange(len(batches)), len(batches), seed=self.seed, epoch=epoch)
        return [batches[turn] for turn in turns]


@runtime_checkable
class TokenInputs(Inputs, Protocol):
    """Inputs whose batches can be measured in tokens."""

    def num_tokens(self, sample: Sample) -> int:
        """Of the sample's longest text, with start and end, and of its regions.

        Raises:
            DataError: the row is bad.
        """


ROWS_A_TURN = 500
"""Rows between two turns of the bar."""


def lengths_of(rows: Rows, inputs: TokenInputs, columns: Sequence[str], progress: Progress) -> np.ndarray:
    """(N,) tokens of each row, 0 of bad ones, which training will leave out and report."""
    lengths = np.zeros(len(rows), dtype=np.int64)
    with progress.bar("counting tokens", total=len(rows), unit="rows") as bar:
        for row in range(len(rows)):
            with suppress(DataError):
                lengths[row] = inputs.num_tokens(rows.sample(row, columns))
            if (row + 1) % ROWS_A_TURN == 0:
                bar.advance(ROWS_A_TURN)
        bar.advance(len(rows) % ROWS_A_TURN)
    return lengths
