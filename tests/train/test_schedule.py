"""The rate of each step by hand, and epochs as steps."""

from __future__ import annotations

import pytest

from diptych.data.sampler import Order
from diptych.errors import UsageError
from diptych.train.run import OptimSettings, TrainingSettings
from diptych.train.schedule import learning_rate, num_steps


def test_the_rate_rises_straight_then_falls_by_half_a_cosine() -> None:
    settings = OptimSettings(lr=4.0, warmup_steps=4)
    rates = [learning_rate(settings, step, 12) for step in range(12)]
    assert rates[:5] == [1.0, 2.0, 3.0, 4.0, 4.0]
    assert rates[8] == pytest.approx(2.0)  # half-way from step 4 to step 12
    assert rates[6] == pytest.approx(4.0 * 0.5 * (1 + 2**-0.5))
    assert learning_rate(settings, 12, 12) == pytest.approx(0.0)


def test_a_constant_schedule_and_no_warm_up() -> None:
    settings = OptimSettings(lr=3.0, warmup_steps=0, schedule="constant")
    assert [learning_rate(settings, step, 5) for step in (0, 4)] == [3.0, 3.0]


def test_epochs_become_steps_and_one_of_them_must_be_set() -> None:
    order = Order(num_rows=23, batch=5, seed=0)
    assert num_steps(TrainingSettings(epochs=2.5), order) == 10
    assert num_steps(TrainingSettings(steps=3), order) == 3
    for settings in (TrainingSettings(), TrainingSettings(steps=1, epochs=1.0)):
        with pytest.raises(UsageError, match=r"training\.epochs"):
            num_steps(settings, order)
