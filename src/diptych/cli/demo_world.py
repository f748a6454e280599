"""What the demos share, each part made where it is not there yet: scenes, a detector of them, the regions it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli import screen
from diptych.cli.train import train_and_review
from diptych.errors import CheckpointError, DataError, UsageError

if TYPE_CHECKING:
    from diptych.data.region_store import RegionTable
    from diptych.data.table import Table
    from diptych.progress import Progress
    from diptych.train.review import Review

NUM_SCENES = 40_000
SIZE_PX = 64
QUICK_SCENES = 2_000
MOST_PICTURES = 10_000
"""Of each split, evenly spread, that regions are made of; all 40,000 would take longer than training the detector."""
SCENES, DETECTOR, REGIONS = "scenes", "detector", "regions"
"""Where they lie in the folder of the demos."""
FOLDER = Path("runs/demo")
"""Of the demos, where none is chosen."""
RULE = ("rule=lxmert", "min_boxes=4", "max_boxes=4")
"""There are one or two things in a scene. This rule suppresses the boxes that it writes, so that the first regions are
these and the others what is around them; rule B, which suppresses proposals, writes each thing two or three times."""


def scenes(out: Path, quick: bool, progress: Progress) -> Table:
    """The picture world in `out`, drawn as far as it is not there yet.

    Raises:
        DataError: another world, or another table, lies there.
    """
    from diptych.data.loader import usable_cores
    from diptych.data.scenes import draw_scenes, easy
    from diptych.data.scenes.drawing import world_of
    from diptych.data.table import open_table

    folder = out / SCENES
    world = easy(num=QUICK_SCENES if quick else NUM_SCENES, size_px=SIZE_PX)
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


def detector_of_scenes(out: Path, table: Table, *, quick: bool, device: str, go_on: str) -> Review:
    """A small detector of the scenes in `out`/detector, trained as far as it is not yet, and how good it is.

    Args:
        out: the folder of the demos.
        table: the scenes.
        quick: a few steps of a smaller one.
        device: see `resolve_device`.
        go_on: what to say of how an interrupted run is taken up again.
    """
    from diptych import systems

    run = systems.recipe("detector", "tiny" if quick else "scenes")
    review = train_and_review(run, table, out / DETECTOR, resume=True, device=device, asked="test", go_on=go_on)
    assert review is not None, "the demo is one process"
    return review


def regions_of_scenes(out: Path, table: Table, *, device: str) -> RegionTable:
    """Regions by the detector in `out`, in `out`/regions; made as far as they are not there yet.

    Raises:
        DataError: regions of another detector lie there.
    """
    from diptych.data.region_shards import RegionShards
    from diptych.data.region_store import open_region_table
    from diptych.prepare.extraction import Asked, extract_regions
    from diptych.systems.detectors import named_detector

    folder, asked = out / REGIONS, Asked(limit=MOST_PICTURES)
    named = named_detector(f"own:{out / DETECTOR}", settings=RULE, device=device)
    spec = asked.spec(named.detector, named.name)
    if not folder.exists():
        shards = RegionShards(folder, spec, source=asked.source(table))
        with screen.progress() as progress:
            extract_regions(named.detector, table, shards, asked, progress=progress)
    store = open_region_table(folder)
    if store.spec != spec:
        raise DataError(
            f"{folder} holds regions of another detector than {out / DETECTOR}; remove that folder, and the same "
            "command makes them anew"
        )
    return store


def detector_for(table: Table) -> Path | None:
    """The detector of a demo that knows the things of this table of scenes; None where there is none yet."""
    from diptych.systems.runs import read_run

    for folder in (table.path.parent / DETECTOR, FOLDER / DETECTOR):
        try:
            run = read_run(folder)
        except (UsageError, CheckpointError):
            continue
        known = set(getattr(run.model, "classes", ()))
        if (folder / "last").exists() and known and known >= set(table.meta["label_names"]):
            return folder
    return None


def of_scenes(table: Table) -> bool:
    """Whether the pictures of a table are of the built-in world."""
    return "unseen_pairs" in table.meta
