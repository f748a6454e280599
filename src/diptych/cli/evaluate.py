"""`diptych evaluate`: a trained model on one task: a table, JSON, and a page with pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import Device, JsonFile, MaybeRegionStores
from diptych.errors import UsageError, unknown

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.tasks.asked import Asked, Evaluation

FORMAT = 1
Tasks = Annotated[
    str,
    typer.Option(
        help="retrieval, zero_shot, linear_probe, choices; matching, answers, referring of a fused model; detection "
        "of a detector."
    ),
]


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a file of weights, or a name on the hub.")],
    task: Tasks,
    data: Annotated[Path, typer.Option(help="A table made by `diptych data import` or `diptych data scenes`.")],
    regions: MaybeRegionStores = None,
    split: Annotated[
        str | None, typer.Option(help="Which rows are asked about; left out: test, else validation, else train.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many rows, evenly spread over the split.")
    ] = None,
    text_kind: Annotated[
        str | None,
        typer.Option(
            help="retrieval: texts of this kind, or all. Left out: full ones, where the table says which are."
        ),
    ] = None,
    recall_with: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="retrieval by a fused model: two towers that find its candidates; left out: it reads all pairs.",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="--recall-with: candidates of each query; left out: 50.")
    ] = None,
    recall_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="--recall-with: how much the towers' logit counts beside the model's; 0: not at all; left out: 1.",
        ),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(help="zero_shot: a text with {} for the name, a file of them, or a published set, e.g. food101."),
    ] = None,
    class_names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="zero_shot, linear_probe: a name for each label, one a line.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the pictures on the page, and of what is set apart.")] = 0,
    device: Device = "auto",
    json_file: JsonFile = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write the page with pictures here; left out: TASK.html in a run folder.",
        ),
    ] = None,
) -> None:
    """Ask a trained model: `diptych evaluate runs/first --task retrieval --data scenes`."""
    from diptych.cli.tables import split_to_evaluate, with_regions
    from diptych.data.table import open_table
    from diptych.tasks.asking import NAMES

    if task not in NAMES:
        raise UsageError(unknown("task", task, NAMES))
    table = with_regions(open_table(data), regions or [])
    split = split or split_to_evaluate(table.splits, "train")
    recalled = {"--top": top, "--recall-weight": recall_weight}
    if recall_with is None and any(value is not None for value in recalled.values()):
        raise UsageError("--top and --recall-weight are of candidates that --recall-with finds; name it, or leave them")
    asked = _asked(split, limit, text_kind, templates, class_names, seed, top, recall_weight)
    page = _page_of(run, task) if html is None else html
    keep = next((file.parent for file in (page, json_file) if file is not None), None)
    evaluation = _evaluate(run, task, table, asked, device, page, recall_with, keep)
    if json_file is not None:
        _write_numbers(json_file, run, evaluation, table, asked)
    _show(evaluation, json_file, page)
    asked_too = {
        "--recall-with": recall_with,
        **recalled,
        "--limit": limit,
        "--text-kind": text_kind,
        "--templates": templates,
        "--class-names": class_names,
        "--seed": seed or None,
        "--device": None if device == "auto" else device,
    }
    again = [word for name, value in asked_too.items() if value is not None for word in (name, str(value))]
    screen.next_step(_next(run, task, table, split, html, regions or [], again, keep or Path()))


def _page_of(run: str, task: str) -> Path | None:
    """Where the page goes that nobody named a file for: into the run folder; None for weights from elsewhere."""
    from diptych.train.folder import holds_run

    return Path(run) / f"{task}.html" if holds_run(Path(run)) else None


def _asked(
    split: str,
    limit: int | None,
    text_kind: str | None,
    templates: str | None,
    class_names: Path | None,
    seed: int,
    top: int | None,
    recall_weight: float | None,
) -> Asked:
    from diptych.data.word_list import read_word_list
    from diptych.tasks.asked import Asked
    from diptych.tasks.prompts import find_templates

    asked = Asked(
        split=split,
        limit=limit,
        text_kind=text_kind,
        templates=() if templates is None else find_templates(templates),
        class_names=() if class_names is None else read_word_list(class_names),
        seed=seed,
    )
    if top is not None:
        asked = replace(asked, top=top)
    return asked if recall_weight is None else replace(asked, recall_weight=recall_weight)


def _evaluate(
    run: str,
    task: str,
    table: Table,
    asked: Asked,
    device: str,
    html: Path | None,
    recall_with: str | None,
    keep: Path | None,
) -> Evaluation:
    from diptych import systems
    from diptych.checkpoint.files import write_whole
    from diptych.report.page import render
    from diptych.tasks import evaluation

    table.split(asked.split)  # a wrong name is told before the model is loaded
    model = systems.load_any(run, device)
    recall = None if recall_with is None else systems.load_towers(recall_with, device)
    with screen.progress() as progress:
        found = evaluation.evaluate(task, model, table, asked, progress, recall=recall, keep=keep)
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            page = evaluation.page(found, model=run, data=str(table.path), split=asked.split, progress=progress)
            write_whole(html, render(page))
    return found


def _write_numbers(file: Path, run: str, evaluation: Evaluation, table: Table, asked: Asked) -> None:
    from diptych.cli.json_file import write_json
    from diptych.overrides import to_plain
    from diptych.report.scores import plain

    found = {
        "format": FORMAT,
        "task": evaluation.task,
        "model": run,
        "table": {"path": str(table.path), "fingerprint": table.fingerprint},
        "asked": to_plain(asked),
        "headline": evaluation.headline,
        "results": plain(evaluation.scores),
        "details": evaluation.details,
        "rejects": [{"key": reject.key, "reason": reject.reason} for reject in evaluation.rejects],
    }
    write_json(file, found)


def _show(evaluation: Evaluation, json_file: Path | None, html: Path | None) -> None:
    from diptych.report.scores import shown_tables

    for shown in shown_tables(evaluation.scores):
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    screen.out(evaluation.headline)
    for name, file in (("Numbers", json_file), ("Report", html)):
        if file is not None:
            screen.out(f"{name}: {file}")


def _next(
    run: str,
    task: str,
    table: Table,
    split: str,
    html: Path | None,
    regions: Sequence[Path],
    again: Sequence[str],
    folder: Path,
) -> str:
    """Another task that the table can ask, a look at the page, or the same again with its words and a page."""
    from diptych.tasks.asking import OF_DETECTORS, OF_MATCHERS, OF_TOWERS
    from diptych.tasks.evaluation import possible

    page = _page_of(run, task) if html is None else html
    if page is None:
        return evaluate_command(run, task, table.path, split, folder / f"{task}.html", regions, again)
    if task in ("answers", "referring"):  # rows of questions show no pictures to ask the other tasks about
        return screen.look_at(page)
    alike = OF_DETECTORS if task in OF_DETECTORS else OF_MATCHERS if regions else OF_TOWERS
    takes_long = {"retrieval"} if regions else set()  # over all pairs
    others = [name for name in possible(table, split) if name in alike and name not in {task, *takes_long}]
    if others:
        beside = None if html is None else html.with_name(f"{others[0]}.html")
        return evaluate_command(run, others[0], table.path, split, beside, regions)
    return screen.look_at(page)


def evaluate_command(
    run: str,
    task: str,
    data: Path,
    split: str,
    html: Path | None,
    regions: Sequence[Path],
    more: Sequence[str] = (),
) -> str:
    """The command line that asks a task, with `more` of its options."""
    words = ["diptych", "evaluate", run, "--task", task, "--data", str(data), "--split", split, *more]
    words += [word for one in regions for word in ("--regions", str(one))]
    return shlex.join([*words, *([] if html is None else ["--html", str(html)])])
