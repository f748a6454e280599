"""Going on with a run changes nothing, however it was ended, and what was told is not told again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from diptych.checkpoint.store import best_or_last
from diptych.data.batch import Batch, Targets
from diptych.data.table import Table, open_table
from diptych.errors import InterruptedRunError, RunExistsError
from diptych.progress import Silent, SilentBar
from diptych.train import loop
from diptych.train.budget import Layout
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.learner import Learner, Update
from diptych.train.micro_batch import Fitted

Compared = Callable[[Path, Path], None]


class AtStep(Silent):
    """A progress that does something when a step is done, and remembers what it was told."""

    def __init__(self, step: int = -1, act: Any = None) -> None:
        self.step, self.act, self.done, self.lines = step, act, 0, list[str]()

    def say(self, message: str) -> None:
        self.lines.append(message)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        if name != "training":
            return SilentBar()
        self.done = int(done)
        return _Bar(self)


class _Bar(SilentBar):
    def __init__(self, told: AtStep) -> None:
        self.told = told

    def advance(self, num: float = 1, note: str = "") -> None:
        self.told.done += 1
        if self.told.done == self.told.step:
            self.told.act()


@pytest.mark.parametrize("step", [1, 3, 4, 8, 11, 12])
def test_killed_and_resumed_equals_never_killed(
    small_room: ModuleType, small_table: Table, whole: Path, assert_same_run: Compared, tmp_path: Path, step: int
) -> None:
    with pytest.raises(small_room.Killed):
        fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", progress=small_room.KillAt(step))
    result = fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", resume=True)
    assert (result.status, result.step) == ("finished", 12)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(
    "settings",
    [
        ["training.micro_batch=2"],
        ["optim.ema=0.9", "optim.clip_norm=1"],
        ["model.batch_norm=true", "training.micro_batch=3"],
        ["training.precision=bf16"],
        ["training.precision=fp16"],
        ["training.epochs=2.5", "training.steps=none"],
        ["training.eval_metric=loss"],
    ],
    ids=lambda settings: " ".join(settings),
)
def test_every_way_to_train_can_be_killed(
    small_room: ModuleType, small_table: Table, assert_same_run: Compared, tmp_path: Path, settings: list[str]
) -> None:
    job = small_room.small_job
    fit(job(settings=settings), small_table, tmp_path / "whole", device="cpu")
    with pytest.raises(small_room.Killed):
        fit(job(settings=settings), small_table, tmp_path / "run", device="cpu", progress=small_room.KillAt(8))
    fit(job(settings=settings), small_table, tmp_path / "run", device="cpu", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    small_room: ModuleType, small_table: Table, whole: Path, assert_same_run: Compared, tmp_path: Path, name: str
) -> None:
    told = AtStep(7, lambda: os.kill(os.getpid(), getattr(signal, name)))
    before = signal.getsignal(signal.SIGINT)
    result = fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", progress=told)
    assert (result.status, result.step) == ("interrupted", 7)
    assert best_or_last(tmp_path / "run").step == 5 and (tmp_path / "run" / "last").read_text() == "step_0000007\n"
    assert small_room.events(tmp_path / "run")[-1]["status"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", resume=True).status == "finished"
    assert_same_run(tmp_path / "run", whole)


def test_a_second_signal_ends_it_at_once(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError, match="--resume") as error:
        fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", progress=AtStep(7, twice))
    assert error.value.exit_code == 130
    assert (tmp_path / "run" / "last").read_text() == "step_0000006\n"


def test_a_finished_run_says_so(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    settings = ["training.steps=2"]
    first = fit(small_room.small_job(settings=settings), small_table, tmp_path, device="cpu")
    before = (tmp_path / "checkpoints" / "step_0000002" / "SHA256").read_bytes()
    told = AtStep()
    again = fit(
        small_room.small_job(settings=settings), small_table, tmp_path, device="cpu", resume=True, progress=told
    )
    assert again == first
    assert any("finished" in line for line in told.lines)
    assert (tmp_path / "checkpoints" / "step_0000002" / "SHA256").read_bytes() == before
    assert [line["status"] for line in small_room.events(tmp_path, "end")] == ["finished"]


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    small_room: ModuleType, small_table: Table, whole: Path, assert_same_run: Compared, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(small_room.Killed):
        fit(small_room.small_job(), small_table, out, device="cpu", progress=small_room.KillAt(11))
    (out / "checkpoints" / "step_0000010" / "model.safetensors").write_bytes(b"noise")
    told = AtStep()
    fit(small_room.small_job(), small_table, out, device="cpu", resume=True, progress=told)
    assert "step_0000010" in told.lines[0] and "step_0000009" not in told.lines[0]
    assert_same_run(out, whole)


def job_with_weights(small_room: ModuleType, origin: str = "given.pt") -> Job:
    """A job whose weights are none that were drawn."""
    job: Job = small_room.small_job()
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter.mul_(0.5)
    return Job(job.run, job.model, job.objective, job.inputs, origin)


def test_given_weights_are_kept_before_the_first_evaluation(
    small_room: ModuleType, small_table: Table, assert_same_run: Compared, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(small_room.Killed):
        fit(job_with_weights(small_room), small_table, out, device="cpu", progress=small_room.KillBeforeEvaluation())
    assert not small_room.events(out, "eval")
    fit(small_room.small_job(), small_table, out, device="cpu", resume=True)
    fit(job_with_weights(small_room), small_table, tmp_path / "whole", device="cpu")
    assert_same_run(out, tmp_path / "whole")
    assert best_or_last(out).state["origin"] == "given.pt"
    assert "| weights before | given.pt |" in (out / "card.md").read_text()


def test_a_run_that_lost_its_given_weights_goes_on_only_with_them(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(small_room.Killed):
        fit(job_with_weights(small_room), small_table, out, device="cpu", progress=small_room.KillBeforeEvaluation())
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(RunExistsError, match=r"began with the weights of given\.pt .* Pass --init given\.pt again"):
        fit(small_room.small_job(), small_table, out, device="cpu", resume=True)
    with pytest.raises(RunExistsError, match=r"began with the weights of given\.pt, .* those of other\.pt"):
        fit(job_with_weights(small_room, "other.pt"), small_table, out, device="cpu", resume=True)
    given = job_with_weights(small_room, str(Path("given.pt").resolve()))
    assert fit(given, small_table, out, device="cpu", resume=True).status == "finished"
    assert small_room.events(out, "start")[0]["origin"] == str(Path("given.pt").resolve())


def test_a_bad_row_costs_itself_and_a_line(small_room: ModuleType, assert_same_run: Compared, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=1))
    out = tmp_path / "run"
    with pytest.raises(small_room.Killed):
        fit(small_room.small_job(), table, out, device="cpu", progress=small_room.KillAt(8))
    told = AtStep()
    fit(small_room.small_job(), table, out, device="cpu", resume=True, progress=told)
    assert [line["key"] for line in small_room.events(out, "reject")] == ["train0"]
    assert not any("train0" in line for line in told.lines)  # told before the kill, and kept in the checkpoint
    fit(small_room.small_job(), table, tmp_path / "whole", device="cpu")
    assert_same_run(out, tmp_path / "whole")


def test_a_batch_larger_than_the_table_is_told_once_and_sized_as_it_is(
    small_room: ModuleType, small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has 23 rows."""
    layouts, at_once, heard = list[Layout](), list[int | None](), AtStep()

    def four(learner: Learner, batch: Batch, targets: Targets, layout: Layout, **more: object) -> Fitted:
        layouts.append(layout)
        return Fitted(rows=4, reason="as said")

    def update(learner: Learner, *step: Any, micro_batch: int | None) -> Update:
        at_once.append(micro_batch)
        return learn(learner, *step, micro_batch=micro_batch)

    learn = Learner.update
    monkeypatch.setattr(loop, "fitting_micro_batch", four)
    monkeypatch.setattr(Learner, "update", update)
    for steps, resume in ((2, False), (2, True)):
        job = small_room.small_job(settings=[f"training.steps={steps}", "training.batch=32768"])
        fit(job, small_table, tmp_path / "run", device="cpu", progress=heard, resume=resume)
    assert [(layout.batch, layout.local, layout.micro_batch) for layout in layouts] == [(23, 23, 23)]
    assert at_once == [4, 4]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["micro_batch"] == 4
    told = [json.loads(line).get("text") for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for texts in (heard.lines, told):
        assert texts.count("Each batch has 23 rows, all of 'train', and not the 32,768 that were asked for.") == 1
    assert "4 of 23 rows go through the model at once: as said" in told
