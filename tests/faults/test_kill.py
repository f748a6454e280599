"""SIGKILL at any moment loses nothing: the run that goes on ends bit for bit as the one that was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from diptych.checkpoint.store import CheckpointStore

ROOM = Path(__file__).parent.parent / "train" / "small_room.py"
STEPS = 60
SETTINGS = [f"training.steps={STEPS}", "training.checkpoint_every=4", "training.eval_every=15", "inputs.workers=1"]
CLOCK = {"time_s", "samples_per_s", "tokens_per_s", "loader_share"}


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


def content(out: Path) -> dict[str, Any]:
    """All that a run leaves except clocks: the bytes of its weights, and what it logged of every step."""
    checkpoint = CheckpointStore(out).latest()
    assert checkpoint is not None
    logged = []
    for line in (out / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in ("start", "step", "eval"):
            logged.append({name: value for name, value in event.items() if name not in CLOCK})
    files = ("model.safetensors", "optimizer.safetensors")
    return {
        "step": checkpoint.step,
        "best": (out / "best").read_text(),
        "log": logged,
        **{name: (checkpoint.folder / name).read_bytes() for name in files},
    }


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


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import small_room
small_room.write_table(Path(sys.argv[2]))
"""
