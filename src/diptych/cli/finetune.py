"""`diptych finetune`: a trained model for a task of one's own, into a run folder with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.options import BatchRows, Device, OnNanStep, PartnersDir, RegionStores, Resume, Settings, TensorBoard
from diptych.cli.train import rows_a_step, train_and_show
from diptych.errors import UsageError


def finetune(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A run, a released file, or a hub name.")],
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="e.g. tiny_vqa, vqa, ve_large; or a run.json.")],
    data: Annotated[Path, typer.Option(help="Examples of the task, made by `diptych data examples`.")],
    regions: RegionStores,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    partners: PartnersDir = None,
    resume: Resume = False,
    batch: BatchRows = None,
    device: Device = "auto",
    on_nan: OnNanStep = "stop",
    settings: Settings = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Put a head on a pre-trained model and train both: `diptych finetune runs/uniter tiny_vqa --data questions ...`.

    Sizes and vocabulary are those of WEIGHTS; the recipe says the task and how long it is trained.
    """
    from diptych import systems

    begun = resume and (out / "run.json").exists()
    run = systems.read_run(out) if begun else systems.finetuned(weights, recipe)
    wanted = systems.read_run(Path(recipe)).recipe if recipe.endswith(".json") else recipe
    if run.recipe != wanted:
        raise UsageError(f"the run in {out} is of the recipe {run.recipe}, found {wanted}; choose another --out")
    train_and_show(
        run,
        [data],
        out,
        regions=regions,
        partners=partners,
        settings=[*(settings or []), *rows_a_step(batch)],
        resume=resume,
        device=device,
        on_nan=on_nan,
        init=weights,
        tensorboard=tensorboard,
    )
