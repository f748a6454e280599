"""A kill or a signal at any moment loses nothing: the run that goes on ends as the one that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from diptych.data.table import Table
from diptych.progress import Silent, SilentBar
from diptych.train.fit import fit
from kill import content

ROOM = Path(__file__).parent.parent / "train" / "small_room.py"
STEPS = 60
SETTINGS = [f"training.steps={STEPS}", "training.checkpoint_every=4", "training.eval_every=15", "inputs.workers=1"]


def started(table: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOM), str(table), str(out), *SETTINGS, *more]
    return subprocess.Popen(command, start_new_session=True)


def steps_logged(out: Path) -> int:
    log = out / "log.jsonl"
    return 0 if not log.exists() else log.read_bytes().count(b'"event": "step"')


def killed_after(table: Path, out: Path, step: int, pause_s: float) -> None:
    """Kills the program and its workers `pause_s` after it has logged `step`: in a step, or while it saves."""
    process = started(table, out, "--resume")
    while steps_logged(out) < step and process.poll() is None:
        time.sleep(0.002)
    time.sleep(pause_s)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)


@pytest.mark.slow
def test_killed_at_random_moments_equals_never_killed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(ROOM.parent), str(tmp_path / "table")], check=True)
    table = tmp_path / "table"
    assert started(table, tmp_path / "whole").wait() == 0
    out = tmp_path / "run"
    for step, pause_s in ((0, 0.01), (3, 0.0), (17, 0.011), (44, 0.003), (59, 0.001)):
        killed_after(table, out, step, pause_s)
    assert started(table, out, "--resume").wait() == 0
    assert content(out) == content(tmp_path / "whole")
    assert not list(out.rglob("*.partial"))


@pytest.mark.slow
def test_killed_at_every_moment_of_writing_equals_never_killed(tmp_path: Path) -> None:
    """A life each that ends at its first, second ... wait for the disk: in run.json, and all through a checkpoint."""
    command = [sys.executable, "-c", LIVES, str(ROOM.parent), str(tmp_path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(found) >= 20 and len(set(found)) >= 8  # what was half written when a life ended: nearly all there is
    assert {"optimizer.safetensors", "SHA256", "last.partial", "best.partial"} <= {
        name for one in found for name in one.split(",")
    }
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob("*.partial"))


@pytest.mark.parametrize("step", [0, 5, 12])
def test_a_signal_in_an_evaluation_ends_it_at_once(
    small_room: ModuleType, small_table: Table, tmp_path: Path, step: int
) -> None:
    job = partial(small_room.small_job, settings=["training.batch=2", "training.eval_every=5"])
    fit(job(), small_table, tmp_path / "whole", device="cpu")
    asked = InEvaluation(step // 5 + (step == 12), lambda: os.kill(os.getpid(), signal.SIGTERM))
    result = fit(job(), small_table, tmp_path / "run", device="cpu", progress=asked)
    assert (result.status, result.step) == ("interrupted", step)
    assert asked.batches == 1  # of five
    assert (tmp_path / "run" / "last").read_text() == f"step_{step:07d}\n"
    assert fit(job(), small_table, tmp_path / "run", device="cpu", resume=True).status == "finished"
    assert content(tmp_path / "run") == content(tmp_path / "whole")


class InEvaluation(Silent):
    """A progress that does something when the first batch of an evaluation is done, and counts its batches."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        self.number, self.act, self.batches = number, act, 0

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        self.number -= name == "evaluating"
        return EvaluationBar(self) if name == "evaluating" and self.number == -1 else SilentBar()


class EvaluationBar(SilentBar):
    def __init__(self, told: InEvaluation) -> None:
        self.told = told

    def advance(self, num: float = 1, note: str = "") -> None:
        self.told.batches += 1
        if self.told.batches == 1:
            self.told.act()


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import small_room
small_room.write_table(Path(sys.argv[2]))
"""

LIVES = """
import os, signal, sys
from pathlib import Path
import torch._dynamo  # else each life does it in its first step
sys.path.insert(0, sys.argv[1])
import small_room
folder = Path(sys.argv[2])
table = small_room.write_table(folder / "table")
settings = ["inputs.workers=1", "training.steps=90", "training.eval_every=7"]

def live(out, act_at=None):
    # Forked from a process that has imported everything, and computed nothing.
    if (pid := os.fork()) == 0:
        waits, fsync = 0, os.fsync
        def counted(handle):
            nonlocal waits
            waits += 1
            if waits == act_at:
                print(",".join(half_written(out)) or "nothing", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(handle)
        os.fsync = counted
        small_room.main([str(table), str(out), "--resume", *settings])
        os._exit(0)
    return os.waitpid(pid, 0)[1]

def half_written(out):
    for path in out.rglob("*.partial"):
        yield path.name
        if path.is_dir():
            yield from sorted(one.name for one in path.iterdir())

act_at = 1
while live(folder / "killed", act_at) == signal.SIGKILL:
    act_at += 1
assert live(folder / "killed") == 0
assert live(folder / "whole") == 0
"""
