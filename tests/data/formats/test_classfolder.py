from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.formats import classfolder
from diptych.data.rejects import Reject
from diptych.errors import DataError


def test_the_folder_is_the_label(tmp_path: Path, put_picture, good) -> None:
    for name in ("hat/1.png", "dress/1.png", "dress/deeper/2.png"):
        put_picture(tmp_path / name)
    assert classfolder.sniff(tmp_path)
    assert classfolder.label_names(tmp_path) == ["dress", "hat"]
    rows = good(classfolder.read(tmp_path))
    assert [(row.key, row.split, row.label, row.label_name) for row in rows] == [
        ("dress/1.png", None, 0, "dress"),
        ("dress/deeper/2.png", None, 0, "dress"),
        ("hat/1.png", None, 1, "hat"),
    ]


def test_splits_share_one_list_of_classes(tmp_path: Path, put_picture, good) -> None:
    """A class that training lacks would otherwise shift the numbers of the others."""
    for name in ("train/hat/1.png", "val/dress/1.png", "val/hat/1.png"):
        put_picture(tmp_path / name)
    rows = good(classfolder.read(tmp_path))
    assert [(row.split, row.label) for row in rows] == [("train", 1), ("validation", 0), ("validation", 1)]


def test_a_class_may_be_called_train(tmp_path: Path, put_picture, good) -> None:
    for name in ("train/1.png", "bus/1.png"):
        put_picture(tmp_path / name)
    assert [row.label_name for row in good(classfolder.read(tmp_path))] == ["bus", "train"]


def test_what_is_no_picture_is_told(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "hat" / "1.png")
    (tmp_path / "hat" / "notes.txt").write_text("a hat")
    (tmp_path / "hat" / "away").symlink_to(tmp_path.parent)
    found = list(classfolder.read(tmp_path))
    assert [row.key for row in found if isinstance(row, Reject)] == ["hat/away", "hat/notes.txt"]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one for each class"):
        list(classfolder.read(tmp_path))
