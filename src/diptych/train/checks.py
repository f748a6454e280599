"""What a job asks of a table: told before anything is written, since else all rows would be left out one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from diptych.data.examples import COLUMNS
from diptych.data.loader import RowReader
from diptych.data.mixed_order import check_shares
from diptych.data.partners import joined_partners
from diptych.data.rejects import Reject
from diptych.data.sampler import scattered_rows
from diptych.data.table import Rows, Table
from diptych.data.text_kinds import KINDS_COLUMN
from diptych.errors import DataError, UsageError, unknown
from diptych.objectives.mixture import Drawn, Mixture
from diptych.objectives.objective import Objective
from diptych.train.job import Job
from diptych.train.run import Run

DRAWS = 64
"""Of partners, to see how many an objective takes."""
MANY = 1000
"""Rows among which any objective finds partners, if it takes some."""
TRIED = 20
"""Rows that a task of a mixture is drawn of, to see whether it can be."""


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


def check_partners(objective: Objective, rows: Rows) -> None:
    """That the partners which are named are as many as the objective takes: else rows would be of unequal length.

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
        if not _most_partners(objective, MANY):
            raise UsageError(f"{objective.name} sets no rows against each other; leave out --partners")
        taken, wanted = (_most_partners(objective, num) for num in (named.fewest, len(part) - 1))
        if taken < wanted:
            raise DataError(
                f"{named.path} names {taken} partners of a row, and {objective.name} sets each row beside {wanted}; "
                "take fewer (--set objective.candidates=N or negatives=N), or make it anew with more by --top, --others"
            )


def _most_partners(objective: Objective, num_others: int) -> int:
    """Of some draws, since a share of the rows may get none; of a mixture, those of the task that takes most."""
    if isinstance(objective, Mixture):
        return max(_most_partners(task, num_others) for task, _ in objective.shares)
    return max(len(objective.partners(0, 0, row, num_others)) for row in range(DRAWS))


def check_tasks(job: Job, rows: Rows) -> None:
    """That each task of a mixture can be drawn of some row of each table: else its first step would be met late.

    Raises:
        DataError: none of some rows serves a task; what the first of them says.
    """
    if not isinstance(job.objective, Mixture):
        return
    for part in rows.parts:
        for place, (task, _) in enumerate(job.objective.shares):
            reader = RowReader(part, job.inputs, Drawn(job.objective, place), job.run.training.seed, frozenset())
            if refused := _refused(reader, scattered_rows(len(part), TRIED)):
                raise DataError(
                    f"{task.name} can be drawn of none of {len(refused)} rows of {part.path}, {part.name}, that were "
                    f"tried; the first says: {refused[0].reason}"
                )


def _refused(reader: RowReader, rows: Sequence[int]) -> list[Reject]:
    """Why no row can be drawn; none where one can, after which no more are read."""
    refused: list[Reject] = []
    for row in rows:
        tried = reader.batch(0, 0, [row], begin=lambda _: None)
        if tried.batch is not None:
            return []
        refused += tried.rejects
    return refused
