"""Runs whose steps are measured in tokens, under the released arithmetic too."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from diptych.checkpoint.store import best_or_last
from diptych.data.table import Table, open_table
from diptych.errors import UsageError
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.plan import make_plan

BUDGET = 40


@dataclass(frozen=True)
class Counted:
    """Inputs of another room that also say how long a row is."""

    inner: Any

    @property
    def columns(self) -> tuple[str, ...]:
        return self.inner.columns

    def num_tokens(self, sample) -> int:
        return max(map(len, sample.texts))

    def item(self, sample, rng):
        return self.inner.item(sample, rng)

    def collate(self, items):
        return self.inner.collate(items)

    def save(self, folder: Path) -> None:
        self.inner.save(folder)


@pytest.fixture
def table(tmp_path: Path, small_room: ModuleType) -> Table:
    return open_table(small_room.write_table(tmp_path / "table"))


def counted_job(small_room: ModuleType, *settings: str) -> Job:
    job = small_room.small_job(settings=[f"training.batch_tokens={BUDGET}", "training.micro_batch=none", *settings])
    return replace(job, inputs=Counted(job.inputs))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return best_or_last(out).model()


def test_no_step_has_more_tokens_than_were_asked_for(table: Table, small_room: ModuleType, tmp_path: Path) -> None:
    job = counted_job(small_room)
    plan = make_plan(job, table, tmp_path / "run", "cpu")
    steps = [plan.order.rows(step) for step in range(plan.order.steps_per_epoch)]
    assert sorted(row for step in steps for _, row in step) == list(range(len(plan.rows)))
    longest = [max(job.inputs.num_tokens(plan.rows.sample(row)) for _, row in step) for step in steps]
    assert all(most * len(step) <= BUDGET for most, step in zip(longest, steps, strict=True))
    assert plan.order.batch_rows == max(map(len, steps)) > 1


@pytest.mark.parametrize("arithmetic", ["corrected", "released"])
def test_a_killed_run_that_goes_on_is_the_run_that_was_not(
    table: Table, small_room: ModuleType, tmp_path: Path, arithmetic: str
) -> None:
    job = counted_job(small_room, f"optim.arithmetic={arithmetic}")
    fit(job, table, tmp_path / "whole", device="cpu")
    with pytest.raises(small_room.Killed):
        fit(counted_job(small_room, f"optim.arithmetic={arithmetic}"), table, tmp_path / "killed", device="cpu",
            progress=small_room.KillAt(8))  # fmt: skip
    fit(counted_job(small_room, f"optim.arithmetic={arithmetic}"), table, tmp_path / "killed", device="cpu",
        resume=True)  # fmt: skip
    whole, gone_on = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)
    (begin,) = [
        json.loads(line)
        for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()
        if json.loads(line)["event"] == "start"
    ]
    assert begin["batch"] == make_plan(job, table, tmp_path / "x", "cpu").order.batch_rows


def test_arithmetic_changes_the_weights(table: Table, small_room: ModuleType, tmp_path: Path) -> None:
    for arithmetic in ("corrected", "released"):
        fit(counted_job(small_room, f"optim.arithmetic={arithmetic}"), table, tmp_path / arithmetic, device="cpu")
    one, other = weights(tmp_path / "corrected"), weights(tmp_path / "released")
    assert not torch.equal(one["image.weight"], other["image.weight"])


def test_rows_without_a_length_are_told(table: Table, small_room: ModuleType, tmp_path: Path) -> None:
    job = small_room.small_job(settings=["training.batch_tokens=40"])
    with pytest.raises(UsageError, match="the rows of this system have no number of tokens"):
        fit(job, table, tmp_path / "run", device="cpu")
