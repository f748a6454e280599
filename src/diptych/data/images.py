"""Pictures from file bytes to (3, size, size) uint8: decoding what others made, and the transforms of the papers."""

from __future__ import annotations

import io
import math
import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from diptych.data.sample import Rng
from diptych.errors import DataError, UsageError, unknown

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded; Pillow knows many more, some of which run other programs or are rarely tested."""

MAX_PIXELS = 100_000_000

RESIZE_MODES = ("shortest", "squash", "longest")
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

ResizeMode = Literal["shortest", "squash", "longest"]

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(image: bytes | Path, *, size_hint: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture, turned as its EXIF says, in its own mode except that 16-bit grey becomes 8-bit.

    Args:
        image: the file's bytes, or where they lie.
        size_hint: training only: a JPEG may be decoded at 1/2, 1/4 or 1/8, while both sides stay at least twice this.
        max_pixels: larger pictures are an error.

    Raises:
        DataError: no picture of an allowed format, damaged, too large, or with 32-bit samples.
    """
    try:
        with warnings.catch_warnings(), _open(image) as file:
            warnings.simplefilter("ignore")  # of palettes and EXIF; its limit of pixels is below as an error
            picture = Image.open(file, formats=FORMATS)
            _check_size(picture, max_pixels)
            if size_hint is not None and picture.format in ("JPEG", "MPO"):
                picture.draft("", (2 * size_hint, 2 * size_hint))
            picture.load()
            return _eight_bits(_upright(picture))
    except DataError:
        raise
    except Exception as error:  # damaged PNGs raise SyntaxError, struct.error and more
        raise DataError(f"the picture cannot be decoded: {_reason(error, image)}") from error


