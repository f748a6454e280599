"""`diptych data partners`: which pictures and texts a CLIP takes for each other, to learn what tells them apart."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import screen
from diptych.cli.options import Device


def partners(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table of pictures and texts.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new store.")],
    clip: Annotated[str, typer.Option(metavar="RUN", help="A CLIP: a run, a released file, or a hub name.")],
    top: Annotated[int, typer.Option(min=1, help="Of each row, so many of the likest.")] = 150,
    others: Annotated[int, typer.Option(min=0, help="And so many by chance.")] = 50,
    split: Annotated[str, typer.Option(help="That is trained on.")] = "train",
    device: Device = "auto",
) -> None:
    """Name for each row the others that a CLIP takes for it: `diptych finetune ... --partners OUT` learns from these.

    Of a re-ranking these are the pictures and texts that it has to put in order.
    """
    from diptych import systems
    from diptych.data.examples import is_of_scenes
    from diptych.data.layout import refuse_existing
    from diptych.data.partners import write_partners
    from diptych.data.table import check_pictures, open_table
    from diptych.tasks.alike import rows_alike

    refuse_existing(out)
    table = open_table(data)
    rows = table.split(split)
    check_pictures(rows)
    with screen.progress() as progress:
        found = rows_alike(systems.load_towers(clip, device), rows, top=top, others=others, progress=progress)
        write_partners(out, rows, found, source=f"{top} and {others} partners of {table.fingerprint} by {clip}")
    fewest = min(len(named) for _, named in found)
    screen.out(f"{out}: partners of {len(found):,} rows, at least {fewest} of each; alike first, then by chance")
    recipe = "tiny_alike" if is_of_scenes(table.meta) else "tiny_hard_ranking"
    words = ["diptych", "finetune", "RUN", recipe, "--data", str(data), "--regions", "REGIONS"]
    screen.next_step(shlex.join([*words, "--partners", str(out), "--out", str(Path("runs") / "ranking")]))
