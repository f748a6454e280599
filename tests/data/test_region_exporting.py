"""Regions as files of others and back: what each form holds, what it leaves out, and a killed export."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diptych.data import region_exporting
from diptych.data.region_compare import compare_regions
from diptych.data.region_exporting import NAMES, export_regions
from diptych.data.region_files.detect import detect, open_regions
from diptych.data.region_files.uniter_lmdb import UniterLmdb
from diptych.data.region_importing import import_regions
from diptych.data.region_join import check_same
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec, box_shares
from diptych.data.rejects import read_rejects
from diptych.errors import DataError, UsageError

GOLDEN = Path(__file__).parent.parent / "golden"
DETECTOR = GOLDEN / "detector"
IMAGES = GOLDEN / "uniter" / "fixtures" / "img"
OSCAR = GOLDEN / "oscar" / "fixtures"


SPEC = RegionSpec(
    detector="toy",
    detector_hash="ab" * 32,
    rule="all",
    feature_kind="drawn",
    feature_width=3,
    classes=("cat", "dog"),
    box_kind="given",
)


def _store(out: Path, spec: RegionSpec = SPEC, num: int = 9):
    rng = np.random.default_rng(0)
    with RegionWriter(out, spec, soft_labels=True, pictures_per_shard=4) as writer:
        for i in range(num):
            corner = rng.integers(0, 16, (i % 4, 2)) / 32
            boxes = np.concatenate([corner, corner + 0.25], axis=1) * [64, 32, 64, 32]
            softmax = rng.dirichlet(np.ones(3), i % 4)
            regions = Regions(
                height_px=32,
                width_px=64,
                boxes=boxes.astype(np.float32),
                features=rng.normal(size=(i % 4, 3)).astype(np.float16),
                scores=softmax[:, 1:].max(axis=1, initial=0).astype(np.float32),
                soft_labels=softmax.astype(np.float32),
            )
            writer.add(f"picture{i}", regions)
    return open_region_table(out)


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("format_", NAMES)
def test_what_is_exported_and_imported_again_is_the_same(format_, plus_one, tmp_path):
    store = _store(tmp_path / "r", replace(SPEC, plus_one=plus_one))
    out = tmp_path / {"butd-tsv": "a.tsv", "lxmert-tsv": "b.tsv"}.get(format_, "folder")
    assert export_regions(store, out, format=format_).pictures == 9
    back = open_regions(out)
    assert back.format == format_ and back.spec.detector_hash == SPEC.detector_hash
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


def _of_rule_b(out: Path):
    """Scores that are not the class's probability, two classes and an attribute of each region, no soft labels."""
    regions = Regions(
        height_px=32,
        width_px=64,
        boxes=np.array([[0, 0, 8, 8], [1, 2, 30, 31]], np.float32),
        features=np.ones((2, 3), np.float16),
        scores=np.array([0.75, 0.25], np.float32),
        class_ids=np.array([[1, 0], [0, 1]], np.int32),
        class_probs=np.array([[0.5, 0.25], [0.5, 0.125]], np.float32),
        attribute_ids=np.array([[1], [0]], np.int32),
        attribute_probs=np.array([[0.5], [0.25]], np.float32),
    )
    with RegionWriter(out, replace(SPEC, attributes=("brown", "wet")), num_attributes_kept=1) as writer:
        writer.add("a", regions)
    return open_region_table(out)


LEFT_OUT = {
    "butd-tsv": {"scores", "classes", "attributes"},
    "lxmert-tsv": {"scores", "classes behind the likeliest"},
    "oscar-tsv": {"classes behind the likeliest"},
    "uniter-npz": {"the pictures' sizes", "classes", "attributes"},
}


@pytest.mark.parametrize("format_", NAMES)
def test_what_a_format_does_not_hold_is_told_and_never_invented(format_, tmp_path):
    store = _of_rule_b(tmp_path / "r")
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
        check_same(replace_spec(store, box_unit=again.spec.box_unit), again)


def replace_spec(store, **changes):
    store.spec = replace(store.spec, **changes)
    return store


def test_files_of_others_say_what_their_scores_are():
    assert open_regions(DETECTOR / "sample_butd.tsv").spec.score_kind == "none"
    assert open_regions(DETECTOR / "sample_lxmert.tsv").spec.score_kind == "class"
    assert open_regions(DETECTOR / "sample_uniter.npz").spec.score_kind == "rule"
    assert open_regions(OSCAR / "retrieval").spec.score_kind == "class"


