from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.data.formats import coco, detect, karpathy
from diptych.data.rejects import Reject

IMAGES = [
    {"id": 9, "file_name": "000000000009.png", "width": 5, "height": 3, "license": 1},
    {"id": 7, "file_name": "000000000007.png", "width": 5, "height": 3},
]
CAPTIONS = {
    "info": {"year": 2017},
    "images": IMAGES,
    "annotations": [
        {"image_id": 9, "id": 1, "caption": "Bins of food."},
        {"image_id": 7, "id": 2, "caption": "A giraffe."},
        {"image_id": 9, "id": 3, "caption": "Broccoli and bread.\n"},
    ],
}
INSTANCES = {
    "images": IMAGES,
    "annotations": [
        {"image_id": 9, "id": 4, "category_id": 51, "bbox": [1.0, 0.5, 2.0, 1.5], "segmentation": [[1] * 6]},
        {"image_id": 9, "id": 5, "category_id": 51, "bbox": [0, 0, 4, 2], "iscrowd": 1},
    ],
    "categories": [{"id": 51, "name": "bowl"}],
}


@pytest.fixture
def coco_folder(tmp_path: Path, put_picture) -> Path:
    for number in (7, 9):
        put_picture(tmp_path / "val2017" / f"{number:012}.png", seed=number)
    (tmp_path / "annotations").mkdir()
    for name, content in (("captions", CAPTIONS), ("instances", INSTANCES)):
        (tmp_path / "annotations" / f"{name}_val2017.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_joins_texts_and_boxes_by_the_id_of_the_picture(coco_folder: Path, good) -> None:
    assert coco.sniff(coco_folder)
    nine, seven = good(coco.read(coco_folder))
    assert (nine.key, nine.split, nine.texts) == ("9", "validation", ("Bins of food.", "Broccoli and bread."))
    bowl = {"name": "bowl", "label": 51}
    assert nine.fields["objects"] == [
        {**bowl, "x0": 1.0, "y0": 0.5, "x1": 3.0, "y1": 2.0, "crowd": False},
        {**bowl, "x0": 0.0, "y0": 0.0, "x1": 4.0, "y1": 2.0, "crowd": True},
    ]
    assert (nine.fields["width"], nine.fields["license"]) == (5, 1)
    assert (seven.key, seven.texts, seven.fields["objects"]) == ("7", ("A giraffe.",), [])


def test_one_coco_file_finds_the_pictures_beside_its_folder(coco_folder: Path, good) -> None:
    file = coco_folder / "annotations" / "captions_val2017.json"
    assert coco.sniff(file)
    assert [row.image for row in good(coco.read(file))] == [coco_folder / "val2017" / f"{n:012}.png" for n in (9, 7)]


def test_coco_splits_whose_pictures_share_names_stay_apart(coco_folder: Path, put_picture, good) -> None:
    for number in (7, 9):
        put_picture(coco_folder / "train2017" / f"{number:012}.png", seed=100 + number)
    images = [{**image, "id": 100 + int(image["id"])} for image in IMAGES]
    train = {"images": images, "annotations": [{"image_id": 109, "caption": "A boat."}]}
    (coco_folder / "annotations" / "captions_train2017.json").write_text(json.dumps(train))
    found = {(row.split, row.image.parent.name) for row in good(coco.read(coco_folder))}
    assert found == {("train", "train2017"), ("validation", "val2017")}


def test_a_coco_picture_that_is_missing_costs_itself(coco_folder: Path) -> None:
    (coco_folder / "val2017" / "000000000009.png").unlink()
    reject, record = coco.read(coco_folder)
    assert isinstance(reject, Reject)
    assert (reject.key, record.key) == ("9", "7")


def test_karpathy(tmp_path: Path, put_picture, good) -> None:
    put_picture(tmp_path / "Images" / "1.png", seed=1)
    put_picture(tmp_path / "val2014" / "2.png", seed=2)
    sentences = [{"raw": "A dog .", "tokens": ["a", "dog"]}, {"raw": "Two dogs"}]
    images = [
        {"filename": "1.png", "imgid": 0, "split": "test", "sentences": sentences},
        {"filename": "2.png", "filepath": "val2014", "cocoid": 42, "split": "restval", "sentences": sentences[:1]},
    ]
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    assert karpathy.sniff(tmp_path)
    assert not coco.sniff(tmp_path)
    one, two = good(karpathy.read(tmp_path))
    assert (one.key, one.split, one.texts) == ("1.png", "test", ("A dog .", "Two dogs"))
    assert (two.key, two.split, two.fields) == ("42", "restval", {})


@pytest.mark.parametrize(
    ("name", "where", "key", "split"),
    [
        ("dataset_flickr30k.json", {"filename": "1000092795.jpg", "split": "val"}, "1000092795.jpg", "validation"),
        (
            "dataset_coco.json",
            {"filepath": "val2014", "filename": "COCO_val2014_000000522418.jpg", "cocoid": 522418, "split": "restval"},
            "522418",
            "restval",
        ),
    ],
)
def test_karpathys_splits_as_they_are_published(tmp_path: Path, put_picture, good, name, where, key, split) -> None:
    put_picture(tmp_path / "images" / where.get("filepath", "") / where["filename"])
    said = ["Two young guys with shaggy hair look at their hands .", "Two men , in a yard ."]
    sentences = [
        {"tokens": text.lower().split(), "raw": text, "imgid": 0, "sentid": number} for number, text in enumerate(said)
    ]
    row = {"sentids": [0, 1], "imgid": 0, "sentences": sentences, **where}
    (tmp_path / name).write_text(json.dumps({"images": [row], "dataset": name[8:-5]}))
    assert detect.detect(str(tmp_path), None) == "karpathy"
    (found,) = good(karpathy.read(tmp_path))
    assert (found.key, found.split, found.texts, found.fields) == (key, split, tuple(said), {"imgid": 0})


def test_a_karpathy_path_does_not_leave_the_folder(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "1.png")
    images = [{"filename": "1.png", "filepath": "..", "split": "test", "sentences": [{"raw": "a"}]}, {"sentences": []}]
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.json").write_text(json.dumps({"images": images}))
    found = list(karpathy.read(tmp_path / "root" / "a.json"))
    assert [type(row) for row in found] == [Reject, Reject]
