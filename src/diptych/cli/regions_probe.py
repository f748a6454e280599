"""`diptych regions probe`: what the features of a store hold of the things in the pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import regions_files, screen
from diptych.cli.options import JsonFile
from diptych.errors import UsageError

if TYPE_CHECKING:
    from diptych.report.scores import Score
    from diptych.tasks.region_probe import RegionProbe

FORMAT = 1
PICTURES = 2000


def probe(
    regions: Annotated[Path, typer.Argument(metavar="REGIONS", help=regions_files.SOURCE_HELP)],
    data: Annotated[Path, typer.Option(help="The table of the pictures, with the column objects.")],
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="Of the objects, e.g. colour; may be given several times. Left out: all words."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="That is asked about; left out: test, else validation.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many pictures of each split.")] = PICTURES,
    seed: Annotated[int, typer.Option(help="Of the objects that the strength is chosen on.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Say what the features hold: name, colour and so on of the objects, told by a linear classifier."""
    from diptych.cli.json_file import write_json
    from diptych.cli.tables import split_to_evaluate
    from diptych.data.table import open_table
    from diptych.report.scores import plain, shown_tables
    from diptych.tasks.region_probe import probe_regions

    table = open_table(data)
    split = split or split_to_evaluate(table.splits, "train")
    if split == "train":
        raise UsageError(
            "the probe learns on train, and is asked about another split; choose one by --split, of "
            f"{', '.join(table.splits)}"
        )
    with screen.progress() as progress:
        found = probe_regions(
            regions_files.opened(regions),
            table.split("train"),
            table.split(split),
            fields=fields or (),
            limit=limit,
            seed=seed,
            progress=progress,
        )
    scores = _scores(found)
    for shown in shown_tables(scores):
        screen.table(shown.title, shown.columns, shown.rows)
        screen.out()
    screen.out(
        f"A linear classifier learnt from {found.num_train:,} objects; regions lie on {found.met:,} of the "
        f"{found.objects:,} in {split}"
    )
    if json_file is not None:
        numbers = {"num_train": found.num_train, "objects": found.objects, "met": found.met}
        write_json(json_file, {"format": FORMAT, **numbers, "results": plain(scores)})
        screen.out(f"Numbers: {json_file}")
    page = f"{regions.resolve().name}.html"
    screen.next_step(shlex.join(["diptych", "regions", "show", str(regions), "--data", str(data), "--html", page]))


def _scores(found: RegionProbe) -> list[Score]:
    from diptych.report.scores import share

    return [
        share(
            name=one.field,
            label=one.field,
            group="Told from features",
            right=one.hits,
            count=one.num,
            chance=one.chance,
        )
        for one in found.fields
    ]
