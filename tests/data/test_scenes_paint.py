"""Pictures of the picture world: exact boxes, seen textures, clean files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from diptych.data.sample import random_for
from diptych.data.scenes import SceneSettings, easy, hard
from diptych.data.scenes.outlines import box, ellipse, path, rays
from diptych.data.scenes.paint import paint, to_png
from diptych.data.scenes.palette import BACKGROUNDS, COLOURS, TEXTURES, cloth
from diptych.data.scenes.plan import Plan, compose
from diptych.data.scenes.pose import strike_pose
from diptych.data.scenes.scene import make_scene
from diptych.data.scenes.settings import THINGS
from diptych.data.scenes.splits import seen_pairs
from diptych.data.scenes.things import Thing


def plans(settings: SceneSettings, num: int) -> Iterator[Plan]:
    for index in range(num):
        yield compose(settings, random_for(7, 0, str(index)), seen_pairs(settings), None)


def changed_box(before: Image.Image, after: Image.Image) -> tuple[int, int, int, int]:
    """The smallest box around every pixel in which two pictures differ."""
    rows, columns = np.nonzero((np.asarray(before) != np.asarray(after)).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("settings", [easy(size_px=96), hard(size_px=96), easy(size_px=37), hard(size_px=64)])
def test_boxes_are_exactly_the_pixels_that_an_object_changes(settings: SceneSettings) -> None:
    for plan in plans(settings, 5):
        boxes = paint(settings, plan).boxes
        for number, expected in enumerate(boxes):
            before, after = (replace(plan, objects=plan.objects[:stop], word=None) for stop in (number, number + 1))
            assert changed_box(paint(settings, before).image, paint(settings, after).image) == expected


@pytest.mark.slow
@pytest.mark.parametrize("settings", [easy(), hard()])
def test_boxes_are_exact_in_many_scenes(settings: SceneSettings) -> None:
    for plan in plans(settings, 1500):
        boxes = paint(settings, plan).boxes
        stop = len(boxes) - 1
        before, after = (replace(plan, objects=plan.objects[:end], word=None) for end in (stop, stop + 1))
        assert changed_box(paint(settings, before).image, paint(settings, after).image) == boxes[stop]


def test_word_box_is_exactly_the_plate() -> None:
    settings = replace(easy(), words=1.0, objects=(1.0,))
    for plan in plans(settings, 6):
        painting = paint(settings, plan)
        assert painting.word_box == changed_box(paint(settings, replace(plan, word=None)).image, painting.image)
        assert painting.word_box is not None
        assert painting.boxes[0][3] <= painting.word_box[1], "the word stands below the thing"


def test_boxes_of_the_row_are_those_of_the_painting() -> None:
    scene = make_scene(easy(num=64), "test", 1)
    image = Image.open(io.BytesIO(scene.image))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (96, 96))
    for one in scene.fields["objects"]:
        assert 0 <= one["x0"] < one["x1"] <= 96
        assert 0 <= one["y0"] < one["y1"] <= 96


def test_longer_side_in_pixels_is_the_one_planned() -> None:
    settings = easy()
    for plan in plans(settings, 20):
        for planned, (x0, y0, x1, y1) in zip(plan.objects, paint(settings, plan).boxes, strict=True):
            assert max(x1 - x0, y1 - y0) == pytest.approx(planned.place.side * 96, abs=2.01)


@pytest.mark.parametrize("thing", [thing for thing in THINGS if thing.room], ids=lambda thing: thing.name)
def test_the_room_of_a_thing_lies_within_it(thing: Thing) -> None:
    assert thing.room is not None
    x, y, side = thing.room
    mask = Image.new("L", (400, 400))
    for tone, points in thing.parts:
        ImageDraw.Draw(mask).polygon([tuple(point) for point in (points * 4).tolist()], fill=int(tone != "hole"))
    inside = np.asarray(mask)[round(4 * (y - side / 2)) : round(4 * (y + side / 2)), :]
    inside = inside[:, round(4 * (x - side / 2)) : round(4 * (x + side / 2))]
    # A ring's room is its hole, in which a thing lies on the background; every other room is body throughout.
    assert inside.min() == inside.max() == (0 if thing.name == "ring" else 1)


def test_a_pose_fills_a_unit_box() -> None:
    for label in range(len(THINGS)):
        pose = strike_pose(label, random_for(0, 0, str(label)))
        np.testing.assert_allclose(pose.points.min(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(pose.points.max(axis=0), (pose.width, pose.height), atol=1e-12)
        assert max(pose.width, pose.height) == pytest.approx(1)


def test_outlines_by_hand() -> None:
    assert path("M0 0 L10 0 L10 20 Z").tolist() == [[0, 0], [10, 0], [10, 20]]
    middle = path("M0 0 Q50 100 100 0 Z")[4]
    np.testing.assert_allclose(middle, (50, 50))  # half-way of a quadratic: half the height of its control
    middle = path("M0 0 C0 40 80 40 80 0 Z")[4]
    np.testing.assert_allclose(middle, (40, 30))  # half-way of a cubic: three quarters of its controls' height
    np.testing.assert_allclose(np.hypot(*(ellipse(5, 6, 20) - (5, 6)).T), 10)
    assert box(0, 0, 8, 4, corner=1).max(axis=0).tolist() == [8, 4]
    assert len(rays(5, 22)) == 10


def test_textures_differ_and_stay_near_their_colour() -> None:
    for colour in COLOURS.values():
        sheets = {name: np.asarray(cloth(colour, name, 48)).astype(float) for name in TEXTURES}
        assert (sheets["plain"] == colour).all()
        for name in TEXTURES[1:]:
            share = (np.abs(sheets[name] - colour).max(axis=2) > 8).mean()
            assert 0.15 < share < 0.7, f"{name} weaves {share:.2f} of {colour}"


def test_no_colour_is_a_background() -> None:
    assert not set(COLOURS) & set(BACKGROUNDS)
    for colour in COLOURS.values():
        for background in BACKGROUNDS.values():
            assert max(abs(a - b) for a, b in zip(colour, background, strict=True)) >= 20


def test_png_comes_back_as_it_was() -> None:
    settings = hard(size_px=48)
    image = paint(settings, next(plans(settings, 1))).image
    assert (np.asarray(Image.open(io.BytesIO(to_png(image)))) == np.asarray(image)).all()
