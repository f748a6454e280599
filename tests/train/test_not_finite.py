"""A loss or a gradient that is not finite stops the run, or costs it the step."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych.checkpoint.store import best_or_last
from diptych.data.batch import Batch, Targets
from diptych.data.sampler import Order
from diptych.data.table import Table
from diptych.errors import TrainingError
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Encode, Loss, Term
from diptych.train.fit import fit
from diptych.train.job import Job


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
    assert small_room.events(tmp_path)[-1]["status"] == "nan"
    weights = best_or_last(tmp_path).model()
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_skipping_leaves_those_steps_out_and_goes_on(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    job = breaking_job(small_room, 3, ["model.batch_norm=true"])
    result = fit(job, small_table, tmp_path, device="cpu", on_nan="skip")
    assert result.status == "finished"
    left_out = [line["step"] for line in small_room.events(tmp_path, "note") if "left out" in line["text"]]
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
