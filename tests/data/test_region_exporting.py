"""Regions as files of others and back: what each form holds, and what it leaves out."""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_compare import compare_regions
from diptych.data.region_exporting import NAMES, export_regions
from diptych.data.region_files.detect import detect, open_regions
from diptych.data.region_files.uniter_lmdb import UniterLmdb
from diptych.data.region_importing import import_regions
from diptych.data.region_join import check_same
from diptych.data.region_store import open_region_table
from diptych.data.regions import box_shares
from diptych.data.rejects import read_rejects
from diptych.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
DETECTOR = GOLDEN / "detector"
IMAGES = GOLDEN / "uniter" / "fixtures" / "img"
OSCAR = GOLDEN / "oscar" / "fixtures"


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("format_", NAMES)
def test_what_is_exported_and_imported_again_is_the_same(format_, plus_one, tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r", replace(toy_regions.SPEC, plus_one=plus_one))
    out = tmp_path / {"butd-tsv": "a.tsv", "lxmert-tsv": "b.tsv"}.get(format_, "folder")
    assert export_regions(store, out, format=format_).pictures == 9
    back = open_regions(out)
    assert back.format == format_ and back.spec.detector_hash == toy_regions.SPEC.detector_hash
    assert back.spec.plus_one == plus_one  # which the files alone do not say
    result = import_regions(back, tmp_path / "again")
    assert (result.pictures, result.rejects) == (9, 0)
    again = open_region_table(tmp_path / "again")
    for key in list(store.keys()):
        old, new = store.regions(key), again.regions(key + ".npz" if format_ == "uniter-npz" else key)
        assert new.features.tobytes() == old.features.tobytes()
        scale = [64, 32, 64, 32] if again.spec.box_unit == "unit" else 1
        np.testing.assert_array_equal(new.boxes * np.float32(scale), old.boxes)
        shares = [box_shares(key, regions, of.spec) for regions, of in ((new, again), (old, store))]
        np.testing.assert_array_equal(*shares)  # what a network reads
        if format_ == "uniter-npz":
            np.testing.assert_array_equal(new.soft_labels, old.soft_labels)
        if format_ != "butd-tsv" and len(old):
            np.testing.assert_array_equal(new.class_ids[:, 0], old.class_ids[:, 0])


LEFT_OUT = {
    "butd-tsv": {"scores", "classes", "attributes"},
    "lxmert-tsv": {"scores", "classes behind the likeliest"},
    "oscar-tsv": {"classes behind the likeliest"},
    "uniter-npz": {"the pictures' sizes", "classes", "attributes"},
}


@pytest.mark.parametrize("format_", NAMES)
def test_what_a_format_does_not_hold_is_told_and_never_invented(format_, tmp_path, toy_regions):
    store = toy_regions.of_rule_b(tmp_path / "r")
    result = export_regions(store, tmp_path / "out", format=format_)
    assert set(result.left_out) == LEFT_OUT[format_]
    back = open_regions(tmp_path / "out")
    import_regions(back, tmp_path / "again")
    again = open_region_table(tmp_path / "again")
    kind = {"butd-tsv": "none", "lxmert-tsv": "class"}.get(format_, "rule")
    assert again.spec.score_kind == back.spec.score_kind == kind
    found, was = (one.regions(next(one.keys())) for one in (again, store))
    expected = {"none": np.ones(2), "class": was.class_probs[:, 0], "rule": was.scores}[kind]
    np.testing.assert_array_equal(found.scores, expected)
    if format_ in ("lxmert-tsv", "oscar-tsv"):
        np.testing.assert_array_equal(found.attribute_ids[:, :1], was.attribute_ids)
        np.testing.assert_array_equal(found.attribute_probs[:, :1], was.attribute_probs)
    else:
        assert found.class_ids is None and found.attribute_ids is None
    with pytest.raises(DataError, match="not made alike") if kind != "rule" else nullcontext():
        check_same(toy_regions.replace_spec(store, box_unit=again.spec.box_unit), again)


def test_files_of_others_say_what_their_scores_are():
    assert open_regions(DETECTOR / "sample_butd.tsv").spec.score_kind == "none"
    assert open_regions(DETECTOR / "sample_lxmert.tsv").spec.score_kind == "class"
    assert open_regions(DETECTOR / "sample_uniter.npz").spec.score_kind == "rule"
    assert open_regions(OSCAR / "retrieval").spec.score_kind == "class"


def test_no_attributes_are_read_out_of_columns_of_zeros(tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r")
    export_regions(store, tmp_path / "out", format="lxmert-tsv")
    assert open_regions(tmp_path / "out").regions("picture3").attribute_ids is None


def test_a_corrupt_row_costs_itself_and_a_line(tmp_path):
    rows = (DETECTOR / "sample_butd.tsv").read_bytes().splitlines()
    cells = rows[1].split(b"\t")
    cells[4] = cells[4][:-8]
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\n".join([rows[0], b"\t".join(cells), rows[2]]) + b"\n")
    result = import_regions(open_regions(path), tmp_path / "out")
    assert (result.pictures, result.rejects) == (2, 1)
    assert list(open_region_table(tmp_path / "out").keys()) == ["7", "9"]
    (reject,) = read_rejects(tmp_path / "out" / "rejects.jsonl")
    assert reject.key == "8" and "boxes has 42 bytes; expected 3 rows of 4 numbers" in reject.reason


def test_names_make_classes_of_soft_labels(tmp_path):
    """UNITER's npz has no classes but the softmax: its likeliest, as an import keeps it, goes by the names given."""
    npz = DETECTOR / "sample_uniter.npz"
    with pytest.raises(
        DataError, match="no names, which oscar-tsv holds; give them by --classes FILE, or write uniter"
    ):
        export_regions(open_regions(npz), tmp_path / "pair", format="oscar-tsv")
    names = tuple(f"thing {number}" for number in range(12))
    export_regions(open_regions(npz, classes=names), tmp_path / "pair", format="oscar-tsv")
    import_regions(open_regions(npz, classes=names), tmp_path / "store")
    found, expected = (open_regions(tmp_path / name) for name in ("pair", "store"))
    key = npz.name
    expected_names = [names[first] for first in expected.regions(key).class_ids[:, 0]]
    assert [found.spec.classes[first] for first in found.regions(key).class_ids[:, 0]] == expected_names
    with pytest.raises(DataError, match="import the old files again with --classes FILE"):
        import_regions(open_regions(npz), tmp_path / "nameless")
        export_regions(open_region_table(tmp_path / "nameless"), tmp_path / "other", format="oscar-tsv")


def test_a_side_file_of_another_file_is_told(tmp_path):
    file = tmp_path / "a.tsv"
    export_regions(open_regions(DETECTOR / "sample_butd.tsv"), file, format="butd-tsv")
    assert open_regions(file).spec.plus_one
    shutil.copy(DETECTOR / "sample_lxmert.tsv", file)
    with pytest.raises(
        DataError, match=r"of the format butd-tsv was made with, and .* is lxmert-tsv, another file; rem"
    ):
        open_regions(file)
    (tmp_path / "a.tsv.regions.json").unlink()
    assert not open_regions(file).spec.plus_one
    export_regions(open_regions(file), tmp_path / "npz", format="uniter-npz")
    side = tmp_path / "npz.regions.json"
    side.write_text(side.read_text().replace('"format": "uniter-npz"', '"format": "oscar-tsv"'))
    with pytest.raises(DataError, match="is uniter-npz, another file"):
        open_regions(tmp_path / "npz")


def test_nothing_is_left_out_that_was_not_there(tmp_path):
    scoreless = export_regions(open_regions(DETECTOR / "sample_butd.tsv"), tmp_path / "a.tsv", format="butd-tsv")
    assert scoreless.left_out == ()
    npz = open_regions(DETECTOR / "sample_uniter.npz")
    assert export_regions(npz, tmp_path / "npz", format="uniter-npz").left_out == ()
    pair = export_regions(open_regions(OSCAR / "retrieval"), tmp_path / "pair", format="uniter-npz")
    assert "digits of boxes and scores that float16 has not" in pair.left_out


@pytest.mark.parametrize("format_", ["butd-tsv", "uniter-npz"])
@pytest.mark.parametrize("source", ["sample_butd.tsv", "sample_lxmert.tsv"])
def test_an_export_of_the_golden_files_has_their_boxes(source, format_, tmp_path):
    """Whatever the format's own convention, and the file's: 1 pixel of 100 is 2 % of IoU, float16 0.2 %."""
    store = open_regions(DETECTOR / source)
    export_regions(store, tmp_path / "out", format=format_)
    found = compare_regions(open_regions(tmp_path / "out"), store)
    assert found.pictures == 3 and found.mean_iou == pytest.approx(1, abs=1e-6 if format_ == "butd-tsv" else 5e-3)


def test_both_of_oscars_files_hold_one_convention(tmp_path, toy_regions):
    """The last pixels inside of the source, in the rects as in the last six numbers."""
    store = toy_regions.store(tmp_path / "r", replace(toy_regions.SPEC, plus_one=True))
    export_regions(store, tmp_path / "out", format="oscar-tsv")
    found = open_regions(tmp_path / "out")
    assert found.spec.plus_one and found.spec.box_unit == "unit"
    for row in (tmp_path / "out" / "predictions.tsv").read_text().splitlines():
        key, told = row.split("\t")
        rects = np.float32([one["rect"] for one in json.loads(told)["objects"]]).reshape(-1, 4)
        np.testing.assert_array_equal(rects, store.regions(key).boxes)
        np.testing.assert_array_equal(rects, found.regions(key).boxes * np.float32([64, 32, 64, 32]))


def test_a_store_beside_itself_agrees_and_beside_another_does_not(tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r")
    same = compare_regions(store, store)
    assert (same.pictures, same.missing) == (9, 0)
    assert same.mean_iou == pytest.approx(1) and same.mean_cosine == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="features of 3 and of 128"):
        compare_regions(store, open_regions(DETECTOR / "sample_butd.tsv"))


def test_a_vocabulary_that_is_told_outlasts_oscars_labels(tmp_path, toy_regions):
    store = toy_regions.store(tmp_path / "r")
    export_regions(store, tmp_path / "oscar", format="oscar-tsv")
    back = open_regions(tmp_path / "oscar")
    assert (back.spec.classes, back.spec.attributes) == (store.spec.classes, store.spec.attributes)
    named = [key for key in list(back.keys()) if len(back.regions(key))]
    assert named
    for key in named:
        np.testing.assert_array_equal(back.regions(key).class_ids[:, 0], store.regions(key).class_ids[:, 0])


def test_detect_names_what_it_is(tmp_path, toy_regions):
    toy_regions.store(tmp_path / "r")
    assert detect(tmp_path / "r") == "diptych"
    assert detect(IMAGES / "vcr_train" / "feat_th0.2_max100_min10") == "uniter-lmdb"
    assert isinstance(
        pickle.loads(pickle.dumps(open_regions(IMAGES / "vcr_train/feat_th0.2_max100_min10"))), UniterLmdb
    )
