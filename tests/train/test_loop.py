"""What a run leaves behind, how it ends, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from diptych.checkpoint.store import best_or_last
from diptych.data.table import Table, open_table
from diptych.errors import DataError, RunExistsError, TrainingError, UsageError
from diptych.train.fit import fit
from diptych.train.learner import Learner


def test_a_run_learns_and_says_how_it_went(small_room: ModuleType, whole: Path) -> None:
    steps, evaluations = small_room.events(whole, "step"), small_room.events(whole, "eval")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["step"] for line in evaluations] == [0, 5, 10, 12]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    assert steps[0]["terms"] == {"contrastive": pytest.approx(steps[0]["loss"])}
    assert steps[0]["temperature"] == pytest.approx(math.exp(-2))
    assert [line["epoch"] for line in steps] == [0] * 4 + [1] * 4 + [2] * 4  # 23 rows are 4 whole batches of 5
    assert all(0 <= line["loader_share"] <= 1 and line["samples_per_s"] > 0 for line in steps)
    assert all(line["tokens_per_s"] > line["samples_per_s"] for line in steps)
    assert steps[2]["lr"] == pytest.approx(1e-2) and steps[-1]["lr"] < 1e-3


def test_the_first_event_says_on_what_and_the_last_how_it_ended(small_room: ModuleType, whole: Path) -> None:
    start, end = small_room.events(whole)[0], small_room.events(whole)[-1]
    assert start["event"] == "start" and end["event"] == "end"
    assert (start["rows"], start["batch"], start["steps"]) == (23, 5, 12)
    assert start["chance_loss"] == pytest.approx(math.log(5))
    assert start["versions"]["torch"] in torch.__version__ and start["machine"]["device"] == "cpu"
    assert (end["status"], end["step"]) == ("finished", 12)


def test_the_run_folder_holds_what_the_design_says(small_room: ModuleType, whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "run.json", "log.jsonl", "card.md", "letters.txt", "checkpoints", "best", "last"
    }  # fmt: skip
    assert (whole / "last").read_text() == "step_0000012\n"
    best = best_or_last(whole)
    scores = {line["step"]: line["metrics"] for line in small_room.events(whole, "eval") if line["step"]}
    means = {step: (one["text_to_image_r1"] + one["image_to_text_r1"]) / 2 for step, one in scores.items()}
    assert means[best.step] == max(means.values())
    assert {**best.state["run"], "origin": "scratch"} == json.loads((whole / "run.json").read_text())


def test_a_run_says_how_much_of_the_device_it_uses(
    small_room: ModuleType, small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.train.meter.FLOPS_AFTER_S", 0.0)
    monkeypatch.setattr("diptych.train.fit.product_rate", lambda *_: 1e6)
    fit(small_room.small_job(), small_table, tmp_path / "run", device="cpu")
    assert small_room.events(tmp_path / "run", "start")[0]["product_rate"] == 1e6
    flops = 2 * 48 * 6 * 2  # one product of pixels and weight, and in the backward pass the weight's gradient
    for line in small_room.events(tmp_path / "run", "step"):
        assert line["mfu"] == pytest.approx(flops * line["samples_per_s"] / 1e6, rel=1e-2, abs=1e-4)


def test_rows_that_cannot_be_evaluated_on_are_told_once(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=2))
    settings = ["training.eval_split=train", "training.max_bad_rows=0.5", "training.batch=23"]
    fit(small_room.small_job(settings=settings), table, tmp_path / "run", device="cpu")
    lines = small_room.events(tmp_path / "run", "eval", "reject")
    first = [line["event"] for line in lines].index("eval")
    assert [line["key"] for line in lines[:first]] == ["train0", "train1"]
    told = [line["key"] for line in lines[first:] if line["event"] == "reject"]
    assert sorted(told) == ["train0", "train1"]  # by the training, once more; by three more evaluations, never


def test_a_split_without_a_row_to_evaluate_on_is_told_in_words(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=23))
    job = small_room.small_job(settings=["training.eval_split=train"])
    with pytest.raises(DataError, match=r"none of the 23 rows .* can be read; the first, .*row 0: .*not 4 x 4"):
        fit(job, table, tmp_path / "run", device="cpu")


def test_too_many_bad_rows_stop_the_run(small_room: ModuleType, tmp_path: Path) -> None:
    table = open_table(small_room.write_table(tmp_path / "table", num_bad=7))
    with pytest.raises(TrainingError, match=r"of 23 rows.*max_bad_rows=0\.1"):
        fit(small_room.small_job(), table, tmp_path / "run", device="cpu")
    assert small_room.events(tmp_path / "run")[-1]["status"] == "failed"


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
    logged = [line["loss"] for line in small_room.events(tmp_path, "step")]
    assert [one.value for one in board.Scalars("train/loss")] == pytest.approx(logged)
    assert "validation/text_to_image_r1" in board.Tags()["scalars"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_model_learns_the_same(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    settings = ["training.steps=3", "model.dropout=0.0"]
    for name, more in (("eager", []), ("compiled", ["training.compile=true"])):
        fit(small_room.small_job(settings=[*settings, *more]), small_table, tmp_path / name, device="cpu")
    eager, compiled = (
        [line["loss"] for line in small_room.events(tmp_path / name, "step")] for name in ("eager", "compiled")
    )
    assert compiled == pytest.approx(eager, rel=1e-5)
    assert best_or_last(tmp_path / "compiled").model().keys() == best_or_last(tmp_path / "eager").model().keys()


def test_a_scale_of_zero_is_an_infinite_temperature_and_no_crash() -> None:
    learner = SimpleNamespace(step=SimpleNamespace(encode=SimpleNamespace(last_scale=torch.tensor(0.0))))
    assert Learner.temperature(learner) == math.inf  # type: ignore[arg-type]
