"""BERT's encoder over rows of unequal length, forward and backward: attention as it is, beside one padded group.

Rows of 10 to 32 words and 10 to 100 regions, base size; 134 rows are about 10,240 tokens, a step of UNITER's on one
GPU. Linear layers see real tokens alone. Attention takes groups of near-equal length (on a CPU) or a kernel that knows
the rows' lengths (on a GPU, see `nn/ragged.py`); beside it, all rows padded to the longest.

    python benchmarks/packing.py [--device cuda] [--precision bf16] [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from diptych.nn import attention, packing
from diptych.nn.bert import BertEncoder
from diptych.train.device import Precision, resolve_device, resolve_precision
from diptych.uniter.model import UniterConfig
from harness import add_clock, add_device, arguments, machine, print_machine, show, take_turns, write_json

OURS, ONE_GROUP = "diptych", "attention padded to the longest"


def main() -> None:
    parser = arguments(__doc__)
    add_clock(parser)
    add_device(parser)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="bf16 is by autocast")
    parser.add_argument("--rows", type=int, default=134)
    parser.add_argument("--dropout", type=float, default=0.1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    print_machine(device)
    config = replace(UniterConfig(), depth=1 if options.quick else 12)
    rows = 6 if options.quick else options.rows
    mask = random_mask(rows).to(device)
    torch.manual_seed(0)
    model = BertEncoder(
        config.width,
        config.depth,
        config.heads,
        config.mlp_width,
        dropout=options.dropout,
        attention_dropout=0.0,  # else the kernels of a GPU are not taken
    )
    step = step_of(model.to(device).train(), mask, precision)
    ways = {OURS: step, ONE_GROUP: one_group(step)}
    rates = take_turns(ways, rounds=2 if options.quick else 7, clock=options.clock)
    tokens = int(mask.sum())
    title = f"{rows} rows, {tokens:,} tokens, the longest {mask.shape[1]}, {precision.name} on {device}"
    found = show(f"{title}, dropout {options.dropout}", rates, ONE_GROUP, "rows")
    if device.type == "cuda":
        found["peak_mib"] = {name: peak_mib(way) for name, way in ways.items()}
        print("  peak MiB: " + ", ".join(f"{name} {number:,.0f}" for name, number in found["peak_mib"].items()))
    write_json(options, {**machine(device), "rows": rows, "tokens": tokens, "precision": precision.name, "step": found})


def random_mask(rows: int) -> Tensor:
    """(B, L) of words and regions together."""
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(10, 33, (rows,), generator=generator)
    lengths = words + torch.randint(10, 101, (rows,), generator=generator)
    return torch.arange(int(lengths.max())) < lengths[:, None]


def step_of(model: BertEncoder, mask: Tensor, precision: Precision) -> Callable[[], float]:
    hidden = torch.randn(*mask.shape, model.blocks[0].ln_1.weight.shape[0], device=mask.device)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        with torch.autocast(mask.device.type, dtype=precision.autocast, enabled=precision.autocast is not None):
            out = model(hidden, mask)
        out.float().square().mean().backward()
        return len(mask)

    return step


def one_group(step: Callable[[], float]) -> Callable[[], float]:
    """The step with all rows in one group, and no kernel."""

    def padded() -> float:
        with (
            patch.object(attention, "ragged_kernel", lambda qkv, heads: None),
            patch.object(packing, "_cuts", lambda lengths: [0, len(lengths)]),
        ):
            return step()

    return padded


def peak_mib(way: Callable[[], float]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    main()
