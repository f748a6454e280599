"""Bytes that a rank sends in a training step: counted on the loopback device, beside the formula of `train/budget.py`.

Two gloo processes or more on this machine, a ViT and a text Transformer, contrast. Counts whatever else speaks over
loopback, so nothing else should.

    python benchmarks/exchange.py --json exchange.json
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import spawn

from diptych import systems
from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch, ImagePart, TextPart
from diptych.ranks import Ranks, join_ranks
from diptych.train.budget import Layout, bytes_exchanged
from diptych.train.device import resolve_precision
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.run import Run, TrainingSettings
from harness import arguments, machine, print_machine, write_json

WAYS = {
    "ddp": ("ddp", False),
    "ddp, gradient caching": ("ddp", True),
    "fsdp2": ("fsdp2", False),
    "fsdp2, gradient caching": ("fsdp2", True),
}
MODEL = ClipConfig(
    embed_dim=256, image_size=64, image_width=256, image_layers=(4,), image_heads=4, patch_size=16, context=16,
    vocab_size=2048, end_id=2047, text_width=256, text_layers=4, text_heads=4,
)  # fmt: skip
TINY = replace(MODEL, embed_dim=64, image_width=64, text_width=64, image_layers=(2,), text_layers=2)
LOOPBACK = Path("/proc/net/dev")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--batch", type=int, default=96, help="pairs of a step, over all ranks")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    print_machine()
    found = {}
    for size in options.ranks[:1] if options.quick else options.ranks:
        for name, (kind, caching) in WAYS.items():
            found[f"{size} ranks, {name}"] = compared(options, size, kind, caching)
            measured, formula = found[f"{size} ranks, {name}"].values()
            title = f"  {size} ranks, {name}"
            print(f"{title:36} {measured:14,.0f} bytes a rank and step, {measured / formula:5.3f} x the formula")
    write_json(options, {**machine(), "batch": options.batch, "results": found})


def compared(options: argparse.Namespace, size: int, kind: Any, caching: bool) -> dict[str, float]:
    run = run_of(options, size, kind, caching)
    local = -(-options.batch // size)
    layout = Layout(batch=options.batch, ranks=size, parallel=kind, micro_batch=run.training.micro_batch or local)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawn(one_rank, (size, port, run, options, folder), nprocs=size)
        sent = int((Path(folder) / "bytes").read_text()) / options.steps / size
    return {"measured": sent, "formula": sum(bytes_exchanged(systems.cost_of(run, num_tokens=16), layout).values())}


def run_of(options: argparse.Namespace, size: int, kind: Any, caching: bool) -> Run:
    run = replace(systems.recipe("clip", "tiny"), model=TINY if options.quick else MODEL)
    micro_batch = options.batch // size // 2 if caching else None
    training = TrainingSettings(steps=1000, batch=options.batch, parallel=kind, micro_batch=micro_batch)
    return replace(run, training=training)


def one_rank(rank: int, size: int, port: int, run: Run, options: argparse.Namespace, folder: str) -> None:
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    torch.set_num_threads(1)
    with join_ranks("cpu") as ranks:
        learner, batch = learner_and_rows(run, ranks)
        for step in range(2):
            learner.update(batch, {}, step, micro_batch=run.training.rows_at_once)
        before = told(ranks)
        for step in range(options.steps):
            learner.update(batch, {}, 2 + step, micro_batch=run.training.rows_at_once)
        after = told(ranks)
        if ranks.leads:
            (Path(folder) / "bytes").write_text(str(after - before))


def told(ranks: Ranks) -> int:
    """Bytes sent over loopback by now, once every rank has come so far; none goes on before it is read."""
    ranks.gathered([0])
    return ranks.from_lead(loopback_bytes)


def loopback_bytes() -> int:
    line = next(one for one in LOOPBACK.read_text().splitlines() if one.strip().startswith("lo:"))
    return int(line.split()[9])


def learner_and_rows(run: Run, ranks: Ranks) -> tuple[Learner, Batch]:
    model = systems.models.new_model("clip", run.model, run.objective)
    inputs: Any = None  # batches come ready
    job = Job(run=run, model=model, objective=run.objective, inputs=inputs)
    device = torch.device("cpu")
    precision = resolve_precision("float32", device)
    learner = Learner(job, steps=1000, device=device, precision=precision, ranks=ranks)
    return learner, rows_of(run, ranks)


def rows_of(run: Run, ranks: Ranks) -> Batch:
    num = run.training.batch // ranks.size
    rng = torch.Generator().manual_seed(ranks.rank)
    side = run.model.image_size
    ids = torch.randint(1, run.model.end_id, (num, run.model.context), generator=rng)
    ids[:, -1] = run.model.end_id
    pixels = torch.randint(256, (num, 3, side, side), dtype=torch.uint8, generator=rng)
    return Batch(
        keys=tuple(map(str, range(num))),
        group=torch.arange(num),
        text=TextPart(ids=ids, mask=torch.ones_like(ids, dtype=torch.bool)),
        image=ImagePart(pixels=pixels),
    )


if __name__ == "__main__":
    main()
