"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

OnNan = Literal["stop", "skip"]

_REGIONS = typer.Option(
    "--regions",
    metavar="REGIONS",
    help="Regions of the pictures, for models that read them; several times for several.",
)
RegionStores = Annotated[list[Path], _REGIONS]
MaybeRegionStores = Annotated[list[Path] | None, _REGIONS]
PartnersDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Which rows are set against each other; by `data partners`.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any setting of a run, e.g. optim.lr=3e-4.")
]
BatchRows = Annotated[
    int | None, typer.Option("--batch", help="Rows of a step, also where the recipe counts its words and regions.")
]
OnNanStep = Annotated[OnNan, typer.Option("--on-nan", help="What to do with a step without a finite loss.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", dir_okay=False, help="Write what is told here as JSON to this file."),
]
