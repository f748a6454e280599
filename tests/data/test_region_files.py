"""Old files of regions, read in place: the golden samples, damage at every byte, and nothing that runs."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.uniter_lmdb import UniterTexts
from diptych.data.region_files.uniter_values import msgpack_fields, npz_fields, num_kept
from diptych.data.region_importing import import_regions
from diptych.errors import DataError, MissingExtraError, UsageError

GOLDEN = Path(__file__).parent.parent / "golden"
DETECTOR = GOLDEN / "detector"
IMAGES = GOLDEN / "uniter" / "fixtures" / "img"
OSCAR = GOLDEN / "oscar" / "fixtures"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return load_file(DETECTOR / "files_expected.safetensors")


def test_the_tsv_of_bottom_up_attention(expected):
    store = open_regions(DETECTOR / "sample_butd.tsv")
    assert list(store.keys()) == ["7", "8", "9"] and store.spec.feature_width == 128
    for row, (key, width, height) in enumerate([("7", 178, 132), ("8", 120, 150), ("9", 128, 96)]):
        found = store.regions(key)
        assert (found.width_px, found.height_px) == (width, height)
        np.testing.assert_array_equal(found.boxes, expected[f"tsv6/{row}/boxes"])
        np.testing.assert_array_equal(found.features, expected[f"tsv6/{row}/features"])


def test_the_tsv_of_lxmert(expected):
    store = open_regions(DETECTOR / "sample_lxmert.tsv")
    assert list(store.keys()) == ["391895", "42", "COCO_val2014_000000000042"]
    for row, key in enumerate(store.keys()):
        found = store.regions(key)
        np.testing.assert_array_equal(found.boxes, expected[f"tsv10/{row}/boxes"])
        np.testing.assert_array_equal(found.features, expected[f"tsv10/{row}/features"])
        np.testing.assert_array_equal(found.class_ids[:, 0], expected[f"tsv10/{row}/objects_id"])
        np.testing.assert_array_equal(found.scores, expected[f"tsv10/{row}/objects_conf"])
        np.testing.assert_array_equal(found.attribute_ids[:, 0], expected[f"tsv10/{row}/attrs_id"])
        np.testing.assert_array_equal(found.attribute_probs[:, 0], expected[f"tsv10/{row}/attrs_conf"])
    assert (store.regions("42").height_px, store.regions("42").width_px) == (150, 120)


def test_a_third_layout_appends_the_ids_to_the_six_columns(tmp_path):
    six = (DETECTOR / "sample_butd.tsv").read_bytes().splitlines()[0]
    ten = (DETECTOR / "sample_lxmert.tsv").read_bytes().splitlines()[0].split(b"\t")
    (tmp_path / "a.tsv").write_bytes(b"\t".join([six, *ten[3:7]]) + b"\n")
    store = open_regions(tmp_path / "a.tsv")
    assert store.format == "butd-labels-tsv"
    lxmert = open_regions(DETECTOR / "sample_lxmert.tsv").regions("391895")
    np.testing.assert_array_equal(store.regions("7").class_ids, lxmert.class_ids)


def test_an_npz_of_uniter(expected):
    found = open_regions(DETECTOR / "sample_uniter.npz").regions("sample_uniter.npz")
    np.testing.assert_array_equal(found.features, expected["npz_reader_th02/features"])
    np.testing.assert_array_equal(found.soft_labels, expected["npz_reader_th02/soft_labels"])
    np.testing.assert_array_equal(found.boxes, expected["npz_reader_th02/norm_bb"][:, :4])
    np.testing.assert_array_equal(found.scores, expected["npz_reader_th02/conf"][:, 0])
    assert num_kept(found.scores) == len(expected["npz_reader_th02/conf"])


def test_the_count_of_regions_is_that_of_uniters_reader():
    cases = json.loads((GOLDEN / "uniter" / "golden.json").read_text())["num_bb_cases"]
    assert len(cases) >= 4
    for case in cases:
        conf = np.array(case["conf"], dtype=np.float16)
        assert num_kept(conf, case["conf_th"], case["min_bb"], case["max_bb"]) == case["num_bb"]


def test_the_databases_of_uniter_hold_the_same_in_both_forms():
    pytest.importorskip("msgpack")
    plain = open_regions(IMAGES / "coco_train2014" / "feat_th0.2_max100_min10")
    packed = open_regions(IMAGES / "coco_train2014" / "feat_th0.2_max100_min10_compressed")
    files = open_regions(GOLDEN / "uniter" / "fixtures" / "npz" / "coco_train2014")
    counts = json.loads((IMAGES / "coco_train2014" / "nbb_th0.2_max100_min10.json").read_text())
    assert set(plain.keys()) == set(packed.keys()) == set(files.keys()) == set(counts)
    for key, num in counts.items():
        whole = files.regions(key)
        assert num_kept(whole.scores) == num
        for store in (plain, packed):
            found = store.regions(key)
            assert len(found) == num
            for part in ("boxes", "features", "scores", "soft_labels"):
                np.testing.assert_array_equal(getattr(found, part), getattr(whole, part)[:num])


@pytest.mark.parametrize("folder", sorted(path.parent.relative_to(IMAGES) for path in IMAGES.glob("*/*/data.mdb")))
def test_every_database_of_pictures_is_read(folder):
    pytest.importorskip("msgpack")
    store = open_regions(IMAGES / folder)
    assert len(store) >= 2 and all(len(store.regions(key)) for key in list(store.keys()))


def test_the_databases_of_texts():
    pytest.importorskip("msgpack")
    golden = json.loads((GOLDEN / "uniter" / "golden.json").read_text())["db"]["records"]
    texts = UniterTexts(GOLDEN / "uniter" / "fixtures" / "txt" / "pretrain_coco_train.db")
    assert len(texts) == len(golden) and {id_: texts.example(id_) for id_ in texts.ids} == golden
    assert texts.pictures["0"] == golden["0"]["img_fname"] and len(texts.meta["v_range"]) == 2
    vcr = UniterTexts(GOLDEN / "uniter" / "fixtures" / "txt" / "vcr_train.db")
    assert set(vcr.lengths) == {"id2len_qa", "id2len_qar"}
    with pytest.raises(DataError, match="no example 'x'"):
        vcr.example("x")


def test_a_database_that_was_cut_short_gives_what_is_left_and_says_so(tmp_path):
    whole = open_regions(IMAGES / "coco_train2014" / "feat_th0.2_max100_min10")
    data = (whole.path / "data.mdb").read_bytes()
    assert whole.notes == () and len(whole) == 3
    left = []
    for size in (0, 100, 4096, 8192, 20480, len(data) - 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "data.mdb").write_bytes(data[:size])
        try:
            store = open_regions(folder)
        except DataError as error:
            assert re.search(r"cut short|no whole LMDB", str(error))
            continue
        left.append(size)
        (note,) = store.notes
        assert re.search(r"is cut short or damaged: [1-3] of its 3 pictures are left", note)
        assert f": {len(store)} of" in note
        for key in list(store.keys()):
            np.testing.assert_array_equal(store.regions(key).features, whole.regions(key).features)
        result = import_regions(store, tmp_path / f"store{size}")
        assert (result.pictures, result.rejects, result.notes) == (len(store), 0, store.notes)
    assert left == [20480, len(data) - 1]


def test_a_row_cut_short_is_left_out_and_said(tmp_path):
    (tmp_path / "a.tsv").write_bytes((DETECTOR / "sample_butd.tsv").read_bytes()[:-9])
    store = open_regions(tmp_path / "a.tsv")
    assert list(store.keys()) == ["7", "8"]
    assert store.notes == (f"{tmp_path / 'a.tsv'} is cut short within its last row, '9', which is left out",)


def test_a_first_row_that_is_damaged_costs_itself(tmp_path):
    rows = (DETECTOR / "sample_butd.tsv").read_bytes().splitlines(keepends=True)
    cells = rows[0].split(b"\t")
    (tmp_path / "a.tsv").write_bytes(b"\t".join([*cells[:4], cells[4][:-8], cells[5]]) + b"".join(rows[1:]))
    store = open_regions(tmp_path / "a.tsv")
    assert len(store) == 3 and len(store.regions("8")) == 3
    with pytest.raises(DataError, match=r"regions of '7' .* are damaged"):
        store.regions("7")
    shutil.copytree(OSCAR / "retrieval", tmp_path / "oscar")
    features = tmp_path / "oscar" / "features.tsv"
    rows = features.read_bytes().splitlines(keepends=True)
    features.write_bytes(rows[0][:-9] + b"\n" + b"".join(rows[1:]))
    store = open_regions(tmp_path / "oscar")
    assert store.format == "oscar-tsv" and import_regions(store, tmp_path / "out").rejects == 1


def test_without_msgpack_the_message_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[legacy\]'"):
        open_regions(IMAGES / "coco_train2014" / "feat_th0.2_max100_min10")


NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    ("file", "names", "told"),
    [
        ("detector/sample_butd.tsv", {"classes": NAMES}, r"\(butd-tsv\) has no classes; leave --classes out"),
        ("detector/sample_butd.tsv", {"attributes": NAMES}, "has no attributes; leave --attributes out"),
        ("detector/sample_lxmert.tsv", {"classes": NAMES[:1]}, r"has \d+ or more classes, .* and 1 names were given"),
        ("uniter/fixtures/npz/coco_train2014", {"attributes": NAMES}, "has no attributes; leave --attributes out"),
        ("uniter/fixtures/npz/coco_train2014", {"classes": NAMES}, "has 8 classes, .* and 26 names were given"),
        ("oscar/fixtures/retrieval", {"classes": NAMES}, "are not those of .* is not among the 26 names"),
    ],
)
def test_names_that_are_of_no_use_or_of_others_are_told(file, names, told):
    with pytest.raises((DataError, UsageError), match=told):
        open_regions(GOLDEN / file, **names)


def test_names_that_fit_are_taken():
    store = open_regions(GOLDEN / "uniter" / "fixtures" / "npz" / "coco_train2014", classes=NAMES[:8])
    assert store.spec.classes == NAMES[:8] and len(store.regions(next(store.keys())))


def test_what_is_none_of_them_is_told_with_what_was_found(tmp_path):
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(DataError, match=r"holds no regions.*found a\.txt"):
        open_regions(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt holds no regions: none of its first rows has a tab. Expected a store"):
        open_regions(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("hello\tworld\nhello\tagain\n")
    with pytest.raises(DataError, match=r"no whole row of regions \(2 columns; expected one of: image_id"):
        open_regions(tmp_path / "b.txt")
    with pytest.raises(DataError, match="did you mean"):
        open_regions(tmp_path / "a.tx")
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="is empty"):
        open_regions(tmp_path / "empty")


@pytest.mark.parametrize("name", ["sample_butd.tsv", "sample_lxmert.tsv"])
def test_a_download_cut_at_any_byte_gives_its_whole_rows(name, tmp_path):
    whole = (DETECTOR / name).read_bytes()
    keys = list(open_regions(DETECTOR / name).keys())
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    path = tmp_path / name
    for size in range(1, len(whole), 7):
        path.write_bytes(whole[:size])
        # The last line end may be all that is missing, but not the only one.
        rows = 0 if size < ends[0] else sum(len(whole[:end].rstrip()) <= size for end in ends)
        if not rows:
            with pytest.raises(DataError):
                open_regions(path)
            continue
        store = open_regions(path)
        assert list(store.keys()) == keys[:rows]
        assert all(store.regions(key).features.shape[1] == 128 for key in keys[:rows])


def test_an_npz_cut_at_any_byte_is_a_data_error(tmp_path):
    whole = (DETECTOR / "sample_uniter.npz").read_bytes()
    path = tmp_path / "a.npz"
    for size in range(0, len(whole), 5):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="no whole"):
            open_regions(path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


def test_no_pickle_runs():
    msgpack = pytest.importorskip("msgpack")
    file = io.BytesIO()
    np.savez(file, features=np.array([_Evil()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        npz_fields(file.getvalue())
    data = pickle.dumps(_Evil())
    for kind, told in ((b"O", b"|O"), (b"", b"|O8"), (b"V", b"<f2")):
        array = {b"nd": True, b"type": told, b"kind": kind, b"shape": [1], b"data": data}
        with pytest.raises((ValueError, TypeError)):
            msgpack_fields(msgpack.packb({"features": array}))
    array = {b"nd": True, b"type": b"<f2", b"kind": b"", b"shape": [2, 3], b"data": bytes(11)}
    with pytest.raises(ValueError, match="11 bytes for an array of shape"):
        msgpack_fields(msgpack.packb({"features": array}))


def test_the_stray_entry_of_older_numpy_is_ignored():
    found = npz_fields((GOLDEN / "uniter" / "fixtures" / "npz" / "with_allow_pickle_entry.npz").read_bytes())
    assert set(found) == {"features", "norm_bb", "conf", "soft_labels"}


@pytest.mark.parametrize("path", [DETECTOR / "sample_butd.tsv", IMAGES / "coco_train2014" / "feat_th0.2_max100_min10"])
def test_a_spawned_process_opens_the_files_itself(path):
    pytest.importorskip("msgpack")
    store = open_regions(path)
    key = next(iter(store.keys()))
    here = store.regions(key)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(store.regions, (key,)).features, here.features)


# Import and export
