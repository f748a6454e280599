"""What is free, and what is taken at once, by hand and by the system's own account."""

from __future__ import annotations

import sys
import time
from mmap import PAGESIZE, mmap
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from diptych.train import memory
from diptych.train.live_bytes import LiveBytes
from diptych.train.memory import PeakMemory, anonymous_bytes, free_bytes, own_groups

CPU = torch.device("cpu")
MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def group(folder: Path, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 0\n")


def test_the_tightest_of_all_groups_around_a_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, told = tmp_path / "cgroup", tmp_path / "told"
    told.write_text("3:memory:/old\n0::/slurm/job_7/step\n")
    assert own_groups(told, root) == [root / "slurm/job_7/step", root / "slurm/job_7", root / "slurm", root]
    group(root / "slurm/job_7/step", "max", 5)
    group(root / "slurm/job_7", "9000", 2000)
    group(root / "slurm", "50000", 1000)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 1000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "own_groups", lambda: own_groups(told, root))
    assert free_bytes(CPU) == 7000
    meminfo.write_text("MemAvailable: 4 kB\n")
    assert free_bytes(CPU) == 4096


def test_a_process_without_groups_has_none(tmp_path: Path) -> None:
    assert own_groups(tmp_path / "none") == []
    (tmp_path / "old").write_text("4:memory:/here\n")
    assert own_groups(tmp_path / "old") == []


@linux
def test_the_peak_is_seen_though_it_is_over_when_the_work_ends() -> None:
    before = anonymous_bytes()
    with PeakMemory() as peak, mmap(-1, 256 * MIB) as pages:  # not from malloc, which may have as much in reserve
        for start in range(0, len(pages), PAGESIZE):
            pages[start] = 1
        time.sleep(0.1)
    assert 225 * MIB < peak.bytes - before < 400 * MIB
    assert anonymous_bytes() - before < 100 * MIB


def hold(num: int, ready: object, done: object) -> None:
    held = bytearray(b"x") * num
    ready.set()  # type: ignore[attr-defined]
    done.wait()  # type: ignore[attr-defined]
    assert held


@linux
@pytest.mark.slow
def test_processes_that_were_started_count_where_asked() -> None:
    context = get_context("fork")
    ready, done = context.Event(), context.Event()
    with PeakMemory(children=True) as whole, PeakMemory() as alone:
        worker = context.Process(target=hold, args=(100 * MIB, ready, done))
        worker.start()
        ready.wait()
        done.set()
        worker.join()
    assert whole.bytes - alone.bytes > 100 * MIB


def test_a_process_that_ended_has_nothing() -> None:
    assert anonymous_bytes(2**22 + 1) == 0


def test_live_bytes_by_hand() -> None:
    given = torch.ones(10)
    with LiveBytes([given]) as counted:
        one = given + 1  # 40 bytes
        two = torch.cat([one, one])  # 80 more
        del one
        given.mul_(2)  # nothing new
        three = two.view(4, 5)  # nor this
        four = three.double()  # 160 beside 80
    assert counted.peak == 240
    assert four.numel() == 20
