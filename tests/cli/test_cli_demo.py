"""`diptych demo`, as far as it can be tried in a moment: what it draws, and what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.cli import demo
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.errors import DataError
from diptych.progress import SILENT


def test_the_scenes_that_lie_there_must_be_the_demos(tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", easy(num=20, size_px=demo.SIZE_PX))
    table = demo._scenes(tmp_path / "scenes", 20, SILENT)
    assert table.fingerprint == open_table(tmp_path / "scenes").fingerprint
    with pytest.raises(DataError, match=r"another world .*: num 20 \(expected 40000\)\. Choose another --out"):
        demo._scenes(tmp_path / "scenes", demo.NUM_SCENES, SILENT)


def test_the_two_forms_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReachedError(Exception):
        pass

    def told(folder: Path, num: int, progress: object) -> None:
        raise ReachedError(folder.as_posix(), num)

    monkeypatch.setattr(demo, "_scenes", told)
    with pytest.raises(ReachedError) as full:
        demo.demo()
    with pytest.raises(ReachedError) as quick:
        demo.demo(quick=True)
    assert full.value.args == ("runs/demo/scenes", 40_000)
    assert quick.value.args == ("runs/demo-quick/scenes", 2_000)
