"""Scenes whose regions are the true boxes, with their pixels as features: to measure without a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diptych.data.images import decode
from diptych.data.region_store import RegionWriter
from diptych.data.regions import Regions, RegionSpec
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Rows, open_table


def few_scenes(out: Path, num: int) -> tuple[Path, Path]:
    """A table of scenes, and a store of their regions."""
    draw_scenes(out / "scenes", easy(num=num, size_px=64), workers=1)
    table = open_table(out / "scenes")
    names = tuple(table.meta["label_names"])
    spec = RegionSpec(
        detector="true boxes",
        detector_hash="",
        rule="all",
        feature_kind="pixels",
        feature_width=192,
        classes=names,
        box_kind="given",
    )
    with RegionWriter(out / "regions", spec, num_attributes_kept=0, soft_labels=True) as writer:
        for rows in map(table.split, table.splits):
            for row in range(len(rows)):
                writer.add(rows.key(row), true_regions(rows, row, len(names)))
    return out / "scenes", out / "regions"


def true_regions(rows: Rows, row: int, num_classes: int) -> Regions:
    """The objects of a scene, each with eight by eight of its pixels."""
    sample = rows.sample(row, ("objects",))
    picture, objects = decode(sample.image), sample.fields["objects"]
    boxes = np.array([[one[edge] for edge in ("x0", "y0", "x1", "y1")] for one in objects], dtype=np.float32)
    crops = [picture.crop(tuple(box)).resize((8, 8)) for box in boxes.astype(int).tolist()]
    soft = np.eye(1 + num_classes, dtype=np.float32)[[1 + one["label"] for one in objects]]
    features = np.stack([np.asarray(crop, dtype=np.float32).ravel() / 255 for crop in crops])
    scores = np.ones(len(boxes), dtype=np.float32)
    size = {"height_px": picture.height, "width_px": picture.width}
    return Regions(**size, boxes=boxes, features=features, scores=scores, soft_labels=soft)
