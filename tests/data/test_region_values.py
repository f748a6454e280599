"""Values that cannot be, in every old file of regions: each costs its row, and is told by its name."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.data.region_exporting import export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.old_store import OldStore
from diptych.data.region_files.values import count, items, number, parsed, text
from diptych.data.region_importing import import_regions
from diptych.errors import DataError
from diptych.report.region_summary import describe_regions

GOLDEN = Path(__file__).parent.parent / "golden"
PAIR = GOLDEN / "oscar" / "fixtures" / "retrieval"
LXMERT = GOLDEN / "detector" / "sample_lxmert.tsv"
NPZ = GOLDEN / "detector" / "sample_uniter.npz"
SIZES: list[Any] = ["100", [1], {}, True, -5, 0, 100.5, float("nan"), 10**30, 2**31, 1e400]


@pytest.mark.parametrize(
    "cell", [b"", b"-3", b"1.5", b"seven", b"1_2", "\u0663".encode(), b"\xff", b"9" * 20, b"2147483648"]
)
def test_a_count_is_a_whole_number(cell):
    with pytest.raises(ValueError, match=r"^img_w is '.*'.*; expected a whole number$"):
        count("img_w", cell)
    assert count("img_w", b"0") == 0 and count("img_w", b"2147483647") == 2**31 - 1


def test_values_of_json_are_taken_or_told():
    assert (number("conf", 0.5), number("conf", "0.5"), number("conf", 1)) == (0.5, 0.5, 1.0)
    for bad in ("x", None, [], True, float("nan"), 10**400):
        with pytest.raises(ValueError, match=r"^conf is .*; expected a number$"):
            number("conf", bad)
    with pytest.raises(ValueError, match=r"^class is \['a'\]; expected a text$"):
        text("class", ["a"])
    with pytest.raises(ValueError, match=r"^rect is 7; expected a list$"):
        items("rect", 7)
    for bad in (b"{", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r"^it is no (JSON|UTF-8 text)$"):
            parsed("it", bad)


def rejected(store: OldStore, key: str, out: Path) -> str:
    """The reason that everything which reads the store gives for one row."""
    with pytest.raises(DataError):
        store.regions(key)
    told = describe_regions(store).damaged
    imported = import_regions(store, out / "store")
    assert set(told) == {key} and imported.rejects == 1 and list(imported.reasons) == list(told.values())
    assert imported.pictures == len(store) - 1
    return told[key]


def vinvl(folder: Path, changes: dict[str, Any], size: dict[str, Any]) -> OldStore:
    """Three pictures, of which the second is changed."""
    folder.mkdir()
    feature = base64.b64encode(np.arange(5, dtype="<f4").tobytes()).decode()
    whole = {"rect": [10, 20, 50.5, 60.25], "class": "cat", "conf": 0.9, "feature": feature}
    rows = []
    for key in ("1", "2", "3"):
        objects: Any = [whole, {**whole, **(changes if key == "2" else {})}]
        about = {"image_h": 100, "image_w": 200.0, **(size if key == "2" else {}), "objects": objects}
        rows.append(f"{key}\t{json.dumps(about)}\n")
    (folder / "predictions.tsv").write_text("".join(rows))
    return open_regions(folder)  # type: ignore[return-value]


@pytest.mark.parametrize("side", SIZES)
def test_a_size_that_cannot_be_costs_its_row_of_vinvl(side, tmp_path):
    store = vinvl(tmp_path / "vinvl", {}, {"image_w": side})
    assert store.regions("1").width_px == 200
    assert rejected(store, "2", tmp_path).startswith("the picture's width is ")
    exported = export_regions(store, tmp_path / "a.tsv", format="butd-tsv")
    assert (exported.pictures, exported.rejects) == (2, 1)


def oscar(folder: Path, row: Any) -> tuple[OldStore, str]:
    """Oscar's pair, the first row of whose labels is changed."""
    shutil.copytree(PAIR, folder)
    for name in ("predictions.lineidx", "imageid2idx.json"):
        (folder / name).unlink(missing_ok=True)
    rows = (PAIR / "predictions.tsv").read_text().splitlines()
    key, told = rows[0].split("\t")
    changed = {"objects": json.loads(told), **row} if isinstance(row, dict) else row
    (folder / "predictions.tsv").write_text("\n".join([f"{key}\t{json.dumps(changed)}", *rows[1:]]) + "\n")
    return open_regions(folder), key  # type: ignore[return-value]


