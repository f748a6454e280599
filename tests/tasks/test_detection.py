"""The task of finding a table's objects, asked of detectors that know the answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diptych.data.formats.objects import OBJECTS
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.metrics.detection import Found
from diptych.tasks.detection import by_class, detection, detection_headline, detection_numbers


class Knows:
    """Says that every picture's left half is of the class that its red tells."""

    name = "mine"

    def __init__(self, *classes: str) -> None:
        self.classes = classes

    def find(self, pictures: Sequence[Image.Image]) -> list[Found]:
        found = []
        for one in pictures:
            box = np.array([[0, 0, one.width / 2, one.height]], np.float32)
            label = one.convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
            found.append(Found(boxes=box, scores=np.ones(1, np.float32), labels=np.array([label])))
        return found


def left_half(name: str, width: int = 20, height: int = 10) -> dict[str, Any]:
    return {"name": name, "label": None, "x0": 0, "y0": 0, "x1": width / 2, "y1": height, "crowd": False}


@pytest.fixture
def make(tmp_path: Path):
    def rows(*pictures: tuple[int | None, list[dict[str, Any]]]) -> Rows:
        """A picture's red, None for a file that is broken, and its objects."""
        with TableWriter(tmp_path / "t", columns={"objects": OBJECTS}) as writer:
            for number, (red, objects) in enumerate(pictures):
                file = io.BytesIO()
                Image.new("RGB", (20, 10), (red or 0, 0, 0)).save(file, "PNG")
                image = b"no" if red is None else file.getvalue()
                writer.add("test", key=str(number), image=image, fields={"objects": objects})
        return open_table(tmp_path / "t").split("test")

    return rows


def test_all_right_but_one(make) -> None:
    """The bus is taken for a cup: the cup's precision falls behind it in half of the curve, the bus has none."""
    rows = make((0, [left_half("cup")]), (0, [left_half("cup")]), (1, [left_half("owl")]), (0, [left_half("bus")]))
    result = detection(Knows("cup", "owl", "bus"), rows)
    assert (result.pictures, result.unknown, result.scores.objects) == (4, 0, 4)
    assert result.scores.by_class[1] == 1 and result.scores.by_class[2] == 0
    assert 2 / 3 <= result.scores.by_class[0] <= 1 and result.scores.recall36 == 1
    numbers = {score.name: score.value for score in detection_numbers(result)}
    assert numbers["map50"] == pytest.approx(sum(result.scores.by_class.values()) / 3)
    assert "4 objects in 4 pictures" in detection_headline(result)
    assert by_class(result).body.index("bus") < by_class(result).body.index("owl"), "the hardest first"


def test_classes_that_it_does_not_know_are_counted_and_not_asked(make) -> None:
    result = detection(Knows("cup"), make((0, [left_half("cup"), left_half("yak")])))
    assert (result.unknown, result.scores.ap, result.scores.objects) == (1, 1, 1)
    assert "1 objects of other classes" in by_class(result).how_to_read


def test_a_bad_picture_costs_itself(make) -> None:
    result = detection(Knows("cup"), make((0, [left_half("cup")]), (None, [left_half("cup")])))
    assert (result.pictures, [reject.key for reject in result.rejects]) == (1, ["1"])


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([(0, [])], "there are no objects in the split 'test'"),
        ([(0, [left_half("yak")])], "none of the 1 objects .* is of a class that mine knows; it knows 1: cup"),
        ([(None, [left_half("cup")])], "not one picture of the split 'test' can be read; 0: "),
    ],
)
def test_nothing_to_compare_with(make, pictures: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        detection(Knows("cup"), make(*pictures))


def test_a_table_without_boxes_is_told(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as writer:
        writer.add("test", key="a", image=b"x", texts=["a cup"])
    with pytest.raises(DataError, match="no column 'objects'"):
        detection(Knows("cup"), open_table(tmp_path / "t").split("test"))
