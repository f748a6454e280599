"""What UNITER's pre-training is worth on the built-in scenes: every task fine-tuned after it, and without it.

    python benchmarks/pretraining.py --data scenes --regions regions --clip runs/clip --out runs/worth --json worth.json
    python benchmarks/pretraining.py --ablation --data scenes --regions regions --out runs/ablation --json ablation.json

The first is one pre-training with all four tasks, and then six tasks with and without it, with several seeds where a
run is short; what it tells of words and regions by matching alone, before and after it learned from swapped words and
from what the CLIP takes for each other; R@1 of that CLIP before and after its candidates are put in order. The second
is the paper's table 2 in small: pre-trainings with more and more of the tasks, and the short ones of the six
fine-tunings. Runs of one thread go side by side, --threads of them. The same command goes on with a study that was
stopped. Scenes, regions and CLIP are those of `diptych demo regions`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from diptych import systems
from diptych.cli import screen
from diptych.objectives.pretraining import Pretraining
from diptych.progress import SILENT
from diptych.tasks.choices import ChoicesResult, choices
from diptych.tasks.rerank import rerank
from diptych.tasks.retrieval import RetrievalResult, retrieval
from harness import arguments, machine, print_machine, write_json
from pretraining_runs import (
    CHAIN,
    SPLIT,
    TASKS,
    Tuning,
    World,
    asked,
    chained,
    opened,
    pretrained,
    tuned,
)

NO_PRETRAINING = "none"
LONG = ("nlvr2", "vcr")
"""Tasks whose rows are several sequences: they are run with the first seed alone, and not in the ablation."""
QUICK = ("nlvr2", "retrieval")
CLIP = "CLIP"
KINDS = {
    "things": "thing",
    "colours": "colour",
    "sizes": "size",
    "textures": "texture",
    "relations": "relation",
    "binding": "binding",
    "text_to_image_r1": "picture first",
}
"""Questions in the figure, as they are called there."""
GUESSING = "guessing"
RECALLS = ("text_to_image_r1", "image_to_text_r1")

RECIPE: Pretraining = systems.recipe("uniter", "scenes").objective
SHARE = RECIPE.share
UNALIGNED = replace(RECIPE, itm=replace(RECIPE.itm, alignment=0.0))
ABLATION: Mapping[str, Pretraining] = {
    "MLM": replace(UNALIGNED, share=replace(SHARE, mrfr=0, mrc=0, itm=0)),
    "MLM + ITM": replace(UNALIGNED, share=replace(SHARE, mrfr=0, mrc=0)),
    "MLM + ITM + MRC": replace(UNALIGNED, share=replace(SHARE, mrfr=0), mrc=replace(RECIPE.mrc, divergence=False)),
    "MLM + ITM + MRFR": replace(UNALIGNED, share=replace(SHARE, mrc=0)),
    "MLM + ITM + MRC-kl": replace(UNALIGNED, share=replace(SHARE, mrfr=0)),
    "MLM + ITM + MRC-kl + MRFR": UNALIGNED,
    "all, with WRA": RECIPE,
    "without WRA, words and regions masked at once": replace(UNALIGNED, mlm=replace(RECIPE.mlm, joint=True)),
}
"""Rows 5 to 12 of table 2 of UNITER, arXiv:1909.11740."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="a table of scenes; left out: a few are drawn")
    parser.add_argument("--regions", type=Path, help="regions of the scenes, with soft labels")
    parser.add_argument("--clip", metavar="RUN", help="a CLIP whose candidates are put in order")
    parser.add_argument("--out", type=Path, help="folder of the runs; left out: they are thrown away")
    parser.add_argument("--ablation", action="store_true", help="pre-train with more and more of the tasks")
    parser.add_argument("--pretraining-steps", type=int, help="left out: the recipe's; of the ablation a fifth")
    parser.add_argument("--steps", type=int, default=150, help="of each fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the fine-tunings")
    parser.add_argument("--rows", type=int, default=1000, help="test rows that each task is asked")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what is answered by matching (.svg, .png)")
    options = parser.parse_args()
    if options.plot is not None and (options.ablation or options.clip is None):
        parser.error("--plot draws a CLIP and a model beside it: it goes with --clip, and not with --ablation")
    torch.set_num_threads(options.threads)
    print_machine()
    with tempfile.TemporaryDirectory() as folder, screen.progress() as progress:
        world = opened(options, options.out or Path(folder), progress)
        found = ablation(world) if options.ablation else worth(world)
    write_json(options, {**machine(), **found})
    if options.plot is not None:
        plot(found["by_matching"]).savefig(options.plot)


