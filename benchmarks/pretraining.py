"""What UNITER's pre-training is worth on the built-in scenes: every task fine-tuned after it, and without it.

    python benchmarks/pretraining.py --data scenes --regions regions --clip runs/clip --out runs/worth --json worth.json
    python benchmarks/pretraining.py --ablation --data scenes --regions regions --out runs/ablation --json ablation.json

The first is one pre-training with all four tasks, and then six tasks with and without it, with several seeds; what it
tells of words and regions by matching alone; and, with --clip, R@1 of that CLIP before and after its candidates are put
in order. The second is the paper's table 2 in small: pre-trainings with more and more of the tasks. The same command
goes on with a study that was stopped. The scenes' table and regions are those of `diptych demo regions`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from diptych import systems
from diptych.cli import screen
from diptych.data.durable import write_whole
from diptych.data.examples import Task, examples_of_scenes
from diptych.data.region_files.detect import open_regions
from diptych.data.region_join import region_columns
from diptych.data.table import Rows, Table, open_table
from diptych.objectives.masked_regions import MaskedRegionClasses
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.objectives.pretraining import Pretraining, Shares
from diptych.progress import Progress
from diptych.tasks.answering import answering, answering_scores
from diptych.tasks.choices import choices
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.tasks.matcher import REGIONS
from diptych.tasks.referring import referring, referring_scores
from diptych.tasks.rerank import rerank
from diptych.tasks.retrieval import retrieval
from diptych.train.loop import fit
from diptych.train.run import Run
from harness import arguments, machine, print_machine, write_json
from scenes_of_boxes import few_scenes

SPLIT = "test"
NO_PRETRAINING = "none"


@dataclass(frozen=True, kw_only=True)
class World:
    """Scenes with regions, examples of every task, and where runs are kept."""

    scenes: Table
    examples: Mapping[str, Table]
    out: Path
    options: argparse.Namespace
    progress: Progress


def answers(matcher: FusedMatcher, rows: Rows, limit: int) -> float:
    """What the answers are worth."""
    return answering_scores(answering(matcher, rows, limit=limit))[0].value


def phrases(matcher: FusedMatcher, rows: Rows, limit: int) -> float:
    """Phrases whose region is found."""
    return referring_scores(referring(matcher, rows, limit=limit))[0].value


def recall(matcher: FusedMatcher, rows: Rows, limit: int) -> float:
    """R@1 of the first text of each of a tenth as many pictures, among them, by all pairs."""
    num = min(len(rows), max(2, limit // 10))
    samples = [replace(rows.sample(row, (REGIONS,)), image=None) for row in range(num)]
    pairs = list(product(range(num), range(num)))
    odds = matcher.match(samples, [sample.texts[0] for sample in samples], pairs).reshape(num, num)
    return float((odds.argmax(dim=0) == torch.arange(num)).float().mean())


Measure = Callable[[FusedMatcher, Rows, int], float]
TASKS: Mapping[str, tuple[str, Measure]] = {
    "vqa": ("tiny_vqa", answers),
    "ve": ("tiny_ve", answers),
    "nlvr2": ("tiny_nlvr2", answers),
    "vcr": ("tiny_vcr", answers),
    "re": ("tiny_re", phrases),
    "retrieval": ("tiny_ranking", recall),
}
"""Each with its recipe, and what is measured."""
ABLATION: Mapping[str, Pretraining] = {
    "MLM": Pretraining(share=Shares(mlm=1, mrfr=0, mrc=0, itm=0)),
    "MLM + ITM": Pretraining(share=Shares(mlm=1, mrfr=0, mrc=0, itm=1), itm=Matching()),
    "MLM + ITM + MRC": Pretraining(
        share=Shares(mlm=2, mrfr=0, mrc=1, itm=2), itm=Matching(), mrc=MaskedRegionClasses(divergence=False)
    ),
    "MLM + ITM + MRFR": Pretraining(share=Shares(mlm=2, mrfr=1, mrc=0, itm=2), itm=Matching()),
    "MLM + ITM + MRC-kl": Pretraining(share=Shares(mlm=2, mrfr=0, mrc=1, itm=2), itm=Matching()),
    "MLM + ITM + MRC-kl + MRFR": Pretraining(share=Shares(mlm=2, mrfr=1, mrc=1, itm=2), itm=Matching()),
    "all, with WRA": Pretraining(share=Shares(mlm=2, mrfr=1, mrc=1, itm=2)),
    "without WRA, words and regions masked at once": Pretraining(
        share=Shares(mlm=2, mrfr=1, mrc=1, itm=2), itm=Matching(), mlm=MaskedWords(joint=True)
    ),
}
"""Rows 5 to 12 of table 2 of UNITER, arXiv:1909.11740."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="a table of scenes; left out: a few are drawn")
    parser.add_argument("--regions", type=Path, help="regions of the scenes, with soft labels")
    parser.add_argument("--clip", metavar="RUN", help="a CLIP whose candidates are put in order")
    parser.add_argument("--out", type=Path, help="folder of the runs; left out: they are thrown away")
    parser.add_argument("--ablation", action="store_true", help="pre-train with more and more of the tasks")
    parser.add_argument("--pretraining-steps", type=int, help="left out: the recipe's; of the ablation a quarter")
    parser.add_argument("--steps", type=int, default=200, help="of each fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the fine-tunings")
    parser.add_argument("--rows", type=int, default=1000, help="test rows that each task is asked")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    with tempfile.TemporaryDirectory() as folder, screen.progress() as progress:
        world = opened(options, options.out or Path(folder), progress)
        found = ablation(world) if options.ablation else worth(world)
    write_json(options, {**machine(), **found})


