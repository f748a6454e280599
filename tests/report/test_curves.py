import math
import re

import pytest
import torch

from diptych.report.curves import (
    lines_chart,
    loss_chart,
    norm_chart,
    parts_chart,
    rates_chart,
    recall_chart,
    recall_while_training_chart,
    smoothed,
    speed_chart,
)
from diptych.report.history import History
from diptych.report.training import training_sections


def history(steps=(), evals=(), **start):
    return History(start=start, steps=list(steps), evals=list(evals), rejects=[], notes=[], end=None)


def alt(chart):
    return re.search(r'aria-label="([^"]*)"', chart)[1]


def test_loss_is_drawn_with_what_guessing_pays():
    run = history([{"event": "step", "step": step, "loss": 5.0 / step} for step in (1, 2, 5)],
                  [{"event": "eval", "step": 5, "loss": 1.5}], batch=256, chance_loss=math.log(256))  # fmt: skip
    chart = loss_chart(run)
    assert (
        alt(chart)
        == "Training loss: from 5 at step 1 to 1 at step 5. Validation loss: from 1.5 at step 5 to 1.5 at step 5."
    )
    assert "chance = log of the batch of 256: 5.55" in chart


def test_chance_and_log_of_the_batch_are_two_lines_where_they_differ():
    chart = loss_chart(history([{"event": "step", "step": 1, "loss": 5.0}], batch=100, chance_loss=6.91))
    assert "chance: 6.91" in chart
    assert "log of the batch of 100: 4.61" in chart


def test_a_loss_without_chance_has_no_line_of_the_batch():
    chart = loss_chart(history([{"event": "step", "step": 1, "loss": 5.0}], batch=100, chance_loss=None))
    assert "log of the batch" not in chart


def test_the_speed_chart_tells_of_the_utilisation_where_it_was_logged():
    steps = [{"event": "step", "step": step, "samples_per_s": 9.0, "loader_share": 0.1} for step in (1, 2, 3)]
    steps[1]["mfu"], steps[2]["mfu"] = 0.42, 0.44
    assert "Model FLOPs utilisation: from 42 % at step 2 to 44 % at step 3." in alt(speed_chart(history(steps)))


@pytest.mark.parametrize("chart", [loss_chart, rates_chart, speed_chart, norm_chart, recall_while_training_chart])
def test_what_was_never_logged_is_not_drawn(chart):
    assert chart(history()) is None


def test_sections_of_an_empty_log_say_what_is_missing():
    sections = training_sections(history())
    assert len(sections) == 5
    assert all("Not shown: the log holds" in section.body for section in sections)


def test_recall_curve_tells_its_numbers():
    chart = recall_chart(torch.tensor([0, 0, 3, 40]), torch.tensor([1, 200]), pictures=200, texts=400)
    assert alt(chart) == (
        "Recall among 200 pictures and 400 texts: for a text R@1 50 %, for a text R@10 75 %, for a text R@100 100 %, "
        "for a picture R@1 0 %, for a picture R@10 50 %, for a picture R@100 50 %."
    )


def test_several_runs_are_told_apart_by_name():
    chart = lines_chart({"a & b": ([1, 2], [3.0, 2.0]), "c": ([], [])}, name="compare", y="loss")
    assert "a &amp; b: from 3 at step 1 to 2 at step 2." in alt(chart)


def test_smoothing_neither_lags_nor_moves_a_straight_line():
    line = [3.0 - 0.5 * step for step in range(101)]
    assert smoothed(line) == pytest.approx(line)
    assert smoothed([0.0] * 50 + [1.0] + [0.0] * 50) == pytest.approx(smoothed([0.0] * 50 + [1.0] + [0.0] * 50)[::-1])


def test_parts_of_a_loss_are_told_apart_where_there_are_several():
    steps = [{"step": step, "loss": 1.0, "terms": {("mlm", "itm")[step % 2]: 2.0 - step / 8}} for step in range(8)]
    chart = parts_chart(history(steps=steps))
    assert chart is not None and "Loss mlm" in chart and "Loss itm" in chart
    assert parts_chart(history(steps=[{"step": 1, "loss": 1.0, "terms": {"contrastive": 1.0}}])) is None
