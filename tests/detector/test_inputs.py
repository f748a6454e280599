"""Preprocessing by hand; parity has the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.detector.inputs import PRESETS, Preprocessing, factor_size, prepare, preset, resize_factor, whole_size
from diptych.errors import UsageError

PLAIN = Preprocessing(shorter=2, longer=8, mean=(0.0, 0.0, 0.0))


def grey(rows):
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def test_a_picture_twice_as_large_is_read_a_quarter_of_a_pixel_beside_its_own():
    found = prepare(grey([[0, 100]]), PLAIN)
    assert (found.size, found.scale) == ((2, 4), (2.0, 2.0))
    assert found.pixels[0, 0].tolist() == [0, 25, 75, 100]
    assert found.pixels.shape == (3, 3, 4)  # a row of padding: the stem needs three
    assert found.pixels[:, 2].abs().max() == 0


def test_padding_is_the_mean():
    settings = Preprocessing(shorter=2, longer=8, mean=(7.0, 8.0, 9.0), std=(2.0, 2.0, 2.0))
    found = prepare(grey([[100, 100]]), settings)
    assert found.pixels[:, 2].abs().max() == 0
    assert found.pixels[:, 0, 0].tolist() == [46.5, 46.0, 45.5]


def test_red_comes_last_unless_it_is_said_to_come_first():
    red = Image.fromarray(np.full((4, 4, 3), (200, 20, 2), dtype=np.uint8))
    for colour, expected in (("BGR", [2, 20, 200]), ("RGB", [200, 20, 2])):
        settings = Preprocessing(shorter=4, longer=8, mean=(0.0, 0.0, 0.0), colour=colour)
        assert prepare(red, settings).pixels[:, 1, 1].tolist() == expected


@pytest.mark.parametrize("resize", ["factor", "size", "pillow"])
def test_a_picture_of_the_right_size_is_left_alone(resize):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)
    settings = Preprocessing(shorter=6, longer=9, resize=resize, mean=(0.0, 0.0, 0.0), colour="RGB")
    found = prepare(Image.fromarray(pixels), settings)
    assert torch.equal(found.pixels, torch.from_numpy(pixels).permute(2, 0, 1).float())


def test_long_pictures_are_bounded_by_their_longer_side():
    settings = Preprocessing()
    assert resize_factor(300, 400, settings) == 2
    assert resize_factor(100, 2000, settings) == 0.5
    assert factor_size(30, 20_000, resize_factor(30, 20_000, settings)) == (2, 1000)
    assert whole_size(30, 20_000, settings) == (2, 1000)
    assert factor_size(3, 30_000, resize_factor(3, 30_000, settings)) == (1, 1000)


def test_a_sliver_whose_side_becomes_one_pixel_is_read_in_its_middle_and_scaled_by_that():
    """One factor for both sides would put that pixel's far edge eight pixels outside the picture of three rows."""
    picture = grey([[10] * 88, [20] * 88, [90] * 88])
    found = prepare(picture, PLAIN)
    assert (found.size, found.scale) == ((1, 8), (1 / 3, 1 / 11))
    assert found.pixels[0, 0].tolist() == pytest.approx([20] * 8)


def test_presets_go_by_name():
    assert {preset(name).resize for name in PRESETS} == {"factor", "size", "pillow"}
    with pytest.raises(UsageError, match="did you mean 'lxmert'"):
        preset("lxmrt")
