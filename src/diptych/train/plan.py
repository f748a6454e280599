"""Plan: a job with the table, folder and device that it was given, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from diptych.data.mixed_order import MixedOrder, mixed_order
from diptych.data.partners import joined_partners
from diptych.data.sampler import Order, StepOrder
from diptych.data.table import Rows, Table
from diptych.data.token_batches import TokenInputs, TokenOrder, lengths_of
from diptych.errors import UsageError
from diptych.progress import SILENT, Progress
from diptych.ranks import ALONE, Ranks
from diptych.train.checks import check_columns, check_partners, check_table, check_tasks, check_text_kinds
from diptych.train.device import resolve_device
from diptych.train.job import Job
from diptych.train.run import TrainingSettings
from diptych.train.schedule import num_steps


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one call of `fit` is to do."""

    job: Job
    table: Table
    out: Path
    """The run folder."""
    device: torch.device
    rows: Rows
    """To train on."""
    order: MixedOrder
    """This rank's rows of every step."""
    steps: int
    ranks: Ranks = ALONE

    @property
    def partners(self) -> str:
        """Fingerprints of the stores that name partners of the rows; "" where none does."""
        named = (joined_partners(part) for part in self.rows.parts)
        return "+".join(one.fingerprint for one in named if one is not None)


def make_plan(
    job: Job, table: Table, out: Path, device: str, ranks: Ranks = ALONE, progress: Progress = SILENT
) -> Plan:
    """The plan of a job.

    Raises:
        UsageError: there is no such device, the length of the run is not set, or an option does not go with the run.
        DataError: the table has not what the run asks of it, see `checks`.
    """
    training = job.run.training
    check_table(job.run, table)
    rows = table.split(job.run.inputs.split)
    check_columns(job, rows)
    check_text_kinds(job.run, rows)
    check_partners(job.run.objective, rows)
    check_tasks(job, rows)
    orders = [_order(training, part, place, job, ranks, progress) for place, part in enumerate(rows.parts)]
    order = mixed_order(orders, training.shares, training.seed)
    return Plan(
        job=job,
        table=table,
        out=out,
        device=resolve_device(device, ranks),
        rows=rows,
        order=order,
        steps=num_steps(training, order),
        ranks=ranks,
    )


def _order(settings: TrainingSettings, rows: Rows, place: int, job: Job, ranks: Ranks, progress: Progress) -> StepOrder:
    """The order of one table: by a seed of its own, so that tables of the same length have not the same one."""
    seed = settings.seed + place
    if settings.batch_tokens is None:
        return Order(num_rows=len(rows), batch=settings.batch, seed=seed, rank=ranks.rank, world_size=ranks.size)
    if not isinstance(job.inputs, TokenInputs):
        raise UsageError(
            f"training.batch_tokens is {settings.batch_tokens}, but the rows of this system have no number of tokens; "
            "set training.batch_tokens=none, and training.batch to the rows of a step"
        )
    lengths = lengths_of(rows, job.inputs, job.columns, progress)
    return TokenOrder(lengths=lengths, tokens=settings.batch_tokens, seed=seed, rank=ranks.rank, world_size=ranks.size)
