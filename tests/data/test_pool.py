"""Processes that are killed, die of a row or never come to an end with one are replaced, and no batch changes by it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych.data import pool
from diptych.data.pool import in_processes
from diptych.data.worker import Begin
from diptych.errors import DataError

ROWS = 3
Answers = tuple[Tensor, list[str]]


def answers(
    fate: Callable[[int], object],
    *,
    processes: int = 2,
    timeout_s: float = 60.0,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Answers]:
    """For each of 11 steps its three rows, those without that were given up, and why."""

    def compute(step: int, begin: Begin) -> Answers:
        rows, given_up = [], []
        for row in range(step * ROWS, (step + 1) * ROWS):
            try:
                begin(row)
            except DataError as error:
                given_up.append(str(error))
            else:
                fate(row)
                rows.append(row)
        begin(None)
        return torch.tensor(rows), given_up

    return in_processes(compute, range(11), processes=processes, timeout_s=timeout_s, start_method="fork", tell=tell)


def whole(without: int = -1) -> list[list[int]]:
    rows = [list(range(step * ROWS, (step + 1) * ROWS)) for step in range(11)]
    return [[row for row in step if row != without] for step in rows]


def rows_of(found: list[Answers]) -> list[list[int]]:
    return [rows.tolist() for rows, _ in found]


def stuck_in_c() -> None:
    """As in a decoder that never returns and lets no other thread of its process run."""
    ctypes.PyDLL(None).pause()


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_that_are_killed_from_outside_are_replaced(processes: int) -> None:
    found, told = [], list[str]()
    for number, answer in enumerate(answers(lambda row: None, processes=processes, tell=told.append)):
        found.append(answer)
        if number == 2:
            children = multiprocessing.active_children()
            assert len(children) == processes
            for child in children:
                os.kill(child.pid or 0, signal.SIGKILL)
                child.join()
    assert rows_of(found) == whole()
    assert 1 <= len(told) <= processes and all("was killed (SIGKILL: memory may be short)" in text for text in told)


def test_a_row_that_kills_once_is_read_and_one_that_kills_twice_is_given_up(tmp_path: Path) -> None:
    def fate(row: int) -> None:
        if row == 25 or (row == 10 and not (tmp_path / "once").exists()):
            (tmp_path / ("once" if row == 10 else "again")).touch()
            os.kill(os.getpid(), signal.SIGUSR1)

    told = list[str]()
    found = list(answers(fate, tell=told.append))
    assert rows_of(found) == whole(without=25)
    assert [why for _, reasons in found for why in reasons] == ["a second process was killed (SIGUSR1) over it"]
    assert len(told) == 3


def test_a_row_without_an_end_is_given_up() -> None:
    told = list[str]()
    found = list(answers(lambda row: stuck_in_c() if row == 4 else None, timeout_s=0.4, tell=told.append))
    assert rows_of(found) == whole(without=4)
    assert found[1][1] == ["a process was stuck for 0.4 s over it"]
    assert told == ["A process that decodes pictures was stuck for 0.4 s and was replaced."]


def test_a_process_stuck_over_its_next_batch_does_not_hold_back_the_one_before(tmp_path: Path) -> None:
    """Its tensors come from a thread of the process, which stands still while a C call holds the interpreter."""

    def fate(row: int) -> None:
        if row == 6:
            (tmp_path / "stuck").touch()
            stuck_in_c()

    pool = answers(fate, processes=1, timeout_s=0.4)
    found = [next(pool)]
    while not (tmp_path / "stuck").exists():
        time.sleep(0.01)
    found += pool
    assert rows_of(found) == whole(without=6)


def test_time_without_a_row_is_nobodys_fault() -> None:
    def compute(step: int, begin: Begin) -> int:
        begin(step)
        begin(None)
        time.sleep(0.25)  # longer than a row may take
        return step

    pool = in_processes(compute, range(2), processes=1, timeout_s=0.1, start_method="fork")
    assert list(pool) == [0, 1]


@pytest.mark.parametrize("where", ["before its first row", "after its last row"])
def test_a_process_that_is_stuck_at_no_row_is_replaced(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a fork took a lock along that somebody held, or a disk went away under a batch."""

    def compute(step: int, begin: Begin) -> int:
        if where == "after its last row":
            begin(step)
            begin(None)
        if step == 1 and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            stuck_in_c()
        begin(step)
        begin(None)
        return step

    monkeypatch.setattr(pool, "NO_ROW_S", 0.4)
    told = list[str]()
    found = in_processes(compute, range(3), processes=1, timeout_s=0.1, start_method="fork", tell=told.append)
    assert list(found) == [0, 1, 2]
    assert told == ["A process that decodes pictures was stuck for 0.4 s without a row and was replaced."]


def test_a_process_that_does_not_even_die_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel waits for a disk: SIGKILL waits too."""
    left, told = list[BaseProcess](), list[str]()
    monkeypatch.setattr(BaseProcess, "kill", lambda process: left.append(process))
    monkeypatch.setattr(pool, "END_S", 0.2)
    found = answers(lambda row: stuck_in_c() if row == 4 else None, processes=1, timeout_s=0.4, tell=told.append)
    assert rows_of([next(found), next(found)]) == whole(without=4)[:2]
    stuck = left[0]
    assert stuck.is_alive() and stuck not in multiprocessing.active_children()  # which Python waits for at its end
    assert told[0].startswith(f"Process {stuck.pid} was killed and does not end:") and "was replaced" in told[1]
    found.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    monkeypatch.undo()
    for child in left:
        child.kill()
        child.join()


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_no_process() -> None:
    script = """if True:
        import multiprocessing, sys
        sys.path.insert(0, sys.argv[1])
        from tests.data.test_pool import answers
        pool = answers(lambda row: None)
        next(pool)
        print(len(multiprocessing.active_children()), flush=True)
        input()
    """
    command = [sys.executable, "-c", script, str(Path(__file__).parents[2])]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "2\n"
    parent.kill()
    parent.communicate(timeout=60)  # comes back when the last process that holds the pipe is gone
