"""`diptych reproduce`: published results, what they need, and whether they are reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import Device, MaybeRegionStores
from diptych.errors import UsageError

if TYPE_CHECKING:
    from diptych.tasks.published import Judged, Published

FORMAT = 1
FAILED = 1


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="RESULT", help="e.g. uniter/flickr-zero-shot; left out: they are listed.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="WEIGHTS", help="A released file, a run, or a hub name.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The table of the result's data set.")] = None,
    regions: MaybeRegionStores = None,
    device: Device = "auto",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            dir_okay=False,
            help="Write the numbers here; retrieval then goes on after a stop.",
        ),
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", dir_okay=False, help="Write the list as a page here.")
    ] = None,
) -> None:
    """Run a published result again: `diptych reproduce uniter/flickr-zero-shot --weights W --data D --regions R`.

    Without files it says which are needed and how they are made. Exit code 0: as published; 1: not; 2: not run.
    """
    from diptych import systems

    if name is None:
        _list(systems.published(), markdown_file)
        return
    row = systems.published_row(name)
    lacking = _lacking(weights, data, regions)
    if row.server or lacking or weights is None or data is None or regions is None:
        _tell(row)
        raise UsageError(_not_run(row, lacking))
    keep = None if json_file is None else json_file.parent
    numbers = _run(row, weights, data, regions, device, keep)
    _show(row, numbers)
    if json_file is not None:
        _write(json_file, row, numbers, weights, data, regions)
        screen.out(f"Numbers: {json_file}")
    screen.next_step("diptych reproduce" if row.ranks else _again(row, weights, data, regions, device, keep))
    if not all(one.passed for one in numbers):
        raise typer.Exit(FAILED)


def _list(rows: Sequence[Published], markdown_file: Path | None) -> None:
    from diptych.checkpoint.files import write_whole
    from diptych.tasks.published import MEMORY, expectation, markdown

    cells = [(row.name, row.what, expectation(row), row.got) for row in rows]
    screen.table("Published results", ("", "what", "expected, %", "got"), cells, whole_first=True)
    screen.out()
    screen.out(f"{MEMORY}: from memory; hold it against the source before you quote it.")
    if markdown_file is not None:
        markdown_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(markdown_file, markdown(rows))
        screen.out(f"Page: {markdown_file}")
    screen.next_step(f"diptych reproduce {rows[0].name}")


def _lacking(weights: str | None, data: Path | None, regions: Sequence[Path] | None) -> list[str]:
    """Options that are not there, or name what is not."""
    lacking = ["--weights"] if weights is None else []
    for option, paths in (("--data", None if data is None else [data]), ("--regions", regions)):
        lacking += [option] if not paths else [f"{option} ({one} is not there)" for one in paths if not one.exists()]
    return lacking


def _tell(row: Published) -> None:
    """What a row is, and what it needs."""
    from diptych.tasks.published import MEMORY, allowance, expectation

    screen.out(f"{row.name}: {row.what}")
    screen.out(f"Expected: {expectation(row)} %  ({row.source}; {MEMORY}: from memory)")
    if not row.server:
        screen.out(f"Tolerance: {allowance(row)} points: {row.because}")
    if row.remark:
        screen.out(f"Note: {row.remark}.")
    for option, need in (("--weights", row.weights), ("--data", row.data), ("--regions", row.regions)):
        screen.out()
        screen.out(f"{option}: {need.what}")
        for command in need.commands:
            screen.out(f"  {command}")
    screen.out()


def _not_run(row: Published, lacking: Sequence[str]) -> str:
    if row.server:
        return f"{row.name} is scored by {row.server} alone; write what is sent there: {row.answers}"
    return f"{row.name} was not run, for want of {', '.join(lacking)}; above is what each is, and how it is made"


def _run(
    row: Published, weights: str, data: Path, regions: Sequence[Path], device: str, keep: Path | None
) -> tuple[Judged, ...]:
    from diptych import systems
    from diptych.cli.tables import with_regions
    from diptych.data.table import open_table

    table = with_regions(open_table(data), regions)
    with screen.progress() as progress:
        return systems.reproduce(row, weights, table, device, progress, keep=keep)


def _show(row: Published, numbers: Sequence[Judged]) -> None:
    from diptych.tasks.published import MEMORY, percent

    cells = [
        (
            one.expected.label or one.expected.score,
            percent(one.expected),
            f"{100 * one.got:.2f}",
            f"{100 * (one.got - one.expected.value):+.2f}",
            f"{100 * one.low:.2f} to {100 * one.high:.2f}",
            "pass" if one.passed else "fail",
        )
        for one in numbers
    ]
    screen.table(row.name, ("%", "expected", "got", "difference", "passes", ""), cells)
    screen.out()
    passed = sum(one.passed for one in numbers)
    screen.out(f"{'Pass' if passed == len(numbers) else 'Fail'}: {passed} of {len(numbers)} as published.")
    screen.out(f"Source: {row.source}; {MEMORY}: from memory. Tolerance: {row.because}.")
    if row.remark:
        screen.out(f"Note: {row.remark}.")


def _write(
    file: Path, row: Published, numbers: Sequence[Judged], weights: str, data: Path, regions: Sequence[Path]
) -> None:
    from diptych.cli.json_file import write_json

    found = {
        "format": FORMAT,
        "name": row.name,
        "source": row.source,
        "task": row.task,
        "split": row.split,
        "weights": weights,
        "data": str(data),
        "regions": [str(one) for one in regions],
        "tolerance": row.tolerance,
        "passed": all(one.passed for one in numbers),
        "numbers": [
            {
                "score": one.expected.score,
                "expected": one.expected.value,
                "from_memory": not one.expected.confirmed,
                "got": one.got,
                "difference": one.got - one.expected.value,
                "low": one.low,
                "high": one.high,
                "passed": one.passed,
            }
            for one in numbers
        ],
    }
    write_json(file, found)


def _again(row: Published, weights: str, data: Path, regions: Sequence[Path], device: str, keep: Path | None) -> str:
    """The same evaluation with its page, beside the scores that were kept."""
    from diptych.cli.evaluate import evaluate_command

    page = (keep or Path()) / f"{row.name.replace('/', '-')}.html"
    more = [] if device == "auto" else ["--device", device]
    return evaluate_command(weights, row.task, data, row.split, page, regions, more)
