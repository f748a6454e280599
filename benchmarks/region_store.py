"""Pictures a second read by key from a store of regions, 36 regions of 2,048 float16 copied out, beside plain Arrow.

The store is read in random order from a warm cache, on one core. The peer reads the same shards the usual way:
`pyarrow` values as Python objects, then an array of them. A TSV of the same regions is read in place beside them.

    python benchmarks/region_store.py [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import harness
from diptych.data.region_exporting import export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec, RegionStore

REGIONS, WIDTH = 36, 2048
SPEC = RegionSpec(
    detector="random numbers",
    detector_hash="",
    rule="fixed 36",
    feature_kind="random",
    feature_width=WIDTH,
    box_kind="given",
)


def main() -> None:
    parser = harness.arguments(__doc__)
    harness.add_clock(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures, reads, rounds = (64, 64, 2) if options.quick else (4096, 8192, 7)
    harness.print_machine()
    with tempfile.TemporaryDirectory() as folder:
        store = written(Path(folder) / "store", pictures)
        export_regions(store, Path(folder) / "old.tsv", format="butd-tsv")
        old = open_regions(Path(folder) / "old.tsv")
        order = [f"picture{i}" for i in np.random.default_rng(1).integers(0, pictures, reads)]
        ways = {
            "diptych, views copied out": copied(store, order),
            "diptych, views": viewed(store, order),
            "Arrow values as Python objects": objects(store, order[: max(8, reads // 256)]),
            "TSV read in place": copied(old, order[: reads // 8]),
        }
        rates = harness.take_turns(ways, rounds=rounds, clock=options.clock)
    found = harness.show(f"{pictures:,} pictures by key", rates, "Arrow values as Python objects", "pictures")
    harness.write_json(options, {**harness.machine(), "reads": found})


def written(out: Path, pictures: int) -> RegionStore:
    """A store of random numbers."""
    rng = np.random.default_rng(0)
    corner = rng.random((REGIONS, 2), dtype=np.float32) * 100
    boxes = np.concatenate([corner, corner + 50], axis=1)
    with RegionWriter(out, SPEC, num_classes_kept=0, num_attributes_kept=0) as writer:
        for number in range(pictures):
            features = rng.random((REGIONS, WIDTH), dtype=np.float32).astype(np.float16)
            scores = np.ones(REGIONS, dtype=np.float32)
            regions = Regions(height_px=400, width_px=400, boxes=boxes, features=features, scores=scores)
            writer.add(f"picture{number}", regions)
    return open_region_table(out)


def copied(store: RegionStore, keys: list[str]) -> Callable[[], float]:
    def read() -> float:
        for key in keys:
            store.regions(key).features.astype(np.float16, copy=True)
        return len(keys)

    return read


def viewed(store: RegionStore, keys: list[str]) -> Callable[[], float]:
    def read() -> float:
        for key in keys:
            store.regions(key)
        return len(keys)

    return read


def objects(store: RegionStore, keys: list[str]) -> Callable[[], float]:
    from diptych.data.table import open_table

    rows = open_table(store.path).split("regions")

    def read() -> float:
        for row in rows.find(keys):
            assert row is not None
            np.array(rows.values(row, ["features"])[0], dtype=np.float16)
        return len(keys)

    return read


if __name__ == "__main__":
    main()
