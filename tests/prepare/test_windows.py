"""Windows and given boxes over a map that one can read, and over the towers of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from diptych.clip.inputs import ClipInputs
from diptych.clip.model import CLIP, ClipConfig
from diptych.data.tokenizers import train_tokenizer
from diptych.errors import DataError, UsageError
from diptych.prepare.boxes import clipped
from diptych.prepare.windows import Grid, ImageTower, TowerRegions, Windows, pooled
from diptych.tasks.encoder import DualEncoder
from diptych.train.run import InputSettings

WIDE = Image.new("RGB", (80, 30))


def numbered(pictures: Sequence[Image.Image]) -> Tensor:
    """(B, 2, 3, 4): cells numbered row by row from 0, and the same from 100; plus 1000 times the picture's width."""
    cells = torch.arange(12.0).reshape(3, 4)
    return torch.stack([torch.stack([cells, 100 + cells]) + 1000 * picture.width for picture in pictures])


TOWER = ImageTower(name="numbers", hash="abc", feature_maps=numbered)


def of_boxes(boxes: list[list[float]], picture: Image.Image = WIDE) -> np.ndarray:
    detector = TowerRegions(TOWER, Grid(side=2))
    return detector.detect([picture], [np.array(boxes, np.float32)])[0].features - 1000 * picture.width


def test_a_box_of_whole_cells_has_their_mean() -> None:
    # A cell of the 4 x 3 map is 20 x 10 pixels of the 80 x 30 picture.
    found = of_boxes([[20, 10, 40, 20], [0, 0, 80, 30], [20, 0, 60, 20]])
    assert found.tolist() == [[5.0, 105.0], [5.5, 105.5], [(1 + 2 + 5 + 6) / 4, 100 + (1 + 2 + 5 + 6) / 4]]


def test_a_box_smaller_than_a_cell_has_the_map_at_its_centre() -> None:
    found = of_boxes([[29, 14, 31, 16], [39, 14, 41, 16], [49, 14, 51, 16]])  # a cell's centre, an edge, the next one's
    assert found[:, 0].tolist() == pytest.approx([5.0, 5.5, 6.0], abs=0.01)


def test_the_grid_is_read_row_by_row_and_covers_the_picture() -> None:
    boxes = Grid(side=2).boxes()
    assert boxes.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    (regions,) = TowerRegions(TOWER, Grid(side=2)).detect([WIDE])
    assert regions.boxes.tolist() == [[0, 0, 40, 15], [40, 0, 80, 15], [0, 15, 40, 30], [40, 15, 80, 30]]
    assert (regions.width_px, regions.height_px) == (80, 30)
    assert regions.scores.tolist() == [1, 1, 1, 1] and regions.class_ids is None


def test_windows_begin_with_the_whole_and_overlap_by_half() -> None:
    boxes = Windows(scales=(1, 2)).boxes()
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert boxes[1:4].tolist() == [[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5], [0.5, 0, 1, 0.5]]
    assert len(Windows().boxes()) == 1 + 9 + 25
    with pytest.raises(UsageError, match="scale of 0"):
        Windows(scales=(1, 0)).boxes()
    with pytest.raises(UsageError, match="scales is empty"):
        Windows(scales=()).boxes()


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_every_window_lies_in_the_picture_and_has_the_size_of_its_scale(scales: list[int]) -> None:
    boxes = Windows(scales=tuple(scales)).boxes()
    assert boxes.min() >= 0 and boxes.max() <= 1
    sides = np.concatenate([np.full(((2 * scale - 1) ** 2, 2), 1 / scale, np.float32) for scale in scales])
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sides, atol=1e-6)


def test_the_spec_says_what_they_were_made_with() -> None:
    spec = TowerRegions(TOWER, Windows()).spec
    assert (spec.rule, spec.feature_width, spec.detector_hash) == ("windows(scales=1+2+3)", 2, "abc")
    assert (spec.box_kind, spec.box_unit, spec.plus_one, spec.score_kind) == ("window", "pixel", False, "none")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 30), (30, 20_000), (2, 1)])
