"""Samples a second of one training step: model, loss, backward and optimizer, ours against open_clip's.

Equal architecture, batch, threads, AdamW settings and texts. open_clip pads every text to the model's context and wants
float pictures; ours takes uint8 and pads to the longest text of the batch. A third way hands our step texts padded to
the context, which shows how much of the difference is padding.

    python benchmarks/train_step.py --json train_step.json
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor

from diptych import systems
from diptych.clip.layouts import open_clip as layout
from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch, ImagePart, TextPart, pad
from diptych.train.device import resolve_precision
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.run import OptimSettings, TrainingSettings
from harness import arguments, machine, print_machine, show, take_turns, write_json

OPTIM = OptimSettings(lr=1e-4, warmup_steps=1, weight_decay=0.2)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    batch, results = (4 if options.quick else options.batch), {}
    for name, config, lengths in worlds(options.quick):
        rates = take_turns(ways(config, batch, lengths), rounds=2 if options.quick else 7)
        title = f"{name}, batch {batch}, texts of {lengths[0]} to {lengths[1]} tokens, context {config.context}"
        results[name] = show(title, rates, PEER, "samples")
    write_json(options, {**machine(), "batch": batch, "results": results})


PEER = "open_clip: model, ClipLoss, AdamW"


def worlds(quick: bool) -> list[tuple[str, ClipConfig, tuple[int, int]]]:
    """A ViT-S/16 with the paper's context and texts of photographs, and a small model whose context is short."""
    small = ClipConfig(
        embed_dim=128, image_size=64, image_width=128, image_layers=(4,), image_heads=4, patch_size=8, context=32,
        vocab_size=2048, end_id=2047, text_width=128, text_layers=3, text_heads=4, activation="gelu",
    )  # fmt: skip
    vit_s = ClipConfig(
        embed_dim=384, image_size=112, image_width=384, image_heads=6, patch_size=16, text_width=384, text_heads=6,
        activation="gelu",
    )  # fmt: skip
    return [("small", small, (8, 26))] if quick else [("ViT-S/16", vit_s, (8, 26)), ("small", small, (8, 26))]


def ways(config: ClipConfig, batch: int, lengths: tuple[int, int]) -> dict[str, Callable[[], int]]:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, config.image_size, config.image_size), dtype=torch.uint8, generator=rng)
    sizes = torch.randint(lengths[0], lengths[1] + 1, (batch,), generator=rng).tolist()
    texts = [torch.randint(1, config.end_id, (size,), generator=rng) for size in sizes]
    texts = [torch.cat([text[:-1], torch.tensor([config.end_id])]) for text in texts]
    return {
        PEER: their_step(config, pixels, texts),
        "diptych": our_step(config, pixels, texts),
        "diptych, texts padded to the context": our_step(config, pixels, [*texts, torch.ones(config.context).long()]),
    }


def our_step(config: ClipConfig, pixels: Tensor, texts: list[Tensor]) -> Callable[[], int]:
    """The step of our training loop; a text more than pictures only says how far to pad."""
    run = replace(systems.recipe("clip", "tiny"), model=config, optim=OPTIM, training=TrainingSettings(steps=1000))
    model = systems.building.new_model("clip", config, run.objective)
    inputs: Any = None  # batches come ready
    job = Job(run=run, model=model, objective=run.objective, inputs=inputs, origin="scratch")
    device = torch.device("cpu")
    learner = Learner(job, steps=1000, device=device, precision=resolve_precision("float32", device))
    ids, mask = pad(texts, value=0)
    num = len(pixels)
    batch = Batch(
        keys=tuple(map(str, range(num))),
        group=torch.arange(num),
        text=TextPart(ids=ids[:num], mask=mask[:num]),
        image=ImagePart(pixels=pixels),
    )
    return partial(_update, learner, batch)


def _update(learner: Learner, batch: Batch) -> int:
    learner.update(batch, {}, 1)
    return len(batch)


def their_step(config: ClipConfig, pixels: Tensor, texts: list[Tensor]) -> Callable[[], int]:
    """open_clip's step without its logging: pictures as its transform leaves them, texts as its tokenizer does."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**layout.write_config(config)["model_cfg"], output_dict=True).train()
    plain = [one for name, one in model.named_parameters() if one.ndim < 2 or "logit_scale" in name]
    ids = {id(one) for one in plain}
    decayed = [one for one in model.parameters() if id(one) not in ids]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": OPTIM.weight_decay}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIM.lr, betas=OPTIM.betas, eps=OPTIM.eps)
    loss = open_clip.ClipLoss()
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
    images = pixels.float().sub(mean).div(std)
    padded, _ = pad([*texts, torch.zeros(config.context).long()], value=0)

    def step() -> int:
        optimizer.zero_grad()
        loss(**model(images, padded[: len(images)])).backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        return len(images)

    return step


if __name__ == "__main__":
    main()
