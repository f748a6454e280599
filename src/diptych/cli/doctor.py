"""`diptych doctor`: what this machine has, and what to do about anything wrong."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from diptych import __version__
from diptych.cli import screen
from diptych.cli.json_file import write_json
from diptych.cli.options import JsonFile
from diptych.train.memory import group_free_bytes, machine_free_bytes, whole_bytes

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pyarrow", "datasets", "tokenizers")
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
    json_file: JsonFile = None,
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
    for package in PACKAGES:
        found = version_of(package)
        yield Finding(package, found or "not installed", "" if found else f"install it: pip install {package}")
    yield pair(version_of("torch"), version_of("torchvision"))


def version_of(package: str) -> str | None:
    """The installed version of a package, None where there is none."""
    from importlib import metadata  # brings the whole of email along, a tenth of what --help takes

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def pair(torch_version: str | None, vision_version: str | None) -> Finding:
    """Whether these versions of torch and torchvision were built for each other."""
    if torch_version is None or vision_version is None:
        return Finding("pair", "torch and torchvision are needed both")
    torch, vision = (".".join(version.split(".")[:2]) for version in (torch_version, vision_version))
    expected = PAIRS.get(torch)
    if expected is None:
        return Finding("pair", f"torch {torch} with torchvision {vision}: not a pair this version of diptych knows")
    if vision != expected:
        advice = f"install the pair that was built together: pip install 'torch=={torch}.*' 'torchvision=={expected}.*'"
        return Finding("pair", f"torchvision {vision} does not belong to torch {torch}", advice)
    return Finding("pair", "torch and torchvision belong together")


def _devices() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from diptych.train.device import cpu_name, resolve_device, resolve_precision

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
    precision = resolve_precision("auto", chosen)
    yield Finding("precision=auto", f"{precision.name}; {precision.reason}")


def _resources() -> Iterator[Finding]:
    import multiprocessing

    from diptych.data.loader import usable_cores

    yield memory(Path("/proc/meminfo"), Path("/sys/fs/cgroup"))
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


def memory(meminfo: Path, group: Path) -> Finding:
    """Memory that new programs can have: the machine's, or what a container may still take where that is less.

    Args:
        meminfo: Linux's account of the machine; where there is none, all of the machine's memory is what is known.
        group: the folder of the control group, version 2, that a container lives in.
    """
    advice = "the demo needs about 2 GiB; close other programs"
    free, left, whole = map(_gib, (machine_free_bytes(meminfo), group_free_bytes(group), whole_bytes()))
    if free is None:
        said = "unknown" if whole is None else f"{whole:.1f} GiB in all"
        return Finding("memory", said, advice if whole is not None and whole < 3 else "")
    if left is not None and left < free:
        advice = "the demo needs about 2 GiB; give the container more (docker run --memory)"
        return Finding("memory", f"{left:.1f} GiB left of what this container may have", advice if left < 3 else "")
    return Finding("memory", f"{free:.1f} GiB available", advice if free < 3 else "")


def _gib(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / 2**30
