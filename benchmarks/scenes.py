"""Scenes a second that the built-in picture world draws and writes, by style, size and number of processes.

python benchmarks/scenes.py --json scenes.json
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from diptych.data.scenes import SceneSettings, draw_scenes, easy, hard
from harness import arguments, machine, print_machine, show, take_turns, write_json


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes of the last way")
    parser.add_argument("--tmp", type=Path, help="folder for the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_machine()
    with tempfile.TemporaryDirectory(dir=options.tmp) as folder:
        rates = take_turns(
            ways(Path(folder), 100 if options.quick else 2000, options.workers), rounds=1 if options.quick else 5
        )
    results = show("drawn, encoded and written to a table", rates, BASELINE, "scenes")
    write_json(options, {**machine(), "results": results})


BASELINE = "easy, 96 px, 1 process"


def ways(folder: Path, num: int, workers: int) -> dict[str, Callable[[], int]]:
    return {
        BASELINE: partial(draw, folder, replace(easy(), num=num), 1),
        "hard, 96 px, 1 process": partial(draw, folder, replace(hard(), num=num), 1),
        f"easy, 96 px, {workers} processes": partial(draw, folder, replace(easy(), num=num), workers),
    }


def draw(folder: Path, settings: SceneSettings, workers: int) -> int:
    out = Path(tempfile.mkdtemp(dir=folder)) / "table"
    draw_scenes(out, settings, workers=workers)
    return settings.num


if __name__ == "__main__":
    main()
