"""What every benchmark here shares: its options, the machine in words, and turns taken side by side.

Speeds on one machine swing by tens of per cent within minutes. So what is compared takes turns, round after round,
and the ratio that counts is the median of the rounds' own ratios. Where other work shares the cores, `--clock cpu`
counts the seconds that the cores gave to this process instead of those that passed. A GPU is waited for at both ends of
a turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from diptych.train.device import describe_machine

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "pyarrow", "open_clip_torch")

CPU = torch.device("cpu")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds that show it runs; the numbers say little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    return parser


def add_clock(parser: argparse.ArgumentParser) -> None:
    """The choice of clock, for what is measured in this process alone."""
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: seconds of all threads, for busy machines"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The choice of device, for what can run on several; see `resolve_device`."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def machine(device: torch.device = CPU) -> dict[str, Any]:
    """Device, CPU, threads and versions, as every result names them."""
    return {"machine": describe_machine(device), "versions": versions()}


def versions() -> dict[str, str]:
    """Of what is installed of PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(options: argparse.Namespace, results: Mapping[str, Any]) -> None:
    """Writes the results where `--json` asked for them."""
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def take_turns(
    ways: Mapping[str, Callable[[], float]], *, rounds: int, clock: str = "wall", warm_up: bool = True
) -> dict[str, list[float]]:
    """Units a second of each way in each round.

    Args:
        ways: name -> work that returns how many units it did.
        rounds: how often each has its turn; every round begins with another one.
        clock: which of CLOCKS counts the seconds; "cpu" leaves child processes out.
        warm_up: one round more, before the others, that is not counted.
    """
    names = list(ways)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1 if warm_up else 0, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            _wait_for_gpu()
            begun = CLOCKS[clock]()
            units = ways[name]()
            _wait_for_gpu()
            if number >= 0:
                rates[name].append(units / (CLOCKS[clock]() - begun))
    return rates


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def median_ratio(rates: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """The median over the rounds of ours / theirs."""
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def show(title: str, rates: Mapping[str, Sequence[float]], baseline: str, unit: str) -> dict[str, Any]:
    """Prints rate and ratio of each way, and returns them for JSON."""
    print(title)
    found = {}
    for name, values in rates.items():
        rate, ratio = statistics.median(values), median_ratio(rates, name, baseline)
        digits = 1 if rate >= 1 else 4
        print(f"  {name:44} {rate:10,.{digits}f} {unit}/s   {ratio:5.2f} x", flush=True)
        found[name] = {"median": rate, "rounds": list(values), "ratio": ratio}
    return {"unit": f"{unit}/s", "baseline": baseline, "ways": found}


def print_machine(device: torch.device = CPU) -> None:
    """One line on what it was measured with."""
    told = machine(device)
    parts = [] if device == CPU else [told["machine"]["device"]]
    parts += [f"{told['machine']['cpu']}, {told['machine']['threads']} threads"]
    parts += [f"{name} {found}" for name, found in told["versions"].items()]
    print(", ".join(parts), flush=True)
