"""Fourteen further things, for the hard world: nearer to each other and to the easy ones."""

from __future__ import annotations

import numpy as np

from diptych.data.scenes.outlines import Points, box, ellipse, path, regular
from diptych.data.scenes.things import Thing, Tone


def more_things() -> tuple[Thing, ...]:
    """Shapes and silhouettes that take a second look."""
    return (*_shapes(), *_grown(), *_made())


def _shapes() -> tuple[Thing, ...]:
    arrow = path("M2 36 L54 36 L54 12 L98 50 L54 88 L54 64 L2 64 Z")
    cloud = path("M22 82 C4 82 0 58 16 52 C12 34 34 26 42 36 C50 14 82 20 80 46 C98 44 104 80 80 82 Z")
    return (
        Thing("diamond", (("body", path("M50 0 L88 50 L50 100 L12 50 Z")),), room=(50, 50, 38), tilt=5),
        Thing("hexagon", (("body", regular(6)),), room=(50, 50, 62), tilt=6),
        Thing("ring", (("body", ellipse(50, 50, 100)), ("hole", ellipse(50, 50, 62))), room=(50, 50, 40)),
        Thing("arrow", (("body", arrow),), mirrors=True, tilt=10),
        Thing("cloud", (("body", cloud),), mirrors=True, tilt=4),
    )


def _grown() -> tuple[Thing, ...]:
    angles = np.radians(np.arange(6) * 60 - 90)
    petals: list[tuple[Tone, Points]] = [
        ("body", ellipse(50 + 31 * np.cos(angle), 50 + 31 * np.sin(angle), 38)) for angle in angles
    ]
    cap = path("M4 54 C4 -14 96 -14 96 54 Q96 60 88 60 L12 60 Q4 60 4 54 Z")
    stem = path("M36 56 L64 56 Q62 78 70 92 Q70 98 62 98 L38 98 Q30 98 30 92 Q38 78 36 56 Z")
    apple = path("M50 28 C62 14 96 18 94 52 C92 82 70 104 50 92 C30 104 8 82 6 52 C4 18 38 14 50 28 Z")
    stalk = path("M47 30 Q46 14 40 8 L46 4 Q53 14 53 30 Z")
    leaflet = path("M54 18 Q60 2 80 4 Q76 20 54 18 Z")
    blade = path("M96 4 C98 60 74 90 34 86 L10 98 L4 92 L20 76 C10 34 44 6 96 4 Z")
    vein = path("M74 24 L78 28 L24 80 L20 76 Z")
    wing = path("M30 52 Q50 34 70 50 Q58 76 38 68 Z")
    bird = path("M2 40 L14 34 C16 18 40 14 44 34 C64 32 82 42 98 30 Q96 62 66 80 C36 92 14 74 16 46 Z")
    return (
        Thing("flower", (*petals, ("dark", ellipse(50, 50, 30))), tilt=25),
        Thing(
            "mushroom",
            (("light", stem), ("body", cap), ("light", ellipse(32, 34, 15)), ("light", ellipse(66, 28, 18))),
            tilt=6,
        ),
        Thing("apple", (("dark", stalk), ("body", apple), ("dark", leaflet)), mirrors=True, tilt=8),
        Thing("leaf", (("body", blade), ("dark", vein)), mirrors=True, tilt=12),
        Thing(
            "bird",
            (("body", bird), ("dark", wing), ("light", ellipse(27, 33, 9)), ("dark", ellipse(26, 33, 4))),
            mirrors=True,
        ),
    )


def _made() -> tuple[Thing, ...]:
    canopy = path(
        "M2 52 C4 -14 96 -14 98 52 Q90 44 82 52 Q74 44 66 52 Q58 44 50 52 Q42 44 34 52 Q26 44 18 52 Q10 44 2 52 Z"
    )
    crook = path("M47 46 L53 46 L53 86 Q53 98 64 97 Q71 96 71 87 L77 87 Q77 103 62 103 Q47 103 47 86 Z")
    bell = path("M50 6 C76 8 78 34 80 54 Q82 70 94 78 L6 78 Q18 70 20 54 C22 34 24 8 50 6 Z")
    bottle = path("M42 2 L58 2 L58 26 Q74 34 74 48 L74 92 Q74 98 68 98 L32 98 Q26 98 26 92 L26 48 Q26 34 42 26 Z")
    rocket = path("M50 2 C72 18 72 48 66 74 L34 74 C28 48 28 18 50 2 Z")
    fins = path("M32 50 L14 82 L34 76 L66 76 L86 82 L68 50 Z")
    flame = path("M40 76 Q42 92 50 98 Q58 92 60 76 Z")
    return (
        Thing("umbrella", (("dark", crook), ("body", canopy)), mirrors=True, tilt=8),
        Thing("bell", (("dark", ellipse(50, 84, 20)), ("dark", ellipse(50, 8, 14)), ("body", bell)), tilt=10),
        Thing("bottle", (("body", bottle), ("light", box(26, 54, 74, 80, 1)), ("dark", box(39, 2, 61, 12, 2))), tilt=6),
        Thing("rocket", (("light", flame), ("dark", fins), ("body", rocket), ("light", ellipse(50, 36, 18))), tilt=14),
    )
