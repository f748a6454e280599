"""A disk that is full and files that were cut short: told in words, and once it is mended nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from diptych.checkpoint.store import CheckpointStore
from diptych.data.batch import Batch
from diptych.data.sample import Item, Rng, Sample
from diptych.data.table import Table, open_table
from diptych.errors import CheckpointError, DataError, TrainingError
from diptych.progress import Silent, SilentBar
from diptych.train.fit import fit
from kill import content, differences

SETTINGS = ["training.steps=60", "training.eval_every=15", "training.checkpoint_every=10"]


class Told(Silent):
    """Remembers what it was told, and asks the run to stop after a step."""

    def __init__(self, stop_after: int = -1) -> None:
        self.stop_after, self.lines = stop_after, list[str]()

    def say(self, message: str) -> None:
        self.lines.append(message)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        return StopBar(self.stop_after - int(done)) if name == "training" else SilentBar()


class StopBar(SilentBar):
    def __init__(self, left: int) -> None:
        self.left = left

    def advance(self, num: float = 1, note: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class Runs:
    """One run as nothing disturbs it, and one in `out` for the test to disturb."""

    room: ModuleType
    table: Table
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def go_on(self, told: Told | None = None, *, out: Path | None = None, inputs: Any = None, workers: int = 0) -> Told:
        told = told or Told()
        job = self.room.small_job(settings=[*SETTINGS, f"inputs.workers={workers}"])
        job = job if inputs is None else replace(job, inputs=inputs)
        fit(job, self.table, out or self.out, resume=True, device="cpu", progress=told)
        return told

    def end_the_same(self) -> None:
        self.go_on()
        self.go_on(out=self.folder / "whole")
        assert not differences(content(self.out), content(self.folder / "whole"))
        assert not list(self.out.rglob("*.partial"))


@pytest.fixture
def runs(small_room: ModuleType, small_table: Table, tmp_path: Path) -> Runs:
    return Runs(small_room, small_table, tmp_path)


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """As a disk without room: what a file would have beyond is refused, after a part of it was taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoints(out: Path) -> dict[str, bytes]:
    files = [path for path in (out / "checkpoints").rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


def test_a_disk_that_is_full_in_a_checkpoint(runs: Runs) -> None:
    runs.go_on(Told(stop_after=15))
    before = checkpoints(runs.out)
    optimizer = runs.out / "checkpoints" / "step_0000015" / "optimizer.safetensors"
    with (
        no_file_above(optimizer.stat().st_size - 1),
        pytest.raises(CheckpointError, match=r"step 20 could not be written .*File too large.* go on with --resume"),
    ):
        runs.go_on()
    assert checkpoints(runs.out) == before
    assert json.loads((runs.out / "log.jsonl").read_text().splitlines()[-1])["status"] == "failed"
    runs.end_the_same()


def test_a_disk_that_is_full_in_the_log(runs: Runs) -> None:
    runs.go_on(Told(stop_after=45))
    before = checkpoints(runs.out)
    log = runs.out / "log.jsonl"
    assert log.stat().st_size > max(map(len, before.values()))
    with (
        no_file_above(log.stat().st_size + 500),
        pytest.raises(TrainingError, match=r"log.jsonl could not be written: File too large. .* go on with --resume"),
    ):
        runs.go_on()
    assert not log.read_bytes().endswith(b"\n")  # the last line was cut
    newest = runs.out / "checkpoints" / "step_0000045" / "model.safetensors"
    assert newest.read_bytes() == before[str(newest)]
    runs.end_the_same()


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "SHA256"])
def test_a_checkpoint_that_was_cut_short(runs: Runs, file: str) -> None:
    runs.go_on(Told(stop_after=25))
    cut(runs.out / "checkpoints" / "step_0000025" / file)
    told = runs.go_on(Told(stop_after=35))
    assert "step_0000025 is damaged (" in told.lines[0] and file in told.lines[0]
    assert "Going on from step 20 of 60." in told.lines
    runs.end_the_same()


def test_checkpoints_that_were_all_cut_short(runs: Runs) -> None:
    runs.go_on(Told(stop_after=25))
    for file in runs.out.glob("checkpoints/*/model.safetensors"):
        cut(file)
    with pytest.raises(CheckpointError, match=r"all 3 checkpoints .* are damaged; .* another --out"):
        runs.go_on()


def cut(file: Path) -> bytes:
    """Takes the second half of a file away; gives the whole."""
    whole = file.read_bytes()
    os.truncate(file, len(whole) // 2)
    return whole


def test_a_shard_that_was_cut_short_before_the_run_goes_on(runs: Runs, small_room: ModuleType, tmp_path: Path) -> None:
    runs.table = open_table(small_room.write_table(tmp_path / "table"))
    runs.go_on(Told(stop_after=25))
    shard = tmp_path / "table" / "train-00000.arrow"
    whole = cut(shard)
    with pytest.raises(DataError, match=r"train-00000.arrow is damaged: it has .* bytes and .*; copy the table again"):
        open_table(tmp_path / "table")
    shard.write_bytes(whole)
    runs.end_the_same()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_cut_short_under_a_run(
    runs: Runs, small_room: ModuleType, tmp_path: Path, workers: int
) -> None:
    """Its pages are mapped: who reads beyond the end is killed by the kernel, and must not come so far."""
    runs.table = open_table(small_room.write_table(tmp_path / "table"))
    shard = tmp_path / "table" / "train-00000.arrow"
    whole = shard.read_bytes()
    with pytest.raises(DataError, match=r"train-00000.arrow is damaged: it has .* bytes and .*; copy the table again"):
        runs.go_on(inputs=CutsItsShard(small_room.SmallInputs(), shard), workers=workers)
    assert CheckpointStore(runs.out).latest() is not None
    shard.write_bytes(whole)
    runs.end_the_same()


class CutsItsShard:
    """Takes the end of the shard away before the hundredth row to train on."""

    columns = ()

    def __init__(self, inputs: Any, shard: Path) -> None:
        self.inputs, self.shard, self.left = inputs, shard, 100

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        self.left -= rng is not None
        if self.left == 0:
            cut(self.shard)
        return self.inputs.item(sample, rng)

    def collate(self, items: Sequence[Item]) -> Batch:
        return self.inputs.collate(items)

    def save(self, folder: Path) -> None:
        self.inputs.save(folder)