def worth(world: World) -> dict[str, Any]:
    """Prints and returns each task's measure with and without pre-training."""
    weights = pretrained(world, "pretrained", systems.recipe("uniter", "scenes").objective, 1.0)
    wanted = [
        Tuning(task=task, weights=weights, seed=seed, scratch=scratch)
        for task in (QUICK if world.options.quick else TASKS)
        for seed in seeds_of(world, task)
        for scratch in (True, False)
    ]
    table: dict[str, dict[str, list[float]]] = {one.task: {"without": [], "with": []} for one in wanted}
    with side_by_side(world) as pool:
        matching = pool.submit(chained_apart, weights)  # takes longest
        for one, value in zip(wanted, pool.map(tuned_apart, wanted), strict=True):
            row = table[one.task]
            row["without" if one.scratch else "with"].append(value)
            if len(row["with"]) == len(seeds_of(world, one.task)):
                print(line(one.task, row), flush=True)
        folders = matching.result()
    matched = by_matching(world, [weights, *folders])
    gains = [statistics.mean(row["with"]) - statistics.mean(row["without"]) for row in table.values()]
    ratios = [statistics.mean(row["with"]) / max(statistics.mean(row["without"]), 1e-9) for row in table.values()]
    print(f"mean gain {100 * statistics.mean(gains):+.1f} points, {statistics.mean(ratios):.2f} x")
    return {"tasks": table, "mean_gain": statistics.mean(gains), "by_matching": matched}


def ablation(world: World) -> dict[str, Any]:
    """Prints and returns each short task's measure after each of the pre-trainings, and their sum."""
    table: dict[str, dict[str, float]] = {}
    with side_by_side(world) as pool:
        for found in pool.map(ablated_apart, ABLATION):
            table |= found
            for shown, row in found.items():
                total = sum(row.values())
                against = total / sum(table[NO_PRETRAINING].values())
                cells = "  ".join(f"{task} {100 * value:5.1f}" for task, value in row.items())
                print(f"{shown:46} {cells}  sum {100 * total:6.1f}  {against:.2f} x", flush=True)
    return {"ablation": table}


def ablated(world: World, name: str) -> dict[str, dict[str, float]]:
    """Each short task's measure after a pre-training; with the first one, also without any."""
    weights = pretrained(world, folder_of(name), ABLATION[name], 0.2)
    tunings = [
        Tuning(task=task, weights=weights, seed=world.options.seeds[0])
        for task in (QUICK if world.options.quick else TASKS)
        if task not in LONG  # for the time; the paper's table has NLVR2
    ]
    found = {name: {one.task: tuned(world, one) for one in tunings}}
    if name == next(iter(ABLATION)):
        without = {one.task: tuned(world, replace(one, scratch=True)) for one in tunings}
        found = {NO_PRETRAINING: without, **found}
    return found


APART: list[World] = []
"""Of a process beside others: its own world."""


def side_by_side(world: World) -> ProcessPoolExecutor:
    """Processes of one thread each; small networks are trained by two of them faster than by two threads."""
    return ProcessPoolExecutor(
        1 if world.options.quick else world.options.threads,
        mp_context=get_context("spawn"),
        initializer=begin_apart,
        initargs=(world.options, world.out),
    )


