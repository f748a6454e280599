"""The device a run uses, the precision that is fastest on it, and what the machine is, in words."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional as F

from diptych.errors import UsageError
from diptych.ranks import ALONE, Ranks

GAIN = 1.15
"""A lower precision must be this much faster to be chosen: less is not worth its rounding."""


@dataclass(frozen=True)
class Precision:
    """What the model's products are computed in; weights, losses and optimizer stay in float32."""

    name: Literal["float32", "bf16", "fp16"]
    reason: str
    """Why it was chosen, for the log."""

    @property
    def autocast(self) -> torch.dtype | None:
        """The type that autocast takes, None for float32."""
        return {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]


def resolve_device(name: str, ranks: Ranks = ALONE) -> torch.device:
    """The device that "auto" (the fastest there is), "cpu", "cuda", "cuda:1" or "mps" stands for.

    Where several processes train together, each takes the GPU of its number on its machine.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return resolve_device("cuda", ranks)
        return torch.device("mps" if torch.backends.mps.is_available() and ranks.size == 1 else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}; expected auto, cpu, cuda, cuda:N or mps.") from error
    if ranks.size > 1 and device == torch.device("cuda"):
        device = torch.device("cuda", ranks.local_rank)
    there_is = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there_is.get(device.type, False) or (device.index or 0) >= max(torch.cuda.device_count(), 1):
        raise UsageError(
            f"the device {name!r} is not to be had here: torch {torch.__version__} sees {describe_devices()}. "
            "Pass --device auto, or install a torch built for it; `diptych doctor` says more."
        )
    if ranks.size > 1 and device.type == "mps":
        raise UsageError("several processes cannot share an MPS device; pass --device cpu, or train in one process")
    return device


def describe_devices() -> str:
    """The devices that torch sees, in words."""
    names = ["the CPU"]
    names += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(names)


def resolve_precision(setting: str, device: torch.device) -> Precision:
    """The precision of a run: as set, or for "auto" the fastest, measured on the device.

    Args:
        setting: "auto", "float32", "bf16" or "fp16".
        device: where the model will be.
    """
    match setting:
        case "float32" | "bf16" | "fp16":
            return Precision(setting, "as set")
        case _:
            return _measured(device)


def bf16_speedup(device: torch.device) -> float:
    """How many times faster a product and a convolution are in bf16 autocast than in float32 on the device."""
    return _speedup(device, torch.bfloat16)


def product_rate(device: torch.device, precision: Precision) -> float:
    """Operations a second of a plain product in the precision of a run: what a training step is held against.

    The sides are as small as reach the full rate, so that it takes a tenth of a second.
    """
    side = 1024 if device.type == "cpu" else 4096
    left = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    left = left.to(device, precision.autocast or torch.float32)
    return 2 * side**3 / _fastest_s(lambda: left @ left, device)


def _measured(device: torch.device) -> Precision:
    lower: tuple[Literal["bf16", "fp16"], torch.dtype] = ("bf16", torch.bfloat16)
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        lower = ("fp16", torch.float16)
    name, dtype = lower
    try:
        speedup = _speedup(device, dtype)
    except RuntimeError as error:
        return Precision("float32", f"{name} does not run on this device ({error})")
    words = f"a product and a convolution in {name} run {speedup:.2f} times as fast as in float32"
    return Precision(name if speedup >= GAIN else "float32", f"measured: {words}")


def _speedup(device: torch.device, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(256, 256, generator=generator).to(device)
    image = torch.randn(8, 16, 24, 24, generator=generator).to(device)
    kernel = torch.randn(32, 16, 3, 3, generator=generator).to(device)

    def work() -> None:
        (left @ left).sum()
        F.conv2d(image, kernel).sum()

    in_float32 = _fastest_s(work, device)
    with torch.autocast(device.type, dtype=dtype):
        return in_float32 / _fastest_s(work, device)


def _fastest_s(work: Callable[[], object], device: torch.device, budget_s: float = 0.1) -> float:
    """The shortest of some runs: other work on the machine can only lengthen one."""
    times: list[float] = []
    while len(times) < 4 or (len(times) < 20 and sum(times) < budget_s):
        start = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms on a CPU, and torch's own generators given back as they were, for a while.

    Without them the backward pass of indexing differs from run to run at two threads; they cost nothing measurable
    once memory that is about to be written is not filled first.
    """
    fill_settings: Any = torch.utils.deterministic  # its one attribute is made by hand; mypy does not see it
    mode, filling = torch.get_deterministic_debug_mode(), fill_settings.fill_uninitialized_memory
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if device.type == "cpu":
            torch.set_deterministic_debug_mode("error")  # the other way to say so imports the compiler
            fill_settings.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            fill_settings.fill_uninitialized_memory = filling


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """What a log and a report say of the machine."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": accelerator,
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
