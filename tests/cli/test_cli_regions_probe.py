"""`diptych regions probe`: the table, the numbers, and its mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, chance_regions: Any) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    draw_scenes(folder / "scenes", easy(num=120, seed=2, size_px=32), workers=1)
    chance_regions.write_regions(open_table(folder / "scenes"), folder / "regions")
    return folder


def test_names_are_told_and_what_is_not_there_is_said(
    exit_code: Callable[..., int], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (place / "regions", "--data", place / "scenes")
    assert exit_code("regions", "probe", *words, "--field", "name", "--field", "size", "--json", place / "n.json") == 0
    told = capsys.readouterr().out
    assert told.splitlines()[-1].startswith("Next: diptych regions show ") and "chance" in told
    numbers = json.loads((place / "n.json").read_text())
    assert set(numbers["results"]) == {"name", "size"} and numbers["met"] <= numbers["objects"]
    assert exit_code("regions", "probe", *words, "--field", "shape") == 2
    assert "no field 'shape' of words; they have name, colour, texture, size" in capsys.readouterr().err
    assert exit_code("regions", "probe", *words, "--split", "train") == 2
    assert "learns on train" in capsys.readouterr().err
