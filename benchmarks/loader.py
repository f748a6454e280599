"""Pictures a second from JPEG bytes to normalised float tensors: ours against Pillow and open_clip's own transform.

First on one core, for sources of several sizes, with how far pixels are from Pillow's; then the whole loader, from a
table or from files, with as many worker processes each, in seconds that pass whatever `--clock` says. `--tmp` names a
folder for the table and the files.

    python benchmarks/loader.py --json loader.json
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diptych.clip.inputs import ClipInputs
from diptych.clip.model import ClipConfig
from diptych.data.images import decode_for_training
from diptych.data.loader import load_batches
from diptych.data.sample import Sample, random_for
from diptych.data.sampler import Order
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.data.tokenizers import train_tokenizer
from diptych.data.transforms import random_square_crop
from diptych.objectives.contrastive import Contrastive
from diptych.train.run import InputSettings
from harness import add_clock, arguments, machine, print_machine, show, take_turns, write_json
from samples import photo

SIDES = (224, 1024, 2048)
SIZE = 112
SCALE = (0.9, 1.0)
BATCH = 64


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    parser.add_argument("--workers", type=int, default=1, help="processes of the whole loader")
    parser.add_argument("--tmp", type=Path, help="folder for the table and the files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    results = {}
    for side in SIDES[:1] if options.quick else SIDES:
        photos = [photo(side, side, seed) for seed in range(8 if options.quick else 32)]
        for purpose, ways in (("training", for_training(photos)), ("evaluation", for_evaluation(photos))):
            rates = take_turns(ways, rounds=2 if options.quick else 9, clock=options.clock)
            title = f"one core, {purpose}, {side} px to {SIZE} px, {options.clock} clock"
            results[f"{purpose} {side} px"] = show(title, rates, PEER, "pictures")
        largest, mean = difference_from_pillow(photos)
        results[f"difference {side} px"] = {"largest": largest, "mean": mean}
        print(f"  training pixels differ from Pillow's by at most {largest} of 255, {mean:.2f} on average", flush=True)
    with tempfile.TemporaryDirectory(dir=options.tmp) as folder:
        results["loader"] = whole_loader(Path(folder), options)
    write_json(options, {**machine(), "size": SIZE, "results": results})


PEER = "Pillow + open_clip's transform"


def for_training(photos: list[bytes]) -> dict[str, Callable[[], int]]:
    """Both random crops; the peer has only the first."""
    return {
        PEER: partial(theirs, photos, transform(training=True)),
        "diptych, random_resized_crop": partial(ours, as_samples(photos), inputs("random_resized_crop")),
        "diptych, square_crop": partial(ours, as_samples(photos), inputs("square_crop")),
    }


def for_evaluation(photos: list[bytes]) -> dict[str, Callable[[], int]]:
    """Our pixels are those of the peer bit for bit."""
    return {
        PEER: partial(theirs, photos, transform(training=False)),
        "diptych": partial(ours, as_samples(photos), inputs("none")),
    }


def difference_from_pillow(photos: list[bytes]) -> tuple[int, float]:
    """The largest and the mean difference of whole square pictures, resized, in steps of 255."""
    differences = []
    for data in photos:
        pixels = decode_for_training(data, size_hint=SIZE)
        ours = random_square_crop(pixels, size=SIZE, margin=1.0, rng=random_for(0, 0, ""))
        with Image.open(io.BytesIO(data)) as picture:
            theirs = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        differences.append(np.abs(ours.numpy().astype(int) - theirs))
    return int(np.max(differences)), float(np.mean(differences))


def as_samples(photos: list[bytes]) -> list[Sample]:
    return [Sample(key=str(number), group="", image=data, texts=("a",)) for number, data in enumerate(photos)]


def ours(samples: list[Sample], made: ClipInputs) -> int:
    pixels = [made.pixels(sample, random_for(0, 0, sample.key)) for sample in samples]
    normalised(torch.stack(pixels), made.config)
    return len(samples)


def theirs(photos: list[bytes], made: Any) -> int:
    torch.stack([made(Image.open(io.BytesIO(data))) for data in photos])
    return len(photos)


def normalised(pixels: Tensor, config: ClipConfig) -> Tensor:
    """(B, 3, size, size) float32, as the model makes it of uint8 on its own device."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
    return pixels.float().sub_(mean).div_(std)


def inputs(name: Any) -> ClipInputs:
    settings = InputSettings(transform=name, crop_scale=SCALE)
    tokenizer = train_tokenizer(["a photo of a thing"], "wordpiece", 100)
    return ClipInputs(replace(ClipConfig(), image_size=SIZE), settings, tokenizer)


def transform(*, training: bool) -> Any:
    config = ClipConfig()
    return open_clip.image_transform(
        SIZE, is_train=training, mean=config.image_mean, std=config.image_std, aug_cfg={"scale": SCALE}
    )


def whole_loader(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Batches of 64 from a table, against a torch DataLoader over JPEG files."""
    side, num = 512, 128 if options.quick else 2048
    write_pictures(folder, side, num)
    rows = open_table(folder / "table").split("train")
    ways = {
        "torch DataLoader + open_clip's transform": partial(their_epoch, folder / "files", options.workers),
        "diptych.data.loader": partial(our_epoch, rows, options.workers),
    }
    rates = take_turns(ways, rounds=1 if options.quick else 5)
    title = f"whole loader, {side} px, {options.workers} worker processes, processes' start included"
    return show(title, rates, next(iter(ways)), "pictures")


def write_pictures(folder: Path, side: int, num: int) -> None:
    (folder / "files").mkdir()
    different = [photo(side, side, seed) for seed in range(16)]
    with TableWriter(folder / "table") as writer:
        for number in range(num):
            data = different[number % len(different)]
            (folder / "files" / f"{number}.jpg").write_bytes(data)
            writer.add("train", key=str(number), image=data, texts=["a photo of a thing"])


def our_epoch(rows: Rows, workers: int) -> int:
    made = inputs("random_resized_crop")
    order = Order(num_rows=len(rows), batch=BATCH, seed=0)
    seen = 0
    loaded = load_batches(rows, made, order, start=0, stop=order.steps_per_epoch, draw=Contrastive(), workers=workers)
    for one in loaded:
        assert one.batch is not None and one.batch.image is not None
        seen += len(normalised(one.batch.image.pixels, made.config))
    return seen


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Files with a text, as open_clip's data set of a list reads them."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.jpg"))
        self.transform = transform(training=True)
        self.tokenizer = train_tokenizer(["a photo of a thing"], "wordpiece", 100)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        ids = self.tokenizer.encode("a photo of a thing", 77)
        return self.transform(Image.open(self.files[row])), torch.tensor(ids)


def their_epoch(folder: Path, workers: int) -> int:
    feed = DataLoader(
        Files(folder), BATCH, shuffle=True, drop_last=True, num_workers=workers, prefetch_factor=4 if workers else None
    )
    return sum(len(images) for images, _ in feed)


if __name__ == "__main__":
    main()
