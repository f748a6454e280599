"""A process that decodes is killed, or a picture never comes to an end: the run goes on, and ends as it should."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from diptych.data.batch import Batch
from diptych.data.sample import Item, Rng, Sample
from diptych.data.table import Table, open_table
from diptych.errors import DataError
from diptych.train.fit import fit
from kill import content


@dataclass(frozen=True)
class Fateful:
    """The small room's inputs, with which something happens at some rows."""

    inputs: Any
    keys: str
    """What their keys begin with."""
    act: Callable[[], object]
    columns: ClassVar[tuple[str, ...]] = ()

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        if sample.key.startswith(self.keys):
            self.act()
        return self.inputs.item(sample, rng)

    def collate(self, items: Sequence[Item]) -> Batch:
        return self.inputs.collate(items)

    def save(self, folder: Path) -> None:
        self.inputs.save(folder)


@dataclass(frozen=True)
class Trainer:
    """Trains the small room, with a fate at some rows."""

    room: ModuleType
    keys: str
    act: Callable[[], object]
    settings: Sequence[str]

    def __call__(self, table: Table, out: Path, **more: Any) -> None:
        job = self.room.small_job(settings=self.settings)
        fit(replace(job, inputs=Fateful(job.inputs, self.keys, self.act)), table, out, device="cpu", **more)


def undisturbed(room: ModuleType, table: Table, out: Path, *, resume: bool = False) -> None:
    fit(room.small_job(), table, out, device="cpu", resume=resume)


def events(out: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def once(mark: Path, number: signal.Signals) -> Callable[[], None]:
    """Ends its process the first time that it is called in any."""

    def act() -> None:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), number)

    return act


def replaced(out: Path) -> list[dict[str, Any]]:
    """What the log notes of processes that were replaced."""
    return [note for note in events(out, "note") if "was replaced" in note["text"]]


@pytest.mark.parametrize("key", ["train11", "validation3"])
def test_a_killed_process_is_replaced_and_changes_nothing(
    small_room: ModuleType, small_table: Table, tmp_path: Path, key: str
) -> None:
    undisturbed(small_room, small_table, tmp_path / "whole")
    act = once(tmp_path / "killed", signal.SIGKILL)
    Trainer(small_room, key, act, ["inputs.workers=2"])(small_table, tmp_path / "run")
    (note,) = replaced(tmp_path / "run")
    assert note["text"] == (
        "A process that decodes pictures was killed (SIGKILL: memory may be short) and was replaced."
    )
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_processes_that_are_killed_whatever_they_read_end_the_run_in_words(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    """As where memory is short; once there is enough, the run goes on as if nothing had been."""
    undisturbed(small_room, small_table, tmp_path / "whole")
    doomed = Trainer(small_room, "train", lambda: os.kill(os.getpid(), signal.SIGKILL), ["inputs.workers=1"])
    with pytest.raises(DataError, match=r"lost over one batch.*SIGKILL.*fewer inputs.workers.*--resume"):
        doomed(small_table, tmp_path / "run")
    undisturbed(small_room, small_table, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def in_c() -> None:
    """As in a decoder that loops for ever and lets nothing else of its process run."""
    ctypes.PyDLL(None).pause()


@pytest.mark.slow
@pytest.mark.parametrize("stuck", ["in C", "reading"])
def test_a_picture_without_an_end_costs_itself(small_room: ModuleType, tmp_path: Path, stuck: str) -> None:
    """The run is that of a table where the picture is none; also when it is killed after it has met it, and goes on."""
    os.mkfifo(tmp_path / "pipe")
    act = in_c if stuck == "in C" else (tmp_path / "pipe").read_bytes  # nobody ever writes
    train = Trainer(small_room, "train0", act, ["inputs.workers=1", "inputs.decode_timeout_s=2"])
    good = open_table(small_room.write_table(tmp_path / "good"))
    bad = open_table(small_room.write_table(tmp_path / "bad", num_bad=1))
    undisturbed(small_room, bad, tmp_path / "bad row")
    train(good, tmp_path / "whole")
    (reject,) = events(tmp_path / "whole", "reject")
    assert (reject["key"], reject["reason"]) == ("train0", "a process was stuck for 2 s over it")
    assert len(replaced(tmp_path / "whole")) == 1
    whole, expected = content(tmp_path / "whole"), content(tmp_path / "bad row")
    assert whole["model.safetensors"] == expected["model.safetensors"]
    with pytest.raises(small_room.Killed):
        train(good, tmp_path / "run", progress=small_room.KillAt(8))
    train(good, tmp_path / "run", resume=True)
    assert content(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_picture_without_an_end_in_an_evaluation_is_waited_for_once(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    settings = ["inputs.workers=1", "inputs.decode_timeout_s=2"]
    Trainer(small_room, "validation3", in_c, settings)(small_table, tmp_path / "run")
    assert [line["rows"] for line in events(tmp_path / "run", "eval")] == [8, 8, 8, 8]
    assert len(replaced(tmp_path / "run")) == len(events(tmp_path / "run", "reject")) == 1
