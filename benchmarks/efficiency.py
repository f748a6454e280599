"""CLIP's figure 2 on the built-in scenes: zero-shot accuracy against pictures seen, for three objectives.

Caption language modelling, bag-of-words prediction, contrast with a bag of words as text tower, and contrast with a
Transformer: same pictures in the same order, same picture tower from the same first weights, same optimizer. The order
of the curves is what is asked; the paper's factors (3 and 4) are of its own data and size.

    python benchmarks/efficiency.py --out runs/efficiency --json efficiency.json --plot efficiency.svg

With --out, the same command goes on with a study that was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from diptych import systems
from diptych.checkpoint.store import read_checkpoint
from diptych.cli import screen
from diptych.data.durable import write_whole
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.progress import Progress
from diptych.tasks.encoder import DualEncoder
from diptych.tasks.likelihood import zero_shot_by_likelihood
from diptych.tasks.zero_shot import zero_shot
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.run import Run, plain_run
from harness import arguments, machine, print_machine, write_json

RECIPES = {
    "contrast, Transformer": "figure2_transformer",
    "contrast, bag of words": "figure2_cbow",
    "bag-of-words prediction": "figure2_bag_of_words",
    "caption language model": "figure2_captioning",
}
COLOURS = ("#4c6ef5", "#0b7285", "#e8590c", "#868e96")
ACCURACIES = (0.25, 0.5, 0.75, 0.9)
BASELINE = "contrast, bag of words"
"""The paper's uppermost curve."""

Curve = list[tuple[int, float]]
"""Pictures seen, and accuracy."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="a table of scenes; left out: the demo's world is drawn")
    parser.add_argument("--out", type=Path, help="folder of the runs; left out: they are thrown away")
    parser.add_argument("--steps", type=int, help="optimizer steps of each run; left out: the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=1000, help="test pictures that are classified at every point")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figure into this file (.svg, .png)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    with tempfile.TemporaryDirectory() as folder, screen.progress() as progress:
        out = options.out or Path(folder)
        table = open_table(options.data or world(out / "scenes", 2000 if options.quick else 40_000, progress))
        found = study(options, table, out, progress)
    curves = {name: [one["curve"] for one in runs] for name, runs in found.items()}
    summary = compare(curves, {name: [one["seconds"] for one in runs] for name, runs in found.items()})
    if options.plot is not None:
        plot(curves, chance=1 / len(table.meta["label_names"])).savefig(options.plot)
    write_json(options, {**machine(), "runs": found, **summary})


def world(folder: Path, num: int, progress: Progress) -> Path:
    """The demo's scenes, drawn as far as they are not there."""
    if not folder.exists():
        draw_scenes(folder, easy(num=num, size_px=64), progress=progress)
    return folder


