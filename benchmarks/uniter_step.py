"""Pairs a second of UNITER's pre-training steps: our training loop's beside two rebuilt ones of plain modules.

Texts of 8 to 30 words with 10 to 100 regions, a step of 10,240 words and regions, the paper's mixture of tasks, base
size, float32. The released form sorts rows into buckets by length, measures every batch of a bucket by its longest
row, pads a batch to its longest, computes attention step by step and updates parameter by parameter. The usual form
pads random rows to the longest text and the most regions, with torch's own attention and AdamW. Rows of ours and of the
released form are, on average, as long as the table's; those of the usual form are random, and cost what the longest do.

Before anything is timed, all three must find the same loss for the same rows, without dropout. Beside them stand
the bare products of our step: as many operations, in the shapes of a block's linear layers.

    python benchmarks/uniter_step.py --threads 2 [--clock cpu] [--tasks mlm itm] [--json FILE]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import harness
from diptych import systems
from diptych.data.batch import Batch, Targets, stack_targets
from diptych.data.sample import Item, ItemRegions, WordIds, random_for
from diptych.data.token_batches import token_batches
from diptych.objectives.mixture import Drawn
from diptych.train.device import resolve_precision
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.run import InputSettings, Run
from diptych.uniter.inputs import UniterInputs, box_features
from diptych.uniter.layouts import released
from diptych.uniter.model import UniterConfig
from uniter_plain import PlainAdamW, PlainBatch, PlainUniter, eager, fused, plain_batch

OURS, RELEASED, USUAL = "diptych", "the released form", "the usual form"
FLOOR = "bare products of as many operations"
WORDS, REGIONS, SPECIALS = (8, 30), (10, 100), 2
TASKS = ("mlm", "itm", "mrfr", "mlm", "mrc", "itm")
"""The mixture of the paper, once around."""
BUCKET, TOKENS = 8192, 10_240
SAME = 1e-4
"""Share of a loss within which all three agree."""
LR = 5e-5


def main() -> None:
    parser = harness.arguments(__doc__)
    harness.add_clock(parser)
    parser.add_argument("--tasks", nargs="+", choices=sorted(set(TASKS)), default=TASKS, help="a round each, in turns")
    parser.add_argument("--rounds", type=int, help="left out: one for each of the tasks")
    parser.add_argument(
        "--tokens", type=int, default=TOKENS, help="words and regions of a step; they fill 14 GB at base"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    harness.print_machine()
    run = systems.recipe("uniter", "base_indomain")
    tokens, rounds = (600, 2) if options.quick else (options.tokens, options.rounds or len(options.tasks))
    if options.quick:
        run = replace(run, model=UniterConfig(width=64, depth=2, heads=4, mlp_width=256, vocab_size=500))
    table = Table(run.model)
    learner = new_learner(run)
    plain = {RELEASED: PlainUniter(run.model, eager), USUAL: PlainUniter(run.model, fused)}
    for model in plain.values():
        model.load_state_dict(released_names(learner.model))
    differences = compared(learner, plain, table)
    print("largest difference of losses, without dropout: " + ", ".join(f"{k} {v:.0e}" for k, v in differences.items()))

    batches = {way: table.batches(rows, options.tasks) for way, rows in table.rows(tokens).items()}
    ways: dict[str, Callable[[], float]] = {
        OURS: turns([our_step(learner, *drawn) for drawn in batches[OURS]]),
        RELEASED: turns(plain_steps(plain[RELEASED], batches[RELEASED], options.tasks, gathered=True)),
        USUAL: turns(plain_steps(plain[USUAL], batches[USUAL], options.tasks, gathered=False)),
    }
    tell(batches)
    with FlopCounterMode(display=False) as counter:
        pairs = our_step(learner, *batches[OURS][0])()
    ways[FLOOR] = products(run.model, counter.get_total_flops() / pairs, tokens)
    rates = harness.take_turns(ways, rounds=rounds, clock=options.clock)
    title = f"steps of {tokens:,} words and regions, {options.clock} clock: {', '.join(options.tasks)}"
    found = harness.show(title, rates, RELEASED, "pairs")
    ratios = {name: over(rates, name, options.tasks) for name in (RELEASED, USUAL, FLOOR)}
    for name, by_task in ratios.items():
        print(f"  ours over {name}: " + ", ".join(f"{task} {ratio:.2f} x" for task, ratio in by_task.items()))
    harness.write_json(options, {**harness.machine(), "clock": options.clock, "differences": differences,
                                 "steps": found, "ours_over": ratios})  # fmt: skip


def over(rates: Mapping[str, Sequence[float]], other: str, tasks: Sequence[str]) -> dict[str, float]:
    """Our pairs a second over the other's: of all rounds together, and of each task by the median of its rounds."""
    seconds = {name: sum(1 / rate for rate in rates[name]) for name in (OURS, other)}
    found = {"mixture": seconds[other] / seconds[OURS]}
    for task in dict.fromkeys(tasks):
        rounds = [n for n in range(len(rates[OURS])) if tasks[(n + 1) % len(tasks)] == task]  # the first warmed up
        of_task = {name: [rates[name][n] for n in rounds] for name in (OURS, other)}
        found |= {task: harness.median_ratio(of_task, OURS, other)} if rounds else {}
    return found


