"""`diptych plan`: what a recipe takes of the GPUs that one has in mind, by formula alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from diptych.cli import screen
from diptych.cli.json_file import write_json
from diptych.cli.options import BatchRows, JsonFile, Settings
from diptych.cli.sizes import size_of
from diptych.cli.train import find_run, rows_a_step
from diptych.errors import UsageError
from diptych.progress import spoken_size

if TYPE_CHECKING:
    from diptych.systems.sizing import Change, Sized, Way
    from diptych.train.run import Run

UTILISATION = 0.2
"""Public CLIP runs show 0.09 to 0.18 of the peak; not measured here."""
GPUS_PER_NODE = 8
Parallel = Literal["ddp", "fsdp2"]
WHAT = {
    "weights": "float32",
    "gradients": "float32",
    "moments": "AdamW's two, float32",
    "averaged weights": "optim.ema",
    "exchange": "buckets of gradients, or weights of other ranks",
    "vectors": "of all pairs, with their gradients",
    "tiles": "of the similarity matrix",
    "batch": "pictures and tokens as they are loaded",
    "activations": "what the backward pass needs of the model",
}
"""A rank's memory by part, in words."""


def plan(
    gpus: Annotated[int, typer.Option(help="GPUs in all, one rank each.")],
    memory: Annotated[str, typer.Option(help="Of each, e.g. 80GB or 24GiB.")],
    recipe: Annotated[
        list[str] | None, typer.Argument(metavar="SYSTEM RECIPE | FILE.py:FUNCTION", help="e.g. clip vit_l_14")
    ] = None,
    repeat: Annotated[Path | None, typer.Option(metavar="RUN.JSON", help="Plan with the settings of a run.")] = None,
    batch: BatchRows = None,
    parallel: Annotated[Parallel | None, typer.Option(help="Look at this one alone.")] = None,
    settings: Settings = None,
    peak: Annotated[
        float | None, typer.Option(help="TFLOP/s of a GPU; assumed: of a card with such memory, in the precision.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that a step reaches; assumed.")] = UTILISATION,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of a machine.")] = GPUS_PER_NODE,
    json_file: JsonFile = None,
) -> None:
    """Say by formula what a recipe takes: memory, exchange, speed, and the first thing that does not fit.

    E.g. `diptych plan clip vit_l_14 --gpus 64 --memory 80GB`. Nothing is trained, and no GPU is needed.
    """
    size = size_of(memory, "--memory")
    _check_positive({"--gpus": gpus, "--gpus-per-node": gpus_per_node, "--peak": 1.0 if peak is None else peak})
    nodes = machines_of(gpus, gpus_per_node)
    if not 0 < utilisation <= 1:
        raise UsageError(f"--utilisation is {utilisation}; expected a share above 0 and up to 1, e.g. {UTILISATION}")
    run, typed = _asked(recipe or [], repeat, batch, settings or [])
    if any(one.startswith("training.parallel=") for one in settings or []):
        parallel = parallel or run.training.parallel

    from diptych.systems.cards import card_of
    from diptych.systems.sizing import Machine, sized

    card = card_of(size)
    per_s = card.peak(run.training.precision) if peak is None else 1e12 * peak
    machine = Machine(ranks=gpus, memory=size, peak=per_s, utilisation=utilisation)
    parallels = [parallel] if parallel is not None else list(get_args(Parallel))[: min(gpus, 2)]
    found = sized(run, machine, parallels, cache(_cost))
    asked = {"--gpus": str(gpus), "--memory": memory}
    if gpus_per_node != GPUS_PER_NODE:
        asked["--gpus-per-node"] = str(gpus_per_node)
    step = _next(found, typed, asked, nodes)
    _print(found, f" ({card.name})" if peak is None else "")
    if json_file is not None:
        write_json(json_file, {**_plain(found), "next": step})
    screen.next_step(step)


def _check_positive(options: dict[str, float]) -> None:
    for name, value in options.items():
        if not (math.isfinite(value) and value > 0):
            kind = "a whole number from 1" if isinstance(value, int) else "a number above 0"
            raise UsageError(f"{name} is {value}; expected {kind}")


