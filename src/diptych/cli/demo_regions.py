"""`diptych demo regions`: a detector of the picture world, and what it sees in every picture."""

from __future__ import annotations

import shlex
from pathlib import Path

from diptych.cli import demo_world, screen
from diptych.cli.regions import draw_page
from diptych.cli.train import show


def demo_regions(out: Path, *, quick: bool, device: str, go_on: str) -> None:
    """Draws the scenes, trains the detector, makes the regions and their page; what is there is kept.

    Args:
        out: the folder of the demos.
        quick: a minute's run.
        device: see `resolve_device`.
        go_on: what to say of how an interrupted training is taken up again.
    """
    from diptych.report.region_summary import describe_regions

    with screen.progress() as progress:
        table = demo_world.scenes(out, quick, progress)
    review = demo_world.detector_of_scenes(out, table, quick=quick, device=device, go_on=go_on)
    store = demo_world.regions_of_scenes(out, table, device=device)
    summary, page = describe_regions(store), out / f"{demo_world.REGIONS}.html"
    draw_page(store, table, summary, page)
    show(review)
    screen.out()
    screen.table(str(store.path), ("", "regions"), summary.rows())
    screen.out()
    screen.out(f"Page: {page}")
    screen.next_step(screen.look_at(page))
    words = ["diptych", "evaluate", str(out / demo_world.DETECTOR), "--task", "detection", "--data", str(table.path)]
    screen.next_step(shlex.join([*words, "--split", "unseen_pairs"]))
