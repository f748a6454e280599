"""A detector whose regions one can work out: where a picture is bright, and how bright."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

SPEC = RegionSpec(
    detector="brightness",
    detector_hash="b" * 64,
    rule="halves",
    feature_kind="mean",
    feature_width=3,
    classes=("dark", "bright"),
    box_kind="proposal",
)


class Brightness:
    """The left and the right half of a picture, the brighter first; each feature is (mean, width, 0.5)."""

    spec = SPEC

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        self.batches.append(len(pictures))
        return [self._of(picture, None if given is None else given[place]) for place, picture in enumerate(pictures)]

    def _of(self, picture: Image.Image, given: np.ndarray | None) -> Regions:
        width, height = picture.size
        if (width, height) == (13, 13):
            raise DataError("a picture of 13 x 13 brings bad luck")
        half = width / 2
        boxes = np.array([[0, 0, half, height], [half, 0, width, height]], np.float32) if given is None else given
        pixels = np.asarray(picture.convert("L"), np.float32)
        means = [pixels[:, int(x0) : max(int(x1), int(x0) + 1)].mean() for x0, _, x1, _ in boxes]
        means = [float("nan") if mean == 77 else mean for mean in means]
        order = np.argsort(means)[::-1]
        features = np.array([[means[row], width, 0.5] for row in order], np.float32)
        ids = (features[:, :1] > 100).astype(np.int32)
        return Regions(
            height_px=height,
            width_px=width,
            boxes=boxes[order],
            features=features,
            scores=np.clip(features[:, 0] / 255, 0, 1),
            class_ids=np.concatenate([ids, 1 - ids], axis=1),
            class_probs=np.full((len(ids), 2), 0.5, np.float32),
        )


def png(width: int, height: int, left: int, right: int) -> bytes:
    picture = Image.new("L", (width, height), left)
    picture.paste(right, (width // 2, 0, width, height))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_table(path: Path, num: int = 23, *, bad: bool = True) -> Path:
    """A table of `num` pictures in two splits; of the bad ones one is no picture, one too unlucky and one NaN."""
    boxes = pa.list_(pa.list_(pa.float32()))
    with TableWriter(path, columns={"mine": boxes, "note": pa.string()}) as writer:
        for number in range(num):
            image = png(10 + number, 8, 5 * number, 250 - number)
            if bad and number in (4, 9, 15):
                image = {4: b"no picture", 9: png(13, 13, 1, 2), 15: png(20, 8, 77, 77)}[number]
            mine = [[0, 0, 4, 4], [2, 1, 6, 8]] if number % 3 else []
            split = "train" if number < num - 6 else "test"
            writer.add(split, key=f"k{number:03d}", image=image, texts=["x"], fields={"mine": mine, "note": "n"})
    return path


@pytest.fixture
def detector() -> Brightness:
    return Brightness()


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return open_table(write_table(tmp_path_factory.mktemp("pictures") / "table"))
