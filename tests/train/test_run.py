"""Settings have ranges: what lies outside is told by its name before anything is built."""

from __future__ import annotations

import math
from types import ModuleType

import pytest

from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.train.run import OptimSettings


@pytest.mark.parametrize(
    "setting",
    [
        *[f"training.{name}=0" for name in ("steps", "epochs", "batch", "micro_batch", "log_every", "keep")],
        *[f"training.{name}=0" for name in ("eval_every", "eval_rows", "checkpoint_every")],
        *["training.epochs=-1", "training.seed=-3", "training.seed=9223372036854775808"],
        *["training.checkpoint_minutes=-1", "training.skip_limit=-1", "training.max_bad_rows=1.5"],
        *["optim.lr=0", "optim.lr=-1e-3", "optim.betas=0.9,1", "optim.eps=0", "optim.ema=1"],
        *["optim.weight_decay=-0.1", "optim.warmup_steps=-1", "optim.clip_norm=0"],
        *["inputs.crop_scale=2,3", "inputs.crop_scale=0.9,0.5", "inputs.crop_scale=0,1", "inputs.crop_margin=0.9"],
        *["inputs.workers=-1", "inputs.vocab_size=0"],
    ],
)
def test_a_value_out_of_its_range_is_told_by_name(small_room: ModuleType, setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(UsageError) as error:
        apply_overrides(small_room.small_run(), [setting])
    told, _, expected = str(error.value).partition("; expected ")
    assert expected
    assert told.startswith(f"{name} is ")
    found = told.removeprefix(f"{name} is ").split(",")
    assert [float(one) for one in found] == pytest.approx([float(one) for one in value.split(",")])


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_a_rate_that_is_no_number_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match=rf"optim\.lr is {rate}; expected a number above 0"):
        OptimSettings(lr=rate)


def test_the_ends_of_ranges_are_inside(small_room: ModuleType) -> None:
    ends = ["training.steps=1", "training.max_bad_rows=0", "training.checkpoint_minutes=0", "training.skip_limit=0"]
    ends += ["inputs.crop_scale=1,1", "inputs.crop_margin=1", "optim.ema=0", "optim.warmup_steps=0"]
    apply_overrides(small_room.small_run(), [*ends, "training.micro_batch=none"])
    assert OptimSettings(clip_norm=None).clip_norm is None
