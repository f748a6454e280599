"""How many steps a run makes, and how fast it learns in each."""

from __future__ import annotations

import math

from diptych.data.sampler import StepOrder
from diptych.errors import UsageError
from diptych.train.run import OptimSettings, TrainingSettings

LAST_RATE = 1e-8
"""What the linear schedule has in place of 0, as UNITER's release."""


def num_steps(settings: TrainingSettings, order: StepOrder) -> int:
    """Optimizer steps of a run: as set, or as many as the epochs take.

    Raises:
        UsageError: both or neither are set.
    """
    if (settings.steps is None) == (settings.epochs is None):
        raise UsageError(
            f"training.steps is {settings.steps} and training.epochs {settings.epochs}; set one of them and the other "
            "to none, e.g. --set training.steps=none --set training.epochs=30"
        )
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None
    return max(round(settings.epochs * order.steps_per_epoch), 1)


def learning_rate(settings: OptimSettings, step: int, steps: int) -> float:
    """The rate of `step` (from 0) of `steps`: straight up over the warm-up, then down to 0 or constant.

    Half a cosine: CLIP, arXiv:2103.00020, section 2.5. Linear: BERT and UNITER, whose last step still learns a trace.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "linear":
        left = (steps - step - 1) / max(steps - settings.warmup_steps, 1)
        return max(settings.lr * left, 0.0) or LAST_RATE
    done = (step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
