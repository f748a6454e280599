"""Old files of regions, read in place: the golden samples, damage at every byte, and nothing that runs."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import pickle
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from diptych.data import region_exporting
from diptych.data.region_compare import compare_regions
from diptych.data.region_exporting import NAMES, export_regions
from diptych.data.region_files.detect import detect, open_regions
from diptych.data.region_files.lines import Lines
from diptych.data.region_files.uniter_lmdb import UniterLmdb, UniterTexts
from diptych.data.region_files.uniter_values import msgpack_fields, npz_fields, num_kept
from diptych.data.region_importing import import_regions
from diptych.data.region_join import check_same
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.rejects import read_rejects
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
        assert re.search(r"is cut short or damaged: [1-4] of its 4 records are left", note)
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


def test_oscars_pair_of_files():
    data = json.loads((GOLDEN / "oscar" / "fixtures" / "retrieval" / "imageid2idx.json").read_text())
    for path in (OSCAR / "retrieval", OSCAR / "caption" / "train.feature.tsv"):
        store = open_regions(path)
        assert list(store.keys()) == list(data)
        assert store.spec.classes == tuple(sorted(store.spec.classes)) and "café" in store.spec.classes
        assert store.tags("60623") == ("dog", "dog", "frisbee", "café", "grass", "person")
        assert store.tags("391895", 0.57) == ("man", "bike")
        found = store.regions("391895")
        np.testing.assert_allclose(found.boxes[0], [317.4, 101.54, 385.15, 121.48])
        assert [store.spec.classes[i] for i in found.class_ids[:, 0]] == ["man", "bike", "tree"]
    labels = OSCAR / "pretrain" / "labels" / "coco" / "predictions_gt.tsv"
    apart = open_regions(OSCAR / "pretrain" / "feat" / "coco", labels=labels)
    assert (apart.regions("60623").height_px, apart.regions("60623").width_px) == (375, 500)


def test_a_vocabulary_that_is_told_outlasts_oscars_labels(tmp_path):
    store = _store(tmp_path / "r")
    export_regions(store, tmp_path / "oscar", format="oscar-tsv")
    back = open_regions(tmp_path / "oscar")
    assert (back.spec.classes, back.spec.attributes) == (store.spec.classes, store.spec.attributes)
    named = [key for key in list(back.keys()) if len(back.regions(key))]
    assert named
    for key in named:
        np.testing.assert_array_equal(back.regions(key).class_ids[:, 0], store.regions(key).class_ids[:, 0])


def test_oscars_labels_need_not_be_as_many_as_its_features(tmp_path):
    numbers = np.array([[7, 8, 0.1, 0.2, 0.5, 0.6, 0.4, 0.4]], dtype="<f4")
    (tmp_path / "features.tsv").write_text(f"5\t1\t{base64.b64encode(numbers.tobytes()).decode()}\n")
    objects = [{"class": name, "rect": [1, 2, 3, 4], "conf": 0.5} for name in ("cat", "dog")]
    told = json.dumps({"image_h": 10, "image_w": 20, "objects": objects})
    (tmp_path / "predictions.tsv").write_text(f"5\t{told}\n")
    store = open_regions(tmp_path)
    assert store.tags("5") == ("cat", "dog") and store.regions("5").class_ids is None
    np.testing.assert_allclose(store.regions("5").boxes, [[2, 2, 10, 6]], rtol=1e-6)


def _vinvl(folder: Path) -> np.ndarray:
    """Four rows as VinVL's extractor writes them, the second without regions, the last damaged; the features."""
    features = np.random.default_rng(0).random((3, 5), np.float32)
    texts = [base64.b64encode(one.tobytes()).decode() for one in features]
    attributes = {"attributes": ["__no_attribute__", "wet", "brown"], "attr_scores": [0.5, 0.1, 0.3]}
    cat = {"rect": [0, 1, 20, 30], "bbox_id": 0, "class": "cat", "conf": 0.9, "feature": texts[0], **attributes}
    dog = {"rect": [5, 5, 5, 9], "bbox_id": 1, "class": "dög", "conf": 0.5, "feature": texts[1], "attributes": []}
    sky = {"rect": [0, 0, 9, 9], "bbox_id": 0, "class": "sky", "conf": 0.25, "feature": texts[2]}
    rows = {"a/1.jpg": [cat, {**dog, "attr_scores": []}], "2": [], "3": [sky], "4": [{**sky, "feature": texts[2][:-4]}]}
    lines = [f"{key}\t{json.dumps({'objects': row, 'relations': None})}\n" for key, row in rows.items()]
    folder.mkdir(exist_ok=True)
    (folder / "predictions.tsv").write_text("".join(lines))
    return features


