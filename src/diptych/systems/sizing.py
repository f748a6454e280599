"""A run on ranks of a given memory, before anything is bought: what fits, which way of spreading, what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from diptych.errors import UsageError
from diptych.overrides import apply_overrides
from diptych.progress import spoken_size
from diptych.train import budget
from diptych.train.budget import USABLE, Layout
from diptych.train.cost import ModelCost
from diptych.train.out_of_memory import Knob, batch_knobs, gradient_knobs, of_equal_cost
from diptych.train.parallel import NOT_IN_SHARES, Kind
from diptych.train.run import Run

NAMES: dict[Kind, str] = {"ddp": "DDP", "fsdp2": "FSDP2"}
Costs = Callable[[Run], ModelCost]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Ranks, and what each of them has."""

    ranks: int
    memory: int
    """Bytes."""
    peak: float
    """Operations a second; an assumption."""
    utilisation: float
    """The share of the peak that a step reaches; an assumption."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A run spread over a machine in one of the ways there are, in figures."""

    run: Run
    machine: Machine
    cost: ModelCost
    layout: Layout

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of a rank by part, at the micro-batch of the layout."""
        return budget.memory_parts(self.cost, self.layout, averaged=_averaged(self.run))

    @property
    def needed(self) -> int:
        """Bytes of a rank."""
        return sum(self.memory.values())

    @property
    def spare(self) -> int:
        """Bytes of a rank that are left, less than none where it does not fit."""
        return int(USABLE * self.machine.memory) - self.needed

    @property
    def too_large(self) -> str | None:
        """The first part that does not fit."""
        return budget.first_too_large(self.cost, self.layout, self.machine.memory, averaged=_averaged(self.run))

    @property
    def exchanged(self) -> dict[str, int]:
        """Bytes that a rank sends in a step, by kind."""
        return budget.bytes_exchanged(self.cost, self.layout)

    @property
    def sent(self) -> int:
        """Bytes that a rank sends in a step."""
        return sum(self.exchanged.values())

    @property
    def pairs_per_s(self) -> float:
        """Of all ranks."""
        peak, utilisation = self.machine.peak, self.machine.utilisation
        recompute = self.run.training.activation_checkpointing
        return budget.pairs_per_s(self.cost, self.layout, peak=peak, utilisation=utilisation, recompute=recompute)

    @property
    def name(self) -> str:
        """For people."""
        return NAMES[self.layout.parallel] if self.machine.ranks > 1 else "one GPU"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to change in a plan, and where that leads."""

    words: tuple[str, ...]
    """As a command line says it."""
    price: str
    """What is given for it, in a few words."""
    saves: int
    """Bytes of a rank."""
    fits: bool
    """Whether it is enough alone."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A run on a machine: the ways there are, which to use, and what would help."""

    ways: list[Way]
    """Each in as few micro-batches as fit, of one pair where none fits."""
    used: Way
    why: str
    """Empty where there is one way alone."""
    too_large: Way | None
    """The used one where it does not fit, else with all pairs of a rank at once where that does not."""
    changes: list[Change]
    """What would make that one smaller."""
    faster: Way | None
    """The used one without activation checkpointing, where that fits and makes more pairs a second."""


def sized(run: Run, machine: Machine, parallels: Sequence[Kind], costs: Costs) -> Sized:
    """Sizes a run for a machine.

    Args:
        run: with the user's settings in place.
        machine: what it is to run on.
        parallels: the ways to look at.
        costs: of a run's model; asked again for settings that change it.
    Raises:
        UsageError: there are more ranks than pairs, or the precision allows none of the ways.
    """
    if run.training.batch < machine.ranks:
        raise UsageError(
            f"a batch of {run.training.batch:,} on {machine.ranks:,} GPUs leaves some without a pair; expected at "
            "least one each. Choose a larger --batch or fewer --gpus"
        )
    possible = _possible(run, machine.ranks, parallels)
    if not possible:
        raise UsageError(f"FSDP2 takes no fp16: {NOT_IN_SHARES}; set training.precision=bf16, or choose --parallel ddp")
    asked = [_at_once(run, costs(run), machine, parallel) for parallel in possible]
    ways = [_fitted(way) for way in asked]
    used, why = _preferred(ways) if len(possible) == len(parallels) else (ways[0], f"under FSDP2, {NOT_IN_SHARES}")
    too_large = next((way for way in (used, asked[ways.index(used)]) if way.spare < 0), None)
    return Sized(
        ways=ways,
        used=used,
        why=why,
        too_large=too_large,
        changes=[] if too_large is None else _changes(too_large, costs),
        faster=_faster(used, costs),
    )


