"""Boxes drawn over a picture, with a word or two in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np
from PIL import Image

from diptych.data.regions import Regions, RegionSpec, box_edges
from diptych.report.pictures import data_uri

SIDE_PX = 480
"""Longer side of a picture on the page; boxes are drawn in units of it."""
HUES = 8
LINE_PX, LETTER_PX = 16.0, 8.0
"""Room that a label takes: its height, and the width of a letter."""


def corners(regions: Regions, spec: RegionSpec, picture: Image.Image) -> np.ndarray:
    """(R, 4) in shares of the picture, x1 and y1 the edges, whatever unit and convention the store has."""
    sized = replace(regions, height_px=picture.height, width_px=picture.width)
    return box_edges("the picture", sized, spec).clip(0, 1)


def drawing(picture: Image.Image, boxes: np.ndarray, names: Sequence[str], key: str) -> str:
    """The picture, and over it an SVG with the boxes; the first region's box lies above the others."""
    scale = SIDE_PX / max(picture.size)
    width, height = max(picture.width * scale, 1), max(picture.height * scale, 1)
    drawn = boxes * [width, height, width, height]
    shapes = [_box(row, *box) for row, box in enumerate(drawn)]
    places = _places(drawn, names, width)
    labels = [
        _label(row, f"{row + 1} {name}", *place) for row, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    return (
        f'<div class="over"><img src="{data_uri(picture, SIDE_PX)}" alt="{escape(key)}" loading="lazy">'
        f'<svg viewBox="0 0 {width:.1f} {height:.1f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{len(boxes)} regions of {escape(key)}">{"".join([*reversed(shapes), *labels])}</svg></div>'
    )


def _places(boxes: np.ndarray, names: Sequence[str], width: float) -> list[tuple[float, float]]:
    """Where each label stands: in its box's upper left corner, or as far below it as others leave room."""
    placed: list[tuple[float, float, float]] = []
    for (x0, y0, _, _), name in zip(boxes.tolist(), names, strict=True):
        room = LETTER_PX * (len(name) + 3)
        x, y = max(min(x0 + 4, width - room), 4.0), y0 + LINE_PX
        while any(abs(y - other_y) < LINE_PX and x < end and begin < x + room for begin, end, other_y in placed):
            y += LINE_PX
        placed.append((x, x + room, y))
    return [(x, y) for x, _, y in placed]


def _label(row: int, words: str, x: float, y: float) -> str:
    return f'<text style="--hue:var(--hue-{row % HUES})" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _box(row: int, x0: float, y0: float, x1: float, y1: float) -> str:
    return (
        f'<rect style="--hue:var(--hue-{row % HUES})" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" '
        f'height="{y1 - y0:.1f}"/>'
    )
