"""Several tables from the command line: UNITER over two of them, killed, gone on with, repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from kill import content

pytestmark = pytest.mark.slow

SETTINGS = ("training.steps=24", "training.checkpoint_every=4", "training.eval_every=12", "training.batch_tokens=400",
            "inputs.workers=1", "inputs.vocab_size=300")  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chance_regions: ModuleType) -> Path:
    """Two tables of scenes under the names `a` and `b`, and regions of each, whose keys are not the same."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, num, seed in (("a", 60, 3), ("b", 90, 4)):
        draw_scenes(folder / name, easy(num=num, seed=seed, size_px=32), workers=1)
        chance_regions.write_regions(open_table(folder / name), folder / f"regions-{name}")
    return folder


def tables(world: Path, *names: str) -> list[object]:
    data = [word for name in names for word in ("--data", world / name)]
    return [*data, *(word for name in ("a", "b") for word in ("--regions", world / f"regions-{name}"))]


def words(world: Path, out: Path) -> list[object]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    shares = ("--share", 2, "--share", 1)
    return ["train", "uniter", "tiny", *tables(world, "a", "b"), *shares, "--out", out, "--device", "cpu", *settings]


def test_a_killed_run_goes_on_as_the_one_that_was_not(
    exit_code: Callable[..., int], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert exit_code(*words(world, whole)) == 0
    said = capsys.readouterr()
    assert f"--data {world / 'a'} " in said.out.splitlines()[-1]
    command = [sys.executable, "-m", "diptych.cli.main", *map(str, words(world, killed))]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums of floats hang on their number
    process = subprocess.Popen(
        command, start_new_session=True, env=threads, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = killed / "log.jsonl"
    while process.poll() is None and (not log.exists() or log.read_bytes().count(b'"event": "step"') < 10):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert exit_code(*words(world, killed), "--resume") == 0
    assert content(killed) == content(whole)

    (start, *_), steps = ([json.loads(line) for line in log.read_text().splitlines() if f'"event": "{kind}"' in line]
                          for kind in ("start", "step"))  # fmt: skip
    assert [one["share"] for one in start["mixed"]] == [2, 1]
    assert [[step["table"] for step in steps[at : at + 3]].count(1) for at in range(0, 24, 3)] == [2] * 8
    assert "| table 2 | b, train" in (whole / "card.md").read_text()

    capsys.readouterr()
    assert exit_code("train", *tables(world, "b", "a"), "--out", killed, "--resume") == 1
    assert "2 tables, number 1 of them" in capsys.readouterr().err


def test_a_run_over_tables_is_repeated_and_its_report_written_again(
    exit_code: Callable[..., int], world: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    few = ("--set", "training.steps=3")
    assert exit_code(*words(world, first), *few) == 0
    assert exit_code("train", "--repeat", first / "run.json", *tables(world, "a", "b"), "--out", again) == 0
    assert content(again)["model.safetensors"] == content(first)["model.safetensors"]
    assert exit_code("evaluate", first, "--task", "matching", *tables(world, "b")) == 0


def test_mistakes_are_told(
    exit_code: Callable[..., int], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "new")
    assert exit_code("train", "uniter", "tiny", *tables(world, "a", "b"), "--share", 2, *out) == 2
    assert "training.shares is 2, and tables to train on: 2" in capsys.readouterr().err
    assert exit_code("train", "uniter", "tiny", *tables(world, "a"), "--data", world / "regions-b", *out) == 1
    assert "expected tables of one kind" in capsys.readouterr().err
    assert exit_code("train", "clip", "tiny", "--data", world / "a", "--data", world / "nowhere", *out) == 1
    assert "nowhere is no table" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
