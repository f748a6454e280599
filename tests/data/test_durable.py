"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from diptych.data import durable


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.write_whole(tmp_path / "a", b"old")

    def fail(path: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(durable, "flush_to_disk", fail)
    with pytest.raises(OSError, match="full"):
        durable.write_whole(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("supported", [True, False])
def test_macos_is_asked_to_empty_the_drives_own_memory(
    supported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def control(handle: int, number: int) -> int:
        asked.append(number)
        if not supported:
            raise OSError("this file system has no such call")
        return 0

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda handle: asked.append("fsync"))
    durable.flush_to_disk(tmp_path)
    assert asked == ([51] if supported else [51, "fsync"])


def test_a_folder_in_place_of_a_file_is_told_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as error:
        durable.write_whole(tmp_path, b"page")
    assert error.value.filename == str(tmp_path) and not list(tmp_path.iterdir())
