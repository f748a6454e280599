"""Regions drawn by chance for every picture of a table: for what reads regions and does not ask what they show.

Of scenes the first of them lie where the objects do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diptych.data.images import decode
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec, RegionStore
from diptych.data.sample import random_for
from diptych.data.table import Table

SIDE = 32
SPEC = RegionSpec(
    detector="by chance",
    detector_hash="",
    rule="two to six",
    feature_kind="drawn",
    feature_width=16,
    classes=("hat", "shoe", "star", "key"),
    box_kind="given",
)


def boxes_of(table: Table, split: str, row: int) -> np.ndarray:
    """(R, 4) in the pixels of a picture of SIDE."""
    if "objects" not in table.columns:
        return np.empty((0, 4))
    sample = table.split(split).sample(row, ("objects",))
    boxes = [[one[edge] for edge in ("x0", "y0", "x1", "y1")] for one in sample.fields["objects"]]
    return np.array(boxes).reshape(-1, 4) * SIDE / decode(sample.image).width


def write_regions(table: Table, folder: Path, *, soft_labels: bool = True) -> RegionStore:
    """Regions of every picture, as many as its key says, with numbers that it says too."""
    with RegionWriter(folder, SPEC, num_attributes_kept=0, soft_labels=soft_labels) as writer:
        for split, rows in table.splits.items():
            for row in range(rows):
                key, there = table.split(split).key(row), boxes_of(table, split, row)
                rng = random_for(0, 0, key)
                num = int(rng.integers(2, 7)) + len(there)
                corners = np.sort(rng.random((num, 2, 2)), axis=1).reshape(num, 4) * 16 + [0, 0, 8, 8]
                corners[: len(there)] = there
                soft = rng.random((num, 1 + len(SPEC.classes))) + 0.1
                found = Regions(
                    height_px=SIDE,
                    width_px=SIDE,
                    boxes=corners.astype(np.float32),
                    features=rng.standard_normal((num, SPEC.feature_width)).astype(np.float32),
                    scores=np.sort(rng.random(num))[::-1].astype(np.float32),
                    soft_labels=(soft / soft.sum(axis=1, keepdims=True)).astype(np.float32),
                )
                writer.add(key, found)
    return open_region_table(folder)
