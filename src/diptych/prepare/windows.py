"""Regions without a detector: a grid, windows at several scales, or given boxes, pooled from an image tower's map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import roi_align

from diptych.data.regions import Regions, RegionSpec
from diptych.errors import UsageError
from diptych.prepare.boxes import clipped

MOST_ACROSS = 64
"""Finer cells than any tower's map has."""


class Layout(Protocol):
    """Where windows lie, the same in every picture."""

    @property
    def rule(self) -> str:
        """As the `RegionSpec` says it."""

    def boxes(self) -> np.ndarray:
        """(R, 4) float32 in shares of the picture's width and height."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells side by side, row by row: the grid features of arXiv:2001.03615, of any tower."""

    side: int = 6
    """Cells across and down."""

    @property
    def rule(self) -> str:
        """As the `RegionSpec` says it."""
        return f"grid(side={self.side})"

    def boxes(self) -> np.ndarray:
        """(side², 4)."""
        return _windows(self.side, self.side)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of several sizes that overlap by half, the largest first; by default 1 + 9 + 25."""

    scales: tuple[int, ...] = (1, 2, 3)
    """1 is the whole picture; a window of scale n is an n-th as wide and as high."""

    @property
    def rule(self) -> str:
        """As the `RegionSpec` says it."""
        return f"windows(scales={'+'.join(map(str, self.scales))})"

    def boxes(self) -> np.ndarray:
        """(R, 4)."""
        if not self.scales:
            raise UsageError("scales is empty; expected at least one, e.g. --set scales=1,2,3")
        return np.concatenate([_windows(scale, 2 * scale - 1) for scale in self.scales])


def _windows(scale: int, across: int) -> np.ndarray:
    """(across², 4): windows of 1 / scale of each side, evenly spread from edge to edge, row by row."""
    if not 1 <= scale <= MOST_ACROSS:
        raise UsageError(f"found a scale of {scale}; expected 1 (the whole picture) to {MOST_ACROSS}")
    low = np.linspace(0, 1 - 1 / scale, across)
    y0, x0 = (axis.ravel() for axis in np.meshgrid(low, low, indexing="ij"))
    corners = np.stack([x0, y0, x0 + 1 / scale, y0 + 1 / scale], axis=1)
    return corners.clip(0, 1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """An image tower as this floor is handed one."""

    name: str
    """For people, e.g. "clip's vit tower"."""
    hash: str
    """Of its weights and sizes."""
    feature_maps: Callable[[Sequence[Image.Image]], Tensor]
    """Whole pictures, squashed into the tower's square, to (B, D, h, w) float32 on the CPU."""


class TowerRegions:
    """Meets `RegionDetector`: the mean of an image tower's last map over each box.

    RoIAlign, arXiv:1703.06870, with one bin a box, so that a box of whole cells gets their mean, and a box smaller than
    a cell the map at its centre.
    """

    def __init__(self, tower: ImageTower, layout: Layout) -> None:
        self._tower = tower
        self._boxes = layout.boxes()
        self._spec = RegionSpec(
            detector=tower.name,
            detector_hash=tower.hash,
            rule=layout.rule,
            feature_kind=f"roialign of {tower.name}",
            feature_width=tower.feature_maps([Image.new("RGB", (8, 8))]).shape[1],
            box_kind="window",
            score_kind="none",
        )

    @property
    def spec(self) -> RegionSpec:
        """What all its regions are made with."""
        return self._spec

    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """As `RegionDetector` has it; what sticks out of the picture is cut off."""
        if given is None:
            boxes = [self._boxes * _sides(picture) for picture in pictures]
        else:
            boxes = [clipped(own, *picture.size) for own, picture in zip(given, pictures, strict=True)]
        shares = [torch.from_numpy(own / _sides(picture)) for own, picture in zip(boxes, pictures, strict=True)]
        features = pooled(self._tower.feature_maps(pictures), shares)
        return [
            Regions(
                height_px=picture.height,
                width_px=picture.width,
                boxes=own,
                features=feature.numpy(),
                scores=np.ones(len(own), np.float32),
            )
            for picture, own, feature in zip(pictures, boxes, features, strict=True)
        ]


def pooled(maps: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The mean of a map over boxes.

    Args:
        maps: (B, D, h, w).
        boxes: for each map (R, 4) in shares of its sides.
    Returns:
        For each map (R, D).
    """
    height, width = maps.shape[2:]
    cells = [own * torch.tensor([width, height, width, height]) for own in boxes]
    bins = roi_align(maps.float(), cells, output_size=1, sampling_ratio=-1, aligned=True)  # (R of all, D, 1, 1)
    return bins.flatten(1).split([len(own) for own in boxes])


def _sides(picture: Image.Image) -> np.ndarray:
    return np.array([picture.width, picture.height] * 2, np.float32)
