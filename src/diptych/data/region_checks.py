"""What every reader and writer of regions makes sure of before it hands them on."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from diptych.data.regions import Regions, RegionSpec
from diptych.data.rejects import shown
from diptych.errors import DataError

COMMAND = "`diptych regions extract DATA --out REGIONS`"
"""What makes regions, for messages."""
INT32_MAX = 2**31 - 1
FLOAT16_MAX = float(np.finfo(np.float16).max)
SLACK_PX, SLACK_UNIT = 1.0, 1e-3
"""How far a box may reach outside: files count pixels from 0 or 1, and shares in float16 are rounded."""


def check_regions(key: str, regions: Regions, spec: RegionSpec) -> None:
    """Sees that the parts agree in number and the numbers can be.

    Raises:
        DataError: naming the picture, the part, what was found and what was expected.
    """
    try:
        _check_size("height", regions.height_px)
        _check_size("width", regions.width_px)
        _check_counts(regions, spec)
        _check_boxes(regions, spec)
        for name in ("features", "scores", "class_probs", "soft_labels", "attribute_probs"):
            _check_numbers(name, getattr(regions, name), none_above=FLOAT16_MAX if name == "features" else 1.001)
        _check_ids("class_ids", regions.class_ids, len(spec.classes))
        _check_ids("attribute_ids", regions.attribute_ids, len(spec.attributes))
    except DataError as error:
        raise DataError(f"the regions of {key!r}: {error}") from error


def _check_size(name: str, value: object) -> None:
    """Of the picture, in pixels; None where it is not told. Files of others may have anything in its place."""
    if value is None:
        return
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 1 <= value <= INT32_MAX:  # type: ignore[operator]
        raise DataError(f"the picture's {name} is {shown(value)}; expected a whole number of pixels")


def _check_counts(regions: Regions, spec: RegionSpec) -> None:
    num = len(regions.boxes)
    for part in fields(Regions):
        value = getattr(regions, part.name)
        if not isinstance(value, np.ndarray):
            continue
        if value.ndim != (1 if part.name == "scores" else 2):
            raise DataError(f"{part.name} has the shape {value.shape}")
        if len(value) != num:
            raise DataError(f"there are {num} boxes and {len(value)} rows of {part.name}")
    _check_width("features", regions.features, spec.feature_width)
    _check_width("boxes", regions.boxes, 4)
    if spec.classes:
        _check_width("soft_labels", regions.soft_labels, 1 + len(spec.classes))
    for ids, probs in (("class_ids", "class_probs"), ("attribute_ids", "attribute_probs")):
        found = [getattr(regions, name) for name in (ids, probs)]
        if (found[0] is None) != (found[1] is None):
            raise DataError(f"{ids} and {probs} come together, and one is missing")
        if found[0] is not None:
            _check_width(probs, found[1], found[0].shape[1])


def _check_width(name: str, value: np.ndarray | None, width: int) -> None:
    if value is not None and value.shape[1] != width:
        raise DataError(f"{name} has {value.shape[1]} numbers a region; expected {width}")


def _check_boxes(regions: Regions, spec: RegionSpec) -> None:
    boxes = regions.boxes
    _check_numbers("boxes", boxes, none_below=-np.inf)
    sides = boxes[:, 2:] - boxes[:, :2]
    empty = (sides < 0) if spec.plus_one else (sides <= 0)
    if empty.any():
        raise DataError(f"{_first(boxes, empty)} is empty; expected x0 < x1 and y0 < y1")
    width, height = (1.0, 1.0) if spec.box_unit == "unit" else (regions.width_px, regions.height_px)
    if width is None or height is None:
        return
    slack = SLACK_UNIT if spec.box_unit == "unit" else SLACK_PX
    outside = (boxes < -slack) | (boxes > np.array([width, height, width, height]) + slack)
    if outside.any():
        raise DataError(f"{_first(boxes, outside)} is outside of the picture, which is {width:g} x {height:g}")


def _first(boxes: np.ndarray, bad: np.ndarray) -> str:
    row = int(bad.any(axis=1).argmax())
    return f"box {row} ({', '.join(f'{side:.6g}' for side in boxes[row])})"


def _check_numbers(name: str, value: np.ndarray | None, none_below: float = 0.0, none_above: float = np.inf) -> None:
    if value is None or not value.size:
        return
    least, most = float(value.min()), float(value.max())  # NaN where any is
    if not np.isfinite(least) or not np.isfinite(most):
        raise DataError(f"{name} holds NaN or infinite numbers")
    if name == "features":
        none_below = -none_above
    if least < none_below or most > none_above:
        raise DataError(f"{name} reaches from {least:g} to {most:g}; expected {none_below:g} to {none_above:g}")


def _check_ids(name: str, ids: np.ndarray | None, num: int) -> None:
    """`num` 0: the names are not known."""
    if ids is None or not ids.size:
        return
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= (num or INT32_MAX):
        raise DataError(
            f"{name} reaches from {least} to {most}; the vocabulary has {num or 'no'} names, counted from 0"
        )


def difference(first: RegionSpec, second: RegionSpec) -> str:
    """In what two specs differ, in words; "" where they are equal."""
    told = []
    for part in fields(RegionSpec):
        one, other = getattr(first, part.name), getattr(second, part.name)
        if one == other:
            continue
        if isinstance(one, tuple):
            told.append(f"{part.name}: {_names_differ(one, other)}")
        else:
            told.append(f"{part.name}: {one!r} and {other!r}")
    return "; ".join(told)


def _names_differ(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(one) != len(other):
        return f"{len(one):,} names and {len(other):,}"
    at = next(i for i, names in enumerate(zip(one, other, strict=True)) if names[0] != names[1])
    return f"name {at} is {one[at]!r} and {other[at]!r}"
