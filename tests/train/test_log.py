"""The record is JSON lines that a kill cannot tear, and a run that goes on cuts back to its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.errors import MissingExtraError
from diptych.train import log as log_module
from diptych.train.log import RunLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_a_line_with_step_and_time(tmp_path: Path) -> None:
    with RunLog(tmp_path / "log.jsonl") as log:
        log.write("note", 3, {"text": "zwölf\nlines"})
        assert lines(tmp_path / "log.jsonl")[0]["text"] == "zwölf\nlines"  # there before the log is closed
    (line,) = lines(tmp_path / "log.jsonl")
    assert (line["event"], line["step"]) == ("note", 3)


def test_going_on_cuts_what_came_after_and_keeps_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.write("step", 1, {})
        num_bytes = log.num_bytes
        log.write("step", 2, {})
    with path.open("a") as file:
        file.write('{"event": "st')  # a kill in the middle of a line
    with RunLog(path, keep_bytes=num_bytes, time_s=500.0) as log:
        log.write("step", 2, {"again": True})
    assert [line["step"] for line in lines(path)] == [1, 2]
    last = lines(path)[-1]
    assert last["again"] is True and isinstance(last["time_s"], float) and last["time_s"] >= 500


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    with RunLog(tmp_path / "log.jsonl") as log:
        log.write("eval", 0, {"loss": float("nan"), "metrics": {"text_to_image_r1": float("inf"), "rows": 3}})
    (line,) = lines(tmp_path / "log.jsonl")
    assert line["loss"] is None and line["metrics"] == {"text_to_image_r1": None, "rows": 3}


def test_a_new_run_begins_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("old\n")
    with RunLog(tmp_path / "log.jsonl"):
        pass
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_tensorboard_that_is_not_installed_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str, purpose: str) -> None:
        raise MissingExtraError(f"{purpose} needs {module}; pip install 'diptych[{extra}]'")

    monkeypatch.setattr(log_module, "require_extra", missing)
    with pytest.raises(MissingExtraError, match=r"diptych\[track\]"):
        RunLog(tmp_path / "log.jsonl", tensorboard=True)
