"""`diptych demo`: draw the picture world, pretrain a small CLIP on it, show what it learned."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.progress import Progress
    from diptych.train.run import Run

NUM_SCENES = 40_000
SIZE_PX = 64
QUICK_SCENES = 2_000
QUICK_STEPS = 60


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute's run that shows every part working and learns little.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Draw a world of pictures, train a small CLIP on it, and show what it learned.

    About four minutes on two cores. Ctrl-C keeps what is there; the same command goes on from it.
    """
    from diptych.cli.train import show, train_and_review

    with screen.progress() as progress:
        table = _scenes(out / "scenes", QUICK_SCENES if quick else NUM_SCENES, progress)
    again = f"The same command goes on: diptych demo{' --quick' if quick else ''} --out {shlex.quote(str(out))}"
    review = train_and_review(_run(quick), table, out, resume=True, device=device, asked="test", go_on=again)
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
    """The picture world in `folder`, drawn if it is not there yet."""
    from diptych.data.scenes import draw_scenes, easy
    from diptych.data.table import open_table

    if not folder.exists():
        draw_scenes(folder, easy(num=num, size_px=SIZE_PX), progress=progress)
    return open_table(folder)
