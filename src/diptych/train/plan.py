"""Plan: a job with the table, folder and device that it was given, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from diptych.data.sampler import Order
from diptych.data.table import Rows, Table
from diptych.errors import DataError
from diptych.train.device import resolve_device
from diptych.train.job import Job
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
    order: Order
    steps: int


def make_plan(job: Job, table: Table, out: Path, device: str) -> Plan:
    """The plan of a job.

    Raises:
        UsageError: there is no such device, or the length of the run is not set.
        DataError: the table lacks a split that the run needs, or there are no rows to evaluate on.
    """
    training = job.run.training
    rows = table.split(job.run.inputs.split)
    if len(table.split(training.eval_split)) == 0:  # better now than after the first steps
        raise DataError(
            f"the split {training.eval_split!r} of {table.path} has no rows; expected at least one to evaluate on. "
            "Choose another by --set training.eval_split=NAME"
        )
    order = Order(num_rows=len(rows), batch=training.batch, seed=training.seed)
    return Plan(
        job=job,
        table=table,
        out=out,
        device=resolve_device(device),
        rows=rows,
        order=order,
        steps=num_steps(training, order),
    )
