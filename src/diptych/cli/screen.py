"""What the command line shows: lines and tables. Progress is drawn in `bars.py`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diptych.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

NUMERIC = "0123456789-+–∞"
"""What a cell with a number begins with, or the dash in place of one; an empty cell is either."""


def console(*, stderr: bool = False) -> Console:
    """Where to draw; colours only on a terminal, and never with NO_COLOR set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def out(text: str = "") -> None:
    """A plain line on standard output."""
    print(text)  # noqa: T201 - the command line is what prints


def error(message: str) -> None:
    """An error on standard error: what was found, what was expected, what to do."""
    console(stderr=True).print(f"[bold red]Error:[/] {escaped(message)}")


def say(message: str) -> None:
    """A line for people on standard error, so that standard output stays clean for pipes."""
    console(stderr=True).print(escaped(message))


def reasons(title: str, unit: str, found: Mapping[str, int]) -> None:
    """Why rows were rejected, the most frequent reasons first."""
    table(title, ("why", unit), [(reason, f"{num:,}") for reason, num in list(found.items())[:8]])


def damage(found: Mapping[str, str], number: int) -> None:
    """Pictures whose rows are damaged, by key, and why; nothing where there are none."""
    if number:
        title = "Damaged rows" + (f", the first of {number:,}" if number > len(found) else "")
        table(title, ("picture", "why"), list(found.items()))
        out()


def left_out(ignored: Mapping[str, str]) -> list[str]:
    """A line for every reason for which parts of published weights are not used, with the first of them by name."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in ignored.items():
        by_reason.setdefault(reason, []).append(name)
    return [
        f"Left out: {', '.join(names[:3])}{f' and {len(names) - 3:,} more' * (len(names) > 3)}: {reason}"
        for reason, names in by_reason.items()
    ]


def next_step(command: str) -> None:
    """The last line of a command: what to run next, ready to paste."""
    console().print(f"[bold]Next:[/] {escaped(command)}")


def look_at(page: Path) -> str:
    """The command that opens a page in the browser."""
    return shlex.join(["python3", "-m", "webbrowser", page.resolve().as_uri()])


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, whole_first: bool = False) -> None:
    """A table on standard output: numbers to the right, words and the first column to the left.

    Cells are broken where the terminal is narrow, and never cut: a table may be wider than it.

    Args:
        title: above it.
        columns: their names.
        rows: their cells.
        whole_first: never break the first column, as where it is to be pasted.
    """
    from rich.measure import Measurement
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        numbers = index > 0 and all(row[index][:1] in NUMERIC for row in rows)
        whole = max(len(row[0]) for row in rows) if whole_first and index == 0 and rows else None
        justify: Literal["right", "left"] = "right" if numbers else "left"
        drawn.add_column(column, justify=justify, header_style="dim", min_width=whole, overflow="fold")
    for row in rows:
        drawn.add_row(*[escaped(cell) for cell in row])
    where = console()
    narrowest = Measurement.get(where, where.options, drawn).minimum
    where.print(drawn, width=max(where.width, narrowest))


def escaped(text: str) -> str:
    """The text as it is, its square brackets no markup."""
    from rich.markup import escape

    return escape(text)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars with count, rate, time left and a note; on a pipe a line now and then instead."""
    from diptych.cli.bars import PlainReporter, terminal_reporter

    where = console(stderr=True)
    if where.is_terminal:
        with terminal_reporter(where) as reporter:
            yield reporter
    else:
        yield PlainReporter(where)
