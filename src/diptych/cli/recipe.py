"""`diptych recipe`: trainings that others described, as runs of ours."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.verbs import Verbs

if TYPE_CHECKING:
    from diptych.train.imported import ImportedRun

recipe_app = typer.Typer(help="Trainings that others described, as recipes.", cls=Verbs)


@recipe_app.callback()
def _verbs() -> None:
    """Keeps `import` a verb though it is the only one."""


@recipe_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON file of UNITER's config/, or its hps.json.")],
    out: Annotated[Path, typer.Option(metavar="RECIPE", dir_okay=False, help="The run.json to write.")],
    gpus: Annotated[
        int | None, typer.Option(min=1, help="That it was for. Left out: as the file's name says, e.g. -4gpu.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="That it trains for, where the file does not tell.")] = None,
) -> None:
    """Turn a config file of UNITER's release into a recipe, and say what became of every field."""
    from diptych import systems
    from diptych.cli.json_file import write_json
    from diptych.train.run import plain_run

    found = systems.import_config(file, gpus=gpus, task=task)
    write_json(out, plain_run(found.run))
    screen.table(str(file), ("field", "is"), list(found.taken.items()))
    screen.out()
    _tell_rest(found)
    screen.out(f"A step is that of {found.gpus} GPU{'s' * (found.gpus > 1)}, and as large on any number.")
    screen.out(f"Recipe: {out}")
    screen.next_step(_next(found, out))


def _tell_rest(found: ImportedRun) -> None:
    for title, fields in (
        ("of no use here", found.left_out),
        (f"not in the file, and as in our recipe {found.recipe}", found.by_recipe),
        ("unknown", dict.fromkeys(found.unknown, "not taken over")),
    ):
        if fields:
            screen.table(title, ("field", ""), list(fields.items()))
            screen.out()


def _next(found: ImportedRun, out: Path) -> str:
    from diptych.systems.finetuning import TASKS

    asked = ["--data", "DATA", "--regions", "REGIONS", "--out", f"runs/{out.stem}"]
    if found.run.objective.name in TASKS:
        return shlex.join(["diptych", "finetune", found.begins_with, str(out), *asked])
    return shlex.join(["diptych", "train", "--repeat", str(out), *asked, "--init", found.begins_with])
