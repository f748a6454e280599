"""The region probe: what was put into features by hand is told, and what was not is at chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from diptych.data.region_store import RegionTable, RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, UsageError
from diptych.tasks.region_probe import probe_regions

FIELDS = [*((name, pa.string()) for name in ("name", "colour", "texture", "world")),
          *((side, pa.float32()) for side in ("x0", "y0", "x1", "y1")), ("crowd", pa.bool_())]  # fmt: skip
NAMES, COLOURS, TEXTURES = ("cup", "key", "fish"), ("red", "blue"), ("plain", "striped")
NUM = {"train": 90, "test": 40}
BOXES = np.array([[2, 3, 22, 23], [30, 4, 50, 34]], np.float32)
"""Of the two objects of each picture, which is 60 wide and 50 high."""
SPEC = RegionSpec(
    detector="by hand", detector_hash="", rule="none", feature_kind="by hand", feature_width=7, box_kind="given"
)


def thing(number: int, place: int) -> dict[str, Any]:
    """Names, colours and textures go their own ways."""
    sides = dict(zip(("x0", "y0", "x1", "y1"), BOXES[place].tolist(), strict=True))
    count = 2 * number + place
    look = {"colour": COLOURS[count // 3 % 2], "texture": TEXTURES[number * 7 // 5 % 2], "world": "one"}
    return {"name": NAMES[count % 3], **look, **sides, "crowd": False}


def features(things: list[dict[str, Any]], rng: np.random.Generator) -> np.ndarray:
    """(R, 7): name and colour one-hot, two numbers of no meaning; nothing of the texture."""
    known = [[one["name"] == word for word in NAMES] + [one["colour"] == word for word in COLOURS] for one in things]
    return np.hstack([np.array(known, np.float32), rng.normal(size=(len(things), 2))]).astype(np.float16)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, RegionTable]:
    """A table, and regions that lie a little beside its objects, in the other order, a third one on nothing."""
    folder, rng = tmp_path_factory.mktemp("probe"), np.random.default_rng(5)
    columns = {"objects": pa.list_(pa.struct(FIELDS))}
    with TableWriter(folder / "t", columns=columns) as table, RegionWriter(folder / "r", SPEC) as store:
        for split, num in NUM.items():
            for number in range(num):
                key, things = f"{split}-{number}", [thing(number, place) for place in range(2)]
                crowd = {**things[0], "crowd": True, "name": "ant"}
                table.add(split, key=key, image=b"x", fields={"objects": [crowd, *things]})
                boxes = np.concatenate([[[0, 45, 60, 50]], BOXES[::-1] + 2]).astype(np.float32)
                found = np.concatenate([np.zeros((1, 7), np.float16), features(things[::-1], rng)])
                scores = np.ones(3, np.float32)
                regions = Regions(boxes=boxes, features=found, scores=scores, width_px=60, height_px=50)
                store.add(key, regions)
    return open_table(folder / "t"), open_region_table(folder / "r")


def test_what_features_hold_is_told_and_what_they_do_not_is_at_chance(world: tuple[Table, RegionTable]) -> None:
    table, store = world
    found = probe_regions(store, table.split("train"), table.split("test"))
    assert (found.num_train, found.objects, found.met) == (180, 80, 80)
    by_field = {one.field: one for one in found.fields}
    assert set(by_field) == {"name", "colour", "texture"}  # "world" is always the same
    assert by_field["name"].words == ("cup", "fish", "key") and by_field["name"].num == 80
    assert by_field["name"].accuracy == by_field["colour"].accuracy == 1.0
    low, high = by_field["texture"].interval
    assert low < 0.5 < high
    assert by_field["colour"].chance == pytest.approx(0.5, abs=0.03)


def test_fields_and_rows_can_be_chosen(world: tuple[Table, RegionTable]) -> None:
    table, store = world
    found = probe_regions(store, table.split("train"), table.split("test"), fields=["colour"], limit=50)
    assert [one.field for one in found.fields] == ["colour"] and found.num_train == 100


def test_objects_that_no_region_lies_on_are_not_asked_about(world: tuple[Table, RegionTable]) -> None:
    table, store = world

    class Half:
        """The store without the test pictures of odd numbers."""

        path, spec = store.path, store.spec

        def __contains__(self, key: str) -> bool:
            return key.startswith("train") or int(key.rpartition("-")[2]) % 2 == 0

        def regions(self, key: str) -> Regions:
            return store.regions(key)

    found = probe_regions(Half(), table.split("train"), table.split("test"))  # type: ignore[arg-type]
    assert (found.objects, found.met) == (80, 40)


def test_what_cannot_be_asked_is_refused(world: tuple[Table, RegionTable]) -> None:
    table, store = world
    rows = table.split("train"), table.split("test")
    with pytest.raises(UsageError, match="no field 'shape' of words; they have name, colour, texture, world"):
        probe_regions(store, *rows, fields=["shape"])
    with pytest.raises(DataError, match="alike in world"):
        probe_regions(store, *rows, fields=["world"])

    class Elsewhere:
        path, spec = store.path, store.spec

        def __contains__(self, key: str) -> bool:
            return True

        def regions(self, key: str) -> Regions:
            return replace(store.regions(key), boxes=np.full((3, 4), [0, 45, 60, 50], np.float32))

    with pytest.raises(DataError, match=r"no region of .* lies on one of the 180 objects"):
        probe_regions(Elsewhere(), *rows)  # type: ignore[arg-type]
