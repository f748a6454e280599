"""Two ways to show a `Progress`: bars on a terminal, and a line now and then where output is kept in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from diptych.progress import spoken_time

LINE_EVERY_S = 10.0


def spoken_rate(per_s: float, unit: str) -> str:
    """A rate with as many digits as a person reads: "1,240 scenes/s", "0.8 steps/s"."""
    digits = f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.2g}"
    return f"{digits} {unit or 'items'}/s"


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} {task.fields['unit']}")


class _Rate(ProgressColumn):
    """Of late while it runs, over all once it is done; a dash before anything was done."""

    def render(self, task: Task) -> Text:
        if task.stop_time is None:
            speed = task.speed
        else:
            speed = (task.completed - task.fields["begun"]) / max(task.elapsed or 0.0, 1e-9)
        return Text("–" if not speed else spoken_rate(speed, task.fields["unit"]), style="cyan")


class _Time(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.stop_time is not None or task.finished:
            return Text(f"took {spoken_time(task.elapsed or 0.0)}", style="dim")
        left = task.time_remaining
        return Text("" if left is None else f"{spoken_time(left)} left", style="dim")


class _TerminalBar:
    def __init__(self, drawn: Progress, task: TaskID) -> None:
        self._drawn = drawn
        self._task = task

    def advance(self, num: float = 1, note: str = "") -> None:
        self._drawn.advance(self._task, num)
        if note:
            self._drawn.update(self._task, note=escape(note))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop_task(self._task)


class _TerminalReporter:
    def __init__(self, drawn: Progress) -> None:
        self._drawn = drawn

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> _TerminalBar:
        task = self._drawn.add_task(escape(name), total=total, completed=int(done), unit=unit, note="", begun=done)
        return _TerminalBar(self._drawn, task)

    def say(self, message: str) -> None:
        self._drawn.console.print(escape(message))


@contextmanager
def terminal_reporter(where: Console) -> Iterator[_TerminalReporter]:
    """Bars on a terminal, one below the other, for as long as the context lasts."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _Count(),
        _Rate(),
        _Time(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=where, refresh_per_second=4) as drawn:
        yield _TerminalReporter(drawn)


class _PlainBar:
    def __init__(self, where: Console, name: str, total: float | None, unit: str, done: float) -> None:
        self._where, self._name, self._total, self._unit = where, name, total, unit
        self._done = self._begun = done
        self._note = ""
        self._start = self._last_line = time.monotonic()

    def advance(self, num: float = 1, note: str = "") -> None:
        self._done += num
        self._note = note or self._note
        now = time.monotonic()
        ended = self._total is not None and self._done >= self._total  # the last line, on leaving, says it
        if now - self._last_line >= LINE_EVERY_S and not ended:
            self._last_line = now
            self._print(now - self._start, running=True)

    def _print(self, elapsed_s: float, *, running: bool) -> None:
        rate = (self._done - self._begun) / max(elapsed_s, 1e-9)
        count = f"{self._done:,.0f}" + ("" if self._total is None else f"/{self._total:,.0f}")
        parts = [f"{self._name}: {count} {self._unit}".rstrip(), spoken_rate(rate, self._unit)]
        if not running:
            parts.append(f"took {spoken_time(elapsed_s)}")
        elif self._total is not None and rate > 0:
            parts.append(f"{spoken_time((self._total - self._done) / rate)} left")
        self._where.print(escape(", ".join([*parts, *([self._note] if self._note else [])])))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._print(time.monotonic() - self._start, running=False)


class PlainReporter:
    """A `Progress` for pipes and files: no cursor movements, a line every ten seconds and one at the end."""

    def __init__(self, where: Console) -> None:
        self._where = where

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> _PlainBar:
        """Begins a new piece of work."""
        return _PlainBar(self._where, name, total, unit, done)

    def say(self, message: str) -> None:
        """Prints the line."""
        self._where.print(escape(message))
