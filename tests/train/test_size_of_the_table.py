"""How much memory a training run takes: it must not depend on how long the table is."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")

SETTINGS = ("training.steps=12", "training.eval_every=6", "inputs.workers=1")


@pytest.mark.slow
def test_a_hundred_times_as_many_rows_take_no_more_memory(tmp_path):
    draw_scenes(tmp_path / "scenes", replace(easy(), num=256, size_px=32))
    scenes = open_table(tmp_path / "scenes")
    peaks = {}
    for rows in (1_000, 100_000):
        repeat(scenes, tmp_path / str(rows), rows)
        peaks[rows] = peak_of_training(tmp_path / str(rows), tmp_path / f"run{rows}")
    assert peaks[100_000] == pytest.approx(peaks[1_000], rel=0.05)


def repeat(scenes: Table, out: Path, rows: int) -> None:
    """A table of `rows` training rows that go through the scenes again and again, under new keys."""
    with TableWriter(out, source="scenes, again and again") as writer:
        for split, num in (("train", rows), ("validation", 64)):
            given = [scenes.split(split).sample(row) for row in range(len(scenes.split(split)))]
            for row in range(num):
                one = given[row % len(given)]
                writer.add(split, key=f"{split}{row}", image=one.image, texts=[f"{one.texts[0]} {row % 100}"])


def peak_of_training(table: Path, out: Path) -> int:
    """The most anonymous memory in KiB that all processes of a training had at once; mapped files are no part of it."""
    words = ["train", "clip", "tiny", "--data", str(table), "--out", str(out)]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    told, peak = out.with_suffix(".txt"), 0
    with told.open("w") as file:
        run = subprocess.Popen(
            [sys.executable, "-m", "diptych.cli.main", *words],
            stdout=file,
            stderr=file,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # else each thread has a pool, by chance
        )
        while run.poll() is None:
            peak = max(peak, sum(map(anonymous_kib, family_of(run.pid))))
            time.sleep(0.02)
    assert run.returncode == 0, told.read_text()
    return peak


def family_of(pid: int) -> list[int]:
    """A process and all that it began."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for one in family:  # which grows meanwhile
        family += [child for child, parent in parents.items() if parent == one]
    return family


def anonymous_kib(pid: int) -> int:
    """What a process holds that no file backs; pages shared with others are parted among them. 0 once it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1])
    return 0