def test_no_attributes_are_read_out_of_columns_of_zeros(tmp_path):
    store = _store(tmp_path / "r")
    export_regions(store, tmp_path / "out", format="lxmert-tsv")
    assert open_regions(tmp_path / "out").regions("picture3").attribute_ids is None


@pytest.mark.parametrize("format_", ["butd-tsv", "oscar-tsv", "uniter-npz"])
def test_an_export_that_was_killed_goes_on_from_any_byte(format_, tmp_path):
    store = _store(tmp_path / "r")
    export_regions(store, tmp_path / "whole", format=format_)
    partial = tmp_path / "out.partial"
    main = tmp_path / "whole" if format_ == "butd-tsv" else sorted((tmp_path / "whole").iterdir())[-1]
    if format_ == "oscar-tsv":
        main = tmp_path / "whole" / "features.tsv"
    for size in range(0, main.stat().st_size, 97):
        if format_ == "butd-tsv":
            partial.write_bytes(main.read_bytes()[:size])
        else:
            shutil.copytree(tmp_path / "whole", partial)
            name = main.name if format_ == "oscar-tsv" else f".{main.name}.1.tmp"
            (partial / name).write_bytes(main.read_bytes()[:size])
        (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, format_)))
        export_regions(store, tmp_path / "out", format=format_)
        if format_ == "butd-tsv":
            assert (tmp_path / "out").read_bytes() == main.read_bytes()
            (tmp_path / "out").unlink()
        else:
            for file in (tmp_path / "whole").iterdir():
                if file.suffix != ".json":
                    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
            shutil.rmtree(tmp_path / "out")


def test_an_export_of_another_kind_is_not_gone_on_with(tmp_path):
    store = _store(tmp_path / "r")
    export_regions(store, tmp_path / "whole", format="butd-tsv")
    (tmp_path / "out.partial").write_bytes((tmp_path / "whole").read_bytes()[:500])
    (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, "butd-tsv")))
    with pytest.raises(DataError, match=r"another export \(format: butd-tsv there, lxmert-tsv here\); go on with that"):
        export_regions(store, tmp_path / "out", format="lxmert-tsv")
    named = replace_spec(_store(tmp_path / "s"), rule="best")
    named.path = store.path
    with pytest.raises(DataError, match=r"\(rule: 'all' and 'best'\)"):
        export_regions(named, tmp_path / "out", format="butd-tsv")
    told = (tmp_path / "out.partial.json").read_text()
    (tmp_path / "out.partial.json").write_text(told[:20])
    with pytest.raises(DataError, match=r"\(nothing beside it says of what\).* or remove .*out\.partial to start"):
        export_regions(store, tmp_path / "out", format="butd-tsv")
    (tmp_path / "out.partial.json").write_text(told)
    export_regions(store, tmp_path / "out", format="butd-tsv")
    assert not (tmp_path / "out.partial.json").exists()


def test_keys_may_not_lead_out_of_the_folder(tmp_path):
    regions = _store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", SPEC) as writer:
        writer.add("../../up", regions)
    with pytest.raises(DataError, match="may not lead out"):
        export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="uniter-npz")
    with pytest.raises(UsageError, match="did you mean 'butd-tsv'"):
        export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="butd_tsv")


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


@pytest.mark.parametrize("format_", ["butd-tsv", "uniter-npz", "oscar-tsv"])
def test_an_export_goes_on_behind_a_damaged_row(format_, tmp_path):
    """Row 2 of 4 is damaged, the export is stopped behind row 3 and goes on; then the row is mended, and so again."""
    export_regions(_store(tmp_path / "r"), tmp_path / "old", format="oscar-tsv")
    features = tmp_path / "old" / "features.tsv"
    whole = features.read_bytes()
    rows = whole.splitlines(keepends=True)
    features.write_bytes(rows[0] + rows[1][:-9] + b"\n" + b"".join(rows[2:]))
    keys = [row.split(b"\t")[0].decode() for row in rows]
    out, bad = tmp_path / "out", keys.pop(1)
    result = export_regions(open_regions(tmp_path / "old"), out, format=format_)
    assert (result.pictures, result.rejects) == (len(keys), 1) and list(result.reasons.values()) == [1]
    assert [reject.key for reject in read_rejects(tmp_path / "out.rejects.jsonl")] == [bad]
    suffix = ".npz" if format_ == "uniter-npz" else ""
    assert sorted(open_regions(out).keys()) == sorted(key + suffix for key in keys)

    partial = tmp_path / "out.partial"
    out.rename(partial)
    features.write_bytes(whole)
    store = open_regions(tmp_path / "old")
    (tmp_path / "out.partial.json").write_text(json.dumps(region_exporting._about(store, format_)))
    result = export_regions(store, out, format=format_)
    assert (result.pictures, result.rejects) == (len(rows), 0) and not (tmp_path / "out.rejects.jsonl").exists()
    found = open_regions(out)
    for key in (bad, *keys):
        np.testing.assert_array_equal(found.regions(key + suffix).features, store.regions(key).features)


