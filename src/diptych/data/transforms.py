"""From a decoded picture to (3, size, size) uint8: the transforms of the papers."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from diptych.data.images import MAX_PIXELS, to_rgb
from diptych.data.sample import Rng
from diptych.errors import DataError, UsageError, unknown

RESIZE_MODES = ("shortest", "squash", "longest")
INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}

ResizeMode = Literal["shortest", "squash", "longest"]


def evaluation_transform(
    image: Image.Image | np.ndarray,
    *,
    size: int,
    resize_mode: ResizeMode = "shortest",
    interpolation: str = "bicubic",
) -> Tensor:
    """Resize and centre crop by Pillow, equal bit for bit to OpenAI's and open_clip's transforms before normalising.

    CLIP's released code: the shorter side is resized, the centre is cropped, and only then comes RGB, which changes
    palette and transparent pictures. open_clip's configs also know "squash" (both sides are resized) and "longest"
    (the longer side is resized and black is padded).

    Args:
        image: a picture; or (height, width, 3) uint8, which torch resizes in a fifth of the time, and within 2 of 255.
        size: side of the result.
        resize_mode: one of RESIZE_MODES.
        interpolation: one of INTERPOLATIONS.

    Returns:
        (3, size, size) uint8.

    Raises:
        UsageError: the mode or the interpolation is unknown.
        DataError: a sliver, whose longer side would become too long.
    """
    if interpolation not in INTERPOLATIONS:
        raise UsageError(unknown("interpolation", interpolation, INTERPOLATIONS))
    width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    match resize_mode:
        case "shortest":
            target = _scaled_to_shorter(width, height, size)
        case "squash":
            target = (size, size)
        case "longest":
            target = _scaled_to_longer(width, height, size)
        case _:
            raise UsageError(unknown("resize mode", resize_mode, RESIZE_MODES))
    if target[0] * target[1] > MAX_PIXELS:  # a sliver would grow until memory ends
        raise DataError(f"the picture's sides, {width:,} and {height:,} pixels, are too unlike to resize it")
    if isinstance(image, np.ndarray) and interpolation == "nearest":  # nothing to gain, and ties fall elsewhere
        image = Image.fromarray(image)
    if isinstance(image, np.ndarray):
        resized = _resized(image, target[::-1], interpolation)
        left, top = _margins(target, size)
        return F.pad(resized, (-left, left + size - target[0], -top, top + size - target[1]))
    return _channels_first(np.asarray(to_rgb(_centre(_resize(image, target, INTERPOLATIONS[interpolation]), size))))


def random_square_crop(image: Image.Image | np.ndarray, *, size: int, margin: float, rng: Rng) -> Tensor:
    """The paper's only augmentation: a random square crop of the resized picture. CLIP, section 2.3.

    Differs: the square is cut from the picture as it came, in its pixels, and then resized, which costs less than
    resizing what the crop throws away.

    Args:
        image: a picture, or (height, width, 3) uint8 as of `decode_for_training`.
        size: side of the result.
        margin: the resized picture's shorter side over `size`; 1 leaves the longer side to chance alone.
        rng: two integers are drawn.

    Returns:
        (3, size, size) uint8.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    side = max(1, min(round(min(height, width) / margin), height, width))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return _resized(pixels[top : top + side, left : left + side], (size, size))


def random_resized_crop(image: Image.Image | np.ndarray, *, size: int, scale: tuple[float, float], rng: Rng) -> Tensor:
    """open_clip's augmentation: torchvision's RandomResizedCrop, by the same law, with chance of our own.

    Args:
        image: a picture, or (height, width, 3) uint8 as of `decode_for_training`.
        size: side of the result.
        scale: share of the picture's area that is kept, from and to.
        rng: two numbers a try, at most ten tries, then two integers.

    Returns:
        (3, size, size) uint8.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    top, left, crop_height, crop_width = _crop_box(height, width, scale, rng)
    return _resized(pixels[top : top + crop_height, left : left + crop_width], (size, size))


def _crop_box(height: int, width: int, scale: tuple[float, float], rng: Rng) -> tuple[int, int, int, int]:
    """(top, left, height, width): area uniform in `scale`, aspect log-uniform in 3/4 to 4/3, else the centre."""
    low, high = math.log(3 / 4), math.log(4 / 3)
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = int(rng.integers(height - crop_height + 1)), int(rng.integers(width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width, crop_height = width, height
    if width / height < 3 / 4:
        crop_height = round(width / (3 / 4))
    elif width / height > 4 / 3:
        crop_width = round(height * (4 / 3))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _resize(image: Image.Image, size: tuple[int, int], filter_: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, filter_)


def _scaled_to_shorter(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) with the shorter side `size`; the longer is cut to whole pixels, as torchvision does."""
    return (size, int(size * height / width)) if width <= height else (int(size * width / height), size)


def _scaled_to_longer(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) with the longer side `size`; the shorter is rounded, as open_clip does."""
    ratio = max(width, height) / size
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _centre(image: Image.Image, size: int) -> Image.Image:
    """The middle (size, size), padded with black where the picture is smaller."""
    left, top = _margins(image.size, size)
    return image if image.size == (size, size) else image.crop((left, top, left + size, top + size))


def _margins(picture: tuple[int, int], size: int) -> tuple[int, int]:
    """What lies left of and above the middle (size, size) of a (width, height); negative where it is smaller."""
    left, top = (round((side - size) / 2) if side >= size else -((size - side) // 2) for side in picture)
    return left, top


def _pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    return image if isinstance(image, np.ndarray) else np.asarray(to_rgb(image))


def _resized(pixels: np.ndarray, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """(3, height, width) of the `size` (height, width), antialiased: at most 2 of 255 from Pillow's."""
    if pixels.shape[:2] == size:
        return _channels_first(pixels)
    window = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]  # (1, 3, height, width)
    return F.interpolate(window, size=size, mode=interpolation, antialias=True)[0].contiguous()


def _channels_first(pixels: np.ndarray) -> Tensor:
    """(3, height, width) of (height, width, 3); numpy copies small pictures three times as fast as torch."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
