"""Captions and photographs to measure with: real ones where they are at hand, else made ones; each says which.

`DIPTYCH_SHARED` names a folder with data/flickr8k and data/coco128 as Parquet files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from diptych.data.scenes import hard
from diptych.data.scenes.splits import plan_scene
from diptych.data.scenes.texts import texts_of


def captions(num: int) -> tuple[list[str], str]:
    """`num` captions of as many pictures, and where they come from."""
    if (files := _files("flickr8k")) is None:
        return [_scene_text(number) for number in range(num)], "texts of the built-in scenes"
    return [texts[number % len(texts)] for number, texts in enumerate(_values(files, "captions", num))], "Flickr8k"


def photographs(num: int) -> tuple[list[bytes], str]:
    """`num` JPEG files of about 500 x 375 pixels, the same again where there are fewer, and where they come from."""
    if (files := _files("coco128")) is None:
        different, origin = [photo(500, 375, seed) for seed in range(16)], "drawn, 500 x 375 px"
    else:
        different, origin = [image["bytes"] for image in _values(files, "image", num)], "COCO, about 512 x 384 px"
    return [different[number % len(different)] for number in range(num)], origin


def photo(width: int, height: int, seed: int) -> bytes:
    """A JPEG with detail at all scales, as a photograph has: sums of noise, each octave half as strong."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    octave = 4
    while octave <= max(width, height):
        noise = Image.fromarray(rng.integers(0, 256, (octave, octave, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) * 4 / octave
        octave *= 2
    span = total.max() - total.min()
    file = io.BytesIO()
    Image.fromarray(((total - total.min()) * (255 / span)).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _files(pack: str) -> list[Path] | None:
    folder = Path(os.environ.get("DIPTYCH_SHARED", "shared")) / "data" / pack
    return sorted(folder.glob("train-*.parquet")) or None


def _values(files: list[Path], column: str, num: int) -> Iterator[Any]:
    """The first `num` values of a column, or all where there are fewer."""
    for file in files:
        for part in pq.ParquetFile(file).iter_batches(64, columns=[column]):
            yield from part.column(0).to_pylist()[:num]
            num -= min(num, len(part))


def _scene_text(number: int) -> str:
    settings = hard()
    plan, rng = plan_scene(settings, "train", number)
    return texts_of(settings, plan, rng)[0][0]
