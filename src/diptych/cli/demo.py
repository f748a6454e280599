"""`diptych demo`: draw the picture world, pretrain a small CLIP on it, show what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import screen

if TYPE_CHECKING:
    from diptych.data.table import Table
    from diptych.progress import Progress
    from diptych.train.run import Run

NUM_SCENES = 40_000
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
    from diptych import systems
    from diptych.cli import train

    with screen.progress() as progress:
        table = _scenes(out / "scenes", QUICK_SCENES if quick else NUM_SCENES, progress)
    review = train.train_and_review(_run(quick), table, out, resume=systems.holds_run(out), device=device)
    screen.out()
    for shown in review.tables():
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    screen.out(f"Report: {review.report}")
    screen.next_step(f"diptych evaluate {out} --task choices --data {out / 'scenes'} --split unseen_pairs")


def _run(quick: bool) -> Run:
    from diptych import systems
    from diptych.overrides import apply_overrides

    run = systems.recipe("clip", "demo")
    return apply_overrides(run, [f"training.steps={QUICK_STEPS}"]) if quick else run


def _scenes(folder: Path, num: int, progress: Progress) -> Table:
    """The picture world in `folder`, drawn if it is not there yet."""
    from dataclasses import replace

    from diptych.data.scenes import draw_scenes, easy
    from diptych.data.table import open_table

    if not folder.exists():
        draw_scenes(folder, replace(easy(), num=num), progress=progress)
    return open_table(folder)