def begin_apart(options: argparse.Namespace, out: Path) -> None:
    """Opens the world in a process of its own, without bars."""
    torch.set_num_threads(1)
    APART.append(opened(options, out, SILENT))


def tuned_apart(one: Tuning) -> float:
    """`tuned`, in a process of its own."""
    return tuned(APART[0], one)


def chained_apart(weights: Path) -> list[Path]:
    """`chained`, in a process of its own."""
    return chained(APART[0], weights)


def ablated_apart(name: str) -> dict[str, dict[str, float]]:
    """`ablated`, in a process of its own."""
    return ablated(APART[0], name)


def by_matching(world: World, folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Questions answered by what fits best, of the CLIP and of each model, and R@1 in the order of each."""
    rows, limit = world.scenes.split(SPLIT), world.options.rows
    matchers = {name: asked(folder) for name, folder in zip(("pre-trained", *CHAIN), folders, strict=False)}
    answered = {name: choices(matcher, rows, limit=limit) for name, matcher in matchers.items()}
    if world.options.clip is None:
        return {name: told(name, one, None) for name, one in answered.items()}
    towers = systems.load_towers(world.options.clip, "cpu")
    before, of_towers = retrieval(towers, rows, limit=limit), choices(towers, rows, limit=limit)
    found = {GUESSING: {kind.kind: kind.chance for kind in of_towers.kinds}, CLIP: told(CLIP, of_towers, before)}
    for name, matcher in matchers.items():
        after = rerank(before, matcher, rows, cosine_weight=towers.scale, progress=world.progress)
        found[name] = told(name, answered[name], after)
    return found


def told(name: str, answered: ChoicesResult, ranked: RetrievalResult | None) -> dict[str, float]:
    """Prints and returns the share of right answers by kind, and R@1 both ways."""
    found = {kind.kind: kind.accuracy for kind in answered.kinds}
    if ranked is not None:
        found |= {way: ranked.numbers()[way] for way in RECALLS}
    print(f"{name:12} {'  '.join(f'{kind} {100 * value:.1f}' for kind, value in found.items())}", flush=True)
    return found


def seeds_of(world: World, task: str) -> list[int]:
    return world.options.seeds[:1] if world.options.quick or task in LONG else world.options.seeds


def folder_of(name: str) -> str:
    return "MLM" if name == NO_PRETRAINING else name.replace(" + ", "_").replace(", ", "_").replace(" ", "_")


def plot(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Right answers by kind of question, of the CLIP and of the last model, with what guessing gets."""
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    ax = figure.subplots()
    shown = {CLIP: ("a CLIP", "#adb5bd"), list(found)[-1]: ("UNITER, matching words and regions", "#1c7ed6")}
    for place, (name, (label, colour)) in enumerate(shown.items()):
        values = [100 * found[name][kind] for kind in KINDS]
        ax.bar([where + 0.4 * place for where in range(len(KINDS))], values, 0.38, color=colour, label=label)
        for where, value in enumerate(values):  # at a height where no line is
            ax.text(
                where + 0.4 * place, 20, f"{value:.1f}", ha="center", fontsize=8, color="#212529" if not place else "w"
            )
    for where, kind in enumerate(KINDS):
        chance = 100 * found[GUESSING].get(kind, 0.0)  # of hundreds of pictures next to nothing
        ax.hlines(chance, where - 0.25, where + 0.65, color="#212529", linestyle=":", linewidth=1.2)
    ax.set_xticks([where + 0.2 for where in range(len(KINDS))], KINDS.values())
    ax.set(ylabel="right answers, %", ylim=(0, 109))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def line(task: str, row: Mapping[str, Sequence[float]]) -> str:
    """Mean and spread of a task's two measures."""
    cells = [f"{name} {100 * statistics.mean(found):5.1f} ({', '.join(f'{100 * one:.1f}' for one in found)})"
             for name, found in row.items()]  # fmt: skip
    return f"{task:10} {'   '.join(cells)}"


if __name__ == "__main__":
    main()
