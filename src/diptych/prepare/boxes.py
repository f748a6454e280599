"""Boxes that somebody gives for a picture: whether they can be used, and what of them lies inside."""

from __future__ import annotations

import numpy as np

from diptych.errors import DataError


def whole_picture(width: int, height: int) -> np.ndarray:
    """(1, 4): the one box that always exists; what a picture without any other gets."""
    return np.array([[0, 0, width, height]], np.float32)


def clipped(boxes: np.ndarray, width: int, height: int, *, plus_one: bool = False) -> np.ndarray:
    """What of each box lies inside the picture.

    Args:
        boxes: (R, 4) x0, y0, x1, y1 in pixels of the picture.
        width: of the picture in pixels.
        height: as above.
        plus_one: x1 and y1 are the last pixels inside.
    Returns:
        (R, 4) float32, none of them empty.
    Raises:
        DataError: one is empty, upside down, not finite, or nowhere inside; the message names it.
    """
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"boxes of a picture have the shape {boxes.shape}; expected (R, 4): x0, y0, x1, y1 of each")
    inside = boxes.clip(0, np.array([width, height, width, height], np.float32) - plus_one)
    for place, (box, left) in enumerate(zip(boxes, inside, strict=True)):
        shown = f"box {place}, ({', '.join(f'{side:g}' for side in box)}),"
        if not np.isfinite(box).all():
            raise DataError(f"{shown} is not finite; expected x0, y0, x1, y1 in pixels")
        if (box[2:] + plus_one <= box[:2]).any():
            raise DataError(f"{shown} is empty; expected x0 < x1 and y0 < y1, corners and not x, y, width, height")
        if (left[2:] + plus_one <= left[:2]).any():
            raise DataError(f"{shown} lies outside the picture of {width} x {height} pixels")
    return inside
