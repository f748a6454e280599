"""A folder of pictures alone: what comes in, what is passed over, and that nobody looks for words in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.formats import pictures
from diptych.data.formats.record import Record
from diptych.data.importing import import_table
from diptych.data.rejects import Reject
from diptych.data.table import open_table
from diptych.errors import DataError


def test_pictures_go_by_their_paths_and_the_rest_is_passed_over(
    put_picture: Callable[..., bytes], tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    for seed, name in enumerate(("b.png", "a.JPG", "2024/june/c.png")):
        put_picture(source / name, seed)
    (source / "notes.txt").write_text("of June")
    (source / "out.png").symlink_to("/etc/hostname")
    assert pictures.sniff(source) and not pictures.sniff(source / "b.png")
    rows = list(pictures.read(source))
    assert [row.key for row in rows] == ["2024/june/c.png", "a.JPG", "b.png", "out.png"]
    assert [type(row) for row in rows] == [Record, Record, Record, Reject]


def test_a_table_of_pictures_alone_has_no_words_and_a_broken_one_is_rejected(
    put_picture: Callable[..., bytes], tmp_path: Path
) -> None:
    for seed in range(24):
        put_picture(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "photos" / "broken.png").write_bytes(b"none")
    result = import_table(str(tmp_path / "photos"), tmp_path / "table")
    assert (result.format, sum(result.splits.values()), result.texts, result.rejects) == ("pictures", 24, 0, 1)
    table = open_table(tmp_path / "table")
    assert table.split("train").sample(0).texts == () and "label_names" not in table.meta


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder with pictures in it; expected \.bmp"):
        list(pictures.read(tmp_path))
