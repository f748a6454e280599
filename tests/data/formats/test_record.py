from __future__ import annotations

import pytest

from diptych.data.formats.record import Record, label_of, split_name, split_of_file, texts_of, texts_of_cell
from diptych.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("val", "validation"),
        ("Valid", "validation"),
        ("dev", "validation"),
        ("restval", "restval"),
        ("Fold 1", "Fold 1"),
    ],
)
def test_the_usual_splits_get_one_name_and_others_keep_theirs(name: str, split: str) -> None:
    assert split_name(name) == split


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("train-00000-of-00003", "train"),
        ("extra-00000-of-00001", "extra"),
        ("dev-00001-of-00002-0123abcd", "validation"),
        ("coco_val_007", "validation"),
        ("test", "test"),
        ("captions", None),
        ("flickr8k_64", None),
        ("contest", None),
    ],
)
def test_a_file_name_tells_its_split(stem: str, split: str | None) -> None:
    assert split_of_file(stem) == split


def test_texts_come_out_of_every_layout_that_sources_use() -> None:
    assert texts_of(" A dog .\n") == ["A dog ."]
    assert texts_of(["a", "", None, "b"]) == ["a", "b"]
    assert texts_of([{"raw": "a", "tokens": ["a"]}, {"raw": "b"}]) == ["a", "b"]
    assert texts_of({"caption": "a"}) == ["a"]
    assert texts_of(b"caf\xc3\xa9") == ["café"]
    assert texts_of(None) == texts_of("  ") == []


def test_a_cell_may_hold_a_json_list_of_texts() -> None:
    assert texts_of_cell('["A dog .", "Two [2] dogs"]') == ["A dog .", "Two [2] dogs"]
    assert texts_of_cell("[sic] a dog [2]") == ["[sic] a dog [2]"]
    assert texts_of_cell("[1, 2]") == ["[1, 2]"]


def test_labels_are_numbers_or_names() -> None:
    assert label_of(3) == label_of("3") == label_of(3.0) == (3, None)
    assert label_of("pants") == (None, "pants")
    assert label_of(None) == label_of("") == label_of(0.5) == label_of(True) == label_of([1]) == (None, None)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(DataError, match="no Unicode"):
        Record(key="1", source="row 1", image=None, texts=("\ud83d",))
