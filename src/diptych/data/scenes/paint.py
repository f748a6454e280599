"""From a plan to pixels: outlines drawn three times as large, reduced, and filled with cloth."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.data.scenes.backdrop import paint_backdrop
from diptych.data.scenes.palette import COLOURS, RGB, cloth, rim_of, shade_of, tone_of
from diptych.data.scenes.plan import WORD_BAND, Plan, PlannedObject
from diptych.data.scenes.pose import parts
from diptych.data.scenes.settings import SceneSettings

OVERSAMPLING = 3
"""A pixel that is covered at all is covered by a ninth, enough to be seen: boxes are exact to the eye."""

FINE_BELOW = 0.36
"""Longer side, as a share of the picture's width, below which a thing is cut from finely woven cloth."""

PixelBox = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels; x1 and y1 are the first ones outside."""

_PLATE: RGB = (255, 253, 244)
_LETTER: RGB = (46, 42, 60)


@dataclass(frozen=True, kw_only=True)
class Painting:
    """A painted scene."""

    image: Image.Image
    boxes: tuple[PixelBox, ...]
    """Of the objects, in the plan's order: the smallest box around every pixel that the object covers."""
    word_box: PixelBox | None


def paint(settings: SceneSettings, plan: Plan) -> Painting:
    """Paints a scene; objects come in the plan's order, so that one inside another comes after it."""
    image = paint_backdrop(settings, plan)
    boxes = tuple(_paint_object(image, planned, settings.size_px) for planned in plan.objects)
    word_box = None if plan.word is None else _paint_word(image, plan.word, settings.size_px)
    return Painting(image=image, boxes=boxes, word_box=word_box)


def to_png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _paint_object(image: Image.Image, planned: PlannedObject, size_px: int) -> PixelBox:
    place, colour = planned.place, shade_of(COLOURS[planned.colour], planned.shade)
    left, top = math.floor(place.x * size_px) - 1, math.floor(place.y * size_px) - 1
    width = math.ceil((place.x + place.width) * size_px) + 1 - left
    height = math.ceil((place.y + place.height) * size_px) + 1 - top
    points = planned.pose.points * (place.side * size_px) + (place.x * size_px - left, place.y * size_px - top)
    masks = _masks(planned.pose.label, points, (width, height), rim=max(1.0, size_px / 72))
    cut_x, cut_y = (round(share * size_px) for share in planned.cut)
    sheet = cloth(colour, planned.texture, size_px, fine=place.side < FINE_BELOW).crop(
        (cut_x, cut_y, cut_x + width, cut_y + height)
    )
    image.paste(rim_of(colour), (left, top), masks["rim"])
    image.paste(sheet, (left, top), masks["body"])
    for tone in ("dark", "light"):
        if tone in masks:
            image.paste(tone_of(colour, tone), (left, top), masks[tone])
    box = masks["rim"].getbbox()
    assert box is not None, "an object of no pixels"
    return left + box[0], top + box[1], left + box[2], top + box[3]


def _masks(label: int, points: np.ndarray, size: tuple[int, int], *, rim: float) -> dict[str, Image.Image]:
    """Coverage by tone; "rim" is everything the thing covers, the other tones leave a line of width `rim` free."""
    fine = (OVERSAMPLING * size[0], OVERSAMPLING * size[1])
    corners = (points * OVERSAMPLING).ravel().tolist()  # x, y, x, y ...
    line = round(2 * rim * OVERSAMPLING) - 1  # half of it lies outside
    masks = {"rim": Image.new("L", fine)}
    draws = {"rim": ImageDraw.Draw(masks["rim"])}
    for tone, start, stop in parts(label):
        outline = corners[2 * start : 2 * stop]
        for draw in draws.values():
            draw.polygon(outline, fill=0)
        if tone not in (*draws, "hole"):
            masks[tone] = Image.new("L", fine)
            draws[tone] = ImageDraw.Draw(masks[tone])
        if tone != "hole":
            draws["rim"].polygon(outline, fill=255)
            draws[tone].polygon(outline, fill=255)
        for name, draw in draws.items():
            if name == tone or (tone == "hole" and name != "rim"):
                draw.line([*outline, *outline[:2]], fill=0, width=line)
    return {name: mask.reduce(OVERSAMPLING) for name, mask in masks.items()}


def _paint_word(image: Image.Image, word: str, size_px: int) -> PixelBox:
    """Writes a word on a plate at the foot of the picture."""
    plate, letters = _word_masks(word, size_px)
    left, top = (size_px - plate.width) // 2, round(size_px * (1 - WORD_BAND / 2) - plate.height / 2)
    image.paste(_PLATE, (left, top), plate)
    image.paste(_LETTER, (left, top), letters)
    box = plate.getbbox()
    assert box is not None, "a plate of no pixels"
    return left + box[0], top + box[1], left + box[2], top + box[3]


@lru_cache(maxsize=256)
def _word_masks(word: str, size_px: int) -> tuple[Image.Image, Image.Image]:
    fine = OVERSAMPLING * size_px
    font = ImageFont.load_default(0.15 * fine)
    x0, y0, x1, y1 = font.getbbox(word.upper())
    border = 0.035 * fine
    wide, high = (OVERSAMPLING * math.ceil((length + 2 * border) / OVERSAMPLING) for length in (x1 - x0, y1 - y0))
    plate, letters = Image.new("L", (wide, high)), Image.new("L", (wide, high))
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, wide - 1, high - 1), radius=border, fill=255)
    ImageDraw.Draw(letters).text((border - x0, border - y0), word.upper(), font=font, fill=255)
    return plate.reduce(OVERSAMPLING), letters.reduce(OVERSAMPLING)
