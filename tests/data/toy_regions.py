"""Small stores of regions of a toy detector, for what writes them as files of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec

SPEC = RegionSpec(
    detector="toy",
    detector_hash="ab" * 32,
    rule="all",
    feature_kind="drawn",
    feature_width=3,
    classes=("cat", "dog"),
    box_kind="given",
)


def store(out: Path, spec: RegionSpec = SPEC, num: int = 9):
    rng = np.random.default_rng(0)
    with RegionWriter(out, spec, soft_labels=True, pictures_per_shard=4) as writer:
        for i in range(num):
            corner = rng.integers(0, 16, (i % 4, 2)) / 32
            boxes = np.concatenate([corner, corner + 0.25], axis=1) * [64, 32, 64, 32]
            softmax = rng.dirichlet(np.ones(3), i % 4)
            regions = Regions(
                height_px=32,
                width_px=64,
                boxes=boxes.astype(np.float32),
                features=rng.normal(size=(i % 4, 3)).astype(np.float16),
                scores=softmax[:, 1:].max(axis=1, initial=0).astype(np.float32),
                soft_labels=softmax.astype(np.float32),
            )
            writer.add(f"picture{i}", regions)
    return open_region_table(out)


def of_rule_b(out: Path):
    """Scores that are not the class's probability, two classes and an attribute of each region, no soft labels."""
    regions = Regions(
        height_px=32,
        width_px=64,
        boxes=np.array([[0, 0, 8, 8], [1, 2, 30, 31]], np.float32),
        features=np.ones((2, 3), np.float16),
        scores=np.array([0.75, 0.25], np.float32),
        class_ids=np.array([[1, 0], [0, 1]], np.int32),
        class_probs=np.array([[0.5, 0.25], [0.5, 0.125]], np.float32),
        attribute_ids=np.array([[1], [0]], np.int32),
        attribute_probs=np.array([[0.5], [0.25]], np.float32),
    )
    with RegionWriter(out, replace(SPEC, attributes=("brown", "wet")), num_attributes_kept=1) as writer:
        writer.add("a", regions)
    return open_region_table(out)


def replace_spec(store, **changes):
    store.spec = replace(store.spec, **changes)
    return store
