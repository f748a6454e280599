"""Outlines of the things in the picture world: closed curves as points, on a sheet of 100 x 100 with y downwards."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

Points = np.ndarray
"""(N, 2) corners of a closed polygon, curves already cut into short straight lines."""

CURVE_STEPS = 8
_TOKENS = re.compile(r"[MLCQZ]|-?\d+(?:\.\d+)?")


def path(text: str) -> Points:
    """A closed outline written as an SVG path of absolute M, L, C (cubic), Q (quadratic) and Z commands.

    >>> path("M0 0 L100 0 L50 80 Z").tolist()
    [[0.0, 0.0], [100.0, 0.0], [50.0, 80.0]]
    """
    points: list[np.ndarray] = []
    for command, numbers in _commands(text):
        corners = np.array(numbers, dtype=float).reshape(-1, 2)
        num = {"M": 1, "L": 1, "Q": 2, "C": 3}[command]
        for start in range(0, len(corners), num):
            controls = corners[start : start + num]
            points.extend(controls if num == 1 else _curve(np.vstack([points[-1], controls])))
    return np.array(points)


def _commands(text: str) -> Iterator[tuple[str, list[float]]]:
    command, numbers = "", list[float]()
    for token in _TOKENS.findall(text):
        if token.isalpha():
            if numbers:
                yield command, numbers
            command, numbers = token, []
        else:
            numbers.append(float(token))
    if numbers:
        yield command, numbers


def _curve(controls: np.ndarray) -> np.ndarray:
    """Points of a Bezier curve after its first one, by de Casteljau's repeated halving between controls."""
    t = np.linspace(0, 1, CURVE_STEPS + 1)[1:, None]
    levels = [np.broadcast_to(point, (len(t), 2)) for point in controls]
    while len(levels) > 1:
        levels = [(1 - t) * here + t * there for here, there in pairwise(levels)]
    return levels[0]


def ellipse(x: float, y: float, width: float, height: float | None = None) -> Points:
    """An ellipse around (x, y); a circle where only `width` is given."""
    angle = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    height = width if height is None else height
    return np.stack([x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float, corner: float = 6) -> Points:
    """An upright rectangle with corners rounded by `corner`."""
    turns = np.linspace(0, math.pi / 2, 5)
    centres = (
        (x1 - corner, y1 - corner),
        (x0 + corner, y1 - corner),
        (x0 + corner, y0 + corner),
        (x1 - corner, y0 + corner),
    )
    arcs = [
        np.stack([x + corner * np.cos(turns + k * math.pi / 2), y + corner * np.sin(turns + k * math.pi / 2)], axis=1)
        for k, (x, y) in enumerate(centres)
    ]
    return np.vstack(arcs)


def rays(num: int, inner: float, *, outer: float = 50, turn: float = -90) -> Points:
    """A star of `num` tips around the middle of the sheet; `inner` is the radius of its notches."""
    angle = np.radians(turn + np.arange(2 * num) * 180 / num)
    radius = np.where(np.arange(2 * num) % 2 == 0, outer, inner)
    return np.stack([50 + radius * np.cos(angle), 50 + radius * np.sin(angle)], axis=1)


def regular(num: int, *, turn: float = -90) -> Points:
    """A regular polygon of `num` sides around the middle of the sheet."""
    angle = np.radians(turn + np.arange(num) * 360 / num)
    return np.stack([50 + 50 * np.cos(angle), 50 + 50 * np.sin(angle)], axis=1)
