"""`diptych report`: write the report of a run again, and several runs side by side."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import Device, JsonFile, MaybeRegionStores
from diptych.cli.verbs import Verbs
from diptych.errors import DataError, UsageError

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.tasks.asking import Asking

report_app = typer.Typer(help="What runs learned, as pages to look at.", cls=Verbs)


@report_app.command("show")
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="The table it was trained on, where that has moved; or another one.")
    ] = None,
    regions: MaybeRegionStores = None,
    split: Annotated[str | None, typer.Option(help="What is asked; left out: the run's evaluation split.")] = None,
    seed: Annotated[int, typer.Option(help="Of the texts and pictures that are shown.")] = 0,
    device: Device = "auto",
) -> None:
    """Write report.html and metrics.json of a run again, from its log and its best weights."""
    from diptych.train.review import write_report

    if not (run / "run.json").is_file():
        raise DataError(f"{run} holds no run (there is no run.json in it); name the folder of `diptych train --out`")
    table = _table(run, data or [], regions or [])
    if table is not None and split is not None:
        table.split(split)  # a wrong name is told before the model is loaded
    model = _model(run, device)
    with screen.progress() as progress:
        review = write_report(
            run, encoder=model, table=table, split=split, seed=seed, keep_answers=True, progress=progress
        )
    screen.out(review.headline)
    screen.out()
    for shown in review.tables():
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    if review.why_not:
        screen.say(f"Note: the model was asked nothing: {review.why_not}")
    screen.out(f"Report: {review.report}")
    screen.next_step(_next(run, review.report))


@report_app.command("compare")
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Folders of runs, at least two.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
    json_file: JsonFile = None,
) -> None:
    """Show several runs side by side: results, curves, and the settings in which they differ."""
    from diptych.checkpoint.files import write_whole
    from diptych.cli.json_file import write_json
    from diptych.report.compare import compared, comparison, read_runs
    from diptych.report.page import render
    from diptych.report.scores import plain

    if len(runs) < 2:
        raise UsageError(f"one run, {runs[0]}, cannot be compared; name two or more: diptych report compare RUN RUN")
    past = read_runs(runs)
    columns, rows = compared(past)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, render(comparison(past)))
    if json_file is not None:
        write_json(json_file, {run.name: plain(run.scores) for run in past})
    screen.table("Results", columns, rows)
    screen.out()
    screen.out(f"Report: {out}")
    screen.next_step(f"diptych report show {shlex.quote(str(runs[0]))}")


def _next(run: Path, report: Path) -> str:
    """The run beside another one of its folder; where it is the only one there, a look at its page."""
    from diptych.train.folder import holds_run

    here = run.resolve()
    others = [found for found in sorted(here.parent.iterdir()) if holds_run(found) and found != here]
    if not others:
        return screen.look_at(report)
    other = str(others[0]) if run.is_absolute() else os.path.relpath(others[0])
    return shlex.join(["diptych", "report", "compare", str(run), other])


def _model(run: Path, device: str) -> Asking | None:
    """The run's best weights; None where it ended before its first checkpoint."""
    from diptych import systems

    if not any((run / "checkpoints").glob("step_*")):
        return None
    return systems.load_any(run, device=device)


def _table(run: Path, data: Sequence[Path], regions: Sequence[Path]) -> Table | None:
    """The table or tables named, else what the run was trained on if that is still there; with regions, where named."""
    from diptych.cli.tables import with_regions
    from diptych.data.mixing import mix_tables
    from diptych.data.table import open_table
    from diptych.report.history import read_history

    if not data:
        start = read_history(run).start
        data = [Path(one["table"]) for one in start.get("mixed", [start]) if "table" in one]
        if not data or not all(one.exists() for one in data):
            return None
    return with_regions(mix_tables([open_table(one) for one in data]), regions)