def worth(world: World) -> dict[str, object]:
    """Prints and returns each task's measure with and without pre-training."""
    weights = pretrained(world, "pretrained", systems.recipe("uniter", "scenes").objective, 1.0)
    table: dict[str, dict[str, list[float]]] = {}
    for task in TASKS:
        table[task] = {
            name: [tuned(world, task, weights, seed, scratch=name == "without") for seed in seeds_of(world)]
            for name in ("without", "with")
        }
        print(line(task, table[task]), flush=True)
    gains = [statistics.mean(row["with"]) - statistics.mean(row["without"]) for row in table.values()]
    ratios = [statistics.mean(row["with"]) / max(statistics.mean(row["without"]), 1e-9) for row in table.values()]
    print(f"mean gain {100 * statistics.mean(gains):+.1f} points, {statistics.mean(ratios):.2f} x")
    return {"tasks": table, "mean_gain": statistics.mean(gains), "by_matching": by_matching(world, weights)}


def ablation(world: World) -> dict[str, object]:
    """Prints and returns every task's measure after each of the pre-trainings, and their sum."""
    seed, table = world.options.seeds[0], dict[str, dict[str, float]]()
    for name in (NO_PRETRAINING, *ABLATION):
        scratch = name == NO_PRETRAINING
        weights = pretrained(world, folder_of(name), ABLATION["MLM" if scratch else name], 0.25)
        table[name] = {task: tuned(world, task, weights, seed, scratch=scratch) for task in TASKS}
        total = sum(table[name].values())
        against = total / sum(table[NO_PRETRAINING].values())
        cells = "  ".join(f"{task} {100 * value:5.1f}" for task, value in table[name].items())
        print(f"{name:46} {cells}  sum {100 * total:6.1f}  {against:.2f} x", flush=True)
    return {"ablation": table}


def by_matching(world: World, weights: Path) -> dict[str, float]:
    """Two-way questions answered by what fits best, of the pre-trained model and after it learned to rank; R@1."""
    ranked = run_of(world, "hard_ranking", weights, 0)
    found: dict[str, float] = {}
    for name, folder in (("pre-trained", weights), ("ranked", ranked)):
        matcher = asked(folder)
        result = choices(matcher, world.scenes.split(SPLIT), limit=world.options.rows)
        for kind in result.kinds:
            found[f"{name}: {kind.kind}"] = kind.accuracy
            print(f"{name:12} {kind.kind:14} {kind.accuracy:6.1%}  guessing {kind.chance:6.1%}", flush=True)
        if world.options.clip is not None:
            rows = world.scenes.split(SPLIT)
            before = retrieval(systems.load_towers(world.options.clip, "cpu"), rows, limit=world.options.rows)
            after = rerank(before, matcher, rows, progress=world.progress)
            for way in ("text_to_image_r1", "image_to_text_r1"):
                found |= {f"clip: {way}": before.numbers()[way], f"{name}: {way}": after.numbers()[way]}
                print(f"{name:12} {way}: {before.numbers()[way]:.1%} of CLIP alone, then {after.numbers()[way]:.1%}")
    return found


