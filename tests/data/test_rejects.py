"""One line a reject, also after a kill."""

from __future__ import annotations

from pathlib import Path

from diptych.data.rejects import Reject, RejectLog, read_rejects

FIRST = Reject("a", "a.png", "the file is empty")
SECOND = Reject("", "b\udce4.png", "a name that is no UTF-8\u2028")


def test_rejects_are_read_back(tmp_path: Path) -> None:
    with RejectLog(tmp_path / "rejects.jsonl") as log:
        log.add(FIRST)
        log.add(SECOND)
        assert len(log) == 2
    assert read_rejects(tmp_path / "rejects.jsonl") == [FIRST, SECOND]


def test_going_on_writes_no_line_twice_and_survives_a_cut_line(tmp_path: Path) -> None:
    file = tmp_path / "rejects.jsonl"
    with RejectLog(file) as log:
        log.add(FIRST)
    with file.open("a") as damaged:
        damaged.write('{"key": "cut')
    with RejectLog(file) as log:
        log.add(FIRST)
        log.add(SECOND)
        assert len(log) == 2
    assert read_rejects(file) == [FIRST, SECOND]