def test_an_export_of_damaged_rows_alone_is_refused(tmp_path):
    export_regions(_store(tmp_path / "r"), tmp_path / "old.tsv", format="lxmert-tsv")
    store = open_regions(tmp_path / "old.tsv")
    (tmp_path / "old.tsv").write_bytes(b"\n".join(b"x" for _ in range(9)))
    for format_ in NAMES:
        with pytest.raises(
            DataError, match=r"has no whole row \(the regions of 'picture0' in .* are damaged: 1 columns"
        ):
            export_regions(store, tmp_path / format_, format=format_)
    assert _left(tmp_path) == {"r", "old.tsv", "old.tsv.regions.json"}


def _left(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    """Regions without classes, which LXMERT's and Oscar's files hold; the formats that are advised are written."""
    store = open_regions(DETECTOR / "sample_butd.tsv")
    with pytest.raises(DataError, match="it has no classes, which lxmert-tsv holds; write butd-tsv or uniter-npz"):
        export_regions(store, tmp_path / "out", format="lxmert-tsv")
    with pytest.raises(DataError, match="it has no classes, which oscar-tsv holds; write butd-tsv or uniter-npz"):
        export_regions(store, tmp_path / "out", format="oscar-tsv")
    assert _left(tmp_path) == set()
    for format_ in ("butd-tsv", "uniter-npz"):
        assert export_regions(store, tmp_path / format_, format=format_).pictures == len(store)


def test_what_is_advised_works_for_this_store(tmp_path):
    """Features of Oscar's without labels and sizes, under keys that are no names of files, fit nothing."""
    (tmp_path / "old").mkdir()
    rows = (OSCAR / "retrieval" / "features.tsv").read_bytes().splitlines(keepends=True)
    (tmp_path / "old" / "features.tsv").write_bytes(b"".join(b"a/" + row for row in rows))
    store = open_regions(tmp_path / "old")
    for format_ in NAMES:
        with pytest.raises(DataError, match=r"; `diptych regions import` keeps them as they are$"):
            export_regions(store, tmp_path / "out", format=format_)
    assert import_regions(store, tmp_path / "store").pictures == len(rows)


def test_rejects_of_one_kind_have_one_reason(tmp_path):
    regions = _store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", SPEC) as writer:
        for key in ("a", "b/c", "b/d"):
            writer.add(key, regions)
    result = export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="uniter-npz")
    assert result.reasons == {"its key is no name of a file, and may not lead out of the folder": 2}


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


def test_one_picture_that_does_not_fit_costs_itself_and_a_line(tmp_path):
    regions = _store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", SPEC, soft_labels=True) as writer:
        for key in ("a", "b\tc", "../d"):
            writer.add(key, regions)
    store = open_region_table(tmp_path / "s")
    for format_, bad, why in (("butd-tsv", "b\tc", "white space"), ("uniter-npz", "../d", "may not lead out")):
        result = export_regions(store, tmp_path / format_, format=format_)
        assert (result.pictures, result.rejects) == (2, 1)
        (reject,) = read_rejects(tmp_path / f"{format_}.rejects.jsonl")
        assert reject.key == bad and why in reject.reason


@pytest.mark.parametrize("format_", ["butd-tsv", "uniter-npz"])
@pytest.mark.parametrize("source", ["sample_butd.tsv", "sample_lxmert.tsv"])
def test_an_export_of_the_golden_files_has_their_boxes(source, format_, tmp_path):
    """Whatever the format's own convention, and the file's: 1 pixel of 100 is 2 % of IoU, float16 0.2 %."""
    store = open_regions(DETECTOR / source)
    export_regions(store, tmp_path / "out", format=format_)
    found = compare_regions(open_regions(tmp_path / "out"), store)
    assert found.pictures == 3 and found.mean_iou == pytest.approx(1, abs=1e-6 if format_ == "butd-tsv" else 5e-3)


