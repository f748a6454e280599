"""What `diptych regions extract` costs over the bare forward passes, of bottom-up attention and of windows of a CLIP.

Bare: the detector alone, on pictures that are decoded already. Beside it the whole extraction, from the table's files
to a finished store: decoding ahead, checks, shards, sums, the flush to disk. Every forward pass counts, those of the
prediction too. Weights are random and of full size.

    python benchmarks/extract.py --threads 2 --clock cpu --json extract.json
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.clip.inputs import ClipInputs
from diptych.clip.model import CLIP
from diptych.clip.recipes import named
from diptych.data.images import decode
from diptych.data.region_shards import RegionShards
from diptych.data.regions import RegionDetector, Regions
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.data.tokenizers import clip_tokenizer
from diptych.detector.bottom_up import BottomUpAttention
from diptych.prepare.extraction import Asked, extract_regions
from diptych.prepare.windows import ImageTower, TowerRegions, Windows
from diptych.tasks.encoder import DualEncoder
from harness import add_clock, arguments, machine, print_machine, show, take_turns, write_json
from regions import FULL, SMALL, random_release
from samples import photographs

BARE, WHOLE = "bare forward passes", "extraction"


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    results = {}
    detectors: dict[str, tuple[Callable[[], RegionDetector], int]] = {
        "bottom-up attention, R101-C4": (
            lambda: BottomUpAttention(random_release(SMALL if options.quick else FULL)),
            4,
        ),
        "windows over CLIP's ViT-B/32": (lambda: windows("tiny" if options.quick else "vit_b_32"), 128),
    }
    for name, (make, num) in detectors.items():
        files, origin = photographs(8 if options.quick else num)
        with tempfile.TemporaryDirectory() as folder:
            ways = of_both(make(), files, Path(folder))
            rates = take_turns(ways, rounds=1 if options.quick else options.rounds, clock=options.clock)
        results[name] = show(f"{name}: {len(files)} pictures ({origin}), {options.clock} clock", rates, BARE, "picture")
    write_json(options, {**machine(), "clock": options.clock, "results": results})


def of_both(detector: RegionDetector, files: Sequence[bytes], folder: Path) -> dict[str, Callable[[], float]]:
    with TableWriter(folder / "table") as writer:
        for number, file in enumerate(files):
            writer.add("train", key=f"{number:05d}", image=file, texts=["x"])
    table, pictures = open_table(folder / "table"), [decode(file) for file in files]
    asked = Asked()
    return {BARE: lambda: bare(detector, pictures, asked.batch), WHOLE: lambda: whole(detector, table, folder, asked)}


def bare(detector: RegionDetector, pictures: Sequence[Image.Image], batch: int) -> float:
    for start in range(0, len(pictures), batch):
        detector.detect(pictures[start : start + batch])
    return len(pictures)


def whole(detector: RegionDetector, table: Table, folder: Path, asked: Asked) -> float:
    counted = Counted(detector)
    out = Path(tempfile.mkdtemp(dir=folder)) / "regions"
    extract_regions(counted, table, RegionShards(out, detector.spec, source="benchmark"), asked)
    return counted.pictures


class Counted:
    """A detector that counts its pictures."""

    def __init__(self, detector: RegionDetector) -> None:
        self.detector, self.spec, self.pictures = detector, detector.spec, 0

    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        self.pictures += len(pictures)
        return self.detector.detect(pictures, given)


def windows(recipe: str) -> RegionDetector:
    torch.manual_seed(0)
    run: Any = named(recipe)
    encoder = DualEncoder(
        CLIP(run.model), ClipInputs(run.model, run.inputs, clip_tokenizer()), torch.device("cpu"), recipe
    )
    return TowerRegions(ImageTower(name=recipe, hash="", feature_maps=encoder.feature_maps), Windows())


if __name__ == "__main__":
    main()