def study(options: argparse.Namespace, table: Table, out: Path, progress: Progress) -> dict[str, list[dict[str, Any]]]:
    """All runs, of every name one for each seed; those that are finished in `out` are not made again."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RECIPES}
    seeds = options.seeds[:1] if options.quick else options.seeds
    for seed in seeds:  # all objectives with one seed, then the next, so that a slow hour meets all
        for name in RECIPES:
            run = shortened(systems.recipe("clip", RECIPES[name]), options, seed)
            one = trained(run, table, out / f"{run.recipe}_{seed}", options, progress)
            found[name].append(one)
            seen, accuracy = one["curve"][-1]
            print(f"{name:24} seed {seed}: {accuracy:6.1%} after {seen:,} pictures, {one['seconds']:.0f} s", flush=True)
    return found


def shortened(run: Run, options: argparse.Namespace, seed: int) -> Run:
    """The recipe with the study's length and seed, and a checkpoint wherever accuracy is measured."""
    steps = 6 if options.quick else options.steps or run.training.steps
    every = max(1, steps // 40)
    training = replace(run.training, steps=steps, seed=seed, checkpoint_every=every, checkpoint_minutes=1e6, keep=1000)
    return replace(run, training=replace(training, batch=32, eval_rows=32) if options.quick else training)


def trained(run: Run, table: Table, out: Path, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Trains, measures, keeps the result in `out`, and removes all checkpoints but the last."""
    job = systems.build(run, texts=table.split("train").texts(), progress=progress)
    asked = {"run": plain_run(job.run), "rows": options.rows, "data": table.fingerprint}
    result = out / "efficiency.json"
    if result.is_file():
        kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if kept["asked"] != json.loads(json.dumps(asked)):
            sys.exit(f"{out} holds a run of a study with other settings; choose another --out or remove it")
        return kept
    if fit(job, table, out, resume=True, device="cpu", progress=progress).status == "interrupted":
        sys.exit("stopped; the same command goes on")
    *earlier, last = sorted((out / "checkpoints").glob("step_*"))
    seconds = read_checkpoint(last).state["time_s"]
    found = {"asked": asked, "seconds": seconds, "curve": measured(job, table, [*earlier, last], options, progress)}
    write_whole(result, json.dumps(found, indent=1).encode())
    for folder in earlier:
        shutil.rmtree(folder)
    return found


def measured(
    job: Job, table: Table, checkpoints: Sequence[Path], options: argparse.Namespace, progress: Progress
) -> Curve:
    """Accuracy at the checkpoints, of which early ones are taken more densely: the axis is logarithmic."""
    by_step = {int(folder.name.removeprefix("step_")): folder for folder in checkpoints}
    encoder = DualEncoder(job.model, job.inputs, torch.device("cpu"), job.run.recipe)  # type: ignore[arg-type]
    curve: Curve = []
    with progress.bar("measuring", total=len(spaced(sorted(by_step))), unit="points") as bar:
        for step in spaced(sorted(by_step)):
            job.model.load_state_dict(read_checkpoint(by_step[step]).model())
            curve.append((step * job.run.training.batch, accuracy(job, encoder, table, options.rows)))
            bar.advance()
    return curve


def spaced(steps: Sequence[int]) -> list[int]:
    """Of the steps above 0 those that lie a fifth or more above the one before, and the last."""
    chosen = [steps[-1]]
    for step in reversed(steps[:-1]):
        if 0 < step <= chosen[-1] / 1.2:
            chosen.append(step)
    return chosen[::-1]


def accuracy(job: Job, encoder: DualEncoder, table: Table, limit: int) -> float:
    """Top-1 of the test split's things, with the table's own templates, by what the objective has learned to say."""
    rows, templates = table.split("test"), table.meta["templates"]
    names = [(name,) for name in table.meta["label_names"]]
    if job.objective.name == "contrastive":
        found = zero_shot(encoder, rows, class_names=names, templates=templates, limit=limit)
    else:
        head: Any = job.model.heads[job.objective.name]  # type: ignore[index]
        found = zero_shot_by_likelihood(encoder, head, rows, class_names=names, templates=templates, limit=limit)
    return found.numbers()["top1"]


def compare(curves: Mapping[str, Sequence[Curve]], seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Prints and returns how many pictures each needs for an accuracy, beside the baseline, and what a run costs."""
    needed = {name: {f"{goal:.0%}": reached(mean(runs), goal) for goal in ACCURACIES} for name, runs in curves.items()}
    print(f"pictures until the mean over the seeds reaches an accuracy, and as a multiple of '{BASELINE}'")
    for name, by_goal in needed.items():
        cells = [f"{goal} {told(pictures, needed[BASELINE][goal]):>18}" for goal, pictures in by_goal.items()]
        print(f"  {name:24} {'  '.join(cells)}")
    cost = {name: statistics.median(a / b for a, b in zip(values, seconds[BASELINE], strict=True))
            for name, values in seconds.items()}  # fmt: skip
    print("time of a run:", ", ".join(f"{name} {ratio:.2f} x" for name, ratio in cost.items()))
    return {"pictures_needed": needed, "time_ratio": cost}


def mean(runs: Sequence[Curve]) -> Curve:
    """The mean accuracy at each point."""
    return [(points[0][0], statistics.mean(value for _, value in points)) for points in zip(*runs, strict=True)]


def reached(curve: Curve, goal: float) -> float | None:
    """Pictures at which a curve first reaches `goal`, between two points by a straight line over log pictures."""
    if curve[0][1] >= goal:
        return curve[0][0]
    for (seen, low), (later, high) in pairwise(curve):
        if high >= goal:
            return math.exp(math.log(seen) + (goal - low) / (high - low) * math.log(later / seen))
    return None


def told(pictures: float | None, baseline: float | None) -> str:
    """Pictures and their multiple of the baseline's, in words."""
    if pictures is None:
        return "not reached"
    return f"{pictures:,.0f}" + ("" if baseline is None else f" ({pictures / baseline:.2f} x)")


def plot(curves: Mapping[str, Sequence[Curve]], *, chance: float) -> Figure:
    """The figure: mean over the seeds, and a band from the lowest to the highest."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    ax = figure.subplots()
    for (name, runs), colour in zip(curves.items(), COLOURS, strict=True):
        seen = [pictures for pictures, _ in runs[0]]
        values = [[100 * value for _, value in points] for points in zip(*runs, strict=True)]
        ax.fill_between(seen, [min(one) for one in values], [max(one) for one in values], color=colour, alpha=0.15)
        ax.plot(seen, [statistics.mean(one) for one in values], color=colour, marker="o", markersize=3.5, label=name)
    ax.axhline(100 * chance, color="#adb5bd", linestyle=":", label="chance")
    ax.set(xscale="log", xlabel="pictures seen", ylabel="zero-shot accuracy, %", ylim=(0, 101))
    ticks = [seen[-1] / 2**halving for halving in range(6)]
    ax.set_xticks(ticks)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
