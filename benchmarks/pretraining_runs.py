"""The runs that `pretraining.py` compares: trainings of UNITER on the scenes, and what each of them is measured by."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from diptych import systems
from diptych.data.durable import write_whole
from diptych.data.examples import Task
from diptych.data.partners import open_partners, write_partners
from diptych.data.region_files.detect import open_regions
from diptych.data.region_join import region_columns
from diptych.data.scene_examples.writing import examples_of_scenes
from diptych.data.table import Rows, Table, open_table
from diptych.objectives.pretraining import Pretraining
from diptych.progress import Progress
from diptych.tasks.alike import rows_alike
from diptych.tasks.answering import answering, answering_scores
from diptych.tasks.fused_matcher import FusedMatcher
from diptych.tasks.matcher import REGIONS
from diptych.tasks.referring import referring, referring_scores
from diptych.train.fit import fit
from diptych.train.run import Run
from scenes_of_boxes import few_scenes

SPLIT = "test"


@dataclass(frozen=True, kw_only=True)
class World:
    """Scenes with regions, examples of every task, and where runs are kept."""

    scenes: Table
    examples: Mapping[str, Table]
    out: Path
    options: argparse.Namespace
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One fine-tuning, of the network of a folder."""

    task: str
    weights: Path
    seed: int
    scratch: bool = False
    """From weights drawn anew."""


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


CHAIN: Mapping[str, str] = {"swapped": "tiny_swapped", "alike": "tiny_alike"}
"""What matching is learned from after pre-training, one after the other, with its recipe: swapped words, and what the
CLIP takes for each other."""


def pretrained(world: World, name: str, objective: Pretraining, share: float) -> Path:
    """The folder of a finished pre-training."""
    run = systems.recipe("uniter", "scenes")
    steps = world.options.pretraining_steps or int(run.training.steps * share)
    training = replace(run.training, steps=4 if world.options.quick else steps)
    objective = replace(objective, words_first=min(objective.words_first, training.steps // 3))
    run = replace(run, objective=objective, training=training)
    if world.options.quick:
        run = replace(
            run, training=replace(run.training, batch=8, eval_rows=8), optim=replace(run.optim, warmup_steps=1)
        )
    return finished(world, run, world.scenes, world.out / name, None)


def with_partners(world: World) -> World:
    """The world whose scenes are set against those that the CLIP takes for them."""
    folder, clip = world.out / "partners", str(Path(world.options.clip).resolve())
    if not folder.exists():
        towers = systems.load_towers(world.options.clip, "cpu")
        top, others = (3, 3) if world.options.quick else (150, 50)
        found = rows_alike(towers, world.scenes.split("train"), top=top, others=others, progress=world.progress)
        write_partners(folder, world.scenes.split("train"), found, source=clip)
    if (there := str(Path(open_table(folder).source).resolve())) != clip:
        sys.exit(f"{folder} was made by the CLIP in {there}, and not by {clip}; choose another --out")
    return replace(world, scenes=world.scenes.joined(open_partners(folder)))


def chained(world: World, weights: Path) -> list[Path]:
    """The folders of what learned to match, one out of the other; without a CLIP the first alone."""
    swapped = run_of(world, Tuning(task="swapped", weights=weights, seed=0))
    if world.options.clip is None:
        return [swapped]
    return [swapped, run_of(with_partners(world), Tuning(task="alike", weights=swapped, seed=0))]


def tuned(world: World, one: Tuning) -> float:
    """What is measured of a task after fine-tuning; kept beside the run."""
    folder = run_of(world, one)
    result, rows = folder / "measured.json", world.options.rows
    if not result.is_file() or json.loads(result.read_text())["rows"] != rows:
        value = TASKS[one.task][1](asked(folder), world.examples[one.task].split(SPLIT), rows)
        write_whole(result, json.dumps({"value": value, "rows": rows}).encode())
    return json.loads(result.read_text())["value"]


def run_of(world: World, one: Tuning) -> Path:
    """The folder of a finished fine-tuning; from scratch: of the same network and words, drawn by the seed."""
    run = systems.finetuned(str(one.weights), CHAIN[one.task] if one.task in CHAIN else TASKS[one.task][0])
    steps, batch = world.options.steps, run.training.batch
    if one.task in CHAIN:
        steps = run.training.steps
    if world.options.quick:
        steps, batch = 3, 4
    training = replace(
        run.training, steps=steps, seed=one.seed, batch=batch, eval_every=steps, eval_rows=min(100, 8 * batch)
    )
    # As long as the recipe's, up to a third: after a shorter one a network of this form may stay at guessing.
    run = replace(
        run, training=training, optim=replace(run.optim, warmup_steps=min(run.optim.warmup_steps, steps // 3))
    )
    name = f"{one.weights.name}_{one.task}_{one.seed}{'_scratch' if one.scratch else ''}"
    data = world.examples.get(one.task, world.scenes)
    init = None if one.scratch else one.weights
    return finished(world, run, data, world.out / name, init, one.weights / "tokenizer")


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
    if options.data is None or options.regions is None:
        if not options.quick:
            sys.exit("name scenes and their regions: --data DIR --regions REGIONS (`diptych demo regions` makes both)")
        options.data, options.regions = few_scenes(out, 60)
    joined = region_columns([open_regions(options.regions)])
    scenes = open_table(options.data).joined(joined)
    examples = {"retrieval": scenes}
    tasks: Sequence[Task] = ("vqa", "ve", "nlvr2", "vcr", "re", "swapped")
    for task in tasks:
        if not (out / "examples" / task).exists():
            examples_of_scenes(scenes, out / "examples" / task, task, progress)
        examples[task] = open_table(out / "examples" / task).joined(joined)
    return World(scenes=scenes, examples=examples, out=out, options=options, progress=progress)
