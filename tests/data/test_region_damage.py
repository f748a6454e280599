"""Old files whose keys or values are damaged: a row costs itself, and the reason can be read."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_exporting import export_regions
from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.keys import by_key
from diptych.data.region_files.lmdb_file import LmdbFile
from diptych.data.region_files.old_store import notes_of
from diptych.data.region_files.uniter_values import regions_of
from diptych.data.region_importing import import_regions
from diptych.data.rejects import in_words, read_rejects
from diptych.errors import DataError
from diptych.report.region_summary import describe_regions

GOLDEN = Path(__file__).parent.parent / "golden"
IMAGES = GOLDEN / "uniter" / "fixtures" / "img"
PACKED = IMAGES / "coco_train2014" / "feat_th0.2_max100_min10_compressed"
PAIR = GOLDEN / "oscar" / "fixtures" / "retrieval"
TEXT, TWICE, NONE = (
    "its key is no UTF-8 text",
    "its key came before, and the first of its rows is kept",
    "it has no key",
)


def test_rows_without_a_key_of_their_own_by_hand():
    rows = [(b"a", 1), (b"caf\xe9", 2), ("caf\u00e9".encode(), 3), (b"a", 4), (b"", 5), (b"b", 6)]
    places, rejects = by_key(Path("x.tsv"), rows)
    assert places == {"a": 1, "café": 3, "b": 6}
    assert [(one.key, one.source, one.reason) for one in rejects] == [
        ("caf\\xe9", "x.tsv, row 2", TEXT),
        ("a", "x.tsv, row 4", TWICE),
        ("", "x.tsv, row 5", NONE),
    ]


def _with_bad_keys(path: Path) -> Path:
    """Bottom-up attention's three rows, then the first again, one of a key in Latin-1, and one of none."""
    rows = (GOLDEN / "detector" / "sample_butd.tsv").read_bytes().splitlines(keepends=True)
    bad = [rows[1].replace(b"8", b"7", 1), rows[2].replace(b"9", b"caf\xe9", 1), rows[2].replace(b"9", b"", 1)]
    path.write_bytes(b"".join([rows[0], *bad, b"\n", *rows[1:]]))
    return path


def test_a_bad_key_costs_its_row(tmp_path):
    store = open_regions(_with_bad_keys(tmp_path / "a.tsv"))
    whole = open_regions(GOLDEN / "detector" / "sample_butd.tsv")
    assert list(store.keys()) == ["7", "8", "9"] and store.notes == ()
    for key in list(whole.keys()):
        np.testing.assert_array_equal(store.regions(key).features, whole.regions(key).features)
    assert notes_of(store) == (f"3 rows are left out, the first {tmp_path / 'a.tsv'}, row 2, since {TWICE}",)
    found = describe_regions(store)
    assert found.damaged == {} and [one.reason for one in found.rejects] == [TWICE, TEXT, NONE]


@pytest.mark.parametrize("format_", ["store", "butd-tsv", "uniter-npz"])
def test_bad_keys_stand_in_the_rejects_of_imports_and_exports(format_, tmp_path):
    store, out = open_regions(_with_bad_keys(tmp_path / "a.tsv")), tmp_path / "out"
    done = import_regions(store, out) if format_ == "store" else export_regions(store, out, format=format_)
    assert (done.pictures, done.rejects, done.reasons) == (3, 3, {TWICE: 1, TEXT: 1, NONE: 1})
    rejects = read_rejects(out / "rejects.jsonl" if format_ == "store" else tmp_path / "out.rejects.jsonl")
    assert [(one.key, one.reason) for one in rejects] == [("7", TWICE), ("caf\\xe9", TEXT), ("", NONE)]


@pytest.mark.parametrize("listed", [False, True])
def test_bad_keys_of_oscars_features_and_labels_cost_their_rows(listed, tmp_path):
    shutil.copytree(PAIR, tmp_path / "oscar")
    for name in ("features", "predictions"):
        file = tmp_path / "oscar" / f"{name}.tsv"
        first = file.read_bytes().split(b"\n")[0]
        with file.open("ab") as more:
            more.write(first + b"\n" + first.replace(b"391895", b"\xff\xfe") + b"\n")
        if not listed:
            (tmp_path / "oscar" / f"{name}.lineidx").unlink()
    store = open_regions(tmp_path / "oscar")
    assert list(store.keys()) == list(open_regions(PAIR).keys())
    assert [(one.key, one.reason) for one in store.rejects] == [("391895", TWICE), ("\\xff\\xfe", TEXT)] * 2
    assert import_regions(store, tmp_path / "out").rejects == 4


def test_blank_rows_count_and_blanks_at_the_end_hide_no_reject(tmp_path):
    rows = (GOLDEN / "detector" / "sample_butd.tsv").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.tsv").write_bytes(b"".join([b"\n\n", rows[0], rows[0], rows[1], rows[1], b"   "]))
    store = open_regions(tmp_path / "a.tsv")
    assert [(one.source, one.reason) for one in store.rejects] == [
        (f"{tmp_path / 'a.tsv'}, row {row}", TWICE) for row in (4, 6)
    ]
    assert list(store.keys()) == ["7", "8"] and store.notes == ()


