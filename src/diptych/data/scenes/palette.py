"""Colours, textures and backgrounds of the picture world, and the cloth that things are cut from."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from diptych.data.scenes.things import Tone

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (222, 58, 58),
    "orange": (243, 142, 42),
    "yellow": (250, 214, 66),
    "green": (66, 160, 86),
    "blue": (54, 104, 214),
    "purple": (132, 76, 184),
    "pink": (244, 130, 178),
    "brown": (130, 84, 54),
    "black": (44, 44, 52),
    "white": (252, 252, 248),
    "turquoise": (34, 168, 168),
    "lime": (160, 206, 44),
}
"""Of things; a world with k colours has the first k."""

BACKGROUNDS: dict[str, RGB] = {
    "sky": (170, 210, 240),
    "mint": (176, 224, 200),
    "sand": (230, 212, 174),
    "lilac": (206, 194, 234),
    "rose": (242, 200, 196),
    "slate": (98, 112, 134),
    "olive": (166, 172, 122),
    "clay": (206, 156, 126),
}
"""Words that name no thing's colour, so that a text's colour word is about the thing."""

TEXTURES = ("plain", "striped", "dotted", "checked", "wavy")

NUM_SHADES = 3
"""Versions of each colour, a little darker or lighter, so that a colour is not one pixel value."""

FINE = 0.65
"""Length of a texture on small things, with 1 on large ones."""

_INK: RGB = (24, 24, 36)
_PAPER: RGB = (255, 255, 255)
_OVERSAMPLING = 4


def mix(colour: RGB, other: RGB, share: float) -> RGB:
    """`colour` with `share` of `other` in it."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def brightness(colour: RGB) -> float:
    """How bright an eye finds the colour, 0 to 255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def shade_of(colour: RGB, shade: int) -> RGB:
    """One of the NUM_SHADES versions of a colour."""
    return mix(colour, (_INK, colour, _PAPER)[shade], 0.06)


def tone_of(colour: RGB, tone: Tone) -> RGB:
    """What a part of `tone` is filled with on a thing of `colour`; very dark and very light things keep a contrast."""
    if tone == "dark":
        return mix(colour, _PAPER, 0.32) if brightness(colour) < 60 else mix(colour, _INK, 0.5)
    if tone == "light":
        return mix(colour, _INK, 0.16) if brightness(colour) > 235 else mix(colour, _PAPER, 0.72)
    return colour


def rim_of(colour: RGB) -> RGB:
    """The thin line around a thing."""
    return mix(colour, _INK, 0.3)


@lru_cache(maxsize=1024)
def cloth(colour: RGB, texture: str, size_px: int, *, fine: bool = False) -> Image.Image:
    """A sheet of `colour` with a texture in two shades of it; twice the picture's size, so that any part can be cut.

    Args:
        colour: the first shade.
        texture: one of TEXTURES.
        size_px: of the picture, with which textures grow.
        fine: woven finer, so that it shows on a small thing too.
    """
    second = mix(colour, _PAPER, 0.3) if brightness(colour) < 60 else mix(colour, _INK, 0.2)
    if 60 <= brightness(colour) < 170:
        second = mix(colour, _PAPER, 0.5)
    weight = _weave(texture, size_px, FINE if fine else 1.0)[..., None]
    sheet = (1 - weight) * np.array(colour) + weight * np.array(second)
    return Image.fromarray(np.rint(sheet).astype(np.uint8), "RGB")


@lru_cache(maxsize=64)
def _weave(texture: str, size_px: int, grain: float) -> np.ndarray:
    """Share of the second shade at every pixel of a cloth, (2 size, 2 size) in [0, 1], smooth at its edges."""
    fine = 2 * size_px * _OVERSAMPLING
    y, x = np.mgrid[0:fine, 0:fine] / (_OVERSAMPLING * size_px * grain)
    inside = _inside(texture, x, y)
    blocks = inside.reshape(2 * size_px, _OVERSAMPLING, 2 * size_px, _OVERSAMPLING)
    return blocks.mean(axis=(1, 3))


def _inside(texture: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where the second shade lies; x and y in widths of the picture."""
    match texture:
        case "plain":
            return np.zeros(x.shape)
        case "striped":
            return ((x + y) / 0.115 % 1 < 0.42).astype(float)
        case "dotted":
            row = np.floor(y / 0.075)
            across = (x / 0.105 + row % 2 / 2) % 1 - 0.5
            down = y / 0.075 % 1 - 0.5
            return ((across * 0.105) ** 2 + (down * 0.075) ** 2 < 0.026**2).astype(float)
        case "checked":
            return ((np.floor(x / 0.075) + np.floor(y / 0.075)) % 2).astype(float)
        case "wavy":
            return ((y + 0.018 * np.sin(x / 0.024)) / 0.1 % 1 < 0.42).astype(float)
        case _:
            raise ValueError(f"no texture {texture!r}: one of {TEXTURES}")
