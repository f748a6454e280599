"""A picture and its objects, as one's own detector learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.data.batch import Batch, ImagePart, ObjectPart, pad
from diptych.data.images import decode, to_rgb
from diptych.data.objects import COLUMN, object_names, read_objects
from diptych.data.sample import Item, KnownObjects, Rng, Sample, hash64
from diptych.data.table import Rows
from diptych.detector.own_config import FasterRCNNConfig
from diptych.errors import DataError, UsageError
from diptych.train.run import InputSettings


@dataclass(frozen=True)
class LearningInputs:
    """Sample to Item to Batch."""

    config: FasterRCNNConfig
    settings: InputSettings
    columns: ClassVar[tuple[str, ...]] = (COLUMN,)

    def __post_init__(self) -> None:
        """Raises UsageError of a transform that would cut boxes off."""
        if self.settings.transform not in ("resize_and_flip", "none"):
            raise UsageError(
                f"inputs.transform is {self.settings.transform}, which crops; a detector takes resize_and_flip or none"
            )

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        """The picture decoded and resized, and its objects; see `Inputs`.

        In training the shorter side is drawn from `inputs.side_scale` of the model's, and half the pictures are
        mirrored. A crowd is kept for the measure alone.
        """
        if sample.image is None:
            raise DataError(f"{sample.key} has no picture; a detector reads one")
        picture = to_rgb(decode(sample.image))
        drawn = rng if self.settings.transform == "resize_and_flip" else None
        pixels, scale = self._resized(picture, drawn)
        mirrored = drawn is not None and drawn.random() < 0.5
        objects = self._objects(sample, picture, scale, mirrored_in=pixels.shape[2] if mirrored else None)
        return Item(
            key=sample.key,
            group=hash64(sample.group),
            pixels=pixels.flip(2) if mirrored else pixels,
            objects=objects,
        )

    def evaluation_pixels(self, image: Image.Image) -> tuple[Tensor, tuple[float, float]]:
        """(3, height, width) uint8 as the model reads it, and what x and y were multiplied by."""
        return self._resized(to_rgb(image), None)

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pads pictures at the right and below, and objects; the model reads neither padding."""
        pixels = [item.pixels for item in items if item.pixels is not None]
        assert len(pixels) == len(items), "every item of a detector has a picture"
        sizes = tuple((one.shape[1], one.shape[2]) for one in pixels)
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        padded = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
        for row, one in enumerate(pixels):
            padded[row, :, : one.shape[1], : one.shape[2]] = one
        alike = len(set(sizes)) == 1
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            image=ImagePart(pixels=padded, sizes=None if alike else sizes),
            objects=_collated([item.objects for item in items if item.objects is not None]),
        )

    def save(self, folder: Path) -> None:
        """Nothing: all that is needed stands in run.json."""

    def _resized(self, picture: Image.Image, rng: Rng | None) -> tuple[Tensor, tuple[float, float]]:
        low, high = self.settings.side_scale
        share = 1.0 if rng is None else low + (high - low) * rng.random()
        width, height = sizes_for(
            picture.width, picture.height, max(round(share * self.config.shorter_side), 1), self.config.longer_side
        )
        resized = picture if picture.size == (width, height) else picture.resize((width, height), _BILINEAR)
        pixels = torch.from_numpy(np.asarray(resized).transpose(2, 0, 1).copy())
        return pixels, (width / picture.width, height / picture.height)

    def _objects(
        self, sample: Sample, picture: Image.Image, scale: tuple[float, float], *, mirrored_in: int | None
    ) -> KnownObjects:
        config = self.config
        found = read_objects(
            sample.fields.get(COLUMN),
            width_px=picture.width,
            height_px=picture.height,
            classes={name: number for number, name in enumerate(config.classes)},
            attributes={name: number for number, name in enumerate(config.attributes)},
            fields=config.attribute_fields,
        )
        boxes = torch.from_numpy(found.boxes) * torch.tensor([*scale, *scale])
        if mirrored_in is not None:
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes = torch.stack([mirrored_in - x1, y0, mirrored_in - x0, y1], dim=1)
        return KnownObjects(
            boxes=boxes,
            labels=torch.from_numpy(found.labels),
            attributes=torch.from_numpy(found.attributes),
            crowd=torch.from_numpy(found.crowd),
        )


def with_names(config: FasterRCNNConfig, rows: Rows, tell: Callable[[str], None]) -> FasterRCNNConfig:
    """The config with the names that the objects of a table have, where it states none.

    Args:
        config: of a recipe, or of a run that goes on.
        rows: that are trained on.
        tell: hears how many objects are of no use.
    Raises:
        DataError: see `object_names`.
    """
    if config.classes and (config.attributes or not config.attribute_fields):
        return config
    names = object_names(rows, config.attribute_fields)
    if names.left_out:
        reasons = ", ".join(f"{num:,} {reason}" for reason, num in names.left_out.items())
        tell(f"{sum(names.left_out.values()):,} objects teach nothing, beside {names.objects:,} that do: {reasons}")
    return replace(
        config,
        classes=config.classes or names.classes,
        attributes=config.attributes or names.attributes,
    )


_BILINEAR = Image.Resampling.BILINEAR


def sizes_for(width: int, height: int, shorter_side: int, longer_side: int) -> tuple[int, int]:
    """Width and height of a picture whose shorter side becomes `shorter_side`, if the longer keeps its limit.

    Sides are cut to whole pixels, as torchvision does. Differs: never to none, which a sliver would come to.
    """
    scale = min(shorter_side / min(width, height), longer_side / max(width, height))
    return max(int(width * scale), 1), max(int(height * scale), 1)


def _collated(objects: Sequence[KnownObjects]) -> ObjectPart | None:
    if not objects:
        return None
    boxes, mask = pad([one.boxes for one in objects], value=0.0)
    labels, attributes, crowd = (
        pad([getattr(one, name) for one in objects], value=0)[0] for name in ("labels", "attributes", "crowd")
    )
    seeds = tuple(one.seed for one in objects)
    return ObjectPart(boxes=boxes, mask=mask, labels=labels, attributes=attributes, crowd=crowd, seeds=seeds)
