"""A thing as it stands in one picture: mirrored, leaning, and as wide and high as it then is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diptych.data.sample import Rng
from diptych.data.scenes.settings import THINGS
from diptych.data.scenes.things import Tone


@dataclass(frozen=True, eq=False, kw_only=True)
class Pose:
    """A thing's outline, its longer side being 1 and its upper left corner (0, 0)."""

    label: int
    points: np.ndarray
    """(N, 2), the corners of all parts one after the other."""
    width: float
    height: float
    room: tuple[float, float, float] | None
    """(x, y, side) of a square, around (x, y), where another thing may lie; see `Thing.room`."""


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A thing's parts in one array, around the middle of its sheet."""

    points: np.ndarray
    bounds: tuple[tuple[Tone, int, int], ...]
    room: np.ndarray | None


@lru_cache(maxsize=len(THINGS))
def _sheet(label: int) -> _Sheet:
    thing = THINGS[label]
    ends = np.cumsum([len(points) for _, points in thing.parts]).tolist()
    bounds = tuple((tone, end - len(points), end) for (tone, points), end in zip(thing.parts, ends, strict=True))
    points = np.vstack([points for _, points in thing.parts]) / 100 - 0.5
    room = None if thing.room is None else np.array(thing.room[:2]) / 100 - 0.5
    return _Sheet(points, bounds, room)


def parts(label: int) -> tuple[tuple[Tone, int, int], ...]:
    """Which corners of a pose's points make which part, in painting order: (tone, start, stop)."""
    return _sheet(label).bounds


def strike_pose(label: int, rng: Rng) -> Pose:
    """Turns a thing as far as it may be turned, by chance."""
    thing, sheet = THINGS[label], _sheet(label)
    angle = math.radians(thing.tilt) * (2 * rng.random() - 1)
    side = -1.0 if thing.mirrors and rng.random() < 0.5 else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[side * cos, side * sin], [-sin, cos]])
    points = sheet.points @ turn
    low = points.min(axis=0)
    width, height = (points.max(axis=0) - low).tolist()
    longer = max(width, height)
    room = None
    if thing.room is not None and sheet.room is not None:
        x, y = ((sheet.room @ turn - low) / longer).tolist()
        # A square that leans by `angle` holds an upright one smaller by this factor.
        room = (x, y, thing.room[2] / 100 / longer / (abs(cos) + abs(sin)))
    return Pose(label=label, points=(points - low) / longer, width=width / longer, height=height / longer, room=room)
