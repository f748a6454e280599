"""One line a reject, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.rejects import Reject, RejectLog, check_share, read_rejects, reason_of
from diptych.errors import DataError, UsageError

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


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a/1: no JPEG", "no JPEG"),
        ("the regions of 'a/1': box 0 is empty", "box 0 is empty"),
        ("the regions of 'a/1' in x.tsv are damaged: cut", "the regions in x.tsv are damaged: cut"),
        ("the size of the picture 'a/2' is not known", "the size of the picture 'a/2' is not known"),
    ],
)
def test_a_reason_is_without_its_key_wherever_that_stands(said: str, expected: str) -> None:
    assert reason_of("a/1", DataError(said)) == expected


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="expected a share of the pictures between 0 and 1"):
        check_share(share, "pictures")
