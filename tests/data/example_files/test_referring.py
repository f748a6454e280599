"""RefCOCO's files, the authors' and UNITER's: small ones of the same form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from diptych.data.example_files import examples_of_files
from diptych.data.table import open_table
from diptych.errors import DataError

IMAGES = [
    {"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "width": 640, "height": 400, "license": 1},
    {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 100, "height": 50},
]
ANNOTATIONS = [
    {
        "id": 1719310,
        "image_id": 581857,
        "bbox": [64.0, 100.0, 320, 200.0],
        "category_id": 1,
        "segmentation": [[1.5] * 8],
    },
    {"id": 3, "image_id": 9, "bbox": [90, 10, 10.5, 20], "category_id": 2, "iscrowd": 0},
    {"id": 4, "image_id": 9, "bbox": [100, 10, 5, 20], "category_id": 2},
]


def ref(ref_id: int, ann_id: int, image_id: int, split: str, *phrases: tuple[int, str], **more: Any) -> dict[str, Any]:
    said = [{"sent_id": key, "sent": text, "raw": text.upper(), "tokens": text.split()} for key, text in phrases]
    keys = [key for key, _ in phrases]
    names = {"file_name": f"COCO_train2014_{image_id:012}_{ref_id}.jpg", "category_id": 1}
    whose = {"ref_id": ref_id, "ann_id": ann_id, "image_id": image_id, "split": split}
    return {**names, **whose, "sent_ids": keys, "sentences": said, **more}


REFS = [
    ref(0, 1719310, 581857, "train", (0, "the lady with the blue shirt"), (1, "lady")),
    ref(1, 3, 9, "val", (2, "left car")),
    ref(2, 3, 9, "testA", (3, "man")),
    ref(3, 3, 9, "testB", (4, "sign")),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the authors publish it."""
    made = tmp_path / "refcoco"
    made.mkdir()
    (made / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol=0))
    categories = [{"id": 1, "name": "person", "supercategory": "person"}]
    instances = {"info": {"year": 2014}, "images": IMAGES, "annotations": ANNOTATIONS, "categories": categories}
    (made / "instances.json").write_text(json.dumps(instances))
    return made


def test_every_phrase_is_a_row_with_the_box_of_its_object(folder: Path, tmp_path: Path, read_back) -> None:
    assert examples_of_files(folder, tmp_path / "out", "re") == 0
    assert open_table(tmp_path / "out").splits == {"train": 2, "validation": 1, "testA": 1, "testB": 1}
    one, two = read_back(tmp_path / "out", "re", "train")
    assert (one.key, one.texts, one.kind) == ("0", ("the lady with the blue shirt",), "phrase")
    assert (two.key, two.texts) == ("1", ("lady",))
    assert one.pictures == two.pictures == ("COCO_train2014_000000581857.jpg",)
    assert one.box == two.box == pytest.approx((0.1, 0.25, 0.6, 0.75))
    (car,) = read_back(tmp_path / "out", "re", "validation")
    assert car.box == pytest.approx((0.9, 0.2, 1.0, 0.6)), "cut at the border of the picture"


def test_uniters_form(tmp_path: Path, read_back, folder: Path) -> None:
    made = tmp_path / "refcoco_train.db"
    made.mkdir()
    for name, rows in (("refs", REFS), ("annotations", ANNOTATIONS), ("images", IMAGES)):
        (made / f"{name}.json").write_text(json.dumps(rows))
    names = ["visual_grounding_coco_gt_{id:012d}.npz"]
    assert examples_of_files(made, tmp_path / "out", "re", picture_keys=names) == 0
    examples_of_files(folder, tmp_path / "other", "re", picture_keys=names)
    for split in ("train", "testA"):
        assert read_back(tmp_path / "out", "re", split) == read_back(tmp_path / "other", "re", split)
    assert read_back(tmp_path / "out", "re", "testB")[0].pictures == ("visual_grounding_coco_gt_000000000009.npz",)


def test_splits_of_several_authors_are_not_mixed(folder: Path, tmp_path: Path, read_back) -> None:
    (folder / "refs(google).p").write_bytes(pickle.dumps([ref(9, 3, 9, "test", (8, "a car"))], protocol=2))
    with pytest.raises(DataError, match=r"has refs\(google\)\.p, refs\(unc\)\.p, which .*; name one of these files"):
        examples_of_files(folder, tmp_path / "out", "re")
    assert examples_of_files(folder / "refs(google).p", tmp_path / "out", "re") == 0
    assert [one.key for one in read_back(tmp_path / "out", "re", "test")] == ["8"]


def test_a_bad_phrase_costs_itself(folder: Path, tmp_path: Path, rejects) -> None:
    bad = [
        ref(4, 77, 9, "train", (10, "nowhere")),
        ref(5, 4, 9, "train", (11, "outside")),
        ref(6, 3, 9, "train", (12, "good"), (13, "  ")),
        {"ref_id": 7},
        "nothing",
        {key: value for key, value in ref(8, 3, 9, "", (14, "of no split")).items() if key != "split"},
        ref(9, 3, 9, "tr/ain", (15, "of an odd split")),
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps([*REFS, *bad], protocol=2))
    assert examples_of_files(folder, tmp_path / "out", "re") == 7
    assert open_table(tmp_path / "out").splits["train"] == 3
    found = rejects(tmp_path / "out")
    assert [key for key, _ in found] == ["10", "11", "13", "", "", "14", "15"]
    for (_, why), part in zip(
        found,
        [
            "annotation 77 or",
            "covers nothing",
            "expected a text",
            "has no image_id",
            "an object",
            "has no split",
            "may not be called",
        ],
        strict=True,
    ):
        assert part in why


def test_what_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "refs(unc).p").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"holds \{\"a\": 1\}; expected a list of objects with their phrases"):
        examples_of_files(folder, tmp_path / "out", "re")
    (folder / "refs(unc).p").write_bytes(pickle.dumps([Path("run")]))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: the pickle asks for pathlib.*not run"):
        examples_of_files(folder, tmp_path / "out", "re")
    (folder / "instances.json").unlink()
    with pytest.raises(DataError, match=r"has no boxes and sizes of pictures; expected instances\.json, or"):
        examples_of_files(folder, tmp_path / "out", "re")
