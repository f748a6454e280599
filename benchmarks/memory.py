"""Memory of a training step: what `diptych.train.budget` computes against what a process takes.

A small ViT and text Transformer in float32, AdamW, gradient caching over micro-batches; each measurement in a process
of its own. Measured is the peak of anonymous memory over a second step (the first makes the moments), less what the
process had once a step of a few rows had loaded the libraries. Linux only.

python benchmarks/memory.py --json memory.json
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from diptych import systems
from diptych.clip.inputs import blank_batch
from diptych.clip.model import ClipConfig
from diptych.data.batch import Batch
from diptych.systems.models import new_model
from diptych.train.budget import Layout, memory_parts
from diptych.train.device import Precision
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.run import Run
from harness import arguments, machine, print_machine, write_json

MODEL = ClipConfig(
    embed_dim=128,
    image_size=64,
    image_width=96,
    image_layers=(4,),
    image_heads=2,
    patch_size=8,
    context=32,
    vocab_size=1024,
    end_id=1023,
    text_width=64,
    text_layers=2,
    text_heads=2,
)
BATCH = 256
MICRO_BATCHES = (64, 128)
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc gives back what is freed at once; by itself it keeps much of it for later, which differs from run to run."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--child", type=json.loads, help="measure one, here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child is not None:
        print(peak(run(*options.child)))
        return
    print_machine()
    found = []
    for recompute in (False,) if options.quick else (False, True):
        for micro_batch in MICRO_BATCHES:
            computed = needed(run(micro_batch, recompute))
            ways = {"given back": AT_ONCE} if options.quick else {"given back": AT_ONCE, "kept by glibc": {}}
            for way, variables in ways.items():
                measured = in_child([micro_batch, recompute], variables, options.threads)
                again = ", activation checkpointing" if recompute else ""
                name = f"{micro_batch} of {BATCH} at once{again}, {way}"
                ratio = measured / computed
                print(f"  {name:62} {measured / 1e6:6.0f} of {computed / 1e6:4.0f} MB {ratio:5.2f} x", flush=True)
                found.append({"name": name, "micro_batch": micro_batch, "measured": measured, "computed": computed})
    write_json(options, {**machine(), "steps": found})


def run(micro_batch: int, recompute: bool) -> Run:
    """The recipe "tiny" with the model of this file."""
    tiny = systems.recipe("clip", "tiny")
    training = replace(tiny.training, batch=BATCH, micro_batch=micro_batch, activation_checkpointing=recompute)
    return replace(tiny, model=MODEL, training=training)


def needed(run: Run) -> int:
    """Bytes by formula."""
    training = run.training
    layout = Layout(batch=training.batch, ranks=1, parallel="ddp", micro_batch=training.micro_batch or training.batch)
    return sum(memory_parts(systems.cost_of(run), layout).values())


def in_child(what: list[object], variables: dict[str, str], threads: int) -> int:
    """`peak` in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(threads), "--child", json.dumps(what)]
    done = subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True)
    return int(done.stdout)


def peak(run: Run) -> int:
    """Bytes that this process takes more, at most, in the second step of a run."""
    few = replace(run, training=replace(run.training, batch=4, micro_batch=2))
    step(few, steps=1)
    gc.collect()
    before = anonymous("VmRSS")
    step(run, steps=2)
    return anonymous("VmHWM") - before


def step(run: Run, *, steps: int) -> None:
    """So many steps on rows of noise; the peak is that of the last."""
    job = Job(run=run, model=new_model("clip", run.model), objective=run.objective, inputs=None)  # type: ignore[arg-type]
    learner = Learner(job, steps=steps, device=torch.device("cpu"), precision=Precision("float32", "as said"))
    batch = noise(run.training.batch)
    for number in range(steps):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is of what follows
        learner.update(batch, {}, number, micro_batch=run.training.rows_at_once)


def noise(rows: int) -> Batch:
    """Pictures and texts as long as the model reads."""
    batch = blank_batch(MODEL, rows, MODEL.context)
    assert batch.image is not None and batch.text is not None
    batch.image.pixels.random_(0, 255)
    batch.text.ids.random_(0, MODEL.end_id)
    batch.text.ids[:, -1] = MODEL.end_id
    batch.text.mask.fill_(True)
    batch.group.copy_(torch.arange(rows))
    return batch


def anonymous(which: str) -> int:
    """Resident bytes now (VmRSS) or at most (VmHWM), without pages of files, which other programs share."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return 1024 * (kib[which] - kib["RssFile"] - kib["RssShmem"])


if __name__ == "__main__":
    main()