def _possible(run: Run, ranks: int, parallels: Sequence[Kind]) -> list[Kind]:
    """The ways that the run's precision allows."""
    any_way = ranks == 1 or run.training.precision != "fp16"
    return [one for one in parallels if any_way or one == "ddp"]


def _at_once(run: Run, cost: ModelCost, machine: Machine, parallel: Kind) -> Way:
    """The run as it asks to be: all pairs of a rank at once, or as many as `training.micro_batch` says."""
    batch = run.training.batch
    local = -(-batch // machine.ranks)
    layout = Layout(
        batch=batch,
        ranks=machine.ranks,
        parallel=parallel,
        micro_batch=min(run.training.rows_at_once or local, local),
        couples_rows=run.objective.couples_rows,
    )
    return Way(run=run, machine=machine, cost=cost, layout=layout)


def _fitted(way: Way) -> Way:
    """The same in as few micro-batches as fit, all of a size; of one pair where none fits; a stated size stays."""
    if way.run.training.micro_batch != "auto":
        return way
    layout = way.layout
    largest = budget.largest_micro_batch(way.cost, layout, way.machine.memory, averaged=_averaged(way.run)) or 1
    parts = -(-layout.local // largest)
    return replace(way, layout=replace(layout, micro_batch=-(-layout.local // parts)))


def _preferred(ways: list[Way]) -> tuple[Way, str]:
    """The way to use, and why: that which fits, makes more pairs a second, sends less; else that which needs least."""
    best = max(ways, key=lambda way: (way.spare >= 0, way.pairs_per_s if way.spare >= 0 else way.spare, -way.sent))
    others = [way for way in ways if way is not best]
    if not others:
        return best, ""
    other = others[0]
    if best.spare < 0:
        return best, f"neither fits, and {best.name} needs less"
    if other.spare < 0:
        return best, f"{other.name} does not fit"
    if best.pairs_per_s > other.pairs_per_s:
        gain = best.pairs_per_s / other.pairs_per_s
        return best, f"{other.name} needs gradient caching: {gain:.2f} times the pairs a second without"
    return best, f"both fit, and {best.name} sends less"


def _faster(way: Way, costs: Costs) -> Way | None:
    if not way.run.training.activation_checkpointing or way.spare < 0:  # what does not fit would fit even less
        return None
    run = apply_overrides(way.run, ["training.activation_checkpointing=false"])
    without = _fitted(_at_once(run, costs(run), way.machine, way.layout.parallel))
    return without if without.spare >= 0 and without.pairs_per_s > way.pairs_per_s else None


def _changes(way: Way, costs: Costs) -> list[Change]:
    """What would make a way need less: first what is enough alone, and of both kinds the cheapest first."""
    found = [
        Change(words=words, price=price, saves=way.needed - other.needed, fits=other.spare >= 0)
        for words, price, other in _other_ways(way, costs)
    ]
    return sorted((change for change in found if change.saves > 0), key=lambda change: not change.fits)


def _other_ways(way: Way, costs: Costs) -> Iterator[tuple[tuple[str, ...], str, Way]]:
    """Words, price and what comes of it, the cheapest first."""
    run, machine, layout = way.run, way.machine, way.layout
    for parallel in _possible(run, machine.ranks, get_args(Kind)):
        if machine.ranks > 1 and parallel != layout.parallel:
            other = replace(way, layout=replace(layout, parallel=parallel))
            yield ("--parallel", parallel), f"{spoken_size(other.sent)} sent", other
    small = _fitted(replace(way, run=replace(run, training=replace(run.training, micro_batch="auto"))))
    for one in gradient_knobs(run, micro_batch=small.layout.micro_batch):
        yield ("--set", one.setting), one.price, _turned(way, one, costs)
    for one in batch_knobs(run, machine.ranks):
        ranks, parallels = 2 * machine.ranks, _possible(run, 2, get_args(Kind))
        spread = replace(layout, ranks=ranks, parallel=layout.parallel if machine.ranks > 1 else parallels[-1])
        yield ("--gpus", str(ranks)), "more GPUs", replace(way, machine=replace(machine, ranks=ranks), layout=spread)
        fewer = _turned(way, one, costs)
        yield ("--batch", str(fewer.layout.batch)), one.price, fewer


def _turned(way: Way, knob: Knob, costs: Costs) -> Way:
    """With a setting changed; the pairs at once stay unless they are what is changed."""
    run = apply_overrides(way.run, [knob.setting])
    cost = way.cost if of_equal_cost(way.run, run) else costs(run)
    other = _at_once(run, cost, way.machine, way.layout.parallel)
    if run.training.micro_batch != "auto":
        return other
    at_once = min(way.layout.micro_batch, other.layout.local)
    return replace(other, layout=replace(other.layout, micro_batch=at_once))


def _averaged(run: Run) -> bool:
    return run.optim.ema is not None
