"""Oscar's and VinVL's pairs of files: features and labels, lists of offsets and ids, vocabularies."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.lines import Lines
from diptych.data.region_importing import import_regions
from diptych.data.region_store import open_region_table
from diptych.errors import DataError

GOLDEN = Path(__file__).parent.parent / "golden"
OSCAR = GOLDEN / "oscar" / "fixtures"


def test_oscars_pair_of_files():
    data = json.loads((GOLDEN / "oscar" / "fixtures" / "retrieval" / "imageid2idx.json").read_text())
    for path in (OSCAR / "retrieval", OSCAR / "caption" / "train.feature.tsv"):
        store = open_regions(path)
        assert list(store.keys()) == list(data)
        assert store.spec.classes == tuple(sorted(store.spec.classes)) and "café" in store.spec.classes
        assert store.tags("60623") == ("dog", "dog", "frisbee", "café", "grass", "person")
        assert store.tags("391895", 0.57) == ("man", "bike")
        found = store.regions("391895")
        assert store.spec.box_unit == "unit" and found.height_px is None  # 640 x 480, which these labels do not say
        np.testing.assert_allclose(found.boxes[0] * [640, 480, 640, 480], [317.4, 101.54, 385.15, 121.48], rtol=1e-6)
        assert [store.spec.classes[i] for i in found.class_ids[:, 0]] == ["man", "bike", "tree"]
    labels = OSCAR / "pretrain" / "labels" / "coco" / "predictions_gt.tsv"
    apart = open_regions(OSCAR / "pretrain" / "feat" / "coco", labels=labels)
    assert (apart.regions("60623").height_px, apart.regions("60623").width_px) == (375, 500)


def test_oscars_labels_need_not_be_as_many_as_its_features(tmp_path):
    numbers = np.array([[7, 8, 0.1, 0.2, 0.5, 0.6, 0.4, 0.4]], dtype="<f4")
    (tmp_path / "features.tsv").write_text(f"5\t1\t{base64.b64encode(numbers.tobytes()).decode()}\n")
    objects = [{"class": name, "rect": [1, 2, 3, 4], "conf": 0.5} for name in ("cat", "dog")]
    told = json.dumps({"image_h": 10, "image_w": 20, "objects": objects})
    (tmp_path / "predictions.tsv").write_text(f"5\t{told}\n")
    store = open_regions(tmp_path)
    assert store.tags("5") == ("cat", "dog") and store.regions("5").class_ids is None
    found = store.regions("5")
    assert (found.height_px, found.width_px) == (10, 20)
    np.testing.assert_allclose(found.boxes, [[0.1, 0.2, 0.5, 0.6]], rtol=1e-6)


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
    with pytest.raises(DataError, match=r"given are not those of .*: 'dög' is not among the 2 names of the vocabulary"):
        open_regions(tmp_path, classes=("sky", "cat"))


@pytest.mark.parametrize("attributes", [("brown", "red", "wet"), ("wet", "brown")])
def test_attributes_that_are_given_go_before_those_of_the_file(tmp_path, attributes):
    _vinvl(tmp_path)
    store = open_regions(tmp_path, attributes=attributes)
    assert (store.spec.classes, store.spec.attributes) == (("cat", "dög", "sky"), attributes)
    first = store.regions("a/1.jpg")
    assert [attributes[id_] for id_ in first.attribute_ids[0, :2]] == ["brown", "wet"]
    with pytest.raises(DataError, match="'brown' is not among the 2 names of the vocabulary"):
        open_regions(tmp_path, attributes=("red", "wet"))


def test_classes_that_are_given_leave_the_attributes_of_the_file(tmp_path):
    _vinvl(tmp_path)
    spec = open_regions(tmp_path, classes=("sky", "dög", "cat")).spec
    assert (spec.classes, spec.attributes) == (("sky", "dög", "cat"), ("brown", "wet"))


@pytest.mark.parametrize("feature", [5, None, [1.0]])
def test_a_row_whose_feature_is_no_text_costs_itself(tmp_path, feature):
    _vinvl(tmp_path)
    sky = {"class": "sky", "rect": [0, 0, 9, 9], "conf": 0.25, "feature": feature}
    with (tmp_path / "predictions.tsv").open("a") as file:
        file.write(f"5\t{json.dumps({'objects': [sky]})}\n")
    result = import_regions(open_regions(tmp_path), tmp_path / "out")
    assert (result.pictures, result.rejects) == (3, 2)


def test_labels_of_other_pictures_are_told(tmp_path):
    pair = OSCAR / "retrieval"
    rows = (pair / "predictions.tsv").read_bytes().splitlines(keepends=True)
    (tmp_path / "other.tsv").write_bytes(b"".join(b"x" + row for row in rows))
    with pytest.raises(
        DataError, match=r"other\.tsv has labels of no picture of .*features\.tsv: its keys are like 'x"
    ):
        open_regions(pair, labels=tmp_path / "other.tsv")
    (tmp_path / "fewer.tsv").write_bytes(b"".join(rows[1:]))
    store = open_regions(pair, labels=tmp_path / "fewer.tsv")
    with pytest.raises(DataError, match=r"fewer\.tsv has no row of it"):
        store.regions(rows[0].split(b"\t")[0].decode())


def test_a_folder_of_oscars_captioning_is_read_by_its_one_file(tmp_path):
    shutil.copytree(OSCAR / "caption", tmp_path / "caption")
    found, named = open_regions(tmp_path / "caption"), open_regions(OSCAR / "caption" / "train.feature.tsv")
    assert (found.format, found.spec, list(found.keys())) == ("oscar-tsv", named.spec, list(named.keys()))
    key = next(named.keys())
    np.testing.assert_array_equal(found.regions(key).features, named.regions(key).features)
    assert found.tags(key) == named.tags(key) != ()
    shutil.copy(tmp_path / "caption" / "train.feature.tsv", tmp_path / "caption" / "val.feature.tsv")
    with pytest.raises(DataError, match=r"holds train\.feature\.tsv, val\.feature\.tsv; name one"):
        open_regions(tmp_path / "caption")


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
    whole = open_regions(tmp_path / "oscar")
    keys = list(whole.keys())
    searched: list[str] = []
    found = Lines.starts
    monkeypatch.setattr(Lines, "starts", lambda self: searched.append(str(self._path)) or found(self))
    store = open_regions(file.parent / "features.tsv", classes=whole.spec.classes)
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