def test_vinvls_predictions_hold_their_features(tmp_path):
    features = _vinvl(tmp_path)
    for path in (tmp_path, tmp_path / "predictions.tsv"):
        store = open_regions(path)
        assert store.format == "vinvl-tsv" and list(store.keys()) == ["a/1.jpg", "2", "3", "4"]
        assert (store.spec.classes, store.spec.attributes) == (("cat", "dög", "sky"), ("brown", "wet"))
        found = store.regions("a/1.jpg")
        np.testing.assert_array_equal(found.features, features[:2])
        np.testing.assert_array_equal(found.boxes, [[0, 1, 20, 30], [5, 5, 5, 9]])
        np.testing.assert_allclose(found.scores, [0.9, 0.5])
        assert found.class_ids.tolist() == [[0], [1]]
        assert found.attribute_ids.tolist() == [[0, 1, 0], [0, 0, 0]]
        np.testing.assert_allclose(found.attribute_probs, [[0.3, 0.1, 0], [0, 0, 0]])
        assert len(store.regions("2")) == 0 and store.regions("3").attribute_ids is None
    result = import_regions(store, tmp_path / "out")
    assert (result.pictures, result.rejects) == (3, 1) and open_region_table(tmp_path / "out").spec == store.spec


def test_a_class_that_a_given_vocabulary_lacks_is_told_by_name(tmp_path):
    _vinvl(tmp_path)
    store = open_regions(tmp_path, classes=("sky", "cat"))
    assert store.regions("3").class_ids.tolist() == [[0]]
    with pytest.raises(DataError, match="damaged: 'dög' is not among the 2 names of the vocabulary"):
        store.regions("a/1.jpg")


def test_labels_alone_are_told(tmp_path):
    (tmp_path / "predictions.tsv").write_text('1\t[{"class": "cat", "rect": [0, 0, 1, 1]}]\n')
    with pytest.raises(DataError, match="holds labels without features; give the file of features"):
        open_regions(tmp_path)


def _indexed(folder: Path) -> tuple[Path, list[int]]:
    """A copy of Oscar's pair with the lists of its features' offsets and ids."""
    shutil.copytree(OSCAR / "retrieval", folder)
    file = folder / "features.lineidx"
    starts = [int(start) for start in file.read_text().split()]
    assert len(starts) >= 2 and (folder / "imageid2idx.json").is_file()
    return file, starts


def test_lists_of_offsets_and_ids_spare_the_pass_over_the_file(tmp_path, monkeypatch):
    file, _ = _indexed(tmp_path / "oscar")
    keys = list(open_regions(tmp_path / "oscar").keys())
    searched: list[str] = []
    found = Lines.starts
    monkeypatch.setattr(Lines, "starts", lambda self: searched.append(str(self._path)) or found(self))
    store = open_regions(file.parent / "features.tsv", classes=("x",))
    assert list(store.keys()) == keys and searched.count(str(file.with_suffix(".tsv"))) == 1  # what file it is


@pytest.mark.parametrize(
    "change",
    [
        lambda starts: starts[:-1],
        lambda starts: starts[1:],
        lambda starts: [*starts[:1], *starts[2:]],
        lambda starts: [*starts[:-1], starts[-1] + 1],
        lambda starts: [*starts, starts[-1] + 10**9],
        lambda starts: [0, *starts],
        lambda starts: [],
        lambda starts: ["x"],
    ],
)
def test_a_list_of_offsets_of_another_file_is_not_believed(change, tmp_path):
    file, starts = _indexed(tmp_path / "oscar")
    whole = open_regions(OSCAR / "retrieval")
    file.write_text("".join(f"{start}\n" for start in change(starts)))
    store = open_regions(tmp_path / "oscar")
    assert list(store.keys()) == list(whole.keys())
    for key in list(store.keys()):
        np.testing.assert_array_equal(store.regions(key).features, whole.regions(key).features)


