"""Objects of a table: their names in order, and what of a picture's objects is of use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from diptych.data.objects import ObjectNames, object_names, read_objects
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

FIELDS = [
    ("name", pa.string()), ("label", pa.int64()), ("colour", pa.string()), ("words", pa.list_(pa.string())),
    *((side, pa.float32()) for side in ("x0", "y0", "x1", "y1")), ("crowd", pa.bool_()),
]  # fmt: skip


def thing(name: str | None, label: int | None, box: tuple[float, ...] = (1, 2, 5, 7), **more: Any) -> dict[str, Any]:
    return {"name": name, "label": label, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)), **more}


def table(folder: Path, *pictures: list[dict[str, Any]] | None) -> Rows:
    with TableWriter(folder, columns={"objects": pa.list_(pa.struct(FIELDS))}) as writer:
        for number, objects in enumerate(pictures):
            writer.add("train", key=str(number), image=b"x", fields={"objects": objects})
    return open_table(folder).split("train")


def test_classes_stand_in_the_order_of_their_labels(tmp_path: Path) -> None:
    rows = table(tmp_path / "t", [thing("zebra", 3), thing("cup", 7)], None, [thing("bus", 5), thing("zebra", 3)])
    assert object_names(rows) == ObjectNames(classes=("zebra", "bus", "cup"), attributes=(), objects=4, left_out={})


@pytest.mark.parametrize("labels", [(None, None), (4, 4), (1, None)])
def test_without_a_label_each_they_stand_by_the_alphabet(tmp_path: Path, labels: tuple[int | None, ...]) -> None:
    rows = table(tmp_path / "t", [thing(name, label) for name, label in zip(("zebra", "cup"), labels, strict=True)])
    assert object_names(rows).classes == ("cup", "zebra")


def test_a_label_without_a_name_is_one(tmp_path: Path) -> None:
    assert object_names(table(tmp_path / "t", [thing(None, 12), thing("", 3)])).classes == ("3", "12")


def test_what_is_of_no_use_is_counted_by_reason(tmp_path: Path) -> None:
    bad = [
        thing("cup", 0, (5, 2, 5, 7)),
        thing("cup", 0, (5, 9, 8, 7)),
        thing("cup", 0, (float("nan"), 0, 1, 1)),
        thing(None, None),
        thing("cup", 0, crowd=True),
    ]
    found = object_names(table(tmp_path / "t", [*bad, thing("cup", 0)]))
    assert (found.objects, sum(found.left_out.values())) == (1, 5)
    assert found.left_out == {
        "a box without area": 2, "a box that is no number": 1, "without a name": 1, "a crowd": 1,
    }  # fmt: skip


def test_attributes_are_the_words_of_fields(tmp_path: Path) -> None:
    rows = table(
        tmp_path / "t", [thing("cup", 0, colour="red", words=["old", "big"]), thing("cup", 0, colour="blue", words=[])]
    )
    assert object_names(rows, ["words", "colour"]).attributes == ("big", "old", "blue", "red")


def test_what_a_table_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no field 'size'; they have name, label, colour.*attribute_fields"):
        object_names(table(tmp_path / "a", [thing("cup", 0)]), ["size"])
    with pytest.raises(DataError, match=r"not one object in .* 1 a crowd"):
        object_names(table(tmp_path / "b", [thing("cup", 0, crowd=True)]))
    with TableWriter(tmp_path / "c") as writer:
        writer.add("train", key="a", image=b"x", texts=["a cup"])
    with pytest.raises(DataError, match="no column 'objects'"):
        object_names(open_table(tmp_path / "c").split("train"))


def test_boxes_are_clamped_and_what_is_outside_is_left_out() -> None:
    objects = [
        thing("cup", 0, (-3, 2, 5, 70), colour="red", words=["old"]),
        thing("dog", 9, (41, 0, 50, 9)),
        thing("bus", 1, (30, 10, 41, 12), words=None),
        thing("owl", 2, (1, 1, 2, 2)),
    ]
    found = read_objects(
        objects,
        width_px=40,
        height_px=20,
        classes={"bus": 0, "cup": 1, "dog": 2},
        attributes={"blue": 0, "old": 1, "red": 2},
        fields=("colour", "words"),
    )
    assert found.boxes.tolist() == [[0, 2, 5, 20], [30, 10, 40, 12]]
    assert found.labels.tolist() == [1, 0]
    assert found.attributes.tolist() == [[False, True, True], [False, False, False]]


def test_none_is_none() -> None:
    found = read_objects(None, width_px=4, height_px=3, classes={"cup": 0}, attributes={"red": 0})
    assert found.boxes.shape == (0, 4) and found.attributes.shape == (0, 1)
    assert (found.boxes.dtype, found.labels.dtype, found.crowd.dtype) == (np.float32, np.int64, bool)
