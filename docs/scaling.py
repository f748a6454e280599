"""Writes the computed tables of docs/scaling.md anew; every one stands between two comments there.

    python docs/scaling.py            # from the costs that stand on the page, at once
    python docs/scaling.py --count    # counts the models first: minutes

`tests/test_scaling.py` fails where the page differs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from diptych import systems
from diptych.overrides import apply_overrides
from diptych.progress import spoken_size
from diptych.systems.cards import CARDS
from diptych.systems.sizing import Machine, Way, sized
from diptych.train.budget import Layout, bytes_exchanged, largest_batch, pairs_per_s
from diptych.train.cost import ModelCost
from diptych.train.run import Run

PAGE = Path(__file__).with_suffix(".md")
MODELS = {"vit_b_32": "ViT-B/32", "vit_b_16": "ViT-B/16", "vit_l_14": "ViT-L/14", "vit_big_g_14": "ViT-bigG/14"}
GPUS = {card.memory_gb: card.peak("bf16") for card in CARDS}
"""GB of memory -> operations a second."""
UTILISATION = 0.2
PARTS = {
    "states": ("weights", "gradients", "moments"),
    "exchange": ("exchange",),
    "pairs": ("vectors", "tiles", "batch"),
}

Costs = dict[tuple[str, bool], ModelCost]
"""Of a recipe, without and with activation checkpointing."""


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="count the models first")
    page = PAGE.read_text(encoding="utf-8")
    costs = counted() if parser.parse_args().count else costs_on(page)
    PAGE.write_text(rewritten(page, costs), encoding="utf-8")


def counted() -> Costs:
    """The costs of all models, from shapes alone."""
    both = [(name, recompute) for name in MODELS for recompute in (False, True)]
    return {(name, recompute): systems.cost_of(recipe(name, recompute)) for name, recompute in both}


def recipe(name: str, recompute: bool) -> Run:
    """With or without activation checkpointing."""
    return apply_overrides(
        systems.recipe("clip", name), [f"training.activation_checkpointing={str(recompute).lower()}"]
    )


def rewritten(page: str, costs: Costs) -> str:
    """The page with its tables made of `costs`."""
    for name, lines in tables(costs).items():
        begin, end = f"<!-- computed: {name} -->\n", f"<!-- end: {name} -->"
        before, found, rest = page.partition(begin)
        assert found and end in rest, name
        page = before + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return page


def costs_on(page: str) -> Costs:
    """What stands in the table of costs."""
    found: Costs = {}
    for name, title in MODELS.items():
        rows = re.findall(rf"^\| {re.escape(title)} \| (yes|no) \| ([\d, |]+) \|$", page, re.MULTILINE)
        for again, numbers in rows:
            values = [int(number.replace(",", "")) for number in numbers.split(" | ")]
            names = [field.name for field in fields(ModelCost)]
            found[name, again == "yes"] = ModelCost(**dict(zip(names, values, strict=True)))
    return found


def tables(costs: Costs) -> Mapping[str, list[str]]:
    """Name -> lines."""
    return {
        "costs": table(
            ["model", "checkpointing", *(field.name.replace("_", " ") for field in fields(ModelCost))],
            cost_rows(costs),
            words=2,
        ),
        "batch": table(
            [
                "model", "memory", "peak", "largest at once", "pairs/s", "at once, checkpointing", "pairs/s",
                "caching, 32 at once", "pairs/s",
            ],
            batch_rows(costs),
            words=1,
        ),
        "exchange": table(
            [
                "model", "batch", "DDP: gradients", "FSDP2: weights", "FSDP2, 4 micro-batches: weights",
                "FSDP2: gradients", "both: vectors and their gradients",
            ],
            exchange_rows(costs),
            words=1,
        ),
        "memory": table(
            [
                "model", "way", "GPUs", "pairs each", "weights, gradients, moments", "exchange",
                "vectors, tiles, batch", "at once", "activations", "together",
            ],
            memory_rows(costs),
            words=2,
        ),
    }  # fmt: skip


def table(columns: Sequence[str], rows: Iterator[Sequence[str]], *, words: int) -> list[str]:
    """Markdown; the first columns are words, the others numbers."""
    rule = ["---" if place < words else "---:" for place in range(len(columns))]
    return [f"| {' | '.join(row)} |" for row in (columns, rule, *rows)]


def cost_rows(costs: Costs) -> Iterator[list[str]]:
    """What `costs_on` reads."""
    for (name, recompute), cost in costs.items():
        numbers = [f"{getattr(cost, field.name):,}" for field in fields(ModelCost)]
        yield [MODELS[name], "yes" if recompute else "no", *numbers]


def batch_rows(costs: Costs) -> Iterator[list[str]]:
    """One GPU; the last two columns are of gradient caching without activation checkpointing."""
    for name, title in list(MODELS.items())[:3]:
        for memory, peak in GPUS.items():
            cells = []
            for recompute, micro_batch in ((False, 0), (True, 0), (False, 32)):
                cost = costs[name, recompute]
                layout = Layout(batch=1, ranks=1, parallel="ddp", micro_batch=micro_batch)
                batch = largest_batch(cost, layout, memory * 10**9)
                layout = replace(layout, batch=batch, micro_batch=micro_batch or max(batch, 1))
                rate = pairs_per_s(cost, layout, peak=peak, utilisation=UTILISATION, recompute=recompute)
                cells += [f"{batch:,}", f"{rate:,.0f}"] if batch else ["none", "–"]
            yield [title, f"{memory} GB", f"{peak / 1e12:g} TFLOP/s", *cells]


def exchange_rows(costs: Costs) -> Iterator[list[str]]:
    """64 GPUs."""
    for name, title in MODELS.items():
        cost, batch = costs[name, True], recipe(name, True).training.batch
        once = Layout(batch=batch, ranks=64, parallel="fsdp2", micro_batch=-(-batch // 64))
        fsdp2 = bytes_exchanged(cost, once)
        cached = bytes_exchanged(cost, replace(once, micro_batch=-(-once.local // 4)))
        sizes = [
            bytes_exchanged(cost, replace(once, parallel="ddp"))["gradients added up"],
            fsdp2["weights gathered"],
            cached["weights gathered"],
            fsdp2["gradients added up"],
            fsdp2["vectors gathered"] + fsdp2["vector gradients scattered"],
        ]
        yield [title, f"{batch:,}", *map(spoken_size, sizes)]


def memory_rows(costs: Costs) -> Iterator[list[str]]:
    """As `diptych plan` says it, of GPUs with 80 GB."""
    for name, title in MODELS.items():
        for ranks in (8, 64, 512):
            machine = Machine(ranks=ranks, memory=80 * 10**9, peak=GPUS[80], utilisation=UTILISATION)
            found = sized(
                recipe(name, True),
                machine,
                ["ddp", "fsdp2"],
                lambda run: costs[run.recipe, run.training.activation_checkpointing],
            )
            yield from (memory_row(title, way) for way in found.ways)


def memory_row(title: str, way: Way) -> list[str]:
    """Bytes in groups of parts."""
    sizes = [sum(way.memory[part] for part in parts) for parts in PARTS.values()]
    at_once = f"{way.layout.micro_batch:,}" if way.spare >= 0 else "none fits"
    activations = [way.memory["activations"], way.needed]
    return [
        title,
        way.name,
        f"{way.layout.ranks}",
        f"{way.layout.local:,}",
        *map(spoken_size, sizes),
        at_once,
        *map(spoken_size, activations),
    ]


if __name__ == "__main__":
    main()
