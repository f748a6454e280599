"""From rows to batches: a pure function of (seed, epoch, position), computed in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diptych.data.batch import Batch, Inputs, Targets, stack_targets
from diptych.data.pool import AHEAD, in_processes
from diptych.data.rejects import Reject
from diptych.data.sample import Item, Rng, random_for
from diptych.data.sampler import StepOrder, spread_rows
from diptych.data.table import Rows
from diptych.data.worker import Begin, Compute
from diptych.errors import DataError

ROWS_AHEAD = 8192
"""Rows that a process makes ahead at most, where a batch has fewer."""
DECODE_TIMEOUT_S = 120.0
"""What one row may take, where nothing else is said; decoding takes milliseconds, a slow file system seconds."""


class Draw(Protocol):
    """What the loader asks of an objective."""

    @property
    def name(self) -> str:
        """What its draws are seeded by, beside seed, epoch and key."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Own columns that an item is to be made of, beside the room's."""

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> Sequence[int]:
        """The places, among its others, of the rows that `draw` needs beside a row of a table."""

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """What is masked, swapped or asked of one item."""


@runtime_checkable
class DrawOfSteps(Protocol):
    """What the loader asks of an objective that is another one in each step."""

    def at(self, seed: int | None, step: int) -> Draw:
        """The one of a step; `seed` None: of an evaluation's batch."""


@dataclass(frozen=True, kw_only=True)
class LoadedBatch:
    """One step's rows, ready for a model."""

    step: int
    epoch: int
    batch: Batch | None
    """None where every row was bad: a step without a gradient."""
    targets: Targets
    rejects: tuple[Reject, ...]
    """Rows that turned out bad and were left out; the batch is smaller by them."""


