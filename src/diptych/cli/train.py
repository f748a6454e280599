"""`diptych train`: a recipe on a table, into a run folder with a report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.evaluate import evaluate_command
from diptych.cli.options import (
    BatchRows,
    Device,
    MaybeRegionStores,
    OnNan,
    OnNanStep,
    PartnersDir,
    Resume,
    Settings,
    TensorBoard,
)
from diptych.cli.tables import split_to_evaluate, with_regions
from diptych.errors import DiptychError, InterruptedRunError, UsageError
from diptych.progress import SILENT

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.progress import Progress
    from diptych.train.job import Job
    from diptych.train.review import Review
    from diptych.train.run import Run

TASKS = {
    "detection": "detection",
    "re": "referring",
    **dict.fromkeys(("pretraining", "ranking", "hard_ranking"), "matching"),
    **dict.fromkeys(("vqa", "ve", "nlvr2", "vcr"), "answers"),
}
"""What a model is asked by, by the name of its objective; retrieval where it is none of these."""


def train(
    data: Annotated[
        list[Path],
        typer.Option(help="A table made by `diptych data import` or `diptych data scenes`; several times for several."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[
        list[str] | None, typer.Argument(metavar="SYSTEM RECIPE | FILE.py:FUNCTION", help="e.g. clip tiny")
    ] = None,
    repeat: Annotated[Path | None, typer.Option(metavar="RUN.JSON", help="Train with the settings of a run.")] = None,
    share: Annotated[
        list[int] | None,
        typer.Option(
            help="Several --data: steps of each, in proportion, once for each; left out: all rows equally often. The "
            "same as --set training.shares=N,N."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Begin from a run, an OpenAI .pt, a folder or a hub name.")
    ] = None,
    resume: Resume = False,
    batch: BatchRows = None,
    device: Device = "auto",
    on_nan: OnNanStep = "stop",
    regions: MaybeRegionStores = None,
    partners: PartnersDir = None,
    settings: Settings = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train SYSTEM by one of its recipes, e.g. `diptych train clip tiny --data scenes --out runs/first`."""
    train_and_show(
        find_run(recipe or [], repeat, out if resume else None),
        data,
        out,
        regions=regions or [],
        partners=partners,
        settings=[*(settings or []), *rows_a_step(batch), *set_to("training.shares", share or None)],
        resume=resume,
        device=device,
        on_nan=on_nan,
        init=init,
        tensorboard=tensorboard,
    )


def rows_a_step(batch: int | None) -> list[str]:
    """The settings that `--batch` stands for, also of a recipe whose steps are counted in words and regions."""
    return [] if batch is None else ["training.batch_tokens=none", f"training.batch={batch}"]


def set_to(name: str, value: int | Sequence[int] | None) -> list[str]:
    """An option of the command line as the setting that it stands for; nothing where it was left out."""
    return [] if value is None else [f"{name}={value}"]


def train_and_show(
    run: Run,
    data: Sequence[Path],
    out: Path,
    *,
    regions: Sequence[Path],
    partners: Path | None,
    settings: Sequence[str],
    resume: bool,
    device: str,
    init: str | None,
    on_nan: OnNan = "stop",
    tensorboard: bool = False,
) -> None:
    """Trains a run with the user's settings on tables, shows what came of it, and how to ask the model.

    The other arguments are those of `train`.
    """
    from diptych.data.mixing import mix_tables
    from diptych.data.partners import open_partners
    from diptych.data.table import open_table
    from diptych.overrides import apply_overrides

    run = apply_overrides(run, settings)
    if partners is not None and len(data) > 1:
        raise UsageError("--partners are of the rows of one table; give one --data, or leave them out")
    table = with_regions(mix_tables([open_table(one) for one in data]), regions)
    if partners is not None:
        table = table.joined(open_partners(partners))
    review = train_and_review(
        run, table, out, resume=resume, device=device, on_nan=on_nan, init=init, tensorboard=tensorboard
    )
    if review is None:  # one of several processes, and not the one that speaks
        return
    show(review)
    split = split_to_evaluate(table.splits, run.inputs.split)
    task = TASKS.get(run.objective.name, "retrieval")
    screen.next_step(evaluate_command(str(out), task, data[0], split, None, regions))