@pytest.mark.parametrize("side", SIZES)
def test_a_size_that_cannot_be_costs_its_row_of_oscar(side, tmp_path):
    store, key = oscar(tmp_path / "oscar", {"image_h": side})
    assert "the picture's height is " in rejected(store, key, tmp_path)
    assert export_regions(store, tmp_path / "pair", format="oscar-tsv").rejects == 1


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([{"conf": 0.5}], "the class of detection 0 is None; expected a text"),
        ([{"class": "man", "conf": "x"}], "the conf of detection 0 is 'x'; expected a number"),
        ([{"class": "man", "conf": [1]}], "the conf of detection 0 is [1]; expected a number"),
        ([1], "detection 0 is 1; expected its class, rect and conf"),
        ([{"class": ["a"], "conf": 0.5}], "the class of detection 0 is ['a']; expected a text"),
        ([{"class": "man", "attributes": ["a"]}], "detection 0 has 1 attributes and 0 attr_scores"),
        ({"objects": 3}, "the list of detections is 3; expected a list"),
        (7, "the list of detections is 7; expected a list"),
    ],
)
def test_damaged_labels_of_oscar_cost_their_row(labels, told, tmp_path):
    store, key = oscar(tmp_path / "oscar", labels)
    assert rejected(store, key, tmp_path).endswith(f"are damaged: {told}")
    with pytest.raises(DataError, match=f"regions of '{key}' .* are damaged"):
        store.tags(key)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rect": 7}, "rect is 7; expected a list"),
        ({"rect": [1, 2, 3]}, "rect has 3 numbers; expected x0, y0, x1, y1"),
        ({"rect": [1, 2, "x", 4]}, "a side of rect is 'x'; expected a number"),
        ({"feature": None}, "feature is None; expected a text"),
        ({"feature": "AAAAAA=="}, "a feature of 1 numbers; expected 5"),
    ],
)
def test_damaged_detections_of_vinvl_cost_their_row(changes, told, tmp_path):
    assert rejected(vinvl(tmp_path / "vinvl", changes, {}), "2", tmp_path).endswith(told)


def ids(num: int, value: int) -> bytes:
    return base64.b64encode(np.full(num, value, "<i8").tobytes())


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        (7, b"seven", "num_boxes is 'seven'; expected a whole number"),
        (7, b"-3", "num_boxes is '-3'; expected a whole number"),
        (2, b"99999999999", "img_w is '99999999999'; expected a whole number"),
        (1, b"0", "the picture's height is 0; expected a whole number of pixels"),
        (8, b"!!!!", "boxes is no base64: "),
        (3, 2**32 + 3, "objects_id reaches from 4294967299 to 4294967299; expected ids of classes, counted from 0"),
        (5, -1, "attrs_id reaches from -1 to -1; expected ids of classes, counted from 0"),
    ],
)
def test_a_damaged_column_of_lxmert_costs_its_row(column, cell, told, tmp_path):
    rows = [row.split(b"\t") for row in LXMERT.read_bytes().splitlines()]
    rows[1][column] = ids(int(rows[1][7]), cell) if isinstance(cell, int) else cell
    (tmp_path / "a.tsv").write_bytes(b"".join(b"\t".join(row) + b"\n" for row in rows))
    assert told in rejected(open_regions(tmp_path / "a.tsv"), "42", tmp_path)  # type: ignore[arg-type]


def npz(folder: Path, **changes: Any) -> OldStore:
    """Three files, of which the second has other arrays, or the bytes `value`."""
    folder.mkdir()
    for name in ("1.npz", "2.npz", "3.npz"):
        shutil.copy(NPZ, folder / name)
    value = changes.pop("value", None)
    if value is None:
        np.savez(folder / "2.npz", **{**np.load(NPZ), **changes})
    else:
        (folder / "2.npz").write_bytes(value)
    return open_regions(folder)  # type: ignore[return-value]


@pytest.mark.parametrize(("value", "told"), [(b"", "it is empty"), (b"html", "it does not begin as a zip archive")])
def test_npz_files_need_no_other_package(value, told, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    store = npz(tmp_path / "npz", value=value)
    assert rejected(store, "2.npz", tmp_path).endswith(f"are damaged: no whole npz: {told}")


def test_arrays_that_cannot_be_cost_their_npz(tmp_path):
    whole = np.load(NPZ)
    num = len(whole["conf"])
    bad = {
        "soft_labels": whole["soft_labels"][:, :5],
        "conf": whole["conf"].astype("U5"),
        "norm_bb": np.zeros(num, dtype="<f2"),
    }
    told = [
        "soft_labels has 5 numbers a region; expected 13, as in the first row",
        "conf is an array of <U5; expected numbers",
        f"norm_bb has the shape ({num},); expected a row a region",
    ]
    for place, (name, values) in enumerate(bad.items()):
        reason = rejected(npz(tmp_path / name, **{name: values}), "2.npz", tmp_path / f"out{place}")
        assert reason.endswith(told[place])
