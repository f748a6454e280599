"""What the meter reads, by hand, with a clock that a test moves."""

import pytest
import torch

from diptych.data.batch import Batch, TextPart
from diptych.train import meter as module
from diptych.train.device import Precision, product_rate
from diptych.train.meter import Meter


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def batch(rows, tokens):
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    mask[0, 2:] = False  # the first text has two tokens
    text = TextPart(ids=mask.long(), mask=mask)
    return Batch(keys=("",) * rows, group=torch.arange(rows), text=text)


def train(meter, clock, *, rows, tokens, loading_s, learning_s):
    with meter.loading():
        clock.now += loading_s
    meter.count(batch(rows, tokens))
    with meter.learning():
        clock.now += learning_s
    clock.now += 1000  # evaluation


def by_length(batch):
    return 100 * batch.text.ids.shape[1]


def test_rates_by_hand(clock):
    meter = Meter()
    train(meter, clock, rows=3, tokens=5, loading_s=1, learning_s=3)
    assert meter.read() == {"samples_per_s": 0.75, "tokens_per_s": 3.0, "loader_share": 0.25}


def test_utilisation_is_what_the_texts_need_over_what_the_device_can_do_once_training_took_20_s(clock):
    meter = Meter(by_length, 500.0)
    train(meter, clock, rows=3, tokens=5, loading_s=5, learning_s=15)
    assert "mfu" not in meter.read()
    train(meter, clock, rows=3, tokens=5, loading_s=1, learning_s=3)  # 3 · 500 operations
    train(meter, clock, rows=2, tokens=4, loading_s=0, learning_s=4)  # 2 · 400
    assert meter.read()["mfu"] == pytest.approx((1500 + 800) / (8 * 500))


def test_a_model_that_cannot_be_counted_has_no_utilisation(clock, monkeypatch):
    monkeypatch.setattr(module, "FLOPS_AFTER_S", 0.0)

    def fails(batch):
        raise NotImplementedError("no shapes on the meta device")

    meter = Meter(fails, 500.0)
    for _ in range(2):
        train(meter, clock, rows=3, tokens=5, loading_s=1, learning_s=3)
        assert meter.read() == {"samples_per_s": 0.75, "tokens_per_s": 3.0, "loader_share": 0.25}


def test_the_product_rate_is_that_of_a_product(monkeypatch):
    monkeypatch.setattr("diptych.train.device._fastest_s", lambda work, device: work().shape[0] / 1024)
    rate = product_rate(torch.device("cpu"), Precision("float32", "as set"))
    assert rate == 2 * 1024**3
