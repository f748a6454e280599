"""Which detector makes the regions where none is named: windows over a CLIP's tower, or else what to type."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli import demo_world
from diptych.errors import UsageError

if TYPE_CHECKING:
    from diptych.data.table import Table


def chosen_detector(table: Table, out: Path, detector: str | None, tower: str | None) -> str:
    """What `systems.detectors.named_detector` takes.

    Raises:
        UsageError: nothing is named, or both; the message has the command for this table.
    """
    if detector is not None and tower is not None:
        raise UsageError(
            "--tower CLIP is --detector windows:CLIP, and another detector is named too; leave one of them out"
        )
    if detector is not None:
        return detector
    if tower is not None:
        return f"windows:{tower}"
    raise UsageError(f"nothing is named that makes the regions. {_advice(table, out)}")


def _advice(table: Table, out: Path) -> str:
    """What to type for this table: for scenes their own detector, for photographs windows."""
    data = str(table.path)
    if demo_world.of_scenes(table):
        made = demo_world.detector_for(table)
        extract = _extract(data, out, "--detector", f"own:{made or 'runs/own'}")
        if made is not None:
            return f"These are built-in scenes, and {made} is a detector of them: {extract}"
        train = shlex.join(["diptych", "regions", "train", data, "--out", "runs/own"])
        return f"These are built-in scenes; train a detector of them: {train} and then: {extract}"
    made = newest_clip()
    extract = _extract(data, out, "--tower", str(made or "runs/clip"))
    if made is not None:
        return f"Windows over the image tower of a CLIP need no detector, e.g. over that of {made}: {extract}"
    texts = any(next(table.split(name).texts(), None) is not None for name in table.splits)
    train = shlex.join(["diptych", "train", "clip", "flickr8k", "--data", data if texts else "PAIRS"])
    train += f" --out runs/clip{'' if texts else ' (PAIRS: a table of pictures with texts, which these have not)'}"
    return f"Windows over the image tower of a CLIP need no detector; train one: {train} and then: {extract}"


def _extract(data: str, out: Path, *words: str) -> str:
    return shlex.join(["diptych", "regions", "extract", data, *words, "--out", str(out)])


def newest_clip(folder: Path = Path("runs")) -> Path | None:
    """The run of a CLIP in `folder` that was trained last."""
    found = [file.parent for file in folder.glob("*/run.json") if (file.parent / "last").exists() and _is_clip(file)]
    return max(found, key=lambda run: (run / "last").stat().st_mtime, default=None)


def _is_clip(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["system"] == "clip")
    except (OSError, ValueError, KeyError, TypeError):
        return False
