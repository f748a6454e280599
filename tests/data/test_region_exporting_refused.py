"""Regions, or pictures of them, that a format does not hold: what is refused, and what is advised instead."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_compare import compare_regions
from diptych.data.region_exporting import NAMES, export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.region_importing import import_regions
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.rejects import read_rejects
from diptych.errors import DataError, UsageError

GOLDEN = Path(__file__).parent.parent / "golden"
DETECTOR = GOLDEN / "detector"
OSCAR = GOLDEN / "oscar" / "fixtures"


def test_keys_may_not_lead_out_of_the_folder(tmp_path, toy_regions):
    regions = toy_regions.store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", toy_regions.SPEC) as writer:
        writer.add("../../up", regions)
    with pytest.raises(DataError, match="may not lead out"):
        export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="uniter-npz")
    with pytest.raises(UsageError, match="did you mean 'butd-tsv'"):
        export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="butd_tsv")


def test_an_export_of_damaged_rows_alone_is_refused(tmp_path, toy_regions):
    export_regions(toy_regions.store(tmp_path / "r"), tmp_path / "old.tsv", format="lxmert-tsv")
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


def test_rejects_of_one_kind_have_one_reason(tmp_path, toy_regions):
    regions = toy_regions.store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", toy_regions.SPEC) as writer:
        for key in ("a", "b/c", "b/d"):
            writer.add(key, regions)
    result = export_regions(open_region_table(tmp_path / "s"), tmp_path / "out", format="uniter-npz")
    assert result.reasons == {"its key is no name of a file, and may not lead out of the folder": 2}


def test_one_picture_that_does_not_fit_costs_itself_and_a_line(tmp_path, toy_regions):
    regions = toy_regions.store(tmp_path / "r").regions("picture3")
    with RegionWriter(tmp_path / "s", toy_regions.SPEC, soft_labels=True) as writer:
        for key in ("a", "b\tc", "../d"):
            writer.add(key, regions)
    store = open_region_table(tmp_path / "s")
    for format_, bad, why in (("butd-tsv", "b\tc", "white space"), ("uniter-npz", "../d", "may not lead out")):
        result = export_regions(store, tmp_path / format_, format=format_)
        assert (result.pictures, result.rejects) == (2, 1)
        (reject,) = read_rejects(tmp_path / f"{format_}.rejects.jsonl")
        assert reject.key == bad and why in reject.reason


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
