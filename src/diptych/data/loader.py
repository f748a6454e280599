"""From rows to batches: a pure function of (seed, epoch, position), computed in worker processes."""

from __future__ import annotations

import os
import pickle
import re
import signal
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from diptych.data.batch import Batch, Inputs, Targets, stack_targets
from diptych.data.rejects import Reject
from diptych.data.sample import Item, Rng, random_for
from diptych.data.sampler import Order, spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError

PREFETCH = 4
"""Batches that each worker makes ahead."""
_DIED = re.compile(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)", re.DOTALL)
"""What torch says of a process that ended without an answer."""


class Draw(Protocol):
    """What the loader asks of an objective."""

    @property
    def name(self) -> str:
        """What its draws are seeded by, beside seed, epoch and key."""

    def partner(self, seed: int, epoch: int, row: int, num_rows: int) -> int | None:
        """The other row that `draw` needs, or None."""

    def draw(self, item: Item, partner: Item | None, rng: Rng) -> tuple[Item, Targets]:
        """What is masked, swapped or asked of one item."""


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
    order: Order,
    *,
    start: int,
    stop: int,
    draw: Draw,
    columns: Sequence[str] = (),
    workers: int | None = None,
    start_method: str | None = None,
    bad_rows: Collection[int] = (),
) -> Iterator[LoadedBatch]:
    """Training batches of the steps [start, stop), in order.

    Args:
        rows: what to train on.
        inputs: the room's way from a sample to a batch.
        order: which rows make up which step.
        start: the first step; beginning in the middle gives what a full pass gives from there on.
        stop: the step after the last.
        draw: the objective.
        columns: own columns or store columns that `inputs` reads.
        workers: processes that decode; 0: none, None: by the machine. Changes no batch.
        start_method: "fork", "spawn" or "forkserver"; None: the platform's.
        bad_rows: rows known to be bad: left out without another report.

    Raises:
        DataError: a shard was damaged since the table was opened, or a worker died.
    """
    reader = RowReader(rows, inputs, draw, tuple(columns), order.num_rows, order.seed)
    steps = TrainingSteps(reader, order, frozenset(bad_rows))
    return _in_workers(steps, range(start, stop), workers, start_method)


