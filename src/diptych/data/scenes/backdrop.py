"""What lies behind the things: soft light, faint patterns, flecks that are nothing."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from diptych.data.scenes.palette import BACKGROUNDS, RGB, mix
from diptych.data.scenes.plan import Plan
from diptych.data.scenes.settings import SceneSettings

_OVERSAMPLING = 3
_PAPER: RGB = (255, 255, 255)
_INK: RGB = (24, 24, 36)


def paint_backdrop(settings: SceneSettings, plan: Plan) -> Image.Image:
    """The scene without its objects and its word."""
    backdrop = _lit_wall(plan.background, plan.variant, settings.size_px, settings.patterns).copy()
    if plan.flecks:
        colour = BACKGROUNDS[plan.background]
        for tone, mask in zip((_PAPER, _INK), _fleck_masks(plan, settings.size_px), strict=True):
            backdrop.paste(mix(colour, tone, 0.3), mask=mask)
    return backdrop


@lru_cache(maxsize=256)
def _lit_wall(background: str, variant: int, size_px: int, patterned: bool) -> Image.Image:
    """A wall of one colour, lighter where the lamp stands; `variant` says where that is and which pattern there is."""
    y, x = np.mgrid[0:size_px, 0:size_px] / (size_px - 1)
    lamp_x, lamp_y = (0.25, 0.75)[variant % 2], (0.1, 0.3)[variant // 2 % 2]
    distance = np.hypot(x - lamp_x, y - lamp_y)
    light = 0.26 * np.clip(1 - distance / 1.05, 0, 1)
    shade = 0.1 * np.clip(distance - 0.55, 0, 1)
    if patterned:
        light = light + 0.08 * _pattern(variant // 2, x, y)
    wall = np.array(BACKGROUNDS[background]) * np.ones((size_px, size_px, 1))
    wall += light[..., None] * (np.array(_PAPER) - wall) + shade[..., None] * (np.array(_INK) - wall)
    return Image.fromarray(np.rint(wall).clip(0, 255).astype(np.uint8), "RGB")


def _pattern(number: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """None, waves, a lattice or hills, in [0, 1] and smooth enough to stay behind."""
    match number:
        case 1:
            return 0.5 + 0.5 * np.sin(40 * y + 3 * np.sin(9 * x))
        case 2:
            return np.maximum(np.cos(36 * x), np.cos(36 * y)).clip(0, 1) ** 4
        case 3:
            return (y > 0.72 + 0.06 * np.sin(7 * x)).astype(float)
        case _:
            return np.zeros(x.shape)


def _fleck_masks(plan: Plan, size_px: int) -> tuple[Image.Image, Image.Image]:
    """Masks of the light and of the dark flecks: dots and short strokes."""
    fine = _OVERSAMPLING * size_px
    masks = (Image.new("L", (fine, fine)), Image.new("L", (fine, fine)))
    for number, (x, y, size, turn) in enumerate(plan.flecks):
        draw = ImageDraw.Draw(masks[number % 2])
        reach = fine * (0.012 + 0.022 * size)
        if number % 3 == 0:
            draw.ellipse(
                (x * fine - reach / 2, y * fine - reach / 2, x * fine + reach / 2, y * fine + reach / 2), fill=255
            )
        else:
            across, down = reach * math.cos(turn * math.pi), reach * math.sin(turn * math.pi)
            ends = (x * fine - across, y * fine - down, x * fine + across, y * fine + down)
            draw.line(ends, fill=255, width=_OVERSAMPLING * max(1, size_px // 64))
    return masks[0].reduce(_OVERSAMPLING), masks[1].reduce(_OVERSAMPLING)
