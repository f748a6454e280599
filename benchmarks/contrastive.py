"""The losses over a batch of B pairs, forward and backward: time and memory beside open_clip's, to 65,536 pairs.

Both work on the same normalised vectors, E = 512, float32. Time: ours, open_clip's and a plain product of 4,096^3 take
turns; what counts is the ratio, and the rate relative to the product's, for which a loss is counted as the products
that it cannot do without: 4 of B x B x E for contrast, 3 for the sigmoid loss, two operations for each multiplication
with its addition. Memory: a process of its own for each, the peak of its resident memory (VmHWM of Linux, set back
before) over what was resident once inputs were made and a small batch had gone through; the gradients are in it. On a
GPU it is the peak of what torch's allocator gave away, in the same process.

    python benchmarks/contrastive.py --json contrastive.json --plot contrastive.svg

Half an hour on two free cores; --sizes asks for fewer. On cores that other work shares set OMP_WAIT_POLICY=PASSIVE.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from open_clip.loss import SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from diptych.objectives.contrastive import contrastive_loss
from diptych.objectives.sigmoid import sigmoid_loss
from diptych.train.device import resolve_device
from diptych.train.memory import free_bytes
from harness import CPU, add_device, arguments, machine, median_ratio, print_machine, take_turns, write_json

E = 512
SIZES = (1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
PRODUCTS = {"contrastive": 4, "sigmoid": 3}
"""Of B x B x E, forward and backward, that each loss needs where no similarity is kept."""
OURS, PEER, PLAIN = "diptych", "open_clip", "plain product"
DENSE_BYTES = 28
"""A pair of pairs that a dense loss holds at its peak, about: what fits is measured, what does not is left out."""
MIB = 2**20

Leaves = list[Tensor]


def main() -> None:
    parser = arguments(__doc__)
    add_device(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pairs of a batch")
    parser.add_argument("--losses", choices=tuple(PRODUCTS), nargs="+", default=tuple(PRODUCTS))
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the first loss's curve into this file")
    parser.add_argument("--measure", nargs=3, metavar=("LOSS", "WAY", "B"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure is not None:
        loss, way, size = options.measure
        print(peak_bytes(loss, way, int(size)))
        return
    options.device = resolve_device(options.device)
    print_machine(options.device)
    sizes = (256,) if options.quick else options.sizes
    found = {loss: [compared(loss, size, options) for size in sizes] for loss in options.losses}
    if options.plot is not None:
        plot(options.losses[0], found[options.losses[0]]).savefig(options.plot)
    write_json(options, {**machine(options.device), "width": E, "results": found})


def compared(loss: str, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Times and memory of a loss at one size; open_clip's where it fits into memory."""
    device = options.device
    names = [OURS, PEER] if DENSE_BYTES * size**2 < free_bytes(device) else [OURS]
    operations = 2 * PRODUCTS[loss] * size**2 * E
    ways = {name: partial(work, step_of(loss, name, size, device), operations) for name in names}
    side = 512 if options.quick else 4096
    ways[PLAIN] = plain_product(side, max(1, operations // 4 // (2 * side**3)), device)
    takes_minutes = device.type == "cpu" and size > 16_384  # and so needs no warming up
    rounds = 2 if options.quick or takes_minutes else 7 if size <= 4096 or device.type != "cpu" else 32_768 // size
    rates = take_turns(ways, rounds=rounds, warm_up=not takes_minutes)
    del ways
    if device.type == "cuda":
        memory = {name: peak_given_away(loss, name, size, device) for name in names}
    else:
        memory = {name: measured_in_a_process(loss, name, size, options.threads) for name in names}
    found = {
        "size": size,
        "seconds": {name: [operations / rate for rate in rates[name]] for name in names},
        "share_of_plain": {name: median_ratio(rates, name, PLAIN) for name in names},
        "plain_gflops": [rate / 1e9 for rate in rates[PLAIN]],
        "ratio": median_ratio(rates, OURS, PEER) if PEER in names else None,
        "extra_mib": {name: number / MIB for name, number in memory.items()},
    }
    print(told(loss, found), flush=True)
    return found


def told(loss: str, found: Mapping[str, Any]) -> str:
    """One line."""
    parts = [
        f"{name} {statistics.median(found['seconds'][name]):8.3f} s {found['extra_mib'][name]:8,.0f} MiB extra "
        f"{found['share_of_plain'][name]:6.1%} of a plain product"
        for name in found["seconds"]
    ]
    beside = "" if found["ratio"] is None else f"   {found['ratio']:5.2f} x"
    return f"{loss:12} B {found['size']:7,}: {'; '.join(parts)}{beside}"


def work(step: Callable[[], None], operations: int) -> int:
    step()
    return operations


def step_of(loss: str, way: str, size: int, device: torch.device = CPU) -> Callable[[], None]:
    """Forward and backward of one way, its inputs made once; gradients are dropped before each."""
    leaves = inputs(loss, size, device)

    def forward_and_backward() -> None:
        for leaf in leaves:
            leaf.grad = None
        scalar_loss(loss, way, leaves).backward()

    return forward_and_backward


def inputs(loss: str, size: int, device: torch.device) -> Leaves:
    """Vectors of pictures and texts, the scale that CLIP ends with, and SigLIP's bias; pairs are a little alike."""
    rng = torch.Generator().manual_seed(size)
    image = F.normalize(torch.randn(size, E, generator=rng), dim=-1)
    text = F.normalize(image + 2 * F.normalize(torch.randn(size, E, generator=rng), dim=-1), dim=-1)
    numbers = [torch.tensor(100.0), torch.tensor(-10.0)][: 1 if loss == "contrastive" else 2]
    return [leaf.to(device).requires_grad_() for leaf in (image, text, *numbers)]


def scalar_loss(loss: str, way: str, leaves: Leaves) -> Tensor:
    """The mean over the pairs."""
    if way == OURS:
        ours = contrastive_loss if loss == "contrastive" else sigmoid_loss
        return ours(*leaves).divided({loss: len(leaves[0])})
    theirs = open_clip.ClipLoss() if loss == "contrastive" else SigLipLoss()
    return theirs(*leaves)


def plain_product(side: int, times: int, device: torch.device) -> Callable[[], int]:
    """A product of two square matrices into a third, often enough to be a fair turn."""
    one, other, out = (torch.randn(side, side, device=device) for _ in range(3))

    def multiply() -> int:
        for _ in range(times):
            torch.mm(one, other, out=out)
        return 2 * side**3 * times

    return multiply


def measured_in_a_process(loss: str, way: str, size: int, threads: int) -> int:
    """Peak bytes over the baseline, in a process that does nothing else."""
    command = [sys.executable, __file__, "--threads", str(threads), "--measure", loss, way, str(size)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peak_bytes(loss: str, way: str, size: int) -> int:
    """What one forward and backward pass adds to the resident memory of this process, at its highest."""
    step_of(loss, way, 64)()  # loads what is loaded late
    step = step_of(loss, way, size)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
    before = status_bytes("VmRSS")
    step()
    return status_bytes("VmHWM") - before


def peak_given_away(loss: str, way: str, size: int, device: torch.device) -> int:
    """What one forward and backward pass adds to the GPU's tensors, at its highest."""
    step = step_of(loss, way, size, device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before


def status_bytes(field: str) -> int:
    """A number of kB in /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def plot(loss: str, curve: Sequence[Mapping[str, Any]]) -> Figure:
    """Extra memory and rate over the batch."""
    figure = Figure(figsize=(9.2, 3.8), layout="constrained")
    memory, rate = figure.subplots(1, 2)
    for name, label, colour in ((OURS, f"diptych, {loss}", "#0b7285"), (PEER, "open_clip", "#e8590c")):
        there = [one for one in curve if name in one["seconds"]]
        sizes = [one["size"] for one in there]
        memory.plot(sizes, [one["extra_mib"][name] for one in there], "o-", color=colour, label=label, markersize=4)
        rate.plot(sizes, [100 * one["share_of_plain"][name] for one in there], "o-", color=colour, markersize=4)
    memory.set(yscale="log", ylabel="memory beside the inputs, MiB")
    memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    memory.legend(frameon=False)
    rate.set(ylim=(0, 105), ylabel="rate, % of a plain product's")
    for ax in (memory, rate):
        ax.set(xscale="log", xlabel="pairs of a batch")
        ax.set_xticks([one["size"] for one in curve])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1024:.3g}k"))
        ax.grid(alpha=0.2)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
