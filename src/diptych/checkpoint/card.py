"""card.md: what somebody who finds a run folder wants to know of the model in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.checkpoint.files import write_whole


def write_card(
    run_folder: Path,
    *,
    run: Mapping[str, Any],
    data: Mapping[str, Any],
    metrics: Mapping[str, float],
    facts: Mapping[str, Any],
) -> Path:
    """Writes the card of a run.

    Args:
        run_folder: where.
        run: the run as `run.json` holds it.
        data: what it was trained on, by name.
        metrics: the figures of the weights that `load` gives, by name.
        facts: anything else of interest, by name: steps, time, machine, versions.
    """
    text = "\n".join(
        [
            f"# {run['system']}, recipe {run['recipe']}",
            "",
            f"Trained by diptych. `diptych.load({str(run_folder)!r})` gives the model with its tokenizer and picture "
            "transform.",
            "",
            *_table("Trained on", data),
            *_table("Figures on held-out rows", {name: f"{value:.4g}" for name, value in metrics.items()}),
            *_table("Training", facts),
            "## Settings",
            "",
            "```json",
            json.dumps(run, indent=2),
            "```",
            "",
        ]
    )
    write_whole(run_folder / "card.md", text)
    return run_folder / "card.md"


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    rows = [f"| {name.replace('_', ' ')} | {str(value).replace('|', '/')} |" for name, value in values.items()]
    return [f"## {title}", "", "| what | value |", "|---|---|", *rows, ""]
