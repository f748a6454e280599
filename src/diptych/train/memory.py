"""Memory: how much there is to be had, and how much a piece of work takes at its highest."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that tensors on the device can still have; on a CPU of the machine, of a container or of a batch job.

    What torch holds in reserve for them counts as free.
    """
    if device.type == "cuda":
        import torch

        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device.type == "mps":
        import torch

        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    known = (machine_free_bytes(MEMINFO), *(group_free_bytes(group) for group in own_groups()))
    return min((one for one in known if one is not None), default=(whole_bytes() or 0) // 2)


def machine_free_bytes(meminfo: Path) -> int | None:
    """What Linux says that new programs can have; None on other systems."""
    if meminfo.exists():
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    return None


def whole_bytes() -> int | None:
    """All memory of the machine."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def group_free_bytes(group: Path) -> int | None:
    """What a control group, version 2, leaves; None where it has no limit, or the system no such groups."""
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return None
    # Pages of files that were read count as used, and are given up when memory is asked for.
    return None if limit == "max" else int(limit) - used + int(counts.get("inactive_file", 0))


def own_groups(cgroup: Path = Path("/proc/self/cgroup"), root: Path = GROUPS) -> list[Path]:
    """The groups that this process is in, from the innermost out: each may have a limit of its own."""
    try:
        lines = cgroup.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        if line.startswith("0::"):
            inner = root / line.removeprefix("0::").strip("/")
            return [inner, *(outer for outer in inner.parents if outer.is_relative_to(root))]
    return []


def anonymous_bytes(pid: int | str = "self") -> int:
    """Memory of a process that no file on disk stands behind; 0 where it ended or the system does not say.

    Of its resident memory only this is lost when memory runs short, so only this fills a machine.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


class PeakMemory:
    """The most anonymous memory that a process, and those it started, had while this context lasted.

    Looks every few milliseconds from a thread of its own: most of a large operation's time is spent at its highest.
    Memory that processes share counts with each.
    """

    def __init__(self, *, children: bool = False, every_s: float = 0.002) -> None:
        self.bytes = 0
        self._children = children
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        pids = [os.getpid(), *(_descendants(os.getpid()) if self._children else ())]
        self.bytes = max(self.bytes, sum(anonymous_bytes(pid) for pid in pids))


def _descendants(pid: int) -> Iterator[int]:
    """Processes that `pid` started, and theirs."""
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in listed.read_text(encoding="utf-8").split()]
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            yield child
            yield from _descendants(child)
