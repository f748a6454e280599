"""What a run leaves behind, how it ends, and that going on with it changes nothing."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from diptych.checkpoint.store import CheckpointStore, best_or_last
from diptych.data.batch import Batch, Targets
from diptych.data.sampler import Order
from diptych.data.table import Table, open_table
from diptych.errors import DataError, InterruptedRunError, RunExistsError, TrainingError, UsageError
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Encode, Loss, Term
from diptych.progress import Silent, SilentBar
from diptych.train import loop
from diptych.train.budget import Layout
from diptych.train.job import Job
from diptych.train.learner import Learner, Update
from diptych.train.loop import fit
from diptych.train.micro_batch import Fitted

CLOCK = {"time_s", "samples_per_s", "tokens_per_s", "loader_share", "mfu", "product_rate"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


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


def kill() -> None:
    raise Killed


def events(out: Path, *names: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if not names or line["event"] in names]


def without_clock(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def assert_same_run(out: Path, expected: Path) -> None:
    """Bit for bit: weights, optimizer, state, and what was logged of every step."""
    ours, theirs = CheckpointStore(out).latest(), CheckpointStore(expected).latest()
    assert ours is not None and theirs is not None and ours.step == theirs.step
    assert_close(ours.model(), theirs.model(), rtol=0, atol=0)
    assert_close(ours.optimizer(), theirs.optimizer(), rtol=0, atol=0)
    for name in ("bad_rows", "best_step", "best_metrics", "last_metrics", "evaluated"):
        assert ours.state[name] == theirs.state[name]
    names = ("start", "step", "eval", "reject")
    assert without_clock(events(out, *names)) == without_clock(events(expected, *names))
    for file in ("best", "last", "run.json"):
        assert (out / file).read_bytes() == (expected / file).read_bytes()


@pytest.fixture(scope="module")
def whole(small_room: ModuleType, small_table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    fit(small_room.small_job(), small_table, out, device="cpu")
    return out


def test_a_run_learns_and_says_how_it_went(whole: Path) -> None:
    steps, evaluations = events(whole, "step"), events(whole, "eval")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["step"] for line in evaluations] == [0, 5, 10, 12]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    assert steps[0]["terms"] == {"contrastive": pytest.approx(steps[0]["loss"])}
    assert steps[0]["temperature"] == pytest.approx(math.exp(-2))
    assert [line["epoch"] for line in steps] == [0] * 4 + [1] * 4 + [2] * 4  # 23 rows are 4 whole batches of 5
    assert all(0 <= line["loader_share"] <= 1 and line["samples_per_s"] > 0 for line in steps)
    assert all(line["tokens_per_s"] > line["samples_per_s"] for line in steps)
    assert steps[2]["lr"] == pytest.approx(1e-2) and steps[-1]["lr"] < 1e-3


def test_the_first_event_says_on_what_and_the_last_how_it_ended(whole: Path) -> None:
    start, end = events(whole)[0], events(whole)[-1]
    assert start["event"] == "start" and end["event"] == "end"
    assert (start["rows"], start["batch"], start["steps"]) == (23, 5, 12)
    assert start["chance_loss"] == pytest.approx(math.log(5))
    assert start["versions"]["torch"] in torch.__version__ and start["machine"]["device"] == "cpu"
    assert (end["status"], end["step"]) == ("finished", 12)


def test_the_run_folder_holds_what_the_design_says(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "run.json", "log.jsonl", "card.md", "letters.txt", "checkpoints", "best", "last"
    }  # fmt: skip
    assert (whole / "last").read_text() == "step_0000012\n"
    best = best_or_last(whole)
    scores = {line["step"]: line["metrics"] for line in events(whole, "eval") if line["step"]}
    means = {step: (one["text_to_image_r1"] + one["image_to_text_r1"]) / 2 for step, one in scores.items()}
    assert means[best.step] == max(means.values())
    assert {**best.state["run"], "origin": "scratch"} == json.loads((whole / "run.json").read_text())


def test_a_run_says_how_much_of_the_device_it_uses(
    small_room: ModuleType, small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.train.meter.FLOPS_AFTER_S", 0.0)
    monkeypatch.setattr("diptych.train.loop.product_rate", lambda *_: 1e6)
    fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu")
    assert events(tmp_path / "run", "start")[0]["product_rate"] == 1e6
    flops = 2 * 48 * 6 * 2  # one product of pixels and weight, and in the backward pass the weight's gradient
    for line in events(tmp_path / "run", "step"):
        assert line["mfu"] == pytest.approx(flops * line["samples_per_s"] / 1e6, rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("step", [1, 3, 4, 8, 11, 12])
def test_killed_and_resumed_equals_never_killed(
    small_room: ModuleType, small_table: Table, whole: Path, tmp_path: Path, step: int
) -> None:
    with pytest.raises(Killed):
        fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", progress=AtStep(step, kill))
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
    small_room: ModuleType, small_table: Table, tmp_path: Path, settings: list[str]
) -> None:
    job = small_room.small_job
    fit(job(settings=settings), small_table, tmp_path / "whole", device="cpu")
    with pytest.raises(Killed):
        fit(job(settings=settings), small_table, tmp_path / "run", device="cpu", progress=AtStep(8, kill))
    fit(job(settings=settings), small_table, tmp_path / "run", device="cpu", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    small_room: ModuleType, small_table: Table, whole: Path, tmp_path: Path, name: str
) -> None:
    told = AtStep(7, lambda: os.kill(os.getpid(), getattr(signal, name)))
    before = signal.getsignal(signal.SIGINT)
    result = fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", progress=told)
    assert (result.status, result.step) == ("interrupted", 7)
    assert best_or_last(tmp_path / "run").step == 5 and (tmp_path / "run" / "last").read_text() == "step_0000007\n"
    assert events(tmp_path / "run")[-1]["status"] == "interrupted"
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
    assert [line["status"] for line in events(tmp_path, "end")] == ["finished"]


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(
    small_room: ModuleType, small_table: Table, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        fit(small_room.small_job(), small_table, out, device="cpu", progress=AtStep(11, kill))
    (out / "checkpoints" / "step_0000010" / "model.safetensors").write_bytes(b"noise")
    told = AtStep()
    fit(small_room.small_job(), small_table, out, device="cpu", resume=True, progress=told)
    assert "step_0000010" in told.lines[0] and "step_0000009" not in told.lines[0]
    assert_same_run(out, whole)


class Breaks(Contrastive):
    """Its loss, or only its gradient, is not finite on the batches that hold a key."""

    def __init__(self, key: str, gradient_only: bool = False) -> None:
        super().__init__()
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "gradient_only", gradient_only)

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        loss = super().loss(encode, batch, targets)
        if self.key not in batch.keys:  # type: ignore[attr-defined]
            return loss
        term = loss.terms["contrastive"]
        broken = (term.total * 0).sqrt() if self.gradient_only else term.total * math.nan  # type: ignore[attr-defined]
        return Loss({"contrastive": Term(total=broken, count=term.count)})


def breaking_job(small_room: ModuleType, step: int, settings: Sequence[str] = (), gradient_only: bool = False) -> Job:
    """A job whose batch of `step`, from 0, is the first to break."""
    job: Job = small_room.small_job(settings=settings)
    row = Order(num_rows=23, batch=5, seed=7).rows(step)[2][1]
    return Job(job.run, job.model, Breaks(f"train{row}", gradient_only), job.inputs)


@pytest.mark.parametrize("gradient_only", [False, True])
def test_a_loss_that_is_not_finite_stops_with_what_led_to_it(
    small_room: ModuleType, small_table: Table, tmp_path: Path, gradient_only: bool
) -> None:
    job = breaking_job(small_room, 3, gradient_only=gradient_only)
    with pytest.raises(TrainingError, match=r"step 4 .*nan\.json") as error:
        fit(job, small_table, tmp_path, device="cpu")
    record = json.loads((tmp_path / "nan.json").read_text())
    assert record["step"] == 4 and len(record["keys"]) == 5 and len(record["last_losses"]) == 3
    assert record["parameters_without_finite_gradient"]
    assert "optim.lr" in str(error.value)
    assert (tmp_path / "last").read_text() == "step_0000003\n"
    assert events(tmp_path)[-1]["status"] == "nan"
    weights = best_or_last(tmp_path).model()
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_skipping_leaves_those_steps_out_and_goes_on(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    job = breaking_job(small_room, 3, ["model.batch_norm=true"])
    result = fit(job, small_table, tmp_path, device="cpu", on_nan="skip")
    assert result.status == "finished"
    left_out = [line["step"] for line in events(tmp_path, "note") if "left out" in line["text"]]
    assert left_out[0] == 4 and len(left_out) <= 3  # once an epoch
    assert all(bool(torch.isfinite(value).all()) for value in best_or_last(tmp_path).model().values())


def test_skipping_ends_at_its_limit(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    class Always(Contrastive):
        def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
            term = super().loss(encode, batch, targets).terms["contrastive"]
            return Loss({"contrastive": Term(total=term.total * math.inf, count=term.count)})

    job = small_room.small_job(settings=["training.skip_limit=2"])
    with pytest.raises(TrainingError, match=r"step 3 .*skip_limit=2"):
        fit(Job(job.run, job.model, Always(), job.inputs), small_table, tmp_path, device="cpu", on_nan="skip")


class InFirstEvaluation(AtStep):
    """Ends the run before its first evaluation has seen a row."""

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        if name == "evaluating":
            kill()
        return super().bar(name, total, unit, done)


def job_with_weights(small_room: ModuleType, origin: str = "given.pt") -> Job:
    """A job whose weights are none that were drawn."""
    job: Job = small_room.small_job()
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter.mul_(0.5)
    return Job(job.run, job.model, job.objective, job.inputs, origin)


def test_given_weights_are_kept_before_the_first_evaluation(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        fit(job_with_weights(small_room), small_table, tmp_path / "run", device="cpu", progress=InFirstEvaluation())
    assert not events(tmp_path / "run", "eval")
    fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu", resume=True)
    fit(job_with_weights(small_room), small_table, tmp_path / "whole", device="cpu")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert best_or_last(tmp_path / "run").state["origin"] == "given.pt"
    assert "| weights before | given.pt |" in (tmp_path / "run" / "card.md").read_text()


def test_a_run_that_lost_its_given_weights_goes_on_only_with_them(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        fit(job_with_weights(small_room), small_table, out, device="cpu", progress=InFirstEvaluation())
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(RunExistsError, match=r"began with the weights of given\.pt .* Pass --init given\.pt again"):
        fit(small_room.small_job(), small_table, out, device="cpu", resume=True)
    with pytest.raises(RunExistsError, match=r"began with the weights of given\.pt, .* those of other\.pt"):
        fit(job_with_weights(small_room, "other.pt"), small_table, out, device="cpu", resume=True)
    given = job_with_weights(small_room, str(Path("given.pt").resolve()))
    assert fit(given, small_table, out, device="cpu", resume=True).status == "finished"
    assert events(out, "start")[0]["origin"] == str(Path("given.pt").resolve())


def test_rows_that_cannot_be_evaluated_on_are_told_once(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=2))
    settings = ["training.eval_split=train", "training.max_bad_rows=0.5", "training.batch=23"]
    fit(small_room.small_job(settings=settings), table, tmp_path / "run", device="cpu")
    lines = events(tmp_path / "run", "eval", "reject")
    first = [line["event"] for line in lines].index("eval")
    assert [line["key"] for line in lines[:first]] == ["train0", "train1"]
    told = [line["key"] for line in lines[first:] if line["event"] == "reject"]
    assert sorted(told) == ["train0", "train1"]  # by the training, once more; by three more evaluations, never


def test_a_split_without_a_row_to_evaluate_on_is_told_in_words(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=23))
    job = small_room.small_job(settings=["training.eval_split=train"])
    with pytest.raises(DataError, match=r"none of the 23 rows .* can be read; the first, .*row 0: .*not 4 x 4"):
        fit(job, table, tmp_path / "run", device="cpu")


def test_a_bad_row_costs_itself_and_a_line(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=1))
    out = tmp_path / "run"
    with pytest.raises(Killed):
        fit(small_room.small_job(), table, out, device="cpu", progress=AtStep(8, kill))
    told = AtStep()
    fit(small_room.small_job(), table, out, device="cpu", resume=True, progress=told)
    assert [line["key"] for line in events(out, "reject")] == ["train0"]
    assert not any("train0" in line for line in told.lines)  # told before the kill, and kept in the checkpoint
    fit(small_room.small_job(), table, tmp_path / "whole", device="cpu")
    assert_same_run(out, tmp_path / "whole")


def test_too_many_bad_rows_stop_the_run(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=7))
    with pytest.raises(TrainingError, match=r"of 23 rows.*max_bad_rows=0\.1"):
        fit(small_room.small_job(), table, tmp_path / "run", device="cpu")
    assert events(tmp_path / "run")[-1]["status"] == "failed"


def test_a_run_in_the_folder_is_not_written_over(small_room: ModuleType, small_table: Table, whole: Path) -> None:
    before = (whole / "log.jsonl").read_bytes()
    with pytest.raises(RunExistsError, match="--resume"):
        fit(small_room.small_job(), small_table, whole, device="cpu")
    with pytest.raises(RunExistsError, match=r"optim\.lr: 0\.01 in the run, 0\.5 now"):
        fit(small_room.small_job(settings=["optim.lr=0.5"]), small_table, whole, device="cpu", resume=True)
    assert (whole / "log.jsonl").read_bytes() == before


def test_a_run_goes_on_only_with_its_table(small_room: ModuleType, whole: Path, tmp_path: Path) -> None:
    other = open_table(small_room.write_table(tmp_path / "table", num=24))
    with pytest.raises(RunExistsError, match="fingerprint"):
        fit(small_room.small_job(), other, whole, device="cpu", resume=True)


def test_a_switch_that_the_model_lacks_is_refused(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    job = small_room.small_job(settings=["training.activation_checkpointing=true"])
    with pytest.raises(UsageError, match="activation_checkpointing"):
        fit(job, small_table, tmp_path, device="cpu")


def test_tensorboard_gets_the_numbers_too(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = small_room.small_job(settings=["training.steps=3"])
    fit(job, small_table, tmp_path, device="cpu", tensorboard=True)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = [line["loss"] for line in events(tmp_path, "step")]
    assert [one.value for one in board.Scalars("train/loss")] == pytest.approx(logged)
    assert "validation/text_to_image_r1" in board.Tags()["scalars"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_model_learns_the_same(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    settings = ["training.steps=3", "model.dropout=0.0"]
    for name, more in (("eager", []), ("compiled", ["training.compile=true"])):
        fit(small_room.small_job(settings=[*settings, *more]), small_table, tmp_path / name, device="cpu")
    eager, compiled = ([line["loss"] for line in events(tmp_path / name, "step")] for name in ("eager", "compiled"))
    assert compiled == pytest.approx(eager, rel=1e-5)
    assert best_or_last(tmp_path / "compiled").model().keys() == best_or_last(tmp_path / "eager").model().keys()


def test_a_scale_of_zero_is_an_infinite_temperature_and_no_crash() -> None:
    learner = SimpleNamespace(step=SimpleNamespace(encode=SimpleNamespace(last_scale=torch.tensor(0.0))))
    assert Learner.temperature(learner) == math.inf  # type: ignore[arg-type]


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