class Table:
    """Rows of random words and regions, each made of its own number."""

    def __init__(self, config: UniterConfig) -> None:
        rng = np.random.default_rng(0)
        self.config = config
        self.words = rng.integers(WORDS[0], WORDS[1] + 1, BUCKET)
        self.regions = rng.integers(REGIONS[0], REGIONS[1] + 1, BUCKET)
        self.objective: Any = systems.recipe("uniter", "base_indomain").objective
        tokenizer: Any = type("Padding", (), {"pad_id": 0})
        self.inputs = UniterInputs(config, InputSettings(), tokenizer)

    def rows(self, tokens: int) -> dict[str, np.ndarray]:
        """Of a step of each way."""
        lengths, shuffled = self.words + self.regions, np.random.default_rng(1).permutation(BUCKET)
        longest = int(WORDS[1] + SPECIALS + REGIONS[1])
        ours = token_batches(shuffled, lengths + SPECIALS, budget=tokens)
        theirs = token_batches(shuffled, lengths, budget=tokens, longest_of="bucket")  # specials are not counted there
        return {
            OURS: _as_long_as_all(ours, lengths),
            RELEASED: _as_long_as_all(theirs, lengths),
            USUAL: shuffled[: tokens // longest],
        }

    def batches(self, rows: Sequence[int], tasks: Sequence[str]) -> list[tuple[Batch, Targets]]:
        """The same rows as each task draws them, in the order of `tasks`."""
        drawn = {task: self.drawn(rows, task) for task in dict.fromkeys(tasks)}
        return [drawn[task] for task in tasks]

    def drawn(self, rows: Sequence[int], task: str) -> tuple[Batch, Targets]:
        """A batch as the loader makes it."""
        place = next(place for place, (one, _) in enumerate(self.objective.shares) if one.name == task)
        drawing = Drawn(self.objective, place)
        pairs = [self._draw(drawing, int(row)) for row in rows]
        return self.inputs.collate([item for item, _ in pairs]), stack_targets([targets for _, targets in pairs])

    def _draw(self, drawing: Drawn, row: int) -> tuple[Item, Targets]:
        partners = [self.item(other) for other in drawing.partners(0, 0, row, BUCKET)]
        return drawing.draw(self.item(row), partners, random_for(0, 0, str(row), drawing.name))

    def item(self, row: int) -> Item:
        """Features of a detector are not below 0, and most of them are small."""
        config, rng = self.config, torch.Generator().manual_seed(row)
        num = int(self.regions[row])
        words = torch.randint(106, config.vocab_size, (int(self.words[row]),), generator=rng)
        corners = torch.rand(num, 2, 2, generator=rng).sort(dim=1).values.flatten(1)
        return Item(
            key=str(row),
            group=row,
            text_ids=torch.cat([torch.tensor([101]), words, torch.tensor([102])]),
            word_ids=WordIds(mask=103, special=frozenset({0, 101, 102}), words=(106, config.vocab_size)),
            regions=ItemRegions(
                features=torch.randn(num, config.feature_width, generator=rng).relu(),
                boxes=corners,
                box_features=box_features(corners),
                soft_labels=torch.randn(num, 1 + config.num_classes, generator=rng).mul(3).softmax(dim=1),
            ),
        )


def _as_long_as_all(batches: Any, lengths: np.ndarray) -> np.ndarray:
    """The batch whose rows have the mean length of the table."""
    return min(batches, key=lambda rows: abs(lengths[rows].mean() - lengths.mean()))


def new_learner(run: Run) -> Learner:
    """Of the training loop."""
    rng = torch.Generator().manual_seed(0)
    model = systems.models.new_model("uniter", run.model, run.objective)
    for weight in model.state_dict().values():  # as drawn, keys are nearly alike, and a wrong mask would pass
        weight.add_(torch.randn(weight.shape, generator=rng), alpha=0.1)
    inputs: Any = None  # batches come ready
    job = Job(run=run, model=model, objective=run.objective, inputs=inputs, origin="scratch")
    device = torch.device("cpu")
    return Learner(job, steps=1000, device=device, precision=resolve_precision("float32", device))


def our_step(learner: Learner, batch: Batch, targets: Targets) -> Callable[[], int]:
    def step() -> int:
        learner.update(batch, targets, 1, micro_batch=None)
        return len(batch)

    return step


def plain_steps(
    model: PlainUniter, batches: Sequence[tuple[Batch, Targets]], tasks: Sequence[str], *, gathered: bool
) -> list[Callable[[], int]]:
    settings = systems.recipe("uniter", "base_indomain").optim
    numbers = {"lr": LR, "betas": settings.betas, "eps": settings.eps}
    if gathered:
        optimizer: Any = PlainAdamW(model, **numbers, decay=settings.weight_decay)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), **numbers, weight_decay=settings.weight_decay)
    made: dict[str, PlainBatch] = {}
    for task, (batch, targets) in zip(tasks, batches, strict=True):
        if task not in made:
            made[task] = plain_batch(task, batch, targets, gathered=gathered)

    def step(task: str) -> int:
        model.zero_grad(set_to_none=True)
        loss = model(made[task])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or 5.0)
        optimizer.step()
        loss.item()
        return len(made[task].ids)

    return [lambda task=task: step(task) for task in tasks]


