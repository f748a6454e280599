"""The page of regions: what is drawn where, what it is called, and what it says of the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.data.regions import Regions, RegionSpec
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.report.boxes import corners
from diptych.report.page import render
from diptych.report.region_summary import describe_regions, spread_keys
from diptych.report.regions import best, names_of, regions_page

SPEC = RegionSpec(
    detector="eyes <1>",
    detector_hash="0123456789abcdef0123",
    rule="all",
    consumer="",
    feature_kind="none",
    feature_width=1,
    classes=("dog", "cat & mouse"),
    attributes=("brown", "wet"),
    box_kind="proposal",
)
FOUND = Regions(
    height_px=30,
    width_px=60,
    boxes=np.array([[0, 0, 30, 15], [30, 15, 60, 30]], np.float32),
    features=np.zeros((2, 1), np.float16),
    scores=np.array([0.9, 0.4], np.float32),
    class_ids=np.array([[1, 0], [0, 1]], np.int32),
    class_probs=np.array([[0.9, 0.1], [0.4, 0.3]], np.float16),
    attribute_ids=np.array([[1], [0]], np.int32),
    attribute_probs=np.array([[0.5], [0.05]], np.float16),
)


class Store:
    """Regions of as many pictures as wanted, the same in each."""

    path = Path("somewhere/mine")
    spec = SPEC

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return self.num

    def __contains__(self, key: str) -> bool:
        return key in self.keys()

    def keys(self) -> Iterator[str]:
        return (f"k{number}" for number in range(self.num))

    def regions(self, key: str) -> Regions:
        return FOUND


@pytest.fixture
def table(tmp_path: Path) -> Table:
    with TableWriter(tmp_path / "table") as writer:
        for number in range(5):
            Image.new("RGB", (60, 30), "grey").save(tmp_path / "one.png")
            image = b"no picture" if number == 2 else (tmp_path / "one.png").read_bytes()
            writer.add("train" if number < 3 else "test", key=f"k{number}", image=image, texts=["x"])
    return open_table(tmp_path / "table")


def test_boxes_and_names_are_drawn_over_the_picture(table, read_html) -> None:
    store = Store(5)
    reader = read_html(render(regions_page(store, table, describe_regions(store), num=1, boxes=9)))
    rects = [attributes for tag, attributes in reader.tags if tag == "rect"]
    assert [[float(rect[name]) for name in ("x", "y", "width", "height")] for rect in rects] == [
        [240, 120, 240, 120],  # the best lies above the others
        [0, 0, 240, 120],
    ]
    words = " ".join(reader.words)
    assert "1 wet cat & mouse" in words and "2 dog" in words and "brown" not in words
    assert "0.90" in words and "k0 · 2 regions" in words and "eyes <1>" in words


def test_pictures_that_cannot_be_read_say_so_in_their_place(table, read_html) -> None:
    store = Store(5)
    reader = read_html(render(regions_page(store, table, describe_regions(store), num=5, boxes=1)))
    words = " ".join(reader.words)
    assert sum(tag == "svg" for tag, _ in reader.tags) == 4
    assert "k2" in words and "no JPEG" in words and "2 regions, 1 drawn" in words


def test_another_table_is_told(table) -> None:
    class Other(Store):
        def keys(self) -> Iterator[str]:
            return (f"other{number}" for number in range(self.num))

    store = Other(3)
    with pytest.raises(DataError, match=r"has none of the pictures .* e\.g\. 'other0'"):
        regions_page(store, table, describe_regions(store), num=2, boxes=1)


def test_corners_are_shares_whatever_the_store_has() -> None:
    picture = Image.new("RGB", (60, 30))
    half = [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    assert corners(FOUND, SPEC, picture).tolist() == half
    in_shares = replace(FOUND, boxes=np.array(half, np.float32))
    assert corners(in_shares, replace(SPEC, box_unit="unit"), picture).tolist() == half
    last_pixels = replace(FOUND, boxes=FOUND.boxes - np.array([0, 0, 1, 1], np.float32))
    assert corners(last_pixels, replace(SPEC, plus_one=True), picture).tolist() == half
    both = replace(in_shares, boxes=last_pixels.boxes / np.array([60, 30, 60, 30], np.float32))
    found = corners(both, replace(SPEC, plus_one=True, box_unit="unit"), picture)
    np.testing.assert_allclose(found, half, atol=1e-7)


def test_regions_without_names_have_none() -> None:
    assert names_of(replace(FOUND, class_ids=None, class_probs=None), SPEC) == ["", ""]
    assert names_of(FOUND, replace(SPEC, classes=())) == ["", ""]
    assert names_of(replace(FOUND, attribute_ids=None), SPEC) == ["cat & mouse", "dog"]


def test_the_summary_counts_and_names() -> None:
    found = describe_regions(Store(4))
    assert (found.pictures, found.fewest, found.median, found.most) == (4, 2, 2, 2)
    assert sorted(found.names) == [("cat & mouse", 4), ("dog", 4)]
    rows = dict(found.rows())
    assert rows["classes"] == "2 and 2 attributes" and rows["for"] == "no released weights"
    assert "scores" not in rows
    assert dict(replace(found, spec=replace(SPEC, score_kind="none")).rows())["scores"].startswith("1: none says")
    assert describe_regions(Store(0)).rows()[1] == ("regions a picture", "0")


class Damaged(Store):
    """Every other row is damaged."""

    def regions(self, key: str) -> Regions:
        if int(key[1:]) % 2:
            raise DataError(f"the regions of {key!r}: box <0> is empty")
        return FOUND


def test_a_damaged_row_costs_itself_and_is_told(table, read_html) -> None:
    store = Damaged(5)
    found = describe_regions(store)
    assert found.damaged == {"k1": "box <0> is empty", "k3": "box <0> is empty"}
    assert (found.pictures, found.looked_at, found.fewest, found.most) == (5, 5, 2, 2)
    assert dict(found.rows())["damaged"] == "2 of 5 pictures looked at" and found.plain()["damaged"] == found.damaged
    reader = read_html(render(regions_page(store, table, found, num=5, boxes=1)))
    words = " ".join(reader.words)
    assert "Damaged rows" in words and "k1 box <0> is empty" in words and "k3 box <0> is empty" in words
    assert "Damaged rows" not in render(regions_page(Store(5), table, describe_regions(Store(5)), num=5, boxes=1))


@pytest.mark.parametrize(("of", "num", "expected"), [(5, 9, "01234"), (10, 5, "02468"), (7, 3, "024"), (3, 1, "0")])
def test_keys_are_spread_evenly(of: int, num: int, expected: str) -> None:
    assert [key[1:] for key in spread_keys(Store(of), num)] == list(expected)


def test_of_windows_the_surest_are_drawn_and_of_detections_the_first() -> None:
    """Windows come in the order of their places, which says nothing of what is in them."""
    turned = replace(FOUND, class_probs=FOUND.class_probs[::-1])  # type: ignore[index]
    assert best(turned, SPEC, 1).tolist() == [0]
    assert best(turned, replace(SPEC, box_kind="window"), 1).tolist() == [1]
    assert best(turned, replace(SPEC, box_kind="given"), 5).tolist() == [1, 0]
    assert best(turned, replace(SPEC, box_kind="window", classes=()), 5).tolist() == [0, 1]


def test_windows_without_names_are_said_to_have_none(table: Table) -> None:
    store = Store(5)
    store.spec = replace(SPEC, box_kind="window", classes=(), attributes=())
    page = render(regions_page(store, table, describe_regions(store), num=2, boxes=1))
    assert "They are the same windows in every picture. They have no names" in page and "--words FILE" in page
    assert "what each was taken for" not in page