def machines_of(gpus: int, gpus_per_node: int) -> int:
    """The fewest machines that can each have as many ranks: `torchrun` begins the same number on all.

    Never twice as many machines as hold the GPUs, so that twice the GPUs can be parted as well.

    Raises:
        UsageError: there is no such number.
    """
    least = -(-gpus // gpus_per_node)
    found = next((nodes for nodes in range(least, 2 * least) if gpus % nodes == 0), None)
    if found is None:
        fewer, more = gpus // least * least, (gpus // least + 1) * least
        raise UsageError(
            f"{gpus} GPUs cannot be parted evenly over machines of {gpus_per_node}, and torchrun begins as many "
            f"processes on each; expected e.g. --gpus {fewer} or --gpus {more}"
        )
    return found


def _asked(
    recipe: Sequence[str], repeat: Path | None, batch: int | None, settings: Sequence[str]
) -> tuple[Run, list[str]]:
    """The run, and the words that name it to `diptych train` as well."""
    from diptych import systems
    from diptych.overrides import apply_overrides

    run = find_run(recipe, repeat, None, verb="plan")
    run = apply_overrides(run, [*settings, *rows_a_step(batch)])
    systems.refuse_unknown_cost(run)
    words = [*recipe, *([] if repeat is None else ["--repeat", str(repeat)])]
    words += [word for setting in settings for word in ("--set", setting)]
    return run, [*words, *([] if batch is None else ["--batch", str(batch)])]


def _cost(run: Run) -> Any:
    from diptych import systems

    with_it = " with activation checkpointing" if run.training.activation_checkpointing else ""
    screen.say(f"Counting what the model costs{with_it}, from shapes alone.")
    return systems.cost_of(run)


def _print(found: Sized, card: str) -> None:
    """All of the page; `card` is whose peak is assumed, in brackets."""
    _print_run(found.used, card)
    _print_ways(found.ways)
    for line in _verdict(found):
        screen.out(line)
    if found.too_large is not None:
        screen.out()
        _print_changes(found.too_large, found.changes)


def _print_run(way: Way, card: str) -> None:
    run, cost, layout = way.run, way.cost, way.layout
    training, objective = run.training, run.objective
    again = ", activation checkpointing" if training.activation_checkpointing else ""
    precision = "bf16" if training.precision == "auto" else training.precision
    where = "1 GPU" if layout.ranks == 1 else f"{layout.ranks:,} GPUs, {layout.local:,} each"
    screen.out(f"{run.system} {run.recipe}: {cost.parameters:,} parameters, {cost.flops / 1e9:,.4g} GFLOP a pair")
    screen.out(f"{layout.batch:,} pairs a step on {where}; {precision}{again}")
    if objective.heads(run.model):
        screen.out(f"Of the heads of {objective.name}, the parameters are counted and nothing else.")
    peak, share = way.machine.peak / 1e12, way.machine.utilisation
    screen.out("All is computed.")
    screen.out(f"Assumed: a peak of {peak:g} TFLOP/s a GPU in {precision}{card}, {share:g} of it reached.")
    screen.out()


def _print_ways(ways: Sequence[Way]) -> None:
    """Memory, exchange and speed, each way a column."""
    names = [way.name for way in ways]

    def row(name: str, values: Sequence[int]) -> list[str]:
        return [name, *map(spoken_size, values)]

    memory = {part: [way.memory[part] for way in ways] for part in ways[0].memory}
    rows = [row(part, sizes) for part, sizes in memory.items() if any(sizes)]
    rows.append(row("together", [way.needed for way in ways]))
    rows.append(row("left over", [way.spare for way in ways]))
    usable = spoken_size(ways[0].needed + ways[0].spare)
    screen.table(f"Memory of a rank, of {usable} that tensors can have", ["", *names], rows)
    screen.out()
    rows = [["pairs at once", *(f"{way.layout.micro_batch:,}" for way in ways)]]
    rows.append(["micro-batches", *(f"{way.layout.parts:,}" for way in ways)])
    kinds = {kind: [way.exchanged[kind] for way in ways] for kind in ways[0].exchanged}
    rows += [row(kind, sizes) for kind, sizes in kinds.items() if any(sizes)]
    rows.append(row("sent by a rank", [way.sent for way in ways]))
    rows.append(["pairs/s, all together", *(f"{way.pairs_per_s:,.0f}" for way in ways)])
    screen.table("A step", ["", *names], rows)
    screen.out()


def _verdict(found: Sized) -> list[str]:
    used, too_large, faster = found.used, found.too_large, found.faster
    lines = [f"Use {used.name}: {found.why}."] if found.why else []
    if too_large is not None:
        pairs = too_large.layout.micro_batch
        who = f"{pairs:,} pairs at once do not fit" if pairs > 1 else "Not even one pair at once fits"
        lines += [
            f"{who}. The first part that does not:",
            f"  {too_large.too_large} ({WHAT[too_large.too_large or '']})",
        ]
    if used.layout.parts == 1 and too_large is None:
        lines.append("All pairs of a rank go through the model at once: no gradient caching.")
    elif used.spare >= 0:
        caching = "gradient caching follows, for 1/3 more work" if used.layout.caching else "gradients add up"
        lines.append(f"{used.layout.micro_batch:,} at once fit: {caching}.")
    if faster is not None:
        gain = faster.pairs_per_s / used.pairs_per_s
        lines.append(f"{gain:.2f} times as fast, {faster.layout.micro_batch:,} pairs at once:")
        lines.append("  --set training.activation_checkpointing=false")
    return lines


def _print_changes(way: Way, changes: Sequence[Change]) -> None:
    rows = [
        [shlex.join(change.words), spoken_size(change.saves), "fits" if change.fits else "not alone", change.price]
        for change in changes
    ]
    title = f"{spoken_size(-way.spare)} too much with {way.layout.micro_batch:,} at once; what would save some"
    screen.table(title, ["change", "saves", "then", "price"], rows, whole_first=True)


def _next(found: Sized, typed: Sequence[str], asked: Mapping[str, str], nodes: int) -> str:
    """To train, or to plan again with what helps: the cheapest that is enough, else what saves most."""
    used = found.used
    ranks = used.machine.ranks
    if used.spare < 0:
        helps = sorted(found.changes, key=lambda change: (not change.fits, not change.fits and -change.saves))
        change = helps[0].words if helps else ("--memory", f"{_whole_gb(used)}GB")
        kept = [word for name, value in asked.items() if name not in change for word in (name, value)]
        return shlex.join(["diptych", "plan", *typed, *kept, *change])
    words = ["train", *typed, "--data", "DIR", "--out", "RUN"]
    if ranks == 1:
        return shlex.join(["diptych", *words])
    meeting = ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:29500"] if nodes > 1 else []
    torchrun = ["torchrun", *meeting, "--nproc-per-node", str(ranks // nodes), "-m", "diptych"]
    choice = ["--set", f"training.parallel={used.layout.parallel}"]
    return shlex.join([*torchrun, *words, *(choice if choice[1] not in typed else [])])


def _whole_gb(way: Way) -> int:
    """Memory of a GPU that would do."""
    return math.ceil(way.needed / (way.needed + way.spare) * way.machine.memory / 1e9)


def _plain(found: Sized) -> dict[str, Any]:
    used = found.used
    return {
        "system": used.run.system,
        "recipe": used.run.recipe,
        "model": asdict(used.cost),
        "machine": asdict(used.machine),
        "ways": [
            {
                **asdict(way.layout),
                "micro_batches": way.layout.parts,
                "gradient_caching": way.layout.caching,
                "memory": way.memory,
                "left_over": way.spare,
                "first_too_large": way.too_large,
                "exchanged": way.exchanged,
                "pairs_per_s": way.pairs_per_s,
            }
            for way in found.ways
        ],
        "use": used.layout.parallel,
        "why": found.why,
        "first_too_large": None if found.too_large is None else found.too_large.too_large,
        "changes": [asdict(change) for change in found.changes],
    }
