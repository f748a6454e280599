"""Two stores of the same pictures: whose keys are whose, what a damaged row costs, and the numbers by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_compare import WORST, compare_regions
from diptych.data.region_keys import match_keys
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError, UsageError

SPEC = RegionSpec(
    detector="by hand", detector_hash="", rule="all", feature_kind="drawn", feature_width=2, box_kind="given"
)


class Store:
    """Regions out of a dict; None: the row is damaged."""

    spec = SPEC

    def __init__(self, rows: Mapping[str, Regions | None], name: str = "store") -> None:
        self.rows, self.path = rows, Path(name)

    def __len__(self):
        return len(self.rows)

    def __contains__(self, key):
        return key in self.rows

    def keys(self):
        return iter(self.rows)

    def regions(self, key):
        found = self.rows[key]
        if found is None:
            raise DataError(f"the regions of {key!r} in {self.path} are damaged: 7 bytes")
        return found


def regions(x1: float = 10.0, feature: tuple[float, float] = (1.0, 0.0)) -> Regions:
    return Regions(
        height_px=20,
        width_px=40,
        boxes=np.array([[0, 0, x1, 10]], np.float32),
        features=np.array([feature], np.float16),
        scores=np.ones(1, np.float32),
    )


def named(*keys: str, name: str = "store") -> Store:
    return Store(dict.fromkeys(keys, regions()), name)


def test_the_numbers_by_hand():
    old = Store({"a": regions(), "b": regions(), "c": regions(), "gone": regions()})
    new = Store({"a": regions(), "b": regions(5, (0, 1)), "c": regions(4, (0, 1))})
    found = compare_regions(new, old)
    assert (found.pictures, found.missing, found.damaged, found.keys) == (3, 1, 0, "same")
    assert found.mean_iou == pytest.approx((1 + 0.5 + 0.4) / 3)
    assert found.overlapping == pytest.approx(2 / 3)
    assert found.mean_cosine == pytest.approx(0.5)  # of the two that overlap: 1 and 0
    assert [one.key for one in found.worst] == ["c", "b", "a"]


def test_the_worst_are_kept_and_no_more():
    sides = np.random.default_rng(0).permutation(np.linspace(1, 10, 3 * WORST))
    old = Store({f"{i}": regions() for i in range(len(sides))})
    found = compare_regions(Store({f"{i}": regions(float(side)) for i, side in enumerate(sides)}), old)
    assert [one.key for one in found.worst] == [f"{i}" for i in np.argsort(sides)[:WORST]]


def test_a_damaged_row_of_either_costs_itself():
    old = Store({"a": regions(), "b": None, "c": regions()}, "old")
    new = Store({"a": regions(), "b": regions(), "c": None}, "new")
    found = compare_regions(new, old)
    assert (found.pictures, found.damaged, found.mean_iou) == (1, 2, pytest.approx(1))
    assert found.damage == {
        "b": "the regions in old are damaged: 7 bytes",
        "c": "the regions in new are damaged: 7 bytes",
    }
    with pytest.raises(DataError, match=r"of the 3 pictures looked at none can be compared \('a': the regions in old"):
        compare_regions(new, Store(dict.fromkeys("abc"), "old"))


def test_a_picture_that_only_the_new_has_sized_is_compared():
    unit = replace(regions(), height_px=None, width_px=None, boxes=np.array([[0, 0, 0.25, 0.5]], np.float32))
    old = Store({"a": unit})
    old.spec = replace(SPEC, box_unit="unit")
    assert compare_regions(Store({"a": regions()}), old).mean_iou == pytest.approx(1)


def _with(unit: str, plus_one: bool, *box: float, sized: bool) -> Store:
    size = {} if sized else {"height_px": None, "width_px": None}
    store = Store({"a": replace(regions(), boxes=np.array([box], np.float32), **size)})
    store.spec = replace(SPEC, box_unit=unit, plus_one=plus_one)
    return store


def test_boxes_are_compared_up_to_their_edges():
    """One box of a picture of 40 x 20, in both units and both conventions."""
    edges = _with("pixel", False, 0, 0, 10, 10, sized=True)
    for other in (
        _with("pixel", True, 0, 0, 9, 9, sized=True),
        _with("unit", True, 0, 0, 9 / 40, 9 / 20, sized=False),
        _with("unit", False, 0, 0, 10 / 40, 10 / 20, sized=False),
    ):
        assert compare_regions(edges, other).mean_iou == pytest.approx(1)
        assert compare_regions(other, edges).mean_iou == pytest.approx(1)


def test_of_a_picture_of_unknown_size_what_is_alike_is_compared():
    """In pixels, of which any number is as good as another; or in shares of one convention."""
    last = _with("pixel", True, 4, 4, 4, 9, sized=False)
    assert compare_regions(last, last).mean_iou == pytest.approx(1)
    assert compare_regions(_with("pixel", False, 4, 4, 5, 10, sized=False), last).mean_iou == pytest.approx(1)
    shares = [_with("unit", plus_one, 0, 0, 0.5, 0.5, sized=False) for plus_one in (False, True)]
    assert [compare_regions(one, one).mean_iou for one in shares] == [pytest.approx(1)] * 2
    for one, other, why in (
        (*shares, "go up to their last pixels"),
        (last, shares[1], "do not say how large the picture is"),
    ):
        with pytest.raises(DataError, match=why):
            compare_regions(one, other)


@pytest.mark.parametrize(
    ("mine", "theirs", "rule"),
    [
        ("cat/4711.jpg", "cat/4711.jpg", "same"),
        ("4711.jpg", "4711.jpg.npz", "name"),
        ("img/dev-0-0-img0.png", "nlvr2_dev-0-0-img0.npz", "name"),
        ("1000092795.jpg", "flickr30k_1000092795.npz", "name"),
        ("COCO_val2014_000000000042.jpg", "coco_val2014_000000000042.npz", "name"),
        ("COCO_val2014_000000000042.jpg", "42", "number"),
        ("000000000042", "coco_train2014_000000000042.npz", "name"),
        ("1000092795", "flickr30k_001000092795.npz", "number"),
        ("train-000012", "12", "number"),
    ],
)
def test_keys_of_files_are_found_in_ours(mine, theirs, rule):
    match = match_keys(named(mine, "other.jpg"), named(theirs, "nowhere"))
    assert (match.rule, match.of(theirs), match.of("nowhere")) == (rule, mine, None)
    assert compare_regions(named(mine, "other.jpg"), named(theirs)).pictures == 1


def test_names_that_mean_two_pictures_match_none():
    with pytest.raises(DataError, match=r"number was of no use: 'dev-1-img0' and 'dev-2-img0' of mine would be one"):
        match_keys(named("dev-1-img0", "dev-2-img0", name="mine"), named("0"))
    with pytest.raises(DataError, match=r"name was of no use: 'a/1\.jpg' and 'b/1\.jpg' of mine"):
        match_keys(named("a/1.jpg", "b/1.jpg", name="mine"), named("1.npz"), "name")


def test_no_common_picture_shows_three_keys_of_each():
    with pytest.raises(
        DataError, match=r"one and two share no picture by same, name, number.* like 'a', 'b', 'c'; .* like 'x', 'y'$"
    ):
        match_keys(named(*"abcd", name="one"), named(*"xy", name="two"))
    with pytest.raises(DataError, match="share no picture by same"):
        match_keys(named("1"), named("01"), "same")
    with pytest.raises(UsageError, match="no way to match keys 'nmae'; did you mean 'name'"):
        match_keys(named("1"), named("1"), "nmae")
