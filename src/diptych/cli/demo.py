"""`diptych demo`: draw the picture world, pretrain a small CLIP on it, show what it learned."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.errors import DataError

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.progress import Progress
    from diptych.train.run import Run

NUM_SCENES = 40_000
SIZE_PX = 64
QUICK_SCENES = 2_000
QUICK_STEPS = 60


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/demo, or runs/demo-quick, if left out.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute's run that shows every part working and learns little.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Draw a world of pictures, train a small CLIP on it, and show what it learned.

    About three minutes on two cores. Ctrl-C keeps what is there; the same command goes on from it.
    """
    from diptych.cli.train import show, train_and_review
    from diptych.train.device import resolve_device

    resolve_device(device)  # a misspelt one is told before anything is drawn
    out = out or Path("runs/demo-quick" if quick else "runs/demo")
    with screen.progress() as progress:
        table = _scenes(out / "scenes", QUICK_SCENES if quick else NUM_SCENES, progress)
    again = f"The same command goes on: diptych demo{' --quick' if quick else ''} --out {shlex.quote(str(out))}"
    review = train_and_review(_run(quick), table, out, resume=True, device=device, asked="test", go_on=again)
    assert review is not None, "the demo is one process"
    show(review)
    screen.next_step(
        f"diptych data show {shlex.quote(str(out / 'scenes'))} --html {shlex.quote(str(out / 'scenes.html'))}"
    )


def _run(quick: bool) -> Run:
    from diptych import systems
    from diptych.overrides import apply_overrides

    run = systems.recipe("clip", "demo")
    return apply_overrides(run, [f"training.steps={QUICK_STEPS}"]) if quick else run


def _scenes(folder: Path, num: int, progress: Progress) -> Table:
    """The picture world in `folder`, drawn as far as it is not there yet.

    Raises:
        DataError: another world, or another table, lies there.
    """
    from diptych.data.loader import usable_cores
    from diptych.data.scenes import draw_scenes, easy
    from diptych.data.scenes.drawing import world_of
    from diptych.data.table import open_table

    world = easy(num=num, size_px=SIZE_PX)
    if not folder.exists():
        draw_scenes(folder, world, progress=progress, workers=usable_cores())
    table = open_table(folder)
    found, wanted = table.meta.get("settings") or {}, json.loads(json.dumps(world_of(world)))["settings"]
    if found != wanted:
        differing = [name for name in wanted if found.get(name) != wanted[name]]
        raise DataError(
            f"{folder} holds another world than this demo draws: "
            f"{', '.join(f'{name} {found.get(name)} (expected {wanted[name]})' for name in differing[:3])}. "
            "Choose another --out, or remove that folder"
        )
    return table
