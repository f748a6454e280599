"""Published results, run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diptych.data.table import Table
from diptych.errors import UsageError, nearest
from diptych.progress import SILENT, Progress
from diptych.systems.loading import load_any, ready
from diptych.systems.rooms import NAMES, room
from diptych.systems.trained import read_trained
from diptych.tasks.asked import Asked
from diptych.tasks.asking import Asking
from diptych.tasks.evaluation import evaluate
from diptych.tasks.published import Judged, Published, check_rows, judged


def published() -> tuple[Published, ...]:
    """The rows of all systems."""
    return tuple(row for name in NAMES for row in room(name).published())


def published_row(name: str) -> Published:
    """The row of that name.

    Raises:
        UsageError: there is none; those that begin so are named, or the nearest.
    """
    rows = {row.name: row for row in published()}
    if name not in rows:
        alike = [one for one in rows if one.startswith(name)]
        guess = ", ".join(alike) or nearest(name, rows)
        hint = f"; did you mean {guess}?" if guess else "."
        raise UsageError(f"there is no published result {name!r}{hint} All of them: diptych reproduce")
    return rows[name]


def reproduce(
    row: Published,
    weights: str | Path,
    table: Table,
    device: str = "auto",
    progress: Progress = SILENT,
    *,
    keep: Path | None = None,
) -> tuple[Judged, ...]:
    """Runs the evaluation of a row, and holds every number against the published one.

    Args:
        row: from `published`.
        weights: as `load` takes them.
        table: with the regions joined.
        device: see `resolve_device`.
        progress: where the work is drawn.
        keep: as `evaluate` has it.
    Raises:
        UsageError: a server scores it; or the model cannot be asked that.
        DataError: the table is not that of the row.
    """
    if row.server:
        raise UsageError(f"{row.name} is scored by {row.server} alone; write what is sent there: {row.answers}")
    check_rows(row, len(table.split(row.split)), str(table.path))
    model = _ranking(weights, device) if row.ranks else load_any(weights, device)
    return judged(row, evaluate(row.task, model, table, Asked(split=row.split), progress, keep=keep).scores)


def _ranking(weights: str | Path, device: str) -> Asking:
    """The model with the head that a training for ranking would begin with."""
    trained = read_trained(weights)
    state, config, _ = room(trained.system).weights.fitted(trained.state, trained.config, trained.config)
    return ready(replace(trained, state=state, config=config), device)
