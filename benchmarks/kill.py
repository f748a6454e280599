"""Kills a run at random moments, again and again, and compares its end with that of a run that nothing disturbed.

CLIP's tiny recipe on the picture world. Every life of the run is a group of processes of its own, which SIGKILL ends
after a random pause; the next life goes on from what it left. At the end the weights, the optimizer and what was
logged must be the same to the bit. `tests/faults/test_kill.py` is the short form.

    python benchmarks/kill.py --kills 200 --json kill.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path
from typing import Any

import torch

from diptych import systems
from diptych.checkpoint.store import CheckpointStore
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table
from diptych.overrides import apply_overrides
from diptych.train import loop
from diptych.train.fit import fit
from diptych.train.learner import Learner
from harness import arguments, machine, print_machine, write_json

CLOCK = {"time_s", "samples_per_s", "tokens_per_s", "loader_share", "mfu", "product_rate"}
STEPS_A_KILL = 5
SETTINGS = ["training.checkpoint_every=2", "training.eval_every=7", "inputs.workers=1"]
PRELOADED = ["diptych.systems", "diptych.train.fit", "diptych.data.scenes", "torch._dynamo"]
"""By the process that all lives are forked from: each would spend seconds on it otherwise. It does nothing else."""
PLACES = ("while it started", "between these", "in a step", "in an evaluation", "in a checkpoint")
STARTING, BETWEEN, STEP, EVALUATION, CHECKPOINT = range(len(PLACES))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, help="how many; 200 if left out, 4 with --quick")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--tmp", type=Path, help="folder for the table and the runs")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
    print_machine()
    with tempfile.TemporaryDirectory(dir=options.tmp) as folder:
        results = compare(Path(folder), options.kills or (4 if options.quick else 200), options)
    write_json(options, {**machine(), "results": results})
    if results["differing"]:
        sys.exit(f"not the same as in the run that nothing disturbed: {', '.join(results['differing'])}")


def compare(folder: Path, kills: int, options: argparse.Namespace) -> dict[str, Any]:
    draw_scenes(folder / "table", replace(easy(), num=300))
    get_context("forkserver").set_forkserver_preload(PRELOADED)
    first = get_context("forkserver").Process(target=int)  # what is imported before it is no part of a life
    first.start()
    first.join()
    begin = partial(Life, folder / "table", steps=kills * STEPS_A_KILL, threads=options.threads)
    whole = begin(folder / "whole")
    whole_s = whole.to_the_end()
    # On average a life lasts as long as its share of the run, and the start besides.
    longest_s = whole.started_s + 2 * (whole_s - whole.started_s) / kills
    pauses = random.Random(options.seed)
    hit: Counter[str] = Counter()
    differing: set[str] = set()
    runs, begun = 0, time.monotonic()
    while hit.total() < kills:  # a run that comes to its end before is followed by another
        out = folder / f"killed {runs}"
        runs += 1
        while hit.total() < kills and (place := begin(out).killed_after(pauses.uniform(0, longest_s))) is not None:
            hit[place] += 1
        begin(out).to_the_end()
        differing |= differences(content(out), content(folder / "whole"))
    killed_s = (time.monotonic() - begun) / runs
    places = ", ".join(f"{hit[place]} {place}" for place in PLACES)
    print(f"  {kills} kills in {runs} runs of {kills * STEPS_A_KILL} steps: {places}")
    print(f"  {killed_s:,.0f} s a run instead of {whole_s:,.0f} s: {killed_s / whole_s:.2f} x")
    print("  the end is " + ("another one" if differing else "the same, bit for bit"), flush=True)
    seconds = {"whole": whole_s, "killed": killed_s}
    return {"kills": dict(hit), "runs": runs, "differing": sorted(differing), "seconds": seconds}


class Life:
    """One process of a run, from its start to its end or its death."""

    def __init__(self, table: Path, out: Path, *, steps: int, threads: int) -> None:
        context = get_context("forkserver")
        self.place = context.Value("i", STARTING, lock=False)
        self.begun = time.monotonic()
        own = get_start_method()  # of the run's own processes, the platform's
        self.process = context.Process(target=live, args=(table, out, steps, threads, own, self.place))
        self.process.start()

    def to_the_end(self) -> float:
        """Seconds that it took; those until training began are in `started_s`."""
        while self.place.value == STARTING and self.process.is_alive():
            time.sleep(0.001)
        self.started_s = time.monotonic() - self.begun
        self.process.join()
        if self.process.exitcode != 0:
            sys.exit(f"a life of the run ended by itself, exit code {self.process.exitcode}; what it said is above")
        return time.monotonic() - self.begun

    def killed_after(self, pause_s: float) -> str | None:
        """Where the kill found it, None where it had come to its end."""
        self.process.join(pause_s)
        if not self.process.is_alive():
            return None
        with suppress(ProcessLookupError):  # where it was killed before it had a group of its own
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        return PLACES[self.place.value]


def live(table: Path, out: Path, steps: int, threads: int, start_method: str, place: Any) -> None:
    """Trains, goes on where there is a run, and says all the while where it is."""
    os.setsid()
    set_start_method(start_method, force=True)
    torch.set_num_threads(threads)
    CheckpointStore.save = said(place, CHECKPOINT, CheckpointStore.save)  # type: ignore[method-assign]
    CheckpointStore.mark_best = said(place, CHECKPOINT, CheckpointStore.mark_best)  # type: ignore[method-assign]
    Learner.update = said(place, STEP, Learner.update)  # type: ignore[method-assign]
    loop.evaluate = said(place, EVALUATION, loop.evaluate)
    run = apply_overrides(systems.recipe("clip", "tiny"), [*SETTINGS, f"training.steps={steps}"])
    opened = open_table(table)
    there = out / "tokenizer" if (out / "run.json").exists() else None
    job = systems.build(run, texts=opened.split(run.inputs.split).texts(), tokenizer_folder=there)
    fit(job, opened, out, resume=True, device="cpu", on_begin=partial(setattr, place, "value", BETWEEN))


def said(place: Any, here: int, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        before, place.value = place.value, here
        try:
            return function(*args, **kwargs)
        finally:
            place.value = before

    return call


def content(out: Path) -> dict[str, Any]:
    """All that a run leaves except clocks: the bytes of its weights, and what it logged of every step."""
    checkpoint = CheckpointStore(out).latest()
    assert checkpoint is not None
    logged = []
    for line in (out / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in ("start", "step", "eval", "reject"):
            logged.append({name: value for name, value in event.items() if name not in CLOCK})
    files = ("model.safetensors", "optimizer.safetensors")
    return {
        "step": checkpoint.step,
        "best": (out / "best").read_text(),
        "log": logged,
        **{name: (checkpoint.folder / name).read_bytes() for name in files},
    }


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> set[str]:
    return {name for name in ours if ours[name] != theirs[name]}


if __name__ == "__main__":
    main()