def test_slivers_and_single_pixels_have_all_their_windows(size: tuple[int, int]) -> None:
    (regions,) = TowerRegions(TOWER, Windows()).detect([Image.new("L", size)])
    assert len(regions) == 35 and np.isfinite(regions.features).all()
    assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()
    assert regions.boxes[0].tolist() == [0, 0, *size] and regions.boxes.max(axis=0)[2:].tolist() == [*size]


def test_no_boxes_have_no_regions() -> None:
    (regions, other) = TowerRegions(TOWER, Grid()).detect([WIDE, WIDE], [np.zeros((0, 4)), np.array([[0, 0, 80, 30]])])
    assert regions.features.shape == (0, 2) and regions.boxes.shape == (0, 4)
    assert other.features.tolist() == [[80_005.5, 80_105.5]]


def test_what_sticks_out_of_the_picture_is_cut_off() -> None:
    (regions,) = TowerRegions(TOWER, Grid()).detect([WIDE], [np.array([[-20, -5, 20, 10]], np.float32)])
    assert regions.boxes.tolist() == [[0, 0, 20, 10]]
    assert regions.features.tolist() == [[80_000.0, 80_100.0]]


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ([10, 10, 10, 20], "box 1, .* is empty; expected x0 < x1"),
        ([10, 20, 30, 15], "is empty"),
        ([80, 0, 90, 10], "lies outside the picture of 80 x 30 pixels"),
        ([-9, 0, -1, 10], "lies outside"),
        ([0, 0, float("nan"), 10], "is not finite"),
        ([0, 0, float("inf"), 10], "is not finite"),
    ],
)
def test_boxes_that_are_none_are_named(box: list[float], why: str) -> None:
    with pytest.raises(DataError, match=why):
        clipped(np.array([[0, 0, 5, 5], box], np.float32), 80, 30)


def test_boxes_of_another_shape_are_told() -> None:
    with pytest.raises(DataError, match=r"shape \(3,\); expected \(R, 4\)"):
        clipped(np.zeros(3), 80, 30)


def test_equal_boxes_have_equal_features_wherever_they_stand() -> None:
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1], [0.4, 0.4, 0.41, 0.43]])
    order = torch.tensor([2, 0, 1])
    first, second = pooled(maps, [boxes, boxes[:2]])
    again, other = pooled(maps.flip(0), [boxes[:2], boxes[order]])
    assert torch.equal(other, first[order]) and torch.equal(again, second)


VIT = ClipConfig(
    embed_dim=6, image_size=24, patch_size=8, image_width=16, image_layers=(2,), image_heads=4, context=9,
    vocab_size=515, end_id=514, text_width=8, text_layers=1, text_heads=2,
)  # fmt: skip
CONFIGS = {
    "vit": VIT,
    "resnet": replace(VIT, image="resnet", image_size=64, image_width=8, image_layers=(1, 1, 1, 1)),
    "conv": replace(VIT, image="conv", image_size=32, image_width=4, image_layers=(1, 1, 1)),
    "timm": replace(VIT, image="timm", image_size=64, timm_name="test_vit"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tower_gives_the_same_regions_whatever_the_batch(name: str) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    config = CONFIGS[name]
    inputs = ClipInputs(config, InputSettings(), train_tokenizer(["a thing"], "bpe", 515))
    encoder = DualEncoder(CLIP(config), inputs, torch.device("cpu"), "clip")
    detector = TowerRegions(ImageTower(name=name, hash="", feature_maps=encoder.feature_maps), Windows())
    noise = np.random.default_rng(0).integers(0, 256, (4, 37, 53, 3), np.uint8)
    pictures = [Image.fromarray(pixels[: 20 + 5 * place]) for place, pixels in enumerate(noise)]
    together = detector.detect(pictures)
    for place in (2, 0, 3, 1):
        (alone,) = detector.detect([pictures[place]])
        assert np.array_equal(alone.boxes, together[place].boxes)
        assert_close(alone.features, together[place].features, atol=1e-5, rtol=1e-4)
    assert not np.allclose(together[0].features, together[1].features)
    assert detector.spec.feature_width == together[0].features.shape[1]
