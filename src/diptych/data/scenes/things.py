"""The fourteen things of the easy world and what a thing is: an outline in parts, each of one tone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.data.scenes.outlines import Points, box, ellipse, path, rays

Tone = Literal["body", "dark", "light", "hole"]
"""Body carries the colour and texture; dark and light are shades of that colour; a hole shows what is behind."""


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing that can stand in a scene."""

    name: str
    parts: tuple[tuple[Tone, Points], ...]
    """Painted in this order, on a sheet of 100 x 100."""
    room: tuple[float, float, float] | None = None
    """(x, y, side) of a square wholly within the body, where another thing may lie inside; None: nothing may."""
    mirrors: bool = False
    """Looks the same kind of thing from both sides, so that it may face left or right."""
    tilt: float = 8.0
    """Most degrees that it may lean and still be itself."""


def easy_things() -> tuple[Thing, ...]:
    """Fourteen things that nobody confuses: seven shapes, seven silhouettes."""
    return (*_shapes(), *_silhouettes())


def _shapes() -> tuple[Thing, ...]:
    cross = path("M33 2 L67 2 L67 33 L98 33 L98 67 L67 67 L67 98 L33 98 L33 67 L2 67 L2 33 L33 33 Z")
    heart = path("M50 95 C20 70 2 52 2 30 C2 6 38 -2 50 24 C62 -2 98 6 98 30 C98 52 80 70 50 95 Z")
    moon = path("M62 2 C30 4 8 26 8 52 C8 80 30 98 56 98 C72 98 84 92 92 82 C62 86 42 70 42 46 C42 26 50 10 62 2 Z")
    return (
        Thing("circle", (("body", ellipse(50, 50, 100)),), room=(50, 50, 62)),
        Thing("square", (("body", box(0, 0, 100, 100, 4)),), room=(50, 50, 80)),
        Thing("triangle", (("body", path("M50 4 L100 92 L0 92 Z")),), room=(50, 68, 40)),
        Thing("cross", (("body", cross),)),
        Thing("star", (("body", rays(5, 22)),), tilt=14),
        Thing("heart", (("body", heart),), room=(50, 47, 44)),
        Thing("moon", (("body", moon),), tilt=14),
    )


def _silhouettes() -> tuple[Thing, ...]:
    return (_house(), _tree(), _car(), _fish(), _boat(), _cup(), _key())


def _house() -> Thing:
    roof = path("M50 2 L100 48 L0 48 Z")
    return Thing(
        "house",
        (
            ("body", box(68, 8, 80, 34, 1)),
            ("body", box(12, 44, 88, 98, 2)),
            ("dark", roof),
            ("light", box(22, 56, 42, 74, 2)),
            ("dark", box(56, 62, 74, 98, 2)),
        ),
        mirrors=True,
        tilt=4,
    )


def _tree() -> Thing:
    crown = path(
        "M50 2 C66 2 76 12 76 22 C90 26 94 38 88 48 C94 62 82 74 66 72 C58 78 42 78 34 72 "
        "C18 74 6 62 12 48 C6 38 10 26 24 22 C24 12 34 2 50 2 Z"
    )
    trunk = path("M43 66 L57 66 L58 88 Q60 95 68 98 L32 98 Q40 95 42 88 Z")
    return Thing("tree", (("dark", trunk), ("body", crown)), tilt=5)


def _car() -> Thing:
    body = path(
        "M2 50 Q2 40 14 38 L24 36 L34 18 Q37 12 44 12 L66 12 Q72 12 76 18 L86 36 L92 38 Q99 40 99 50 "
        "L99 62 Q99 66 94 66 L6 66 Q2 66 2 62 Z"
    )
    window = path("M32 36 L40 22 Q41 20 44 20 L52 20 L52 36 Z")
    rear_window = path("M57 36 L57 20 L65 20 Q68 20 70 23 L77 36 Z")
    return Thing(
        "car",
        (
            ("body", body),
            ("light", window),
            ("light", rear_window),
            ("dark", ellipse(26, 66, 24)),
            ("dark", ellipse(76, 66, 24)),
            ("light", ellipse(26, 66, 9)),
            ("light", ellipse(76, 66, 9)),
        ),
        mirrors=True,
        tilt=5,
    )


def _fish() -> Thing:
    body = path("M2 50 C14 24 48 14 76 46 L98 24 Q92 50 98 76 L76 54 C48 86 14 76 2 50 Z")
    fin = path("M40 25 Q52 8 66 12 Q62 24 64 34 Q52 26 40 25 Z")
    return Thing(
        "fish",
        (("dark", fin), ("body", body), ("light", ellipse(20, 44, 11)), ("dark", ellipse(19, 44, 5))),
        mirrors=True,
    )


def _boat() -> Thing:
    hull = path("M2 66 L98 66 Q92 90 76 94 L24 94 Q8 90 2 66 Z")
    main_sail = path("M54 4 Q88 28 90 58 L54 58 Z")
    fore_sail = path("M46 14 Q22 34 14 58 L46 58 Z")
    return Thing(
        "boat",
        (("dark", box(48, 2, 52, 70, 1)), ("body", hull), ("body", main_sail), ("light", fore_sail)),
        mirrors=True,
        tilt=7,
    )


def _cup() -> Thing:
    bowl = path("M6 14 L74 14 L70 78 Q68 90 56 90 L24 90 Q12 90 10 78 Z")
    handle = path("M70 28 C104 20 106 66 70 70 Z")
    hole = path("M74 38 C90 34 90 58 72 60 Z")
    return Thing(
        "cup", (("body", handle), ("hole", hole), ("body", bowl), ("dark", box(3, 10, 77, 20, 5))), mirrors=True, tilt=7
    )


def _key() -> Thing:
    shaft = path("M44 44 L98 44 L98 70 L89 70 L89 56 L82 56 L82 66 L73 66 L73 56 L44 56 Z")
    return Thing(
        "key", (("body", shaft), ("body", ellipse(26, 50, 50)), ("hole", ellipse(22, 50, 20))), mirrors=True, tilt=14
    )
