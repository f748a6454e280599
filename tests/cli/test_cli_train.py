"""`diptych train`: what it takes, what it says of mistakes, and what a run leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych import systems
from diptych.cli import train
from diptych.cli.tables import split_to_evaluate
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.errors import DataError, UsageError
from diptych.overrides import apply_overrides
from diptych.train.run import plain_run

EXAMPLE = Path(__file__).parents[2] / "examples" / "outside_recipe.py"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "scenes"
    draw_scenes(folder, easy(num=160, seed=1), workers=1)
    return folder


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([], "SYSTEM RECIPE"),
        (["clip"], "which recipe of clip"),
        (["clip", "tinny"], "'tiny'"),
        (["clop", "tiny"], "'clip'"),
        (["clip", "tiny", "more"], "found clip tiny more"),
        (["nowhere/mine.py:run"], "nowhere/mine.py"),
    ],
)
def test_a_recipe_that_is_not_there_is_told_with_what_there_is(recipe: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        train.find_run(recipe, None, None)
    assert message in str(error.value)


def test_a_recipe_and_repeat_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clip tiny --repeat .*run\.json; expected one of"):
        train.find_run(["clip", "tiny"], tmp_path / "run.json", None)


def test_a_misspelt_setting_is_told_before_anything_is_written(
    exit_code: Callable[..., int], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "clip", "tiny", "--data", str(scenes), "--out", str(out), "--set", "optim.lrr=1"]
    assert exit_code(*command) == 2
    assert "optim.lr" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": 9, "validation": 2, "test": 1}, "test"),
        ({"train": 9, "validation": 2, "test": 0}, "validation"),
        ({"train": 9, "mine": 3}, "mine"),
    ],
)
def test_the_next_line_names_a_split_that_is_there(splits: dict[str, int], expected: str) -> None:
    assert split_to_evaluate(splits, "mine") == expected


def test_a_refused_resume_leaves_the_report_as_it_was(scenes: Path, tmp_path: Path) -> None:
    run = apply_overrides(systems.recipe("clip", "tiny"), ["training.eval_split=nowhere"])
    (tmp_path / "run.json").write_text(json.dumps(plain_run(run)))
    for name in ("log.jsonl", "report.html", "metrics.json"):
        (tmp_path / name).write_text("of a good run")
    with pytest.raises(DataError, match="nowhere"):
        train.train_and_review(run, open_table(scenes), tmp_path, resume=True, device="cpu")
    assert all((tmp_path / name).read_text() == "of a good run" for name in ("report.html", "metrics.json"))


@pytest.mark.slow
def test_a_run_that_fails_on_its_way_has_a_report(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.train.learner import Learner

    def failing(self: Learner, *arguments: object, **settings: object) -> None:
        raise DataError("a shard was damaged")

    monkeypatch.setattr(Learner, "update", failing)
    run = apply_overrides(systems.recipe("clip", "tiny"), ["training.eval_rows=5", "inputs.workers=0"])
    with pytest.raises(DataError, match="a shard was damaged"):
        train.train_and_review(run, open_table(scenes), tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "failed"
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_a_run_from_the_outside_trains_reviews_and_goes_on(
    exit_code: Callable[..., int], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", f"{EXAMPLE}:run", "--data", str(scenes), "--out", str(out), "--batch", "24"]
    command += ["--set", "training.steps=4", "--set", "training.eval_every=none", "--set", "objective.weight=0.5"]
    assert exit_code(*command) == 0
    shown = capsys.readouterr().out
    assert (
        shown.rstrip().splitlines()[-1] == f"Next: diptych evaluate {out} --task retrieval --data {scenes} --split test"
    )
    assert (out / "report.html").is_file() and (out / "metrics.json").is_file()
    plain = json.loads((out / "run.json").read_text())
    assert plain["objective"] == {"name": "colour", "weight": 0.5, "couples_rows": True}
    assert plain["recipe"] == "outside_recipe.py:run"
    terms = [json.loads(line).get("terms") for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"contrastive", "colour"} in [set(one) for one in terms if one]
    assert exit_code(*command) == 1
    assert "--resume" in capsys.readouterr().err
    assert exit_code(*command, "--resume") == 0
    assert "finished" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_a_report(
    exit_code: Callable[..., int],
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diptych.train.learner import Learner

    update = Learner.update

    def interrupted(self: Learner, *arguments: object, **settings: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "update", interrupted)
    out = tmp_path / "run"
    command = ["train", "clip", "tiny", "--data", str(scenes), "--out", str(out), "--set", "inputs.workers=0"]
    assert exit_code(*command) == 130
    told = capsys.readouterr().err
    assert "after step 1 of 40" in told and "--resume" in told
    assert (out / "last").read_text() == "step_0000001\n" and (out / "report.html").is_file()
