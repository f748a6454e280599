"""What each choice in our training step is worth: the step of `train_step.py` with one choice undone or added.

    python benchmarks/step_knobs.py --json step_knobs.json

A ratio below 1 says that the choice undone was worth keeping; one above 1, that the choice added would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch
from diptych.nn.attention import SelfAttention
from diptych.nn.text import TextTransformer
from diptych.nn.transformer import Block, Transformer
from harness import add_clock, arguments, machine, print_machine, show, take_turns, write_json
from train_step import WORLDS, batch_of, new_learner, padded_to_context, token_ids, told, update

CONV = "conv, the demo's tower"
DEMO = ClipConfig(
    embed_dim=128, image="conv", image_size=48, image_width=16, image_layers=(1, 1, 1, 1), activation="gelu",
    context=32, vocab_size=1024, end_id=1023, text_width=128, text_layers=1, text_heads=4,
)  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    worlds = {**WORLDS, CONV: DEMO}
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="of one turn; small models want some")
    parser.add_argument("--worlds", nargs="+", choices=worlds, default=list(worlds))
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks, after minutes of compiling")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print_machine()
    batch, results = (4 if options.quick else options.batch), {}
    for name in [CONV] if options.quick else options.worlds:
        texts, origin = token_ids(worlds[name], batch)
        steps = ways(worlds[name], batch, texts, options)
        turns = {way: partial(several, step, options.steps) for way, step in steps.items()}
        rates = take_turns(turns, rounds=2 if options.quick else options.rounds, clock=options.clock)
        title = f"{name}, batch {batch}, {told(texts)} ({origin}), {options.clock} clock"
        results[name] = show(title, rates, AS_IT_IS, "samples")
    write_json(options, {**machine(), "batch": batch, "clock": options.clock, "results": results})


AS_IT_IS = "as it is"


def several(step: Callable[[], int], num: int) -> int:
    return sum(step() for _ in range(num))


def ways(config: ClipConfig, batch: int, texts: list[Tensor], options: Any) -> dict[str, Callable[[], int]]:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, config.image_size, config.image_size), dtype=torch.uint8, generator=rng)
    rows = batch_of(pixels, texts)
    found = {
        AS_IT_IS: partial(update, new_learner(config), rows),
        "texts padded to the context": partial(
            update, new_learner(config), batch_of(pixels, padded_to_context(config, texts))
        ),
        "texts in two lots by length": with_patch(in_two_lots, config, rows),
        "last blocks for all positions": with_patch(last_block_whole, config, rows),
        "three products for q, k, v": with_patch(three_products, config, rows),
        "optimizer not fused": not_fused(config, rows),
        "channels first": channels_first(config, rows),
    }
    return found | ({"blocks compiled": compiled(config, rows)} if options.compile else {})


def with_patch(patch: Callable[[], Any], config: ClipConfig, rows: Batch) -> Callable[[], int]:
    learner = new_learner(config)

    def step() -> int:
        with patch():
            return update(learner, rows)

    return step


def not_fused(config: ClipConfig, rows: Batch) -> Callable[[], int]:
    learner = new_learner(config)
    for group in learner.optimizer.param_groups:
        group["fused"] = False
    return partial(update, learner, rows)


def channels_first(config: ClipConfig, rows: Batch) -> Callable[[], int]:
    learner = new_learner(config)
    for parameter in learner.model.parameters():
        parameter.data = parameter.data.contiguous()
    return partial(update, learner, rows)


def compiled(config: ClipConfig, rows: Batch) -> Callable[[], int]:
    learner = new_learner(config)
    for module in learner.model.modules():
        if isinstance(module, Block):
            module.compile()
    return partial(update, learner, rows)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    kept = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def in_two_lots() -> Any:
    """The shorter half of the texts on its own: less padding, smaller products, twice as many calls."""
    whole = TextTransformer.forward

    def forward(tower: TextTransformer, ids: Tensor, mask: Tensor, *, recompute: bool = False) -> Tensor:
        lengths = mask.sum(dim=1)
        order = lengths.argsort()
        parts = []
        for rows in order.tensor_split(2):
            longest = int(lengths[rows].max())
            parts.append(whole(tower, ids[rows, :longest], mask[rows, :longest], recompute=recompute))
        return torch.cat(parts)[order.argsort()]

    return replaced(TextTransformer, "forward", forward)


def last_block_whole() -> Any:
    def forward(
        stack: Transformer,
        hidden: Tensor,
        mask: Tensor | None = None,
        *,
        position: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        for block in stack.resblocks:
            hidden = block(hidden, mask)
        return hidden if position is None else hidden.take_along_dim(position[:, None, None], dim=1).squeeze(1)

    return replaced(Transformer, "forward", forward)


def three_products() -> Any:
    def forward(attention: SelfAttention, hidden: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        pairs = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        query, key, value = (F.linear(hidden, weight, bias) for weight, bias in pairs)
        return attention._attend(query, key, value, mask, causal)

    return replaced(SelfAttention, "forward", forward)


if __name__ == "__main__":
    main()
