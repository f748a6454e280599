"""`diptych doctor`: what this machine has, and what to do about anything wrong."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from diptych import __version__
from diptych.cli import screen
from diptych.cli.json_file import write_json

EXTRAS = {
    "simplejpeg": ("fast", "JPEG decoding 1.2 to 1.4 times as fast"),
    "timm": ("timm", "any timm backbone as picture tower"),
    "tensorboard": ("track", "TensorBoard logs beside log.jsonl"),
}
PAIRS = {"2.9": "0.24", "2.10": "0.25", "2.11": "0.26", "2.12": "0.27", "2.13": "0.28", "2.14": "0.29"}
"""torch -> the torchvision built for it."""


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    name: str
    found: str
    advice: str = ""
    """What to do about it; empty where all is well."""


def doctor(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """Say what this machine has and what to do about anything wrong."""
    findings = [*_software(), *_devices(), *_resources(), *_extras()]
    screen.table(f"diptych {__version__}", ("", "found"), [(finding.name, finding.found) for finding in findings])
    wrong = [finding for finding in findings if finding.advice]
    screen.out()
    for finding in wrong:
        screen.out(f"- {finding.name}: {finding.advice}")
    if not wrong:
        screen.out("Nothing is wrong.")
    if json_file is not None:
        write_json(json_file, {"findings": [asdict(finding) for finding in findings]})
    screen.next_step("diptych demo")


def _software() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("torch", "torchvision", "numpy", "pillow", "pyarrow", "datasets", "tokenizers"):
        yield Finding(package, importlib.metadata.version(package))
    torch, vision = (".".join(importlib.metadata.version(name).split(".")[:2]) for name in ("torch", "torchvision"))
    expected = PAIRS.get(torch)
    if expected is None:
        yield Finding("pair", f"torch {torch} with torchvision {vision}: not a pair this version of diptych knows")
    elif vision != expected:
        advice = f"install the pair that was built together: pip install 'torch=={torch}.*' 'torchvision=={expected}.*'"
        yield Finding("pair", f"torchvision {vision} does not belong to torch {torch}", advice)
    else:
        yield Finding("pair", "torch and torchvision belong together")


def _devices() -> Iterator[Finding]:
    import torch

    from diptych.train.device import GAIN, bf16_speedup, cpu_name, resolve_device

    chosen = resolve_device("auto")
    yield Finding("--device auto", str(chosen))
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield Finding(f"GPU {index}", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    if chosen.type == "cpu" and shutil.which("nvidia-smi") is not None:
        yield Finding(
            "GPU", "a driver is there, but torch sees no GPU", "install a CUDA build of torch for your driver"
        )
    yield Finding("CPU", f"{cpu_name()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    faster = bf16_speedup(chosen)
    use = "used by precision=auto" if faster >= GAIN else "precision=auto stays with float32"
    yield Finding("bf16", f"{faster:.2f} times as fast as float32 here: {use}")


def _resources() -> Iterator[Finding]:
    import multiprocessing

    from diptych.data.loader import usable_cores

    memory = memory_gib()
    advice = "the demo needs about 2 GiB; close other programs" if memory is not None and memory < 3 else ""
    yield Finding("memory", "unknown" if memory is None else f"{memory:.1f} GiB available", advice)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("disk", f"{free:.0f} GiB free in this folder", "the demo needs 1 GiB; make room" if free < 1 else "")
    yield Finding("processes", f"{usable_cores()} cores, start method {multiprocessing.get_start_method()}")
    if platform.system() == "Linux":
        shared = shutil.disk_usage("/dev/shm").free / 2**30
        advice = "loader workers pass batches through /dev/shm; in a container, start it with --shm-size=2g"
        yield Finding("shared memory", f"{shared:.1f} GiB free in /dev/shm", advice if shared < 0.5 else "")


def _extras() -> Iterator[Finding]:
    for module, (extra, gain) in EXTRAS.items():
        if importlib.util.find_spec(module) is not None:
            yield Finding(f"extra {extra}", f"installed: {gain}")
        else:
            yield Finding(f"extra {extra}", f"not installed; pip install 'diptych[{extra}]' adds {gain}")


def memory_gib() -> float | None:
    """Memory that new programs can have, or None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 2**20
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return None
