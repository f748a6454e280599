"""`diptych regions`: what stands in the pictures, as fused models read it."""

from __future__ import annotations

import typer

from diptych.cli import regions_train
from diptych.cli.verbs import Verbs

regions_app = typer.Typer(
    cls=Verbs, help="Regions of pictures, for fused models: train a detector.", add_completion=False
)
regions_app.command("train")(regions_train.train)
