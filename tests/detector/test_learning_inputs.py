"""A picture and its objects on their way to the detector."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diptych.data.sample import Item, Sample
from diptych.data.table import Table
from diptych.detector.learning_inputs import LearningInputs, sizes_for, with_names
from diptych.detector.own_config import FasterRCNNConfig
from diptych.errors import DataError, UsageError
from diptych.train.run import InputSettings


class Drawn:
    """An rng that gives what it is told."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)

    def integers(self, low: int, high: int | None = None) -> Any:
        raise AssertionError("no whole number is drawn here")


def sample(width: int = 40, height: int = 20, *objects: dict[str, Any]) -> Sample:
    """White left half, black right half."""
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 255, 255), (0, 0, width // 2, height))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Sample(key="a", group="a", image=file.getvalue(), fields={"objects": list(objects)})


def bus(x0: float, y0: float, x1: float, y1: float, **more: Any) -> dict[str, Any]:
    return {"name": "bus", "label": 1, "x0": x0, "y0": y0, "x1": x1, "y1": y1, **more}


@pytest.fixture
def inputs(config: FasterRCNNConfig) -> LearningInputs:
    return LearningInputs(replace(config, shorter_side=10, longer_side=30), InputSettings(transform="resize_and_flip"))


def test_pixels_and_boxes_shrink_alike(inputs: LearningInputs) -> None:
    item = inputs.item(sample(40, 20, bus(4, 2, 20, 30, words=["b", "z"])), None)
    assert item.pixels is not None and item.objects is not None
    assert item.pixels.shape == (3, 10, 20)
    assert item.objects.boxes.tolist() == [[2, 1, 10, 10]]
    assert (item.objects.labels.tolist(), item.objects.attributes.tolist()) == ([1], [[False, True, False, False]])
    assert int(item.pixels[0, :, :8].min()) == 255 and int(item.pixels[0, :, 12:].max()) == 0


def test_a_mirrored_picture_has_its_boxes_mirrored(inputs: LearningInputs) -> None:
    """Of the shares 0.6 to 1 the middle: the shorter side is 8."""
    item = inputs.item(sample(40, 20, bus(0, 5, 20, 10)), Drawn(0.5, 0.2))
    assert item.pixels is not None and item.objects is not None
    assert item.pixels.shape == (3, 8, 16)
    assert item.objects.boxes.tolist() == [[8, 2, 16, 4]]
    assert int(item.pixels[0, :, :6].max()) == 0 and int(item.pixels[0, :, 10:].min()) == 255
    straight = inputs.item(sample(40, 20, bus(0, 5, 20, 10)), Drawn(0.5, 0.5))
    assert straight.objects is not None and straight.objects.boxes.tolist() == [[0, 2, 8, 4]]


def test_without_a_transform_training_reads_as_evaluation(inputs: LearningInputs) -> None:
    plain = replace(inputs, settings=InputSettings(transform="none"))
    whole, item = plain.item(sample(), None), plain.item(sample(), Drawn())
    assert whole.pixels is not None and item.pixels is not None and torch.equal(whole.pixels, item.pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 20), (20, 10)), ((20, 40), (10, 20)), ((40, 10), (30, 7)), ((20_000, 30), (30, 1)), ((1, 1), (10, 10))],
)
def test_sides_as_torchvision_has_them(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert sizes_for(*size, 10, 30) == expected


@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_no_side_passes_its_limit_nor_vanishes(width: int, height: int) -> None:
    found = sizes_for(width, height, 60, 100)
    assert 1 <= min(found) <= 60 and max(found) <= 100


def test_padding_is_marked(inputs: LearningInputs) -> None:
    items = [inputs.item(sample(40, 20, bus(0, 0, 9, 9), bus(2, 2, 4, 4)), None), inputs.item(sample(20, 40), None)]
    batch = inputs.collate(items)
    assert batch.image is not None and batch.objects is not None
    assert (batch.image.pixels.shape, batch.image.sizes) == ((2, 3, 20, 20), ((10, 20), (20, 10)))
    assert batch.objects.mask.tolist() == [[True, True], [False, False]]
    assert int(batch.image.pixels[1, :, :, 10:].max()) == 0
    part = batch.rows(1, 2)
    assert part.image is not None and part.objects is not None
    assert part.image.sizes == ((20, 10),) and len(part.objects.boxes) == len(part.objects.seeds) == 1


def test_pictures_of_one_size_are_not_padded(inputs: LearningInputs) -> None:
    batch = inputs.collate([inputs.item(sample(), None)] * 2)
    assert batch.image is not None and batch.image.sizes is None


def test_items_without_objects_make_a_batch_of_pictures(inputs: LearningInputs) -> None:
    batch = inputs.collate([Item(key="a", group=1, pixels=torch.zeros(3, 4, 5, dtype=torch.uint8))])
    assert batch.objects is None


def test_what_a_detector_cannot_read(inputs: LearningInputs) -> None:
    with pytest.raises(DataError, match="a has no picture"):
        inputs.item(replace(sample(), image=None), None)
    with pytest.raises(UsageError, match="square_crop, which crops"):
        LearningInputs(inputs.config, InputSettings())


def test_names_come_from_the_table_where_the_config_has_none(scenes: Table) -> None:
    told: list[str] = []
    rows = scenes.split("train")
    config = with_names(FasterRCNNConfig(attribute_fields=("texture",)), rows, told.append)
    assert len(config.classes) == 14 and config.attributes == ("dotted", "plain", "striped")
    assert told == []
    stated = FasterRCNNConfig(classes=("cup",))
    assert with_names(stated, rows, told.append) is stated