def decode_for_training(image: bytes | Path, *, size_hint: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The pixels of `decode(..., size_hint)` in RGB, bit for bit, and by simplejpeg in half the time where installed.

    Returns:
        (3, height, width) uint8, a view with the channels last in memory, as `random_square_crop` likes it best.

    Raises:
        DataError: as `decode`.
    """
    if isinstance(image, bytes) and image.startswith(b"\xff\xd8") and _has_simplejpeg():
        pixels = _decode_jpeg(image, size_hint, max_pixels)
        if pixels is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
    return _to_tensor(decode(image, size_hint=size_hint, max_pixels=max_pixels).convert("RGB"))


def _decode_jpeg(image: bytes, size_hint: int, max_pixels: int) -> np.ndarray | None:
    """(height, width, 3) by simplejpeg, or None for what is left to Pillow: turned, CMYK, or damaged pictures."""
    import simplejpeg

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(image), formats=("JPEG",))
            turned = picture.getexif().get(_ORIENTATION_TAG, 1) != 1
        if turned or picture.mode not in ("RGB", "L") or picture.width * picture.height > max_pixels:
            return None
        picture.draft("", (2 * size_hint, 2 * size_hint))
        return simplejpeg.decode_jpeg(
            image, colorspace="RGB", min_height=picture.height, min_width=picture.width, min_factor=1
        )
    except Exception:
        return None


@lru_cache(maxsize=1)
def _has_simplejpeg() -> bool:
    return find_spec("simplejpeg") is not None


def evaluation_transform(
    image: Image.Image,
    *,
    size: int,
    resize_mode: ResizeMode = "shortest",
    interpolation: str = "bicubic",
) -> Tensor:
    """Resize and centre crop by Pillow, equal bit for bit to OpenAI's and open_clip's transforms before normalising.

    CLIP's released code: the shorter side is resized, the centre is cropped, and only then comes RGB, which changes
    palette and transparent pictures. open_clip's configs also know "squash" (both sides are resized) and "longest"
    (the longer side is resized and black is padded).

    Returns:
        (3, size, size) uint8.

    Raises:
        UsageError: the mode or the interpolation is unknown.
        DataError: a sliver, whose longer side would become too long.
    """
    if interpolation not in INTERPOLATIONS:
        raise UsageError(unknown("interpolation", interpolation, INTERPOLATIONS))
    filter_ = INTERPOLATIONS[interpolation]
    match resize_mode:
        case "shortest":
            image = _centre(_resize(image, _scaled_to_shorter(image, size), filter_), size)
        case "squash":
            image = _resize(image, (size, size), filter_)
        case "longest":
            image = _centre(_resize(image, _scaled_to_longer(image, size), filter_), size)
        case _:
            raise UsageError(unknown("resize mode", resize_mode, RESIZE_MODES))
    return _to_tensor(image.convert("RGB")).contiguous()


def random_square_crop(image: Image.Image | Tensor, *, size: int, margin: float, rng: Rng) -> Tensor:
    """The paper's only augmentation: a random square crop of the resized picture. CLIP, section 2.3.

    Differs: the square is cut from the picture as it came, in its pixels, and then resized, which costs less than
    resizing what the crop throws away.

    Args:
        image: a picture, or (3, height, width) uint8 as of `decode_for_training`.
        size: side of the result.
        margin: the resized picture's shorter side over `size`; 1 leaves the longer side to chance alone.
        rng: two integers are drawn.

    Returns:
        (3, size, size) uint8.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[1:]
    side = max(1, min(round(min(height, width) / margin), height, width))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return _resized(pixels[:, top : top + side, left : left + side], size)


def random_resized_crop(image: Image.Image | Tensor, *, size: int, scale: tuple[float, float], rng: Rng) -> Tensor:
    """open_clip's augmentation: torchvision's RandomResizedCrop, by the same law, with chance of our own.

    Args:
        image: a picture, or (3, height, width) uint8 as of `decode_for_training`.
        size: side of the result.
        scale: share of the picture's area that is kept, from and to.
        rng: two numbers a try, at most ten tries, then two integers.

    Returns:
        (3, size, size) uint8.
    """
    pixels = _pixels(image)
    height, width = pixels.shape[1:]
    top, left, crop_height, crop_width = _crop_box(height, width, scale, rng)
    return _resized(pixels[:, top : top + crop_height, left : left + crop_width], size)


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


def _open(image: bytes | Path) -> IO[bytes]:
    return io.BytesIO(image) if isinstance(image, bytes) else image.open("rb")


def _check_size(picture: Image.Image, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise DataError(
            f"the picture has {picture.width:,} × {picture.height:,} pixels, more than the limit of {max_pixels:,}; "
            "make it smaller or raise the limit"
        )


def _reason(error: Exception, image: bytes | Path) -> str:
    """What an exception of Pillow means, for people."""
    where = f" ({image})" if isinstance(image, Path) else ""
    match error:
        case UnidentifiedImageError():
            empty = isinstance(image, bytes) and not image
            return "the file is empty" if empty else f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file{where}"
        case Image.DecompressionBombError():
            return f"more pixels than Pillow allows{where}"
        case OSError() if error.strerror:
            return f"{error.strerror}{where}"
        case _:
            return f"{error or type(error).__name__}{where}"


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # the pixels are read; a damaged EXIF block says nothing about how to turn them
        return picture
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: Pillow itself would cut everything above 255 to white."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        samples = np.asarray(picture).astype(np.int64)
        return Image.fromarray(((samples * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(
            f"the picture has 32-bit samples (mode {picture.mode!r}), whose range is not known; use 8 or 16"
        )
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        del picture.info["transparency"]  # changes no pixel of RGB; Pillow would warn of it
    return picture


def _resize(image: Image.Image, size: tuple[int, int], filter_: Image.Resampling) -> Image.Image:
    if size[0] * size[1] > MAX_PIXELS:  # a sliver would grow until memory ends
        raise DataError(
            f"the picture's sides, {image.width:,} and {image.height:,} pixels, are too unlike to resize it"
        )
    return image if image.size == size else image.resize(size, filter_)


def _scaled_to_shorter(image: Image.Image, size: int) -> tuple[int, int]:
    """(width, height) with the shorter side `size`; the longer is cut to whole pixels, as torchvision does."""
    width, height = image.size
    return (size, int(size * height / width)) if width <= height else (int(size * width / height), size)


def _scaled_to_longer(image: Image.Image, size: int) -> tuple[int, int]:
    """(width, height) with the longer side `size`; the shorter is rounded, as open_clip does."""
    ratio = max(image.size) / size
    return max(1, round(image.width / ratio)), max(1, round(image.height / ratio))


def _centre(image: Image.Image, size: int) -> Image.Image:
    """The middle (size, size), padded with black where the picture is smaller."""
    width, height = image.size
    left = round((width - size) / 2) if width >= size else -((size - width) // 2)
    top = round((height - size) / 2) if height >= size else -((size - height) // 2)
    return image.crop((left, top, left + size, top + size))


def _pixels(image: Image.Image | Tensor) -> Tensor:
    return image if isinstance(image, Tensor) else _to_tensor(image.convert("RGB"))


def _to_tensor(image: Image.Image) -> Tensor:
    """(3, height, width) uint8 of an RGB picture, as a view with the channels last in memory."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1)


def _resized(pixels: Tensor, size: int) -> Tensor:
    """Antialiased bicubic on uint8: at most 1 of 255 from Pillow's, in half the time."""
    if pixels.shape[1:] != (size, size):
        pixels = F.interpolate(pixels[None], size=(size, size), mode="bicubic", antialias=True)[0]
    # numpy transposes small pictures three times as fast as torch
    return torch.from_numpy(np.ascontiguousarray(pixels.numpy()))
