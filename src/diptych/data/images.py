"""Pictures from file bytes to pixels: decoding what others made, at no risk and in full range."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from diptych.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded; Pillow knows many more, some of which run other programs or are rarely tested."""

MAX_PIXELS = 100_000_000

_JPEG = b"\xff\xd8"
_ORIENTATION_TAG = 0x0112
_ORIENTED_BY = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps what says how a picture is turned."""
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

    Colour JPEGs are left to simplejpeg where it is installed: the same pixels in two thirds of the time.

    Args:
        image: the file's bytes, or where they lie.
        size_hint: training only: a JPEG may be decoded at 1/2, 1/4 or 1/8, while both sides stay at least twice this.
        max_pixels: larger pictures are an error.

    Raises:
        DataError: no picture of an allowed format, damaged, too large, or with 32-bit samples.
    """
    try:
        pixels = _decode_jpeg(image, ("RGB",), size_hint, max_pixels)
        if pixels is not None:
            return Image.fromarray(pixels)
        with warnings.catch_warnings(), _open(image) as file:
            warnings.simplefilter("ignore")  # of palettes and EXIF; its limit of pixels is below as an error
            picture = Image.open(file, formats=FORMATS)
            _check_size(picture, max_pixels)
            width, height = _draft(picture, size_hint)
            picture.load()
            whole = picture if picture.size == (width, height) else picture.crop((0, 0, width, height))
            return _eight_bits(_upright(whole))
    except DataError:
        raise
    except Exception as error:  # damaged PNGs raise SyntaxError, struct.error and more
        raise DataError(f"the picture cannot be decoded: {_reason(error, image)}") from error


def as_decoded(picture: Image.Image) -> Image.Image:
    """A picture that somebody opened with Pillow, as `decode` would have returned it.

    Raises:
        DataError: its file is damaged, or it has 32-bit samples.
    """
    try:
        picture.load()
        return _eight_bits(_upright(picture.copy() if picture.mode == "P" else picture))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"the picture cannot be decoded: {error or type(error).__name__}") from error


def decode_for_training(image: bytes | Path, *, size_hint: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of `decode(..., size_hint)` in RGB, bit for bit, and by simplejpeg in half the time where installed.

    Returns:
        (height, width, 3) uint8, as the crops take it.

    Raises:
        DataError: as `decode`.
    """
    pixels = _decode_jpeg(image, ("RGB", "L"), size_hint, max_pixels)
    return np.asarray(to_rgb(decode(image, size_hint=size_hint, max_pixels=max_pixels))) if pixels is None else pixels


def _decode_jpeg(
    image: bytes | Path, modes: Sequence[str], size_hint: int | None, max_pixels: int
) -> np.ndarray | None:
    """(height, width, 3) by simplejpeg, or None for what is left to Pillow: other modes, turned or damaged pictures."""
    if not _has_simplejpeg():
        return None
    import simplejpeg

    try:
        file = _jpeg_bytes(image)
        if file is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(file), formats=("JPEG",))
            turned = picture.getexif().get(_ORIENTATION_TAG, 1) != 1
        if turned or picture.mode not in modes or picture.width * picture.height > max_pixels:
            return None
        width, height = _draft(picture, size_hint)
        pixels = simplejpeg.decode_jpeg(
            file, colorspace="RGB", min_height=picture.height, min_width=picture.width, min_factor=1
        )
        return pixels[:height, :width]
    except Exception:
        return None


def _jpeg_bytes(image: bytes | Path) -> bytes | None:
    """A JPEG's bytes; None where the file is of another kind."""
    if isinstance(image, bytes):
        return image if image.startswith(_JPEG) else None
    with image.open("rb") as file:
        start = file.read(len(_JPEG))
        return start + file.read() if start == _JPEG else None


def _draft(picture: Image.Image, size_hint: int | None) -> tuple[int, int]:
    """Has Pillow decode a JPEG at the smallest scale whose sides are at least twice `size_hint`.

    Returns:
        Width and height without the last column and row where these show less of the picture than the others.
    """
    drafted = None
    if size_hint is not None and picture.format in ("JPEG", "MPO"):
        drafted = picture.draft("", (2 * size_hint, 2 * size_hint))
    return picture.size if drafted is None else (int(drafted[1][2]), int(drafted[1][3]))


@lru_cache(maxsize=1)
def _has_simplejpeg() -> bool:
    return find_spec("simplejpeg") is not None


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
    if orientation not in _TURNS:
        return picture
    upright = picture.transpose(_TURNS[orientation])
    for tag in _ORIENTED_BY:  # else who opens the result as a picture of their own turns it again
        upright.info.pop(tag, None)
    return upright


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


def to_rgb(picture: Image.Image) -> Image.Image:
    """The picture in three channels; itself where it has them."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")
