"""Pictures as the releases fed them to their networks: size, resizing, colour order, mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from diptych.data.images import to_rgb
from diptych.data.regions import Colour
from diptych.errors import UsageError, unknown

CAFFE_MEAN = (102.9801, 115.9465, 122.7717)
SMALLEST_SIDE = 3
"""Pixels that the stem needs; shorter pictures are padded at the right and the bottom with the mean."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a picture to what enters the stem."""

    shorter: int = 600
    """Pixels of the shorter side after resizing,"""
    longer: int = 1000
    """unless the longer one would have more than this."""
    resize: Literal["factor", "size", "pillow"] = "factor"
    """factor: bilinear at one factor for both sides, as OpenCV does; size: bilinear to whole pixels, a factor a side;
    pillow: that on 8 bits, smoothed where it shrinks."""
    colour: Colour = "BGR"
    mean: tuple[float, float, float] = CAFFE_MEAN
    """In the order of `colour`, of 0 to 255."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


BUTD = Preprocessing()
"""The original code's."""
DETECTRON2 = Preprocessing(resize="pillow")
"""That of the detectron2 port's script for COCO; its notebooks have 800 and 1333."""
LXMERT = Preprocessing(shorter=800, longer=1333, resize="size")
"""That of the LXMERT port, where its folder has no config."""
PRESETS = ("butd", "detectron2", "lxmert")


def preset(name: str) -> Preprocessing:
    """The preprocessing of that release.

    Raises:
        UsageError: there is none of this name; those that there are are named.
    """
    match name:
        case "butd":
            return BUTD
        case "detectron2":
            return DETECTRON2
        case "lxmert":
            return LXMERT
    raise UsageError(unknown("preprocessing", name, PRESETS))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One picture, ready for the network."""

    pixels: Tensor
    """(3, height', width') float32; a side is longer than `size` only where it is shorter than the stem needs."""
    size: tuple[int, int]
    """Height and width after resizing."""
    scale: tuple[float, float]
    """Resized pixels to a pixel of the picture, for y and x."""


def prepare(picture: Image.Image, settings: Preprocessing) -> Prepared:
    """A picture of any mode, resized, in the network's colours, without the mean."""
    pixels = np.asarray(to_rgb(picture))
    if settings.colour == "BGR":
        pixels = pixels[..., ::-1]  # the one place where colours change places
    return prepare_pixels(pixels, settings)


def prepare_pixels(pixels: np.ndarray, settings: Preprocessing) -> Prepared:
    """(height, width, 3) uint8 in the order of `settings.colour`, resized, without the mean."""
    height, width = pixels.shape[:2]
    factor = resize_factor(height, width, settings)
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    if settings.resize == "factor":
        size, scale = factor_size(height, width, factor), _factors(height, width, factor)
        resized = _by_factor(torch.from_numpy(pixels.copy()).permute(2, 0, 1), size, scale)
    else:
        size = whole_size(height, width, settings)
        scale = (size[0] / height, size[1] / width)
        resized = _to_size(pixels, size, pillow=settings.resize == "pillow")
    padding = (0, max(0, SMALLEST_SIDE - size[1]), 0, max(0, SMALLEST_SIDE - size[0]))
    return Prepared(pixels=F.pad((resized - mean) / std, padding), size=size, scale=scale)


def resize_factor(height: int, width: int, settings: Preprocessing) -> float:
    """By how much a picture grows: to the shorter side asked for, or as far as the longer one may."""
    factor = settings.shorter / min(height, width)
    if round(factor * max(height, width)) > settings.longer:
        factor = settings.longer / max(height, width)
    return factor


def factor_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Height and width as OpenCV rounds them: halves to the even number."""
    return max(1, round(height * factor)), max(1, round(width * factor))


def whole_size(height: int, width: int, settings: Preprocessing) -> tuple[int, int]:
    """Height and width as detectron2 rounds them: halves up."""
    factor = settings.shorter / min(height, width)
    tall, wide = (settings.shorter, factor * width) if height < width else (factor * height, settings.shorter)
    if max(tall, wide) > settings.longer:
        shrink = settings.longer / max(tall, wide)
        tall, wide = tall * shrink, wide * shrink
    return max(1, int(tall + 0.5)), max(1, int(wide + 0.5))


def _factors(height: int, width: int, factor: float) -> tuple[float, float]:
    """The factor of both sides; of one that would have no pixel left, what makes it one pixel."""
    return (
        factor if round(height * factor) else 1 / height,
        factor if round(width * factor) else 1 / width,
    )


def _by_factor(pixels: Tensor, size: tuple[int, int], factors: tuple[float, float]) -> Tensor:
    """(3, h, w) to float32 of another size, read between pixels at steps of 1 / factor."""
    for axis, length, factor in zip((1, 2), size, factors, strict=True):
        last = pixels.shape[axis] - 1
        place = ((torch.arange(length, dtype=torch.float64) + 0.5) / factor - 0.5).clamp(0, last)
        before = place.long().clamp(max=max(last - 1, 0))
        share = (place - before).float().view(-1, 1) if axis == 1 else (place - before).float()
        first = pixels.index_select(axis, before).float()
        second = pixels.index_select(axis, (before + 1).clamp(max=last)).float()
        pixels = first * (1 - share) + second * share
    return pixels


def _to_size(pixels: np.ndarray, size: tuple[int, int], *, pillow: bool) -> Tensor:
    """(h, w, 3) uint8 to (3, *size) float32."""
    if pillow:
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(size[::-1], Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
    whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()
    return F.interpolate(whole[None], size=size, mode="bilinear", align_corners=False)[0]
