"""Regions and tags as fields of samples, and what may not be mixed."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_exporting import export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.region_join import RegionColumns, TagRule, join_regions, spec_of
from diptych.data.region_shards import RegionShards
from diptych.data.region_store import RegionTable, RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec, box_shares
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.data.tags import tags_of
from diptych.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
SPEC = RegionSpec(
    detector="toy",
    detector_hash="",
    rule="all",
    feature_kind="drawn",
    feature_width=2,
    classes=("Cat", "stop sign,stopsign", "tree"),
    attributes=("red", "grey,gray"),
    box_kind="given",
)


def _regions(ids: list[int], probs: list[float]) -> Regions:
    num = len(ids)
    return Regions(
        height_px=8,
        width_px=8,
        boxes=np.tile(np.array([1, 2, 3, 4], dtype=np.float32), (num, 1)),
        features=np.ones((num, 2), dtype=np.float16),
        scores=np.array(probs, dtype=np.float32),
        class_ids=np.array(ids, dtype=np.int32)[:, None],
        class_probs=np.array(probs, dtype=np.float32)[:, None],
        attribute_ids=np.ones((num, 1), dtype=np.int32),
        attribute_probs=np.array(probs, dtype=np.float32)[:, None] / 2,
    )


def _store(out: Path, keys: list[str], spec: RegionSpec = SPEC) -> RegionTable:
    with RegionWriter(out, spec, num_classes_kept=1, num_attributes_kept=1) as writer:
        for key in keys:
            writer.add(key, _regions([2, 0, 2, 1], [0.9, 0.1, 0.5, 0.7]))
    return open_region_table(out)


@pytest.fixture
def rows(tmp_path):
    with TableWriter(tmp_path / "t") as writer:
        for key in ("a", "b", "c"):
            writer.add("train", key=key, texts=["a text"])
    return open_table(tmp_path / "t").split("train")


def test_tags_are_in_the_detectors_order_with_repeats():
    regions = _regions([2, 0, 2, 1], [0.9, 0.1, 0.5, 0.7])
    assert tags_of(regions, SPEC) == ("tree", "tree", "stop sign")
    assert tags_of(regions, SPEC, unique=True) == ("tree", "stop sign")
    assert tags_of(regions, SPEC, threshold=0.05)[1] == "cat"
    assert tags_of(regions, SPEC, attribute_threshold=0.3) == ("grey tree", "tree", "grey stop sign")
    with pytest.raises(DataError, match="no named classes"):
        tags_of(regions, replace(SPEC, classes=()))


def test_samples_ask_for_regions_and_tags_by_key(rows, tmp_path):
    stores = [_store(tmp_path / "r", ["b", "a"]), _store(tmp_path / "s", ["c"])]
    joined = join_regions(rows, stores, tags=TagRule(unique=True), num_classes=3)
    for found in (joined, pickle.loads(pickle.dumps(joined))):
        for row in range(3):
            sample = found.sample(row, ["regions", "tags"])
            assert len(sample.fields["regions"]) == 4 and sample.fields["tags"] == ("tree", "stop sign")
    assert rows.sample(0).fields == {}


def test_a_row_without_regions_names_the_command(rows, tmp_path):
    joined = join_regions(rows, [_store(tmp_path / "r", ["a"])])
    with pytest.raises(
        DataError, match=r"no regions of the picture 'b' \(its first is 'a'\); make them of the table of the pictures"
    ):
        joined.sample(1, ["regions"])


def test_stores_made_in_other_ways_are_not_mixed(rows, tmp_path):
    first = _store(tmp_path / "r", ["a"])
    for number, (changed, told) in enumerate(
        [
            (replace(SPEC, detector_hash="ff"), "detector_hash: '' and 'ff'"),
            (replace(SPEC, rule="first 3"), "rule: 'all' and 'first 3'"),
            (replace(SPEC, classes=SPEC.classes[::-1]), "classes: name 0 is 'Cat' and 'tree'"),
        ]
    ):
        with pytest.raises(DataError, match=f"may not be mixed .{told}"):
            join_regions(rows, [first, _store(tmp_path / f"s{number}", ["b"], changed)])
    with pytest.raises(DataError, match="vocabulary of 3 classes and the model expects 1,600"):
        join_regions(rows, [first], num_classes=1600)
    with pytest.raises(DataError, match="no store of regions to join"):
        join_regions(rows, [])


def test_old_files_are_joined_as_ours_are(tmp_path):
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="60623", texts=["two dogs"])
        writer.add("train", key="391895", texts=["a man"])
    rows = join_regions(
        open_table(tmp_path / "t").split("train"), [open_regions(GOLDEN / "oscar" / "fixtures" / "retrieval")]
    )
    sample = pickle.loads(pickle.dumps(rows)).sample(0, ["regions", "tags"])
    assert sample.fields["tags"] == ("dog", "dog", "frisbee", "café", "grass", "person")
    assert len(sample.fields["regions"]) == 6


def test_keys_of_another_form_are_found_by_a_function(rows, tmp_path):
    joined = join_regions(rows, [_store(tmp_path / "r", ["A", "B", "C"])], key_of=str.upper)
    assert joined.sample(2, ["tags"]).fields["tags"][0] == "tree"
    assert RegionColumns((_store(tmp_path / "s", ["x"]),)).columns == ("regions", "tags")


def test_boxes_of_samples_are_shares_of_the_picture(rows, tmp_path):
    joined = join_regions(rows, [_store(tmp_path / "r", ["a"])])
    assert spec_of(joined) == SPEC and spec_of(rows) is None
    (box, *_) = joined.sample(0, ["regions"]).fields["regions"].boxes.tolist()
    assert box == [1 / 8, 2 / 8, 3 / 8, 4 / 8]


def test_pixels_of_a_picture_of_unknown_size_are_refused():
    unknown = replace(_regions([0], [0.5]), height_px=None, width_px=None)
    assert box_shares("a", unknown, replace(SPEC, box_unit="unit")) is unknown.boxes
    with pytest.raises(DataError, match="do not say how large the picture is"):
        box_shares("a", unknown, SPEC)


def test_tags_of_label_files_take_the_whole_rule(tmp_path):
    store = _store(tmp_path / "r", ["a"])
    export_regions(store, tmp_path / "oscar", format="oscar-tsv")
    listed = RegionColumns((open_regions(tmp_path / "oscar"),), TagRule(attribute_threshold=0.1))
    ours = RegionColumns((store,), TagRule(attribute_threshold=0.1))
    assert listed.stored("a", "tags") == ours.stored("a", "tags")
    assert " " in ours.stored("a", "tags")[0]


def test_a_vocabulary_without_names_is_counted_by_its_soft_labels(rows, tmp_path):
    unnamed = replace(SPEC, classes=(), attributes=())
    shards = RegionShards(tmp_path / "r", unnamed, soft_labels=True, num_soft_labels=4, source="test")
    found = replace(_regions([0], [0.9]), class_ids=None, class_probs=None, attribute_ids=None, attribute_probs=None)
    shards.begin()
    shards.write(0, [shards.row("a", replace(found, soft_labels=np.full((1, 4), 0.25, np.float32)))])
    shards.finish()
    store = open_region_table(tmp_path / "r")
    assert store.regions("a").soft_labels.shape == (1, 4)
    join_regions(rows, [store], num_classes=3)
    with pytest.raises(DataError, match="a vocabulary of 3 classes and the model expects 7"):
        join_regions(rows, [store], num_classes=7)
