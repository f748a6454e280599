"""Which device and precision a run takes; timings are given, never taken, so that no kind of CPU decides a test."""

from __future__ import annotations

import pytest
import torch

from diptych.errors import UsageError
from diptych.train import device
from diptych.train.device import describe_machine, repeatable, resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_cpu_is_always_there_and_auto_is_something() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "xla"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        resolve_device(name)


@pytest.mark.parametrize(("speedup", "name"), [(2.3, "bf16"), (1.15, "bf16"), (1.1, "float32"), (0.01, "float32")])
def test_auto_takes_bf16_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, speedup: float, name: str) -> None:
    monkeypatch.setattr(device, "_speedup", lambda where, dtype: speedup)
    precision = resolve_precision("auto", CPU)
    assert precision.name == name
    assert "measured" in precision.reason and f"{speedup:.2f}" in precision.reason


def test_auto_survives_a_device_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(where: torch.device, dtype: torch.dtype) -> float:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(device, "_speedup", refuse)
    assert resolve_precision("auto", CPU).name == "float32"


def test_a_precision_that_is_set_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(device, "_speedup")
    assert resolve_precision("fp16", CPU).autocast == torch.float16
    assert resolve_precision("float32", CPU).autocast is None


def test_the_measurement_is_a_ratio_above_nothing() -> None:
    assert device.bf16_speedup(CPU) > 0


def test_torchs_generators_and_switches_come_back_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with repeatable(CPU):
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(99)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_machine_is_told_in_words() -> None:
    machine = describe_machine(CPU)
    assert machine["device"] == "cpu" and machine["cpu"] and int(machine["cores"]) >= 1
