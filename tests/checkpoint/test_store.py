"""Checkpoints appear whole, name their damage, and only those that are needed stay."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from diptych.checkpoint import files as files_module
from diptych.checkpoint import store as store_module
from diptych.checkpoint.store import CheckpointStore, best_or_last, read_checkpoint
from diptych.data.durable import sha256_of
from diptych.errors import CheckpointError
from diptych.progress import Silent

MODEL = {"a.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}
OPTIMIZER = {"exp_avg.a.weight": torch.full((2, 3), 0.5, dtype=torch.bfloat16)}


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def saved(folder: Path, *steps: int, keep: int = 9) -> CheckpointStore:
    store = CheckpointStore(folder, keep)
    for step in steps:
        store.save(step, model={**MODEL, "steps": torch.tensor(step)}, optimizer=OPTIMIZER, state={"evaluated": step})
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 100).latest()
    assert checkpoint is not None and checkpoint.step == 100 and checkpoint.state["evaluated"] == 100
    assert_close(checkpoint.model(), {**MODEL, "steps": torch.tensor(100)}, rtol=0, atol=0)
    assert_close(checkpoint.optimizer(), OPTIMIZER, rtol=0, atol=0)


def test_the_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    saved(tmp_path, 7)
    folder = tmp_path / "checkpoints" / "step_0000007"
    assert names(tmp_path) == ["step_0000007"]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256"], cwd=folder, check=True, capture_output=True)
    assert len((folder / "SHA256").read_text().splitlines()) == 3


def test_weights_carry_their_format(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with safe_open(tmp_path / "checkpoints" / "step_0000001" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"diptych_format": "1"}


def test_tied_weights_are_saved_twice(tmp_path: Path) -> None:
    tied = torch.ones(3)
    CheckpointStore(tmp_path).save(1, model={"in": tied, "out": tied}, optimizer={}, state={})
    assert_close(best_or_last(tmp_path).model(), {"in": tied, "out": tied})


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, keep=2)
    store.mark_best(1)
    for step in (3, 4, 5):
        store.save(step, model=MODEL, optimizer=OPTIMIZER, state={})
    assert names(tmp_path) == ["step_0000001", "step_0000004", "step_0000005"]
    store.mark_best(5)
    assert names(tmp_path) == ["step_0000004", "step_0000005"]


def test_steps_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    store = saved(tmp_path, 9_999_999, 10_000_000, keep=1)
    assert names(tmp_path) == ["step_10000000"]
    checkpoint = store.latest()
    assert checkpoint is not None and checkpoint.step == 10_000_000


def test_going_on_reads_each_file_for_its_sum_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path, 1, 2)
    summed: list[Path] = []
    monkeypatch.setattr(files_module, "sha256_of", lambda path: (summed.append(path), sha256_of(path))[1])
    assert store.latest() is not None
    assert len(summed) == len(set(summed)) == 3


def test_users_get_the_best_else_the_last(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, 3)
    assert best_or_last(tmp_path).step == 3
    store.mark_best(2)
    assert best_or_last(tmp_path).step == 2
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        best_or_last(tmp_path / "elsewhere")


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    match how:
        case "a bit flipped":
            data = bytearray(weights.read_bytes())
            data[-1] ^= 1
            weights.write_bytes(data)
        case "cut short":
            weights.write_bytes(weights.read_bytes()[:-5])
        case "missing":
            weights.unlink()
        case "no sums":
            (folder / "SHA256").unlink()
        case "empty sums":
            (folder / "SHA256").write_text("")
        case "sums of noise":
            (folder / "SHA256").write_bytes(b"\xff\xfe no sums")


@pytest.mark.parametrize("how", ["a bit flipped", "cut short", "missing", "no sums", "empty sums", "sums of noise"])
def test_a_damaged_one_is_told_by_name_and_the_one_before_it_used(tmp_path: Path, how: str) -> None:
    told = Told()
    store = saved(tmp_path, 10, 20)
    damage(tmp_path / "checkpoints" / "step_0000020", how)
    store = CheckpointStore(tmp_path, progress=told)
    checkpoint = store.latest()
    assert checkpoint is not None and checkpoint.step == 10
    assert len(told.lines) == 1 and "step_0000020" in told.lines[0]
    with pytest.raises(CheckpointError, match="step_0000020"):
        read_checkpoint(tmp_path / "checkpoints" / "step_0000020")


def test_a_damaged_one_is_set_aside_when_the_run_goes_on(tmp_path: Path) -> None:
    store = saved(tmp_path, 10, 20)
    store.mark_best(20)
    damage(tmp_path / "checkpoints" / "step_0000020", "missing")
    store.go_on_from(10, best_step=10)
    assert names(tmp_path) == ["step_0000010", "step_0000020.damaged"]
    assert best_or_last(tmp_path).step == 10
    assert store.save(20, model=MODEL, optimizer=OPTIMIZER, state={}).name == "step_0000020"


def test_a_best_one_that_another_replaced_before_a_kill_is_not_named_again(tmp_path: Path) -> None:
    store = saved(tmp_path, 1, 2, 3, keep=2)
    store.mark_best(3)
    store.go_on_from(3, best_step=1)  # as the checkpoint of step 3, written before its evaluation, knew it
    assert best_or_last(tmp_path).step == 3


def test_when_all_are_damaged_it_says_so(tmp_path: Path) -> None:
    store = saved(tmp_path, 1)
    damage(tmp_path / "checkpoints" / "step_0000001", "cut short")
    with pytest.raises(CheckpointError, match="all 1 checkpoints"):
        store.latest()


def test_leftovers_of_a_killed_write_are_neither_read_nor_kept(tmp_path: Path) -> None:
    store = saved(tmp_path, 5)
    (tmp_path / "checkpoints" / "step_0000006.partial").mkdir()
    (tmp_path / "last.partial").write_text("step_00")
    checkpoint = store.latest()
    assert checkpoint is not None and checkpoint.step == 5
    store.go_on_from(5, best_step=None)
    assert names(tmp_path) == ["step_0000005"] and not (tmp_path / "last.partial").exists()


def test_a_newer_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FORMAT", 9)
    saved(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"step_0000001 has format 9.*Update"):
        CheckpointStore(tmp_path).latest()


def test_a_full_disk_loses_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path, 1)

    def full(tensors: dict[str, Tensor], path: Path, **others: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        store.save(2, model=MODEL, optimizer=OPTIMIZER, state={})
    assert names(tmp_path) == ["step_0000001"]
    checkpoint = store.latest()
    assert checkpoint is not None and checkpoint.step == 1


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    state = json.loads((tmp_path / "checkpoints" / "step_0000004" / "state.json").read_text())
    assert state == {"format": 1, "step": 4, "evaluated": 4}
