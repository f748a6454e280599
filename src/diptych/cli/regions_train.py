"""`diptych regions train`: one's own detector, from the boxes of a table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import BatchRows, Device, OnNanStep, Resume, Settings, TensorBoard
from diptych.cli.train import find_run, rows_a_step, show, train_and_review

if TYPE_CHECKING:
    from diptych.data.table import Table

SMALL_PX = 128
"""Pictures whose shorter side is at most this are taken for the built-in scenes or their like."""


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table with objects: scenes, or COCO's instances.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="tiny, scenes, coco, coco_v2 or c4. Left out: scenes for small pictures, else coco."),
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Begin from a run, or the file of torchvision's detector.")
    ] = None,
    resume: Resume = False,
    batch: BatchRows = None,
    device: Device = "auto",
    on_nan: OnNanStep = "stop",
    settings: Settings = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train a detector on the boxes of DATA, the same as `diptych train detector RECIPE`."""
    from diptych.data.table import check_pictures, open_table
    from diptych.overrides import apply_overrides

    table = open_table(data)
    check_pictures(*map(table.split, table.splits))
    resumed = out if resume and recipe is None and (out / "run.json").is_file() else None
    run = find_run([] if resumed else ["detector", recipe or fitting_recipe(table)], None, resumed)
    run = apply_overrides(run, [*(settings or []), *rows_a_step(batch)])
    if init is None and resumed is None and run.model.freeze_norms and run.model.backbone != "conv":
        screen.say(
            "Note: the ResNet's norms are frozen, so that it learns little from weights that are drawn; begin from "
            "torchvision's by --init FILE, or pass --set model.freeze_norms=false --set model.backbone=resnet50_v2 "
            "--set model.learning_stages=5."
        )
    review = train_and_review(
        run, table, out, resume=resume, device=device, on_nan=on_nan, init=init, tensorboard=tensorboard
    )
    if review is None:  # one of several processes, and not the one that speaks
        return
    show(review)
    words = ["diptych", "regions", "extract", str(data), "--detector", f"own:{out}", "--out", f"{out}-regions"]
    screen.next_step(shlex.join(words))


def fitting_recipe(table: Table) -> str:
    """The recipe for a table whose pictures are as large as the first that can be read."""
    from diptych.data.images import decode
    from diptych.errors import DataError

    rows = table.split(next(iter(table.splits)))
    for row in range(min(len(rows), 20)):
        image = rows.sample(row).image
        try:
            if image is not None:
                return "scenes" if min(decode(image).size) <= SMALL_PX else "coco"
        except DataError:
            continue
    return "coco"
