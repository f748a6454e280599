"""The detector in the loop: a run that was killed goes on as if it never was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diptych import systems
from diptych.checkpoint.store import best_or_last
from diptych.data.table import Table
from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.learner import Learner

FEW = (
    *("training.steps=5", "training.batch=6", "training.eval_every=3", "training.eval_rows=6", "inputs.workers=0"),
    *("training.checkpoint_every=2", "optim.ema=0.9"),
)


def job(table: Table, *settings: str) -> Job:
    run = apply_overrides(systems.recipe("detector", "tiny"), [*FEW, *settings])
    return systems.build(run, rows=table.split("train"))


def events(out: Path, kind: str) -> list[dict]:
    told = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [event for event in told if event["event"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("training.micro_batch=4",)], ids=["whole", "in parts"])
def test_killed_and_resumed_equals_never_killed(
    scenes: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    fit(job(scenes, *settings), scenes, tmp_path / "whole", device="cpu")
    update = Learner.update

    def dies(self, batch, targets, number, **settings):
        if number == 3:
            raise RuntimeError("killed")
        return update(self, batch, targets, number, **settings)

    monkeypatch.setattr(Learner, "update", dies)
    with pytest.raises(RuntimeError, match="killed"):
        fit(job(scenes, *settings), scenes, tmp_path / "run", device="cpu")
    monkeypatch.undo()
    result = fit(job(scenes, *settings), scenes, tmp_path / "run", device="cpu", resume=True)
    assert (result.status, result.step) == ("finished", 5)
    one, other = (best_or_last(tmp_path / name).model() for name in ("run", "whole"))
    assert all(torch.equal(one[name], value) for name, value in other.items())
    for kind in ("step", "eval"):
        both = [
            [
                {name: event[name] for name in ("step", "loss", "metrics") if name in event}
                for event in events(out, kind)
            ]
            for out in (tmp_path / "run", tmp_path / "whole")
        ]
        assert both[0] == both[1]


@pytest.mark.slow
def test_parts_of_a_step_learn_what_the_whole_does(scenes: Table, tmp_path: Path) -> None:
    """With norms at rest; otherwise they see a part alone."""
    ends = []
    for size in (6, 2):
        one = job(scenes, f"training.micro_batch={size}", "model.freeze_norms=true", "training.steps=2")
        fit(one, scenes, tmp_path / str(size), device="cpu")
        ends.append(best_or_last(tmp_path / str(size)).model())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, atol=2e-5, rtol=1e-3)


@pytest.mark.slow
def test_a_trained_detector_begins_another_for_other_classes(scenes: Table, tmp_path: Path) -> None:
    fit(job(scenes, "training.steps=1"), scenes, tmp_path / "run", device="cpu")
    run = apply_overrides(systems.recipe("detector", "tiny"), ["model.classes=cup,yak", "model.attribute_fields=[]"])
    other = systems.build(run, init=tmp_path / "run")
    mine, theirs = other.model.state_dict(), best_or_last(tmp_path / "run").model()
    assert torch.equal(mine["rpn.head.conv.0.0.weight"], theirs["rpn.head.conv.0.0.weight"])
    assert len(mine["roi_heads.box_predictor.cls_score.weight"]) == 3


def test_recall_is_not_asked_of_a_detector(scenes: Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"eval_metric is 'recall', but this model does not put"):
        fit(job(scenes, "training.eval_metric=recall"), scenes, tmp_path / "run", device="cpu")