def find_run(recipe: Sequence[str], repeat: Path | None, resumed: Path | None, *, verb: str = "train") -> Run:
    """The run that the words of a command line name.

    Args:
        recipe: nothing, FILE.py:FUNCTION, or SYSTEM and RECIPE.
        repeat: a run.json.
        resumed: the folder of a run to go on with, whose own settings are taken where nothing else is named.
        verb: that the words were given to.
    Raises:
        UsageError: none or several are named, or there is no such thing.
    """
    from diptych import systems

    if repeat is not None and not recipe:
        return systems.read_run(repeat)
    if resumed is not None and not recipe:
        return systems.read_run(resumed)
    match list(recipe) if repeat is None else []:
        case [system, name]:
            return systems.recipe(system, name)
        case [spec] if ".py" in spec:
            return systems.outside_recipe(spec)
        case [name] if owners := _systems_with(name):
            raise UsageError(f"{name} is a recipe of {', '.join(owners)}; write: diptych {verb} {owners[0]} {name}")
        case [system]:
            raise UsageError(f"which recipe of {system}? There are: {', '.join(systems.recipes(system))}")
        case _:
            found = " ".join([*recipe, *([] if repeat is None else ["--repeat", str(repeat)])]) or "no recipe"
            raise UsageError(
                f"found {found}; expected one of: SYSTEM RECIPE (e.g. clip tiny), path/mine.py:run, --repeat run.json"
            )


def _systems_with(recipe: str) -> list[str]:
    """The systems that have a recipe of that name."""
    from diptych import systems

    return [system for system in systems.NAMES if recipe in systems.recipes(system)]


def train_and_review(
    run: Run,
    table: Table,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    on_nan: OnNan = "stop",
    init: str | None = None,
    tensorboard: bool = False,
    asked: str | None = None,
    go_on: str = "The same command with --resume goes on.",
) -> Review | None:
    """Trains with a progress bar and writes the report, also of a run that is stopped or fails.

    Of several processes the lead alone draws, writes and returns a report.

    The arguments are those of `train`, and:

    Args:
        asked: the split that the report is about; None: the one that the run is evaluated on.
        go_on: what to say of how an interrupted run is taken up again.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM; a checkpoint and a report are written.
        DiptychError: what `build` and `fit` raise; where this call began the run or went on with it, with a report.
    """
    from threading import Event

    from diptych.ranks import join_ranks
    from diptych.train.checks import check_table
    from diptych.train.device import resolve_device
    from diptych.train.faults import NotFiniteError
    from diptych.train.fit import fit

    begun = Event()
    with join_ranks(device, run.training.rank_timeout_s) as ranks:
        resolve_device(device, ranks)  # a misspelt one is told before any work
        check_table(run, table)  # nor is a tokenizer trained for nothing
        with screen.progress() if ranks.leads else nullcontext(SILENT) as progress:
            job = _job(run, table, out, resume=resume, init=init, progress=progress)
            try:
                result = fit(
                    job,
                    table,
                    out,
                    resume=resume,
                    device=device,
                    on_nan=on_nan,
                    tensorboard=tensorboard,
                    progress=progress,
                    on_begin=begun.set,
                )
            except Exception as error:
                if ranks.leads and begun.is_set():  # else a report that is there is of a run that this never touched
                    _review_what_is_there(out, table, asked, device, progress)
                if isinstance(error, NotFiniteError):
                    ranks.wait()
                raise
            review = _review(out, table, asked, device, progress) if ranks.leads else None
            ranks.wait()  # torchrun ends the lead, and its report, as soon as another process leaves with an error
    if result.status == "interrupted":
        written = "" if review is None else f"; the checkpoint and {review.report} are written. {go_on}"
        raise InterruptedRunError(f"stopped after step {result.step} of {result.steps}{written}")
    return review


def show(review: Review) -> None:
    """The results as tables, and where the report lies."""
    for shown in review.tables():
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    screen.out(review.headline)
    screen.out(f"Report: {review.report}")


def _job(run: Run, table: Table, out: Path, *, resume: bool, init: str | None, progress: Progress) -> Job:
    """The run's objects; a run that goes on keeps the tokenizer it began with."""
    from diptych import systems

    tokenizer = out / "tokenizer" if resume and (out / "run.json").exists() else None
    rows = table.split(run.inputs.split)
    return systems.build(run, texts=rows.texts(), rows=rows, tokenizer_folder=tokenizer, init=init, progress=progress)


def _review(out: Path, table: Table, asked: str | None, device: str, progress: Progress) -> Review:
    from diptych import systems
    from diptych.train.review import write_report

    encoder = systems.load_any(out, device=device) if (out / "last").exists() else None
    return write_report(out, encoder=encoder, table=table, split=asked, progress=progress)


def _review_what_is_there(out: Path, table: Table, asked: str | None, device: str, progress: Progress) -> None:
    """The report of a run that failed; what fails here must not hide why the run did."""
    try:
        review = _review(out, table, asked, device, progress)
    except (DiptychError, OSError, ValueError) as error:
        progress.say(f"The report could not be written either: {error}")
    else:
        progress.say(f"The run failed; {review.report} shows how far it came.")
