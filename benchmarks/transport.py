"""What word-region alignment costs: its transport plan beside the released solver, and as a share of a training step.

Texts of 8 to 30 words and 10 to 100 regions, states of UNITER-base, 50 steps. The peer is the released solver rebuilt
from its description: the transposed kernel, 1e4 at padding, diagonals multiplied out. The step is forward and backward
of image-text matching on the same batch at base size, without its optimizer.

    python benchmarks/transport.py [--quick] [--json FILE]

On a machine with a GPU the steps of our solver are compiled into one region, and all is measured there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

import harness
from diptych.data.batch import Batch, RegionPart, TextPart
from diptych.objectives.matching import Matching
from diptych.objectives.transport import cosine_cost, transport_distance, transport_plan
from diptych.uniter.model import UNITER, UniterConfig

STEPS, BETA = 50, 0.5


def main() -> None:
    parser = harness.arguments(__doc__)
    harness.add_clock(parser)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, rounds = (4, 2) if options.quick else (32, 7)
    config = replace(UniterConfig(), depth=1) if options.quick else UniterConfig()
    harness.print_machine()
    batch = random_batch(rows, config).to(device)
    words, regions = (
        torch.randn(*part.mask.shape, config.width, device=device) for part in (batch.text, batch.regions)
    )
    masks = batch.text.mask, batch.regions.mask
    cost = cosine_cost(words, regions, *masks)
    difference = (transport_plan(cost, *masks) - released_plan(cost, *masks)).abs().max()
    ways = {
        "diptych": repeated(lambda: transport_plan(cost, *masks), device, rows),
        "the released solver": repeated(lambda: released_plan(cost, *masks), device, rows),
    }
    rates = harness.take_turns(ways, rounds=rounds, clock=options.clock)
    title = f"plans of {rows} pairs on {device}, {masks[0].shape[1]} words and {masks[1].shape[1]} regions at most"
    found = harness.show(title, rates, "the released solver", "pairs")
    print(f"largest difference between both plans: {float(difference):.1e}")

    model, targets = step_model(config, device), {"itm": torch.ones(rows, dtype=torch.int64, device=device)}
    parts = {
        "matching, a whole step": repeated(lambda: step(model, batch, targets), device, rows, times=1),
        "alignment alone": repeated(lambda: aligned(words, regions, masks), device, rows),
    }
    rates = harness.take_turns(parts, rounds=2 if options.quick else 3, clock=options.clock)
    shares = harness.show(
        f"alignment and a step, forward and backward, {rows} pairs", rates, "matching, a whole step", "pairs"
    )
    harness.write_json(options, {**harness.machine(), "plans": found, "step": shares})


def random_batch(rows: int, config: UniterConfig) -> Batch:
    """Texts and regions of unequal number."""
    generator = torch.Generator().manual_seed(0)
    num_words = torch.randint(10, 33, (rows,), generator=generator)
    num_regions = torch.randint(10, 101, (rows,), generator=generator)
    word_mask = torch.arange(int(num_words.max())) < num_words[:, None]
    region_mask = torch.arange(int(num_regions.max())) < num_regions[:, None]
    return Batch(
        keys=("",) * rows,
        group=torch.arange(rows),
        text=TextPart(ids=torch.randint(106, config.vocab_size, word_mask.shape, generator=generator), mask=word_mask),
        regions=RegionPart(
            features=torch.rand(*region_mask.shape, config.feature_width, generator=generator),
            boxes=torch.rand(*region_mask.shape, 4, generator=generator),
            box_features=torch.rand(*region_mask.shape, 7, generator=generator),
            mask=region_mask,
        ),
    )


@torch.no_grad()
def released_plan(cost: Tensor, word_mask: Tensor, region_mask: Tensor) -> Tensor:
    """The plan as the release computes it, from its description; (B, M, N) as ours."""
    word_pad, region_pad = (~word_mask).float(), (~region_mask).float()
    num_words, num_regions = word_mask.sum(1)[:, None, None].float(), region_mask.sum(1)[:, None, None].float()
    joint_pad = region_pad.bool()[:, :, None] | word_pad.bool()[:, None]
    kernel = torch.exp(-cost.mT / BETA).masked_fill(joint_pad, 0)
    plan = torch.ones_like(kernel).masked_fill(joint_pad, 0)
    sigma = ((1 / num_words).expand(-1, cost.shape[1], 1)).masked_fill(word_pad.bool()[..., None], 0)
    for _ in range(STEPS):
        q = kernel * plan
        delta = 1 / (num_regions * q.matmul(sigma) + 1e4 * region_pad[..., None])
        sigma = 1 / (num_words * q.mT.matmul(delta) + 1e4 * word_pad[..., None])
        plan = delta * q * sigma.mT
    return plan.masked_fill(joint_pad, 0).mT


def step_model(config: UniterConfig, device: torch.device) -> UNITER:
    model = UNITER(config)
    model.heads.update(Matching().heads(config))
    return model.train().to(device)


def step(model: UNITER, batch: Batch, targets: dict[str, Tensor]) -> None:
    model.zero_grad(set_to_none=True)
    Matching(alignment=0.1).loss(model, batch, targets).total().backward()


def aligned(words: Tensor, regions: Tensor, masks: tuple[Tensor, Tensor]) -> None:
    transport_distance(words.detach().requires_grad_(), regions.detach().requires_grad_(), *masks).sum().backward()


def repeated(act: Callable[[], object], device: torch.device, rows: int, times: int = 10) -> Callable[[], float]:
    """Calls `act` some times, and waits for the device."""

    def run() -> float:
        for _ in range(times):
            act()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return times * rows

    return run


if __name__ == "__main__":
    main()