@pytest.mark.parametrize("told", ["{", "[]", "{}", '{"a": 0}', "reversed", "other"])
def test_a_list_of_ids_of_other_rows_is_not_believed(told, tmp_path):
    file, _ = _indexed(tmp_path / "oscar")
    ids = json.loads((file.parent / "imageid2idx.json").read_text())
    wrong = {
        "reversed": dict(zip(ids, reversed(ids.values()), strict=True)),
        "other": {f"x{key}": ids[key] for key in ids},
    }
    (file.parent / "imageid2idx.json").write_text(json.dumps(wrong[told]) if told in wrong else told)
    assert list(open_regions(file.parent).keys()) == list(ids)


def test_what_is_none_of_them_is_told_with_what_was_found(tmp_path):
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(DataError, match=r"holds no regions.*found a\.txt"):
        open_regions(tmp_path)
    with pytest.raises(DataError, match=r"no whole row of regions \(1 columns; expected one of: image_id"):
        open_regions(tmp_path / "a.txt")
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

SPEC = RegionSpec(
    detector="toy",
    detector_hash="ab" * 32,
    rule="all",
    feature_kind="drawn",
    feature_width=3,
    classes=("cat", "dog"),
    box_kind="given",
)


def _store(out: Path, num: int = 9):
    rng = np.random.default_rng(0)
    with RegionWriter(out, SPEC, soft_labels=True, pictures_per_shard=4) as writer:
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


@pytest.mark.parametrize("format_", NAMES)
def test_what_is_exported_and_imported_again_is_the_same(format_, tmp_path):
    store = _store(tmp_path / "r")
    out = tmp_path / {"butd-tsv": "a.tsv", "lxmert-tsv": "b.tsv"}.get(format_, "folder")
    assert export_regions(store, out, format=format_).pictures == 9
    back = open_regions(out)
    assert back.format == format_ and back.spec.detector_hash == SPEC.detector_hash
    assert back.spec.plus_one == (format_ == "butd-tsv")  # as whoever reads such files takes them
    result = import_regions(back, tmp_path / "again")
    assert (result.pictures, result.rejects) == (9, 0)
    again = open_region_table(tmp_path / "again")
    for key in list(store.keys()):
        old, new = store.regions(key), again.regions(key + ".npz" if format_ == "uniter-npz" else key)
        assert new.features.tobytes() == old.features.tobytes()
        scale = [64, 32, 64, 32] if format_ == "uniter-npz" else 1
        inside = np.float32([0, 0, 1, 1] if again.spec.plus_one else 0)  # the last pixels there, edges here
        np.testing.assert_array_equal(new.boxes * np.float32(scale) + inside, old.boxes)
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
    "uniter-npz": {"the pictures' sizes", "classes", "attributes", "digits of boxes and scores that float16 has not"},
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
        (tmp_path / "out.partial.json").write_text(region_exporting._about(store, format_))
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
    (tmp_path / "out.partial.json").write_text(region_exporting._about(store, "butd-tsv"))
    with pytest.raises(DataError, match="in another format; remove it"):
        export_regions(store, tmp_path / "out", format="lxmert-tsv")
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
    assert reject.key == "8" and "bytes in a column; expected 3 rows of 4 numbers" in reject.reason


def test_a_store_beside_itself_agrees_and_beside_another_does_not(tmp_path):
    store = _store(tmp_path / "r")
    same = compare_regions(store, store)
    assert (same.pictures, same.missing) == (9, 0)
    assert same.mean_iou == pytest.approx(1) and same.mean_cosine == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="features of 3 and of 128"):
        compare_regions(store, open_regions(DETECTOR / "sample_butd.tsv"))


def test_detect_names_what_it_is(tmp_path):
    _store(tmp_path / "r")
    assert detect(tmp_path / "r") == "diptych"
    assert detect(IMAGES / "vcr_train" / "feat_th0.2_max100_min10") == "uniter-lmdb"
    assert isinstance(
        pickle.loads(pickle.dumps(open_regions(IMAGES / "vcr_train/feat_th0.2_max100_min10"))), UniterLmdb
    )