def evaluation_batches(
    rows: Rows,
    inputs: Inputs,
    *,
    batch: int,
    limit: int | None = None,
    draw: Draw | None = None,
    workers: int | None = None,
) -> Iterator[LoadedBatch]:
    """The rows in the table's order, with the evaluation transform and the first text; the same every time.

    Args:
        rows: what to evaluate on.
        inputs: the room's way from a sample to a batch.
        batch: rows of a batch; the last may be smaller.
        limit: only so many rows, evenly spread over the table.
        draw: the objective whose targets are wanted; None: nothing is drawn.
        workers: as in `load_batches`.
    """
    wanted = spread_rows(len(rows), limit)
    reader = RowReader(rows, inputs, draw, (), len(rows), None)
    return _in_workers(EvaluationSteps(reader, wanted, batch), range(-(-len(wanted) // batch)), workers, None)


@dataclass(frozen=True)
class RowReader:
    """Reads, decodes and draws rows, and makes batches of them."""

    rows: Rows
    inputs: Inputs
    draw: Draw | None
    columns: tuple[str, ...]
    num_rows: int
    """That a partner is drawn from."""
    seed: int | None
    """None: evaluation, where the transform is fixed and the draws are the same every time."""

    def batch(self, step: int, epoch: int, wanted: Iterable[int]) -> LoadedBatch:
        """The batch of the `wanted` rows without the bad ones."""
        items: list[Item] = []
        targets: list[Targets] = []
        rejects: list[Reject] = []
        for row in wanted:
            try:
                item, target = self._drawn(epoch, row)
            except RowError as error:
                rejects.append(error.reject)
            else:
                items.append(item)
                targets.append(target)
        return LoadedBatch(
            step=step,
            epoch=epoch,
            batch=self.inputs.collate(items) if items else None,
            targets=stack_targets(targets),
            rejects=tuple(rejects),
        )

    def _drawn(self, epoch: int, row: int) -> tuple[Item, Targets]:
        item = self._item(epoch, row)
        if self.draw is None:
            return item, {}
        seed = 0 if self.seed is None else self.seed
        other = self.draw.partner(seed, epoch, row, self.num_rows)
        partner = None if other is None else self._item(epoch, other)
        return self.draw.draw(item, partner, LateRng(seed, epoch, item.key, self.draw.name))

    def _item(self, epoch: int, row: int) -> Item:
        """One row decoded.

        Raises:
            RowError: the row's own fault.
            DataError: the table's fault, which every row would meet.
        """
        try:
            sample = self.rows.sample(row, self.columns)
            return self.inputs.item(sample, None if self.seed is None else LateRng(self.seed, epoch, sample.key))
        except DataError as error:
            source = f"{self.rows.path} {self.rows.name}, row {row}"
            raise RowError(Reject(key=self.rows.key(row), source=source, reason=str(error))) from error


@dataclass(frozen=True)
class TrainingSteps(Dataset[LoadedBatch]):
    """Step number -> LoadedBatch."""

    reader: RowReader
    order: Order
    bad_rows: frozenset[int]

    def __getitem__(self, step: int) -> LoadedBatch:
        wanted = (row for _, row in self.order.rows(step) if row not in self.bad_rows)
        return self.reader.batch(step, self.order.epoch(step), wanted)


@dataclass(frozen=True)
class EvaluationSteps(Dataset[LoadedBatch]):
    """Batch number -> LoadedBatch."""

    reader: RowReader
    wanted: Sequence[int]
    size: int

    def __getitem__(self, step: int) -> LoadedBatch:
        return self.reader.batch(step, 0, self.wanted[step * self.size : (step + 1) * self.size])


@dataclass(frozen=True)
class _Answers(Dataset[LoadedBatch | Exception]):
    """What a worker sends: a batch, or why there is none. torch would send an error's text alone, as another error."""

    steps: Dataset[LoadedBatch]

    def __getitem__(self, step: int) -> LoadedBatch | Exception:
        try:
            return self.steps[step]
        except Exception as error:
            return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error with its worker's traceback as a note; where it cannot be sent as it is, its words."""
    told = f"In a process that decodes pictures:\n{traceback.format_exc()}"
    try:
        sent: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(told)
    return sent


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


def default_workers() -> int:
    """Processes that decode, by the cores this process may use: one on two cores, at most eight."""
    return min(usable_cores() // 2, 8)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_workers(
    steps: Dataset[LoadedBatch], wanted: range, workers: int | None, start_method: str | None
) -> Iterator[LoadedBatch]:
    """steps[i] for i in `wanted`, in order, from a pool of processes that ends with the iterator."""
    num = default_workers() if workers is None else workers
    num = min(num, len(wanted))
    if num == 0:
        yield from (steps[step] for step in wanted)
        return
    pool = DataLoader(
        _Answers(steps),
        batch_size=None,
        sampler=wanted,
        num_workers=num,
        prefetch_factor=PREFETCH,
        multiprocessing_context=start_method,
        worker_init_fn=_begin_worker,
        generator=torch.Generator(),  # its own, so that torch's global one is not moved
    )
    for answer in _answers(pool):
        if isinstance(answer, Exception):
            raise answer
        yield answer


def _answers(pool: Iterable[LoadedBatch | Exception]) -> Iterator[LoadedBatch | Exception]:
    try:
        yield from pool
    except RuntimeError as error:
        if _DIED.search(str(error)) is None:
            raise
        raise DataError(
            f"a process that decodes pictures died ({error}); memory may be short: use fewer workers, or 0"
        ) from error


def _begin_worker(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group, but it is the parent who says when workers end.

    The second SIGTERM ends a worker, so that a parent who only terminates and waits never hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
