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
BatchRows = Annotated[
    int | None, typer.Option("--batch", help="Rows of a step, also where the recipe counts its words and regions.")
]
OnNanStep = Annotated[OnNan, typer.Option("--on-nan", help="What to do with a step without a finite loss.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")]
