"""How the floors tell what they are doing. Silent by default; the command line draws it."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Bar(Protocol):
    """One piece of long work, used as a context manager."""

    def advance(self, num: float = 1, note: str = "") -> None:
        """Says that `num` more units are done; `note` is a few words to show beside the bar."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where long work reports to."""

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> Bar:
        """Begins work of `total` units (None: not known), `done` of which an earlier run has finished."""

    def say(self, message: str) -> None:
        """One line for the user, for instance what was skipped and why."""


class SilentBar:
    """A bar that nobody sees."""

    def advance(self, num: float = 1, note: str = "") -> None:
        """Nothing to show."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Silent:
    """The default of every floor."""

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        """A bar that nobody sees."""
        return SilentBar()

    def say(self, message: str) -> None:
        """Nothing to show."""


SILENT = Silent()


def spoken_time(seconds: float) -> str:
    """A time as a person says it.

    >>> spoken_time(42), spoken_time(151), spoken_time(7860)
    ('42 s', '2 min 31 s', '2 h 11 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spoken_size(num_bytes: float) -> str:
    """Bytes as a person says them, in units of a thousand.

    >>> spoken_size(512), spoken_size(33_149), spoken_size(1_709_000_000), spoken_size(171_700_000_000)
    ('512 B', '33.1 kB', '1.71 GB', '172 GB')
    """
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    value, place = float(num_bytes), 0
    while round(abs(value)) >= 1000 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    digits = 0 if place == 0 else 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {units[place]}"
