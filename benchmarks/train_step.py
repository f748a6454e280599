"""Samples a second of one training step: model, loss, backward and optimizer, ours against open_clip's.

Equal architecture, batch, threads, AdamW settings and texts. open_clip pads every text to the model's context and wants
float pictures; ours takes uint8 and pads to the longest text of the batch. A third way hands our step texts padded to
the context, which shows how much of the difference is padding.

Texts are as long as real captions are. The products of both steps are counted as well: their ratio is what a step would
gain if products were all of it. A plain product takes its turn too, and the model FLOPs utilisation of both sides is
their operations a second over the plain product's. Batches lie on the device already.

    python benchmarks/train_step.py --json train_step.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diptych import systems
from diptych.clip.layouts import open_clip as layout
from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch, ImagePart, TextPart, pad
from diptych.data.tokenizers import clip_tokenizer
from diptych.train.device import Precision, resolve_device, resolve_precision
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.run import OptimSettings, TrainingSettings
from harness import (
    CPU,
    add_clock,
    add_device,
    arguments,
    machine,
    median_ratio,
    print_machine,
    show,
    take_turns,
    write_json,
)
from samples import captions

OPTIM = OptimSettings(lr=1e-4, warmup_steps=1, weight_decay=0.2)
FLOAT32 = Precision("float32", "as set")
LENGTHS = (8, 26)
"""Tokens of the captions that are taken, with start and end: 97 % of Flickr8k's."""


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    add_device(parser)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="bf16 is by autocast")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, precision = resolve_device(options.device), resolve_precision(options.precision, CPU)
    print_machine(device)
    batch, results = (4 if options.quick else options.batch), {}
    told_options = {"batch": batch, "clock": options.clock, "precision": precision.name}
    for name in ["small"] if options.quick else options.worlds:
        config = WORLDS[name]
        texts, origin = token_ids(config, batch)
        steps = ways(config, batch, texts, device, precision)
        flops = {way: products_of(steps[way]) for way in (PEER, OURS)}
        steps[PRODUCT] = plain_products(flops[OURS] // batch, device, precision)
        rates = take_turns(steps, rounds=2 if options.quick else options.rounds, clock=options.clock)
        title = f"{name}, batch {batch}, {told(texts)} ({origin}), context {config.context}, "
        title += f"{precision.name} on {device}, {options.clock} clock"
        of_ours = {"products_ratio": flops[PEER] / flops[OURS], "mfu": median_ratio(rates, OURS, PRODUCT)}
        of_ours["peer_mfu"] = of_ours["products_ratio"] * median_ratio(rates, PEER, PRODUCT)
        results[name] = show(title, rates, PEER, "samples") | of_ours
        print("  " + ", ".join(f"{name} {value:.2f}" for name, value in of_ours.items()))
    write_json(options, {**machine(device), **told_options, "results": results})


PEER = "open_clip: model, ClipLoss, AdamW"
OURS = "diptych"
PRODUCT = "plain products of as many operations"
WORLDS = {
    # A ViT-S/16 with the paper's context.
    "ViT-S/16": ClipConfig(
        embed_dim=384, image_size=224, image_width=384, image_heads=6, patch_size=16, text_width=384, text_heads=6,
        activation="gelu",
    ),
    # The same at half the side, where texts are a larger part of a step.
    "ViT-S/16, 112 px": ClipConfig(
        embed_dim=384, image_size=112, image_width=384, image_heads=6, patch_size=16, text_width=384, text_heads=6,
        activation="gelu",
    ),
    # The paper's smallest.
    "ViT-B/32": ClipConfig(activation="gelu"),
    # The demo's size: its own picture tower is a plain convolutional network, which open_clip does not have.
    "small": ClipConfig(
        embed_dim=128, image_size=64, image_width=128, image_layers=(4,), image_heads=4, patch_size=8, context=32,
        vocab_size=2048, end_id=2047, text_width=128, text_layers=3, text_heads=4, activation="gelu",
    ),
}  # fmt: skip


def token_ids(config: ClipConfig, num: int) -> tuple[list[Tensor], str]:
    """The first `num` captions of LENGTHS, and where they come from; a small vocabulary takes ids modulo its own."""
    lengths = range(LENGTHS[0], LENGTHS[1] + 1)
    tokenizer = clip_tokenizer()
    texts, origin = captions(4 * num)
    ids = [ids for text in texts if len(ids := tokenizer.encode(text, config.context)) in lengths][:num]
    return [torch.tensor([*(one % config.end_id for one in row[:-1]), config.end_id]) for row in ids], origin


def told(texts: Sequence[Tensor]) -> str:
    lengths = [len(text) for text in texts]
    return f"texts of {min(lengths)} to {max(lengths)} tokens, {sum(lengths) / len(lengths):.1f} on average"


def products_of(step: Callable[[], object]) -> int:
    """Operations of all products of a step, counted while it runs."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def plain_products(flops: int, device: torch.device = CPU, precision: Precision = FLOAT32) -> Callable[[], float]:
    """Multiplies squares; tells how many samples of `flops` operations that would be."""
    side = 1024 if device.type == "cpu" else 4096
    square = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    square = square.to(device, precision.autocast or torch.float32)

    def multiply() -> float:
        for _ in range(16):
            square @ square
        return 16 * 2 * side**3 / flops

    return multiply


def ways(
    config: ClipConfig, batch: int, texts: list[Tensor], device: torch.device, precision: Precision
) -> dict[str, Callable[[], float]]:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, config.image_size, config.image_size), dtype=torch.uint8, generator=rng)
    return {
        PEER: their_step(config, pixels, texts, device, precision),
        OURS: our_step(config, pixels, texts, device, precision),
        "diptych, texts padded to the context": our_step(
            config, pixels, padded_to_context(config, texts), device, precision
        ),
    }


def padded_to_context(config: ClipConfig, texts: list[Tensor]) -> list[Tensor]:
    """A text more than there are pictures, which only says how far to pad."""
    return [*texts, torch.ones(config.context).long()]


def our_step(
    config: ClipConfig, pixels: Tensor, texts: list[Tensor], device: torch.device, precision: Precision
) -> Callable[[], int]:
    """The step of our training loop."""
    return partial(update, new_learner(config, device, precision), batch_of(pixels, texts).to(device))


def new_learner(config: ClipConfig, device: torch.device = CPU, precision: Precision = FLOAT32) -> Learner:
    run = replace(systems.recipe("clip", "tiny"), model=config, optim=OPTIM, training=TrainingSettings(steps=1000))
    model = systems.models.new_model("clip", config, run.objective)
    inputs: Any = None  # batches come ready
    job = Job(run=run, model=model, objective=run.objective, inputs=inputs, origin="scratch")
    return Learner(job, steps=1000, device=device, precision=precision)


def batch_of(pixels: Tensor, texts: list[Tensor]) -> Batch:
    ids, mask = pad(texts, value=0)
    num = len(pixels)
    return Batch(
        keys=tuple(map(str, range(num))),
        group=torch.arange(num),
        text=TextPart(ids=ids[:num], mask=mask[:num]),
        image=ImagePart(pixels=pixels),
    )


def update(learner: Learner, batch: Batch) -> int:
    learner.update(batch, {}, 1, micro_batch=None)
    return len(batch)


def their_step(
    config: ClipConfig, pixels: Tensor, texts: list[Tensor], device: torch.device, precision: Precision
) -> Callable[[], int]:
    """open_clip's step without its logging: pictures as its transform leaves them, texts as its tokenizer does."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**layout.write_config(config)["model_cfg"], output_dict=True).train().to(device)
    plain = [one for name, one in model.named_parameters() if one.ndim < 2 or "logit_scale" in name]
    ids = {id(one) for one in plain}
    decayed = [one for one in model.parameters() if id(one) not in ids]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": OPTIM.weight_decay}]
    optimizer = torch.optim.AdamW(groups, lr=OPTIM.lr, betas=OPTIM.betas, eps=OPTIM.eps)
    loss = open_clip.ClipLoss()
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
    images = pixels.float().sub(mean).div(std).to(device)
    padded = pad(padded_to_context(config, texts), value=0)[0].to(device)

    def step() -> int:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=precision.autocast, enabled=precision.autocast is not None):
            total = loss(**model(images, padded[: len(images)]))
        total.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        return len(images)

    return step


if __name__ == "__main__":
    main()