def pretrained(world: World, name: str, objective: Pretraining, share: float) -> Path:
    """The folder of a finished pre-training."""
    run = systems.recipe("uniter", "scenes")
    steps = world.options.pretraining_steps or int(run.training.steps * share)
    training = replace(run.training, steps=4 if world.options.quick else steps)
    run = replace(run, objective=objective, training=training)
    if world.options.quick:
        run = replace(
            run, training=replace(run.training, batch=8, eval_rows=8), optim=replace(run.optim, warmup_steps=1)
        )
    return finished(world, run, world.scenes, world.out / name, None)


def tuned(world: World, task: str, weights: Path, seed: int, *, scratch: bool) -> float:
    """What is measured of a task after fine-tuning; kept beside the run."""
    folder = run_of(world, task, weights, seed, scratch=scratch)
    result, rows = folder / "measured.json", world.options.rows
    if not result.is_file() or json.loads(result.read_text())["rows"] != rows:
        value = TASKS[task][1](asked(folder), world.examples[task].split(SPLIT), rows)
        write_whole(result, json.dumps({"value": value, "rows": rows}).encode())
    return json.loads(result.read_text())["value"]


def run_of(world: World, task: str, weights: Path, seed: int, *, scratch: bool = False) -> Path:
    """The folder of a finished fine-tuning; from scratch: of the same network and words, drawn by the seed."""
    recipe = "tiny_hard_ranking" if task == "hard_ranking" else TASKS[task][0]
    run = systems.finetuned(str(weights), recipe)
    steps, batch = (3, 4) if world.options.quick else (world.options.steps, run.training.batch)
    training = replace(
        run.training, steps=steps, seed=seed, batch=batch, eval_every=steps, eval_rows=min(100, 8 * batch)
    )
    run = replace(run, training=training, optim=replace(run.optim, warmup_steps=max(1, steps // 10)))
    name = f"{weights.name}_{task}_{seed}{'_scratch' if scratch else ''}"
    data = world.examples.get(task, world.scenes)
    return finished(world, run, data, world.out / name, None if scratch else weights, weights / "tokenizer")


def finished(world: World, run: Run, data: Table, out: Path, init: Path | None, tokenizer: Path | None = None) -> Path:
    """Trains as far as it is not done."""
    rows = data.split("train")
    job = systems.build(
        run, texts=rows.texts(), rows=rows, init=init, tokenizer_folder=tokenizer, progress=world.progress
    )
    if fit(job, data, out, resume=True, device="cpu", progress=world.progress).status == "interrupted":
        sys.exit("stopped; the same command goes on")
    return out


def asked(folder: Path) -> FusedMatcher:
    """A finished run's model."""
    model = systems.load_any(str(folder), device="cpu")
    assert isinstance(model, FusedMatcher)
    return model


def opened(options: argparse.Namespace, out: Path, progress: Progress) -> World:
    """The table with its regions, and examples of it, made as far as they are not there."""
    folder, regions = options.data, options.regions
    if folder is None or regions is None:
        if not options.quick:
            sys.exit("name scenes and their regions: --data DIR --regions REGIONS (`diptych demo regions` makes both)")
        folder, regions = few_scenes(out, 60)
    joined = region_columns([open_regions(regions)])
    scenes = open_table(folder).joined(joined)
    examples = {"retrieval": scenes}
    tasks: Sequence[Task] = ("vqa", "ve", "nlvr2", "vcr", "re")
    for task in tasks:
        if not (out / "examples" / task).exists():
            examples_of_scenes(scenes, out / "examples" / task, task, progress)
        examples[task] = open_table(out / "examples" / task).joined(joined)
    return World(scenes=scenes, examples=examples, out=out, options=options, progress=progress)


def seeds_of(world: World) -> list[int]:
    return world.options.seeds[:1] if world.options.quick else world.options.seeds


def folder_of(name: str) -> str:
    return "MLM" if name == NO_PRETRAINING else name.replace(" + ", "_").replace(", ", "_").replace(" ", "_")


def line(task: str, row: Mapping[str, Sequence[float]]) -> str:
    """Mean and spread of a task's two measures."""
    cells = [f"{name} {100 * statistics.mean(found):5.1f} ({', '.join(f'{100 * one:.1f}' for one in found)})"
             for name, found in row.items()]  # fmt: skip
    return f"{task:10} {'   '.join(cells)}"


if __name__ == "__main__":
    main()
