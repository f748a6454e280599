import json
import math

import pytest

from diptych.report.history import read_history, series

START = {"event": "start", "step": 0, "time_s": 0.0, "batch": 8}


def step(number, loss, time_s=1.0):
    return {"event": "step", "step": number, "time_s": time_s, "loss": loss}


@pytest.fixture
def log(tmp_path):
    def write(*events, tail=""):
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
        return read_history(tmp_path)

    return write


def test_a_torn_last_line_spoils_nothing(log):
    history = log(START, step(10, 2.0), tail='{"event": "step", "st')
    assert series(history.steps, "loss") == ([10], [2.0])


def test_after_a_resume_the_later_line_counts(log):
    history = log(START, step(10, 2.0), step(20, 1.5), step(20, 1.4), step(30, 1.0))
    assert series(history.steps, "loss") == ([10, 20, 30], [2.0, 1.4, 1.0])


def test_values_that_are_not_finite_are_left_out_of_curves(log):
    history = log(START, step(10, 2.0), step(20, math.nan), step(30, None))
    assert series(history.steps, "loss") == ([10], [2.0])
    assert history.last_step == 30


def test_an_end_that_was_gone_on_from_is_no_end(log):
    end = {"event": "end", "step": 21, "time_s": 2.0, "status": "interrupted", "text": ""}
    assert log(START, step(20, 1.0), end).last_step == 21, "not every step is logged"
    assert log(START, step(20, 1.0), end).end == end
    assert log(START, step(20, 1.0), end, START, step(30, 0.5)).end is None


def test_no_log_is_an_empty_history(tmp_path):
    history = read_history(tmp_path)
    assert (history.start, history.last_step, history.seconds, history.end) == ({}, 0, 0.0, None)
