"""What the tests of `diptych regions` share: a table of scenes, and its verbs run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.cli.main import main
from diptych.data.scenes import draw_scenes, easy

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a verb; returns exit code, standard output and standard error."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["regions", *map(str, words)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return command


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    draw_scenes(folder, easy(num=30, size_px=48), workers=1)
    return folder
