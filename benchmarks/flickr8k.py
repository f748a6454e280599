"""Flickr8k from scratch: our recipe against open_clip's own training loop on the same data.

Same pictures, tokens, transform, architecture, batch, optimizer settings, schedule and number of samples seen. What
differs is each library's own: initialisation of the same towers, the order of training (open_clip shuffles the 30,000
pairs; ours takes every picture once an epoch with one of its texts), padding, and which pairs count as negatives.

    python benchmarks/flickr8k.py --data data/flickr8k --json flickr8k.json
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from diptych import open_table, systems
from diptych.clip.layouts import open_clip as layout
from diptych.clip.model import CLIP
from diptych.data.table import Rows, Table
from diptych.overrides import apply_overrides
from diptych.tasks.encoder import DualEncoder
from diptych.tasks.retrieval import retrieval
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.run import Run
from harness import arguments, machine, write_json

RECALLS = [f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Flickr8k as a table: diptych data import")
    parser.add_argument("--steps", type=int, default=700, help="optimizer steps of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="a setting of the recipe")
    options = parser.parse_args()
    table = open_table(options.data)
    steps, seeds = (4, [0]) if options.quick else (options.steps, options.seeds)
    results: dict[str, list[dict[str, float]]] = {"diptych": [], "open_clip": []}
    for seed in seeds:  # one after the other with every seed, so that a slow hour meets both
        run = short_run(steps, seed, options)
        for name, train in (("diptych", train_ours), ("open_clip", train_theirs)):
            results[name].append(train(systems.build(run, texts=table.split("train").texts()), table))
            show(name, seed, results[name][-1])
    summary = compare(results)
    write_json(options, {**machine(), "steps": steps, "batch": run.training.batch, "runs": results, **summary})


def short_run(steps: int, seed: int, options: argparse.Namespace) -> Run:
    run = apply_overrides(systems.recipe("clip", "flickr8k"), options.settings)
    training = replace(run.training, steps=steps, epochs=None, seed=seed, eval_every=None, precision="float32")
    return replace(run, training=training)


def train_ours(job: Job, table: Table) -> dict[str, float]:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(job, table, Path(folder) / "run")
        seconds = time.perf_counter() - begun
        return recalls(systems.load(Path(folder) / "run"), table) | {"seconds": seconds}


def train_theirs(job: Job, table: Table) -> dict[str, float]:
    """open_clip's model, loss, transform and `train_one_epoch`, with our tokens, as its `--csv` data set feeds it."""
    run = job.run
    torch.manual_seed(run.training.seed)
    config = layout.write_config(run.model)["model_cfg"]
    model = open_clip.CLIP(**config, output_dict=True)
    pairs = Pairs(table.split("train"), job, transform(run))
    batch, steps = run.training.batch, run.training.steps
    assert steps is not None
    per_epoch = len(pairs) // batch
    optimizer = torch.optim.AdamW(
        parameter_groups(model, run.optim.weight_decay), lr=run.optim.lr, betas=run.optim.betas, eps=run.optim.eps
    )
    schedule = cosine_lr(optimizer, run.optim.lr, run.optim.warmup_steps, steps)
    begun = time.perf_counter()
    for epoch in range(math.ceil(steps / per_epoch)):
        rows = min(per_epoch, steps - epoch * per_epoch) * batch
        feed = {"train": Feed(pairs, rows, batch)}
        train_one_epoch(model, feed, open_clip.ClipLoss(), epoch, optimizer, None, schedule, None, settings(run))
    seconds = time.perf_counter() - begun
    return recalls(as_encoder(model, job), table) | {"seconds": seconds}


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Every text with its picture, as rows of their own."""

    def __init__(self, rows: Rows, job: Job, transform: Any) -> None:
        self.rows, self.job, self.transform = rows, job, transform
        self.texts = [(row, text) for row in range(len(rows)) for text in rows.sample(row).texts]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        row, text = self.texts[place]
        image = self.rows.sample(row).image
        assert isinstance(image, bytes)
        ids = self.job.inputs.text_ids(text)  # type: ignore[attr-defined]
        padded = torch.zeros(self.job.run.model.context, dtype=torch.long)
        padded[: len(ids)] = ids
        return self.transform(Image.open(BytesIO(image))), padded


class Feed:
    """What `train_one_epoch` asks of its data: the first `num_rows` of a new shuffle."""

    def __init__(self, pairs: Pairs, num_rows: int, batch: int) -> None:
        chosen = torch.randperm(len(pairs))[:num_rows].tolist()
        subset = torch.utils.data.Subset(pairs, chosen)
        self.dataloader = DataLoader(subset, batch, num_workers=1, drop_last=True)
        self.dataloader.num_samples, self.dataloader.num_batches = num_rows, num_rows // batch  # type: ignore[attr-defined]

    def set_epoch(self, epoch: int) -> None:
        """A new Feed is made for every epoch."""


def transform(run: Run) -> Any:
    config = run.model
    return open_clip.image_transform(
        config.image_size,
        is_train=True,
        mean=config.image_mean,
        std=config.image_std,
        aug_cfg={"scale": run.inputs.crop_scale},
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """open_clip's rule: no decay for what has fewer than two dimensions, norms, biases and the temperature."""
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    ids = {id(parameter) for parameter in plain}
    decayed = [parameter for _, parameter in named if id(parameter) not in ids]
    return [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def settings(run: Run) -> SimpleNamespace:
    return SimpleNamespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=False, horovod=False,
        grad_clip_norm=run.optim.clip_norm, rank=0, local_rank=0, log_every_n_steps=10**9, world_size=1,
        batch_size=run.training.batch, wandb=False, distributed=False, log_local=False,
    )  # fmt: skip


def as_encoder(model: nn.Module, job: Job) -> DualEncoder:
    """The peer's weights in our model of the same architecture, so that one evaluation serves both."""
    ours = CLIP(job.run.model)
    state = model.state_dict()
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    ours.load_state_dict(layout.key_map(state).to_ours(state, shapes, "open_clip"))
    return DualEncoder(ours, job.inputs, torch.device("cpu"), "open_clip")  # type: ignore[arg-type]


def recalls(encoder: DualEncoder, table: Table) -> dict[str, float]:
    numbers = retrieval(encoder, table.split("test")).numbers()
    found = {name: 100 * numbers[name] for name in RECALLS}
    return found | {"mean": sum(found.values()) / len(found)}


def show(name: str, seed: int, found: dict[str, float]) -> None:
    numbers = "  ".join(f"{found[recall]:5.1f}" for recall in RECALLS)
    print(f"{name:10} seed {seed}: {numbers}   mean {found['mean']:.2f}   {found['seconds']:.0f} s", flush=True)


def compare(results: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Means over the seeds, and the standard error of their difference."""
    means = {name: torch.tensor([run["mean"] for run in runs]) for name, runs in results.items()}
    difference = float(means["diptych"].mean() - means["open_clip"].mean())
    spread = torch.stack([values.var() / len(values) for values in means.values()]).sum().sqrt()
    error = float(spread) if len(means["diptych"]) > 1 else math.nan
    print(f"mean of six recalls: diptych {means['diptych'].mean():.2f}, open_clip {means['open_clip'].mean():.2f}; "
          f"difference {difference:+.2f}, standard error {error:.2f}")  # fmt: skip
    return {"difference": difference, "standard_error": error}


if __name__ == "__main__":
    main()
