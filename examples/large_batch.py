"""One real optimizer step of CLIP's batch, 32,768 pairs, on a small machine, and the same step split in other ways.

    python examples/large_batch.py

It draws the pictures, trains a small model for one step, and prints loss, norm of the gradient, time and peak memory;
then takes the same step with micro-batches of other sizes. Loss and gradient differ by rounding only. A run's first
checkpoint has the gradient: Adam's first moment is a tenth of it. Two cores, float32, under 8 GiB.

The recipe is an ordinary one, so the same step is taken by any number of processes, and `--with` puts it beside:

    diptych data scenes --out scenes --num 34768 --size 48
    torchrun --nproc-per-node 2 --no-python diptych train ./examples/large_batch.py:run --data scenes --out runs/ranks
    python examples/large_batch.py --with runs/ranks
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from diptych import open_table, systems
from diptych.checkpoint.store import CheckpointStore
from diptych.clip import recipes
from diptych.data.loader import usable_cores
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table
from diptych.overrides import apply_overrides
from diptych.progress import spoken_size
from diptych.train.fit import fit
from diptych.train.memory import PeakMemory
from diptych.train.run import Run


def run() -> Run:
    """One step of 32,768 pairs by a small CLIP; how many go through it at once is measured.

    The demo's, but for a ViT in place of its convolutions: their batch norm sees micro-batches.
    """
    base = recipes.demo()
    model = replace(base.model, image="vit", patch_size=12, image_width=128, image_layers=(2,), image_heads=4)
    training = replace(base.training, steps=1, batch=32_768, eval_every=None, eval_rows=64)
    return replace(base, recipe="large_batch", model=model, training=training)


@dataclass(frozen=True, kw_only=True)
class OneStep:
    """What a run of one step wrote down."""

    micro_batch: int
    loss: float
    grad_norm: float
    seconds: float
    gradient: dict[str, Tensor]


def read_step(folder: Path) -> OneStep:
    """The first step of a run, from its folder."""
    settings = systems.read_run(folder)
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    step = next(event for event in events if event["event"] == "step")
    checkpoint = CheckpointStore(folder).latest()
    assert checkpoint is not None and checkpoint.step == 1, f"{folder} is no run of one step"
    share = 1 - settings.optim.betas[0]
    moments = {name: value for name, value in checkpoint.optimizer().items() if name.startswith("exp_avg.")}
    return OneStep(
        micro_batch=settings.training.rows_at_once or settings.training.batch,
        loss=step["loss"],
        grad_norm=step["grad_norm"],
        seconds=settings.training.batch / step["samples_per_s"] * (1 - step["loader_share"]),
        gradient={name: value / share for name, value in moments.items()},
    )


def train_step(settings: Run, table: Table, out: Path, device: str) -> int:
    """Takes the step into the folder `out`; the most memory that all processes had meanwhile."""
    texts = table.split(settings.inputs.split).texts()
    with PeakMemory(children=True, every_s=0.01) as peak:
        fit(systems.build(settings, texts=texts), table, out, device=device)
    return peak.bytes


def difference(one: OneStep, other: OneStep) -> float:
    """The largest between two gradients, as a share of the largest entry."""
    largest = max(float(value.abs().max()) for value in other.gradient.values())
    return max(float((one.gradient[name] - value).abs().max()) for name, value in other.gradient.items()) / largest


def line(name: str, step: OneStep, first: OneStep, peak: int | None) -> str:
    """A row of the table; differences are from the first."""
    memory = "" if peak is None else spoken_size(peak)
    apart = f"{abs(step.loss - first.loss):11.1e} {difference(step, first):11.1e}"
    return (
        f"{name:>16} {step.micro_batch:11,} {step.loss:10.6f} {step.grad_norm:10.6f} {apart} "
        f"{step.seconds:8.1f} {memory:>9}"
    )


def the_scenes(folder: Path, batch: int) -> Table:
    """Scenes of which at least `batch` are for training, drawn where they are not there yet."""
    if not folder.exists():
        draw_scenes(folder, easy(num=min(batch * 4 // 3 + 16, batch + 2000), size_px=48), workers=usable_cores())
    return open_table(folder)


def steps(options: argparse.Namespace) -> Iterator[tuple[str, OneStep, int | None]]:
    """Every split in its turn: its name, its step and its peak memory."""
    table = the_scenes(options.out / "scenes", options.batch)
    for micro_batch in options.micro_batch:
        asked = [f"training.batch={options.batch}", f"training.micro_batch={micro_batch}"]
        folder = options.out / f"micro_{micro_batch}"
        peak = train_step(apply_overrides(run(), asked), table, folder, options.device)
        yield folder.name, read_step(folder), peak
    for folder in options.others:
        yield folder.name, read_step(folder), None


def main() -> None:
    """Prints a line for each split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/large_batch"), help="a folder for scenes and runs")
    parser.add_argument("--batch", type=int, default=32_768)
    parser.add_argument("--micro-batch", nargs="+", default=["auto", "512", "5000"], help="auto, or rows at once")
    parser.add_argument("--with", dest="others", type=Path, nargs="+", default=[], help="runs of the same step")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print(f"One step over {options.batch:,} pairs. Differences are from the first line.")
    print("             run micro-batch       loss  grad norm  loss diff.  grad diff.  seconds      peak")
    first = None
    for name, step, peak in steps(options):
        first = step if first is None else first
        print(line(name, step, first, peak), flush=True)


if __name__ == "__main__":
    main()
