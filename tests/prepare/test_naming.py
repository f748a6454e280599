"""Words for regions, by a CLIP that reads colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from diptych.errors import UsageError
from diptych.prepare.naming import NamedRegions, whole_pixels
from diptych.prepare.windows import Grid, ImageTower, TowerRegions

WORDS = ("red", "green", "blue")


def colours(crops: Sequence[Image.Image]) -> Tensor:
    means = torch.tensor(np.array([np.asarray(crop.convert("RGB"), np.float32).mean(axis=(0, 1)) for crop in crops]))
    return F.normalize(means, dim=1)


@pytest.fixture
def windows() -> TowerRegions:
    tower = ImageTower(name="zeros", hash="z", feature_maps=lambda pictures: torch.zeros(len(pictures), 2, 3, 3))
    return TowerRegions(tower, Grid(side=2))


def named(windows: TowerRegions, **settings: int) -> NamedRegions:
    return NamedRegions(windows, colours, WORDS, torch.eye(3), scale=10.0, hash="c", **settings)


def test_each_region_is_named_by_its_own_pixels(windows: TowerRegions) -> None:
    picture = Image.new("RGB", (20, 10), "red")
    picture.paste((0, 0, 255), (10, 5, 20, 10))
    picture.paste((0, 200, 100), (0, 5, 10, 10))
    detector = named(windows, top=2)
    (regions,) = detector.detect([picture])
    assert detector.spec.classes == WORDS
    assert regions.class_ids is not None and regions.class_probs is not None
    assert [WORDS[first] for first in regions.class_ids[:, 0]] == ["red", "red", "green", "blue"]
    assert regions.class_ids[2].tolist() == [1, 2]
    e = np.exp(10.0)
    assert regions.class_probs[0] == pytest.approx([e / (e + 2), 1 / (e + 2)], rel=1e-5)


def test_given_boxes_are_named_too(windows: TowerRegions) -> None:
    picture = Image.new("RGB", (20, 10), (0, 255, 0))
    (regions,) = named(windows).detect([picture], [np.array([[2.2, 3, 2.4, 3.1]], np.float32)])
    assert regions.boxes.shape == (1, 4) and regions.class_ids is not None
    assert regions.class_ids[0, 0] == 1 and sorted(regions.class_ids[0]) == [0, 1, 2]


def test_other_words_and_other_weights_are_other_regions(windows: TowerRegions) -> None:
    hashes = {
        named(windows).spec.detector_hash,
        NamedRegions(windows, colours, WORDS, torch.eye(3), scale=1.0, hash="d").spec.detector_hash,
        NamedRegions(windows, colours, WORDS, -torch.eye(3), scale=1.0, hash="c").spec.detector_hash,
    }
    assert len(hashes) == 3 and named(windows).spec.detector_hash in hashes


def test_a_word_list_has_two_or_more_different_words(windows: TowerRegions) -> None:
    with pytest.raises(UsageError, match="'dog' stands in it twice"):
        NamedRegions(windows, colours, ("dog", "cat", "dog"), torch.eye(3), scale=1.0, hash="")
    with pytest.raises(UsageError, match="it has 1"):
        NamedRegions(windows, colours, ("dog",), torch.eye(3)[:1], scale=1.0, hash="")


@given(st.tuples(*[st.floats(-50, 100, width=32)] * 4), st.integers(1, 60), st.integers(1, 40))
def test_a_crop_is_never_empty_and_never_outside(box: tuple[float, ...], width: int, height: int) -> None:
    x0, y0, x1, y1 = whole_pixels(np.array(box), width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