def test_a_last_row_that_is_cut_within_its_key_is_said_to_be_cut(tmp_path):
    whole = (GOLDEN / "detector" / "sample_butd.tsv").read_bytes()
    for torn in (b"7", b"caf\xc3", b"new"):
        (tmp_path / "a.tsv").write_bytes(whole + torn)
        store = open_regions(tmp_path / "a.tsv")
        assert list(store.keys()) == ["7", "8", "9"] and store.rejects == ()
        (note,) = notes_of(store)
        assert "is cut short within its last row" in note


def test_a_file_of_bad_keys_alone_is_told(tmp_path):
    row = (GOLDEN / "detector" / "sample_butd.tsv").read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "a.tsv").write_bytes(row.replace(b"7", b"\xe9", 1))
    with pytest.raises(DataError, match="has no row that a key leads to: its key is no UTF-8 text"):
        open_regions(tmp_path / "a.tsv")


def test_a_file_name_that_is_no_text_costs_itself(tmp_path):
    for name in ("a.npz", "caf\udce9.npz"):
        shutil.copy(GOLDEN / "detector" / "sample_uniter.npz", tmp_path / name)
    store = open_regions(tmp_path)
    assert list(store.keys()) == ["a.npz"] and [one.key for one in store.rejects] == ["caf\\xe9.npz"]


@pytest.mark.parametrize("bad", [b"{", b"7", b"[1, 2]"])
def test_a_list_of_keys_that_is_damaged_costs_their_order_alone(bad, monkeypatch):
    pytest.importorskip("msgpack")
    whole = open_regions(PACKED)
    get = LmdbFile.get
    monkeypatch.setattr(LmdbFile, "get", lambda self, key: bad if key == b"__keys__" else get(self, key))
    monkeypatch.setattr(LmdbFile, "keys", lambda self: [b"\xff", *sorted(map(str.encode, whole.keys())), b"__keys__"])
    store = open_regions(PACKED)
    assert sorted(store.keys()) == sorted(whole.keys()) and [one.reason for one in store.rejects] == [TEXT]


@pytest.mark.parametrize(
    "name", [b'"m\xffn"', b'"m\\xn"', b'"man", "attributes": ["a\xff"]', b'"man", "attributes": ["a", 3]']
)
def test_a_name_that_is_no_text_costs_its_row(name, tmp_path):
    shutil.copytree(PAIR, tmp_path / "oscar")
    file = tmp_path / "oscar" / "predictions.tsv"
    file.write_bytes(file.read_bytes().replace(b'"man"', name))
    store = open_regions(tmp_path / "oscar")
    assert {"bike", "tree", "dog", "café"} <= set(store.spec.classes)
    assert import_regions(store, tmp_path / "out").rejects == 1


def test_what_an_error_says_in_words():
    assert in_words(ValueError("7 bytes\nin a  column")) == "7 bytes in a column"
    assert in_words(KeyError("norm_bb")) == "there is no 'norm_bb'"
    assert in_words(ValueError("")) == in_words(ValueError("header b'\\x00\\x9f' differs")) == "unreadable (ValueError)"
    assert in_words(TypeError("unhashable type: 'list'")) == "unreadable (TypeError)"
    assert in_words(ValueError("\x00\x9f")) == in_words(ValueError("a" * 1000)) == "unreadable (ValueError)"


def _damaged(value: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or with one to three bytes changed, most of them near one end, where a file tells what it holds."""
    if rng.random() < 0.2:
        return value[: rng.integers(len(value))]
    found = bytearray(value)
    for _ in range(rng.integers(1, 4)):
        near = int(rng.integers(200))
        at = (near, len(found) - 1 - near, int(rng.integers(len(found))))[rng.integers(3)]
        found[at] = rng.integers(256)
    return bytes(found)


@pytest.mark.parametrize("form", ["npz", "msgpack"])
def test_a_damaged_value_says_why_in_text(form):
    """400 values with damage drawn by a seed: each is read, or told in clean words."""
    msgpack = pytest.importorskip("msgpack")
    rng = np.random.default_rng(7)
    arrays = {
        name: rng.random((4, width)).astype("<f2") for name, width in (("features", 9), ("norm_bb", 6), ("conf", 1))
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    packed = {
        name: {b"nd": True, b"type": b"<f2", b"kind": b"", b"shape": list(one.shape), b"data": one.tobytes()}
        for name, one in arrays.items()
    }
    value = file.getvalue() if form == "npz" else msgpack.packb(packed)
    assert len(regions_of(value)) == 4
    reasons = []
    for _ in range(400):
        try:
            regions_of(_damaged(value, rng))
        except (ValueError, KeyError, LookupError, TypeError) as error:
            reasons.append(in_words(error))
    assert len(reasons) > 100
    for reason in reasons:
        assert reason.isprintable() and "\\x" not in reason and not reason.endswith(": ") and len(reason) < 400


def test_the_reason_for_a_damaged_record_of_a_database_is_text(tmp_path):
    """The first name in a stored npz is overwritten, so that zipfile repeats what stands there."""
    pytest.importorskip("msgpack")
    folder = tmp_path / "feat_th0.2_max100_min10_compressed"
    shutil.copytree(PACKED, folder)
    value = LmdbFile(folder).get(next(iter(open_regions(folder).keys())).encode())
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data.replace(value, value[:30] + bytes(range(128, 135)) + value[37:]))
    result = import_regions(open_regions(folder), tmp_path / "out")
    ((reason, num),) = result.reasons.items()
    assert num == 1 and "are damaged: no whole npz: unreadable (BadZipFile)" in reason
    assert json.loads((tmp_path / "out" / "rejects.jsonl").read_text())["reason"] == reason
