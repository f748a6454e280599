"""`diptych demo`: draw the picture world, train something small on it, show what it learned."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import Device
from diptych.errors import UsageError, unknown

NAMES = ("clip", "regions")
QUICK_STEPS = 60


def demo(
    what: Annotated[
        str, typer.Argument(metavar="clip|regions", help="A CLIP, or a detector and the regions that it finds.")
    ] = "clip",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/demo, or runs/demo-quick, if left out.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute's run that shows every part working and learns little.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Draw a world of pictures, train a small CLIP on it, and show what it learned.

    About three minutes on two cores. Ctrl-C keeps what is there; the same command goes on from it.

    `diptych demo regions` trains a detector of the same pictures and shows what it finds: about a quarter of an hour.
    """
    from diptych.train.device import resolve_device

    if what not in NAMES:
        raise UsageError(unknown("demo", what, NAMES))
    resolve_device(device)  # a misspelt one is told before anything is drawn
    out = out or Path("runs/demo-quick" if quick else "runs/demo")
    command = ["diptych", "demo", *([what] if what != "clip" else []), *(["--quick"] if quick else [])]
    again = f"The same command goes on: {shlex.join([*command, '--out', str(out)])}"
    match what:
        case "regions":
            from diptych.cli.demo_regions import demo_regions

            demo_regions(out, quick=quick, device=device, go_on=again)
        case _:
            _clip(out, quick=quick, device=device, go_on=again)


def _clip(out: Path, *, quick: bool, device: str, go_on: str) -> None:
    from diptych import systems
    from diptych.cli.demo_world import SCENES, scenes
    from diptych.cli.train import show, train_and_review
    from diptych.overrides import apply_overrides

    with screen.progress() as progress:
        table = scenes(out, quick, progress)
    run = apply_overrides(systems.recipe("clip", "demo"), [f"training.steps={QUICK_STEPS}"] if quick else [])
    review = train_and_review(run, table, out, resume=True, device=device, asked="test", go_on=go_on)
    assert review is not None, "the demo is one process"
    show(review)
    screen.next_step(shlex.join(["diptych", "data", "show", f"{out / SCENES}", "--html", f"{out / SCENES}.html"]))
