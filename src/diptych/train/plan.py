"""Plan: a job with the table, folder and device that it was given, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import torch

from diptych.data.examples import COLUMNS
from diptych.data.loader import DrawOfSteps
from diptych.data.mixed_order import MixedOrder, check_shares, mixed_order
from diptych.data.partners import joined_partners
from diptych.data.sampler import Order, StepOrder
from diptych.data.table import Rows, Table
from diptych.data.text_kinds import KINDS_COLUMN
from diptych.data.token_batches import TokenInputs, TokenOrder, lengths_of
from diptych.errors import DataError, UsageError, unknown
from diptych.objectives.objective import Objective
from diptych.progress import SILENT, Progress
from diptych.ranks import ALONE, Ranks
from diptych.train.device import resolve_device
from diptych.train.job import Job
from diptych.train.run import Run, TrainingSettings
from diptych.train.schedule import num_steps

DRAWS = 64
"""Of partners, to see how many an objective takes."""


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
        """Fingerprint of the store that names partners of the rows; "" where none does."""
        named = joined_partners(self.rows)
        return "" if named is None else named.fingerprint


def make_plan(
    job: Job, table: Table, out: Path, device: str, ranks: Ranks = ALONE, progress: Progress = SILENT
) -> Plan:
    """The plan of a job.

    Raises:
        UsageError: there is no such device, or the length of the run is not set.
        DataError: see `check_table`.
    """
    training = job.run.training
    check_table(job.run, table)
    rows = table.split(job.run.inputs.split)
    check_columns(job, rows)
    check_text_kinds(job.run, rows)
    check_partners(job.run.objective, rows)
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


def check_columns(job: Job, rows: Rows) -> None:
    """That the rows have what the room reads: else each of them would be left out as bad.

    Raises:
        DataError: a column is missing.
    """
    for part in rows.parts:
        for name in job.columns:
            if name not in part.all_columns:
                told = unknown("column", name, part.all_columns)
                makes = " or ".join(task for task, columns in COLUMNS.items() if name in columns)
                remedy = f". `diptych data examples SOURCE OUT --task {makes}` makes a table with it" if makes else ""
                raise DataError(
                    f"{job.run.system} reads the column {name!r}, which {part.path} has not: {told}{remedy}"
                )


def check_text_kinds(run: Run, rows: Rows) -> None:
    """That some row of some table has a text of each kind that is wanted: a misspelt one would let rows give any text.

    Raises:
        DataError: none has.
    """
    kinds = run.inputs.text_kinds
    named = [part.column(KINDS_COLUMN) for part in rows.parts if kinds and KINDS_COLUMN in part.columns]
    there = sorted({kind for one in named for kind in pc.unique(pc.list_flatten(one)).to_pylist() if kind is not None})
    for kind in kinds if named else ():
        if kind not in there:
            others = ",".join(other for other in kinds if other in there) or "none"
            raise DataError(
                f"{rows.path}, {rows.name}: {unknown('kind of text', kind, there)}. Leave it out: "
                f"--set inputs.text_kinds={others}"
            )


def check_partners(objective: Objective | DrawOfSteps, rows: Rows) -> None:
    """That the partners which are named are as many as the objective takes: else rows would be of unequal length.

    Of a mixture none takes more than one.

    Raises:
        DataError: they are fewer, or partners of the rows of another table or split.
        UsageError: some are named, and the objective takes none.
    """
    for part in rows.parts:
        named = joined_partners(part)
        if named is None:
            continue
        if named.of != part.fingerprint or part.name not in [one.name for one in named.splits]:
            raise DataError(
                f"{named.path} names partners of other rows than those of {part.path}, {part.name}; make them of this "
                "table: diptych data partners"
            )
        if isinstance(objective, DrawOfSteps):
            continue
        taken, wanted = (_most_partners(objective, num) for num in (named.fewest, len(part) - 1))
        if not wanted:
            raise UsageError(f"{objective.name} sets no rows against each other; leave out --partners")
        if taken < wanted:
            raise DataError(
                f"{named.path} names {taken} partners of a row, and {objective.name} sets each row beside {wanted}; "
                "take fewer (--set objective.candidates=N or negatives=N), or make it anew with more by --top, --others"
            )


def _most_partners(objective: Objective, num_others: int) -> int:
    """Of some draws, since a share of the rows may get none."""
    return max(len(objective.partners(0, 0, row, num_others)) for row in range(DRAWS))


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


def check_table(run: Run, table: Table) -> None:
    """That the table has rows to train and to be evaluated on: better told now than after the first steps.

    Raises:
        DataError: it lacks a split, or there is not a row in one; says which setting names it.
        UsageError: there is not a share for each of several tables.
    """
    if run.training.shares is not None:
        check_shares(run.training.shares, len(table.parts))
    for setting, name in (("inputs.split", run.inputs.split), ("training.eval_split", run.training.eval_split)):
        try:
            parts = table.split(name).parts
        except DataError as error:
            raise DataError(f"{error}. Choose one by --set {setting}=NAME") from error
        for rows in parts:
            if len(rows) == 0:
                raise DataError(
                    f"the split {name!r} of {rows.path} has no rows; expected at least one. Choose another by "
                    f"--set {setting}=NAME"
                )