def load_batches(
    rows: Rows,
    inputs: Inputs,
    order: StepOrder,
    *,
    start: int,
    stop: int,
    draw: Draw | DrawOfSteps,
    workers: int | None = None,
    start_method: str | None = None,
    bad_rows: Collection[int] = (),
    decode_timeout_s: float = DECODE_TIMEOUT_S,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[LoadedBatch]:
    """Training batches of the steps [start, stop), in order.

    Args:
        rows: what to train on.
        inputs: the room's way from a sample to a batch.
        order: which rows make up which step.
        start: the first step; beginning in the middle gives what a full pass gives from there on.
        stop: the step after the last.
        draw: the objective.
        workers: processes that decode; 0: none, and no watch over rows; None: by the machine. Changes no batch.
        start_method: "fork", "spawn" or "forkserver"; None: the platform's.
        bad_rows: rows known to be bad: left out without another report.
        decode_timeout_s: a row that takes longer is left out as bad; not where there are no workers.
        tell: who hears of a worker that had to be replaced.

    Raises:
        DataError: a shard was damaged since the table was opened, or too many workers were lost over one batch.
    """
    reader = RowReader(rows, inputs, draw, order.seed, frozenset(bad_rows))
    compute = TrainingSteps(reader, order).batch
    ahead = _ahead(order.batch_rows // order.world_size)
    return _computed(compute, range(start, stop), ahead, workers, decode_timeout_s, tell, start_method)


def evaluation_batches(
    rows: Rows,
    inputs: Inputs,
    *,
    batch: int,
    limit: int | None = None,
    draw: Draw | DrawOfSteps | None = None,
    workers: int | None = None,
    bad_rows: Collection[int] = (),
    decode_timeout_s: float = DECODE_TIMEOUT_S,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[LoadedBatch]:
    """The rows in the table's order, with the evaluation transform and the first text; the same every time.

    Args:
        rows: what to evaluate on.
        inputs: the room's way from a sample to a batch.
        batch: rows of a batch; the last may be smaller.
        limit: only so many rows, evenly spread over the table.
        draw: the objective whose targets are wanted; None: nothing is drawn.
        workers: as in `load_batches`, and so are `bad_rows`, `decode_timeout_s` and `tell`.
    """
    wanted = spread_rows(len(rows), limit)
    reader = RowReader(rows, inputs, draw, None, frozenset(bad_rows))
    steps = range(-(-len(wanted) // batch))
    compute = EvaluationSteps(reader, wanted, batch).batch
    return _computed(compute, steps, _ahead(batch), workers, decode_timeout_s, tell)


@dataclass(frozen=True)
class RowReader:
    """Reads, decodes and draws rows, and makes batches of them."""

    rows: Rows
    inputs: Inputs
    draw: Draw | DrawOfSteps | None
    seed: int | None
    """None: evaluation, where the transform is fixed and the draws are the same every time."""
    bad_rows: frozenset[int]
    """Known to be bad."""

    def batch(self, step: int, epoch: int, wanted: Iterable[int], begin: Begin) -> LoadedBatch:
        """The batch of the `wanted` rows without the bad ones; `begin` is told which is read."""
        draw = self.draw.at(self.seed, step) if isinstance(self.draw, DrawOfSteps) else self.draw
        items: list[Item] = []
        targets: list[Targets] = []
        rejects: list[Reject] = []
        for row in wanted:
            if row in self.bad_rows:
                continue
            try:
                item, target = self._drawn(draw, epoch, row, begin)
            except RowError as error:
                rejects.append(error.reject)
            else:
                items.append(item)
                targets.append(target)
        begin(None)
        return LoadedBatch(
            step=step,
            epoch=epoch,
            batch=self.inputs.collate(items) if items else None,
            targets=stack_targets(targets),
            rejects=tuple(rejects),
        )

    def _drawn(self, draw: Draw | None, epoch: int, row: int, begin: Begin) -> tuple[Item, Targets]:
        columns = self.inputs.columns if draw is None else (*self.inputs.columns, *draw.columns)
        item = self._item(epoch, row, columns, begin)
        if draw is None:
            return item, {}
        seed = 0 if self.seed is None else self.seed
        others = self.rows.partners(row, partial(draw.partners, seed, epoch))
        partners = [self._item(epoch, other, columns, begin) for other in others]
        try:
            return draw.draw(item, partners, LateRng(seed, epoch, item.key, draw.name))
        except DataError as error:  # nothing can be asked of this row
            raise self._row_error(row, error) from error

    def _item(self, epoch: int, row: int, columns: Sequence[str], begin: Begin) -> Item:
        """One row decoded.

        Raises:
            RowError: the row's own fault.
            DataError: the table's fault, which every row would meet.
        """
        try:
            if row in self.bad_rows:  # as a partner; what made it bad may be that it never comes to an end
                raise DataError("it was left out before")
            begin(row)
            sample = self.rows.sample(row, columns)
            return self.inputs.item(sample, None if self.seed is None else LateRng(self.seed, epoch, sample.key))
        except DataError as error:
            raise self._row_error(row, error) from error

    def _row_error(self, row: int, error: DataError) -> RowError:
        return RowError(Reject(key=self.rows.key(row), source=self.rows.where(row), reason=str(error)))


@dataclass(frozen=True)
class TrainingSteps:
    """Step number -> LoadedBatch."""

    reader: RowReader
    order: StepOrder

    def batch(self, step: int, begin: Begin) -> LoadedBatch:
        """The rows that the order gives to a step."""
        return self.reader.batch(step, self.order.epoch(step), (row for _, row in self.order.rows(step)), begin)


@dataclass(frozen=True)
class EvaluationSteps:
    """Batch number -> LoadedBatch."""

    reader: RowReader
    wanted: Sequence[int]
    size: int

    def batch(self, step: int, begin: Begin) -> LoadedBatch:
        """The next rows in the table's order."""
        return self.reader.batch(step, 0, self.wanted[step * self.size : (step + 1) * self.size], begin)


class RowError(Exception):
    """One row cannot be used; carries its reject to the batch that leaves it out."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(reject.reason)
        self.reject = reject


class LateRng:
    """`random_for`, made when it is first asked: half of all draws need no chance, and making one takes 10 µs."""

    def __init__(self, seed: int, epoch: int, key: str, purpose: str = "") -> None:
        self._made_of = (seed, epoch, key, purpose)
        self._made: np.random.Generator | None = None

    def _rng(self) -> np.random.Generator:
        if self._made is None:
            self._made = random_for(*self._made_of)
        return self._made

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return self._rng().random()

    def integers(self, low: int, high: int | None = None) -> Any:
        """Uniform in [low, high), or [0, low)."""
        return self._rng().integers(low, high)

    def permutation(self, num: int) -> Any:
        """[0, num) in an order by chance."""
        return self._rng().permutation(num)


def default_workers() -> int:
    """Processes that decode, by the cores this process may use: one for every two, at most eight.

    Processes that torchrun began on one machine share its cores. Each has one at least: without it nobody would see
    that a row never comes to an end.
    """
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(usable_cores() // 2 // sharing, 8))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ahead(batch: int) -> int:
    """Batches of that size that a process makes ahead: one of 32,768 pictures of 224 px is 5 GB."""
    return max(1, min(AHEAD, ROWS_AHEAD // batch))


def _computed(
    compute: Compute[LoadedBatch],
    steps: range,
    ahead: int,
    workers: int | None,
    timeout_s: float,
    tell: Callable[[str], None],
    start_method: str | None = None,
) -> Iterator[LoadedBatch]:
    """The batches of `steps`, in order, from processes that end with the iterator."""
    processes = min(default_workers() if workers is None else workers, len(steps))
    if processes:
        return in_processes(
            compute,
            steps,
            processes=processes,
            timeout_s=timeout_s,
            ahead=ahead,
            start_method=start_method,
            tell=tell,
        )
    return (compute(step, lambda row: None) for step in steps)
