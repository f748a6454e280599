"""Several processes learn what one learns, under DDP and FSDP2; a dead one stops all, and torchrun goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from diptych.checkpoint.store import CheckpointStore
from diptych.data.table import Table, open_table
from diptych.ranks import ALONE
from diptych.train.fit import fit

PROGRAM = Path(__file__).with_name("ranks_program.py")
FSDP2 = "training.parallel=fsdp2"
RUNS = {
    "contrast": ("contrast", []),
    "contrast_fsdp2": ("contrast", [FSDP2]),
    "cached": ("contrast", ["training.micro_batch=1"]),
    "cached_fsdp2": ("contrast", ["training.micro_batch=1", FSDP2]),
    "one_head_a_step": ("heads", []),
    "one_head_a_step_fsdp2": ("heads", [FSDP2]),
    "parts_of_unequal_number": ("heads", ["training.micro_batch=1"]),
    "parts_of_unequal_number_fsdp2": ("heads", ["training.micro_batch=1", FSDP2]),
    "head_in_the_loss": ("sigmoid", []),
    "head_in_the_loss_cached": ("sigmoid", ["training.micro_batch=1"]),
    "head_in_the_loss_cached_fsdp2": ("sigmoid", ["training.micro_batch=1", FSDP2]),
    "averaged_and_clipped_fsdp2": ("contrast", ["optim.ema=0.9", "optim.clip_norm=0.5", FSDP2]),
}
"""Batches of 5 rows: 2 + 3 on two ranks, 1 + 2 + 2 on three."""


def ranks_of(size: int, table: Path, out: Path, *runs: str) -> list[subprocess.Popen[str]]:
    """One process a rank, as torchrun begins them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(PROGRAM), str(table), str(out), *runs]
    shared = {**os.environ, "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(size)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        told = process.communicate(timeout=300)[1]
        assert process.returncode == 0, told


def words(name: str, settings: Sequence[str] = ()) -> str:
    objective, own = RUNS[name]
    return f"{name}:{objective}:{','.join([*own, *settings])}"


def one_process(small_room: ModuleType, table: Table, out: Path, name: str) -> Path:
    objective, settings = RUNS[name]
    fit(small_room.small_job(small_room.run_in_ranks(objective), settings), table, out / name, device="cpu")
    return out / name


@pytest.fixture(scope="module")
def alone(small_room: ModuleType, small_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    for name in RUNS:
        one_process(small_room, small_table, out, name)
    return out


@pytest.fixture(scope="module")
def pair(small_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run in two processes."""
    out = tmp_path_factory.mktemp("pair")
    finish(ranks_of(2, small_table.path, out, *map(words, RUNS)))
    return out


def numbers(out: Path) -> list[dict[str, Any]]:
    """What each step and evaluation came to."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    names = {"step": ("step", "loss", "terms", "grad_norm", "temperature", "lr"), "eval": ("step", "loss", "metrics")}
    return [{name: one[name] for name in names[one["event"]]} for one in lines if one["event"] in names]


def assert_learned_the_same(out: Path, expected: Path) -> None:
    """Up to rounding: losses and gradient norms of all steps, evaluations, and the last weights."""
    assert_close(numbers(out), numbers(expected), rtol=1e-4, atol=1e-4)
    ours, theirs = CheckpointStore(out).latest(), CheckpointStore(expected).latest()
    assert ours is not None and theirs is not None and ours.step == theirs.step == 12
    assert_close(ours.model(), theirs.model(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_learn_what_one_process_learns(alone: Path, pair: Path, name: str) -> None:
    assert_learned_the_same(pair / name, alone / name)


@pytest.mark.slow
def test_three_ranks_learn_what_one_process_learns(alone: Path, small_table: Table, tmp_path: Path) -> None:
    names = ("cached", "contrast_fsdp2", "parts_of_unequal_number")
    finish(ranks_of(3, small_table.path, tmp_path, *map(words, names)))
    for name in names:
        assert_learned_the_same(tmp_path / name, alone / name)


@pytest.mark.slow
def test_a_row_that_cannot_be_read_counts_for_no_rank(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=2))
    whole = one_process(small_room, table, tmp_path / "alone", "contrast")
    finish(ranks_of(2, table.path, tmp_path / "pair", words("contrast")))
    assert_learned_the_same(tmp_path / "pair" / "contrast", whole)
    ours, theirs = CheckpointStore(tmp_path / "pair" / "contrast").latest(), CheckpointStore(whole).latest()
    assert ours is not None and theirs is not None
    assert sorted(ours.state["bad_rows"]) == sorted(theirs.state["bad_rows"]) == [0, 1]


def before_its_end(out: Path, to: Path) -> Path:
    """A copy of a run as it was when its last checkpoint but one was the last."""
    shutil.copytree(out, to)
    shutil.rmtree(to / "checkpoints" / "step_0000012")
    assert CheckpointStore(to).latest() is not None
    return to


@pytest.mark.slow
@pytest.mark.parametrize("name", ["averaged_and_clipped_fsdp2", "cached_fsdp2"])
def test_shares_of_two_ranks_go_on_in_three_and_in_one(
    small_room: ModuleType, small_table: Table, pair: Path, alone: Path, tmp_path: Path, name: str
) -> None:
    assert (pair / name / "checkpoints" / "step_0000012" / "optimizer").is_dir()
    before_its_end(pair / name, tmp_path / "three" / name)
    finish(ranks_of(3, small_table.path, tmp_path / "three", words(name)))
    assert_learned_the_same(tmp_path / "three" / name, alone / name)
    objective, settings = RUNS[name]
    job = small_room.small_job(small_room.run_in_ranks(objective), settings)
    fit(job, small_table, before_its_end(pair / name, tmp_path / "one"), device="cpu", resume=True)
    assert_learned_the_same(tmp_path / "one", alone / name)


@pytest.mark.slow
def test_a_whole_checkpoint_goes_on_in_shares(small_table: Table, alone: Path, tmp_path: Path) -> None:
    before_its_end(alone / "contrast", tmp_path / "contrast")
    finish(ranks_of(2, small_table.path, tmp_path, words("contrast", [FSDP2])))
    assert_learned_the_same(tmp_path / "contrast", alone / "contrast")


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    log = out / "log.jsonl"
    while not (log.exists() and f'"event": "step", "step": {step},' in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["contrast", "contrast_fsdp2"])
def test_a_loss_that_is_not_finite_ends_all_ranks(small_table: Table, tmp_path: Path, name: str) -> None:
    told = [one.communicate(timeout=300)[1] for one in ranks_of(2, small_table.path, tmp_path, words(name, HUGE))]
    assert all("NotFiniteError: the loss of step" in words_of_one for words_of_one in told)
    record = json.loads((tmp_path / name / "nan.json").read_text())
    assert len(record["keys"]) == 5 and "logit_scale" in record["parameters_without_finite_gradient"]


HUGE = ["optim.lr=1e38"]
LONG = ["training.steps=400", "training.checkpoint_every=7"]


@pytest.mark.slow
def test_a_dead_rank_ends_the_others_in_words(small_table: Table, tmp_path: Path) -> None:
    first, second = ranks_of(2, small_table.path, tmp_path, words("contrast", LONG))
    wait_for_step(tmp_path / "contrast", 15, first)
    second.send_signal(signal.SIGKILL)
    told = first.communicate(timeout=300)[1]
    assert first.returncode == 1
    assert "LostRankError: another of the 2 processes of this run died" in told
    assert "--max-restarts" in told and CheckpointStore(tmp_path / "contrast").latest() is not None


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], [FSDP2]])
def test_torchrun_goes_on_after_a_rank_was_killed(small_table: Table, tmp_path: Path, more: list[str]) -> None:
    finish(ranks_of(2, small_table.path, tmp_path / "whole", words("contrast", [*LONG, *more])))
    out = tmp_path / "killed" / "contrast"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "1", str(PROGRAM), str(small_table.path), str(out.parent)]
    job = subprocess.Popen([*command, words("contrast", [*LONG, *more])], stderr=subprocess.PIPE, text=True)
    wait_for_step(out, 40, job)
    os.kill(ranks_below(job.pid)[-1], signal.SIGKILL)
    told = job.communicate(timeout=300)[1]
    assert job.returncode == 0, told
    ours, theirs = CheckpointStore(out).latest(), CheckpointStore(tmp_path / "whole" / "contrast").latest()
    assert ours is not None and theirs is not None and ours.step == theirs.step == 400
    assert_close(ours.model(), theirs.model(), rtol=0, atol=0)  # bit for bit
    assert '"text": "went on from the checkpoint of step' in (out / "log.jsonl").read_text()


def ranks_below(parent: int) -> list[int]:
    """Processes of the program whose parent is torchrun."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of, line = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1], (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(of) == parent and PROGRAM.name in line:
            found.append(int(folder.name))
    return sorted(found)


def test_alone_is_a_group_of_its_own() -> None:
    assert ALONE.leads and ALONE.gathered([3, 4]) == [[3, 4]] and ALONE.joined("ab") == ["a", "b"]
    values = torch.tensor([1.0, 2.0])
    ALONE.add_up([values])
    assert values.tolist() == [1.0, 2.0] and ALONE.from_lead(lambda: 5) == 5