def turns(steps: Sequence[Callable[[], int]]) -> Callable[[], float]:
    """One of the steps a call, in turns."""
    endless = itertools.cycle(steps)
    return lambda: next(endless)()


def released_names(model: nn.Module) -> dict[str, Tensor]:
    """Our weights under the names of the release."""
    theirs = released.key_map(model.state_dict()).to_theirs(model.state_dict())
    return theirs | {released.MASK: torch.cat([torch.zeros_like(theirs[released.MASK]), theirs[released.MASK]])}


@torch.no_grad()
def compared(learner: Learner, plain: dict[str, PlainUniter], table: Table) -> dict[str, float]:
    """By task, how far the losses of a few rows lie apart, in parts of them.

    Raises:
        SystemExit: further than SAME.
    """
    found: dict[str, float] = {}
    for task in dict.fromkeys(TASKS):
        batch, targets = table.drawn(range(5), task)
        learner.step.eval()
        loss = learner.step(batch, targets)
        ours = float(loss.divided({name: term.count for name, term in loss.terms.items()}))
        theirs = [
            float(model.eval()(plain_batch(task, batch, targets, gathered=way == RELEASED)))
            for way, model in plain.items()
        ]
        found[task] = max(abs(one / ours - 1) for one in theirs)
        if found[task] > SAME:
            raise SystemExit(f"the losses of {task} differ: {ours} ours, {theirs} theirs; they are not the same model")
    for model in (learner.step, *plain.values()):
        model.train()
    return found


def products(config: UniterConfig, flops: float, num: int) -> Callable[[], float]:
    """Multiplies what the linear layers of a block do, forward and back, for `num` tokens; `flops` are a pair's."""
    width, inner = config.width, config.mlp_width
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    sides = [(torch.ones(num, a), torch.ones(a, b), torch.ones(num, b)) for a, b in shapes]
    done = sum(6 * num * a * b for a, b in shapes)

    def multiply() -> float:
        for x, weight, gradient in sides:
            x @ weight, gradient @ weight.mT, x.mT @ gradient
        return done / flops

    return multiply


def tell(batches: dict[str, list[tuple[Batch, Targets]]]) -> None:
    """Rows of a step, and how many of its positions are real."""
    for way, ((batch, _), *_) in batches.items():
        assert batch.text is not None and batch.regions is not None
        real = int(batch.text.mask.sum() + batch.regions.mask.sum())
        print(f"  {way}: {len(batch)} pairs, {real:,} words and regions a step")


if __name__ == "__main__":
    main()