def test_both_of_oscars_files_hold_one_convention(tmp_path):
    """The last pixels inside of the source, in the rects as in the last six numbers."""
    store = _store(tmp_path / "r", replace(SPEC, plus_one=True))
    export_regions(store, tmp_path / "out", format="oscar-tsv")
    found = open_regions(tmp_path / "out")
    assert found.spec.plus_one and found.spec.box_unit == "unit"
    for row in (tmp_path / "out" / "predictions.tsv").read_text().splitlines():
        key, told = row.split("\t")
        rects = np.float32([one["rect"] for one in json.loads(told)["objects"]]).reshape(-1, 4)
        np.testing.assert_array_equal(rects, store.regions(key).boxes)
        np.testing.assert_array_equal(rects, found.regions(key).boxes * np.float32([64, 32, 64, 32]))


def test_oscars_files_without_sizes_are_written_as_what_holds_shares(tmp_path):
    store = open_regions(OSCAR / "caption")
    assert store.regions("60623").height_px is None
    for format_ in ("butd-tsv", "lxmert-tsv"):
        with pytest.raises(
            DataError, match=r"the regions of '391895': the size .* is not known, .*; write uniter-npz or oscar-tsv"
        ):
            export_regions(store, tmp_path / format_, format=format_)
    for format_ in ("uniter-npz", "oscar-tsv"):
        export_regions(store, tmp_path / format_, format=format_)
        found = compare_regions(open_regions(tmp_path / format_), store)
        assert found.pictures == len(store) and found.mean_iou == pytest.approx(1, abs=5e-3)
    back = open_regions(tmp_path / "oscar-tsv")
    assert back.tags("60623") == store.tags("60623") and back.spec.classes == store.spec.classes
    np.testing.assert_array_equal(back.regions("60623").boxes, store.regions("60623").boxes)
    assert _left(tmp_path) == {"uniter-npz", "uniter-npz.regions.json", "oscar-tsv"}


def test_pixels_of_pictures_of_unknown_size_can_be_imported_alone(tmp_path):
    feature = base64.b64encode(np.ones(3, "<f4").tobytes()).decode()
    sky = {"rect": [0, 0, 9, 9], "class": "sky", "conf": 0.25, "feature": feature}
    (tmp_path / "predictions.tsv").write_text(f"3\t{json.dumps({'objects': [sky]})}\n")
    store = open_regions(tmp_path / "predictions.tsv")
    for format_ in NAMES:
        with pytest.raises(
            DataError, match=r"in pixels of a picture whose size is not known.*`diptych regions import`"
        ):
            export_regions(store, tmp_path / format_, format=format_)
    assert _left(tmp_path) == {"predictions.tsv"}
    import_regions(store, tmp_path / "out")
    assert compare_regions(open_region_table(tmp_path / "out"), store).mean_iou == pytest.approx(1)


def test_a_store_beside_itself_agrees_and_beside_another_does_not(tmp_path):
    store = _store(tmp_path / "r")
    same = compare_regions(store, store)
    assert (same.pictures, same.missing) == (9, 0)
    assert same.mean_iou == pytest.approx(1) and same.mean_cosine == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="features of 3 and of 128"):
        compare_regions(store, open_regions(DETECTOR / "sample_butd.tsv"))


def test_a_vocabulary_that_is_told_outlasts_oscars_labels(tmp_path):
    store = _store(tmp_path / "r")
    export_regions(store, tmp_path / "oscar", format="oscar-tsv")
    back = open_regions(tmp_path / "oscar")
    assert (back.spec.classes, back.spec.attributes) == (store.spec.classes, store.spec.attributes)
    named = [key for key in list(back.keys()) if len(back.regions(key))]
    assert named
    for key in named:
        np.testing.assert_array_equal(back.regions(key).class_ids[:, 0], store.regions(key).class_ids[:, 0])


def test_detect_names_what_it_is(tmp_path):
    _store(tmp_path / "r")
    assert detect(tmp_path / "r") == "diptych"
    assert detect(IMAGES / "vcr_train" / "feat_th0.2_max100_min10") == "uniter-lmdb"
    assert isinstance(
        pickle.loads(pickle.dumps(open_regions(IMAGES / "vcr_train/feat_th0.2_max100_min10"))), UniterLmdb
    )
