from __future__ import annotations

import os
from pathlib import Path

import pytest

from diptych.data.formats.places import Pictures, files_below, inside
from diptych.errors import DataError


def test_a_picture_is_found_in_the_folder_or_one_below(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "1.png")
    put_picture(tmp_path / "images" / "val" / "2.png")
    pictures = Pictures(tmp_path)
    assert pictures.find("1.png") == tmp_path / "1.png"
    assert pictures.find("2.png") == tmp_path / "images" / "val" / "2.png"
    assert pictures.find("val/2.png") == tmp_path / "images" / "val" / "2.png"
    assert pictures.find(str(tmp_path / "1.png")) == tmp_path / "1.png"


def test_a_name_that_several_folders_have_is_of_the_folder_called_as_the_list(tmp_path: Path, put_picture) -> None:
    """Else validation would be read from the pictures of training, with its own texts under them."""
    for folder in ("train2017", "val2017", "images/test"):
        put_picture(tmp_path / folder / "1.png")
    put_picture(tmp_path / "train2017" / "2.png")
    pictures = Pictures(tmp_path, split="validation")
    assert pictures.find("2.png") == tmp_path / "train2017" / "2.png"
    assert pictures.find("1.png") == tmp_path / "val2017" / "1.png"
    assert Pictures(tmp_path, split="test").find("1.png") == tmp_path / "images" / "test" / "1.png"


@pytest.mark.parametrize(
    "name", ["../secret.png", "images/../../secret.png", "{outside}/secret.png", "link.png", "away/secret.png"]
)
def test_no_path_and_no_link_leads_out(tmp_path: Path, put_picture, name: str) -> None:
    root = tmp_path / "root"
    put_picture(root / "images" / "1.png")
    put_picture(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "away").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leaves the folder"):
        Pictures(root).find(name.format(outside=tmp_path))


def test_a_link_within_the_folder_is_followed(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "1.png")
    (tmp_path / "link.png").symlink_to("1.png")
    assert Pictures(tmp_path).find("link.png") == tmp_path / "1.png"


@pytest.mark.parametrize("name", ["", "  ", "a\0b.png", "missing.png", "x" * 5000])
def test_names_of_nothing_are_errors_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        Pictures(tmp_path).find(name)


def test_pipes_folders_and_loops_are_no_pictures(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "folder.png", "loop.png"):
        with pytest.raises(DataError):
            inside(tmp_path.resolve(), tmp_path / name)


def test_files_come_in_a_fixed_order_without_what_file_managers_leave(tmp_path: Path, put_picture) -> None:
    for name in ("b/2.png", "a/10.png", "a/9.png", ".hidden/1.png", "a/.DS_Store"):
        put_picture(tmp_path / name)
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == [
        "a/10.png",
        "a/9.png",
        "b/2.png",
    ]
