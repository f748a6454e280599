"""The folder of a run: begun once, and gone on with only by the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diptych.checkpoint.files import write_whole
from diptych.data.batch import Inputs
from diptych.errors import CheckpointError, RunExistsError
from diptych.overrides import flat
from diptych.train.job import SCRATCH
from diptych.train.run import FORMAT, Run, plain_run

FREE = {
    "inputs.workers",
    "inputs.decode_timeout_s",
    "training.log_every",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.keep",
    "training.skip_limit",
    "training.max_bad_rows",
    "training.parallel",
    "training.rank_timeout_s",
    "training.micro_batch",
    "training.activation_checkpointing",
}
"""Settings that may change when a run goes on: no weight depends on them, on the last two by rounding at most.

These are the way out for a run that memory became too short for. (Batch norm and dropout see another micro-batch.)
"""


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return (folder / "run.json").is_file()


def with_its_micro_batch(run: Run, out: Path) -> Run:
    """The run with the micro-batch that the one in `out` was found to fit, where `run` leaves it to measuring."""
    if run.training.micro_batch != "auto" or not holds_run(out):
        return run
    there = flat(json.loads((out / "run.json").read_text(encoding="utf-8")))
    found = there.get("training.micro_batch", "auto")
    return replace(run, training=replace(run.training, micro_batch=found))


def begin_folder(out: Path, run: Run, inputs: Inputs, *, resume: bool, origin: str = SCRATCH) -> str:
    """Makes the folder with `tokenizer/` and `run.json`, or checks that the run in it is this one.

    Args:
        out: the run folder.
        run: what is to be trained.
        inputs: what saves the tokenizer.
        resume: whether a run that is there may go on.
        origin: where the weights come from that this call was given.
    Returns:
        Where the weights came from that the run began with, which `run.json` says beside the settings.
    Raises:
        RunExistsError: there is a run and `resume` is False, or it differs from `run` in settings that matter, or it
            began with other weights than those that are given.
        CheckpointError: a newer diptych wrote the run.
    """
    plain = plain_run(run)
    if holds_run(out):
        if not resume:
            raise RunExistsError(f"{out} holds a run already; pass --resume to go on with it, or choose another --out.")
        there = json.loads((out / "run.json").read_text(encoding="utf-8"))
        began = there.pop("origin", SCRATCH)
        _check_same(out, there, plain)
        origin = _same_origin(out, began, origin)
    else:
        out.mkdir(parents=True, exist_ok=True)
        inputs.save(out)
    write_run(out, run, origin)  # last: its presence says that a run is here
    return origin


def write_run(out: Path, run: Run, origin: str) -> None:
    """Writes `run.json`, or writes it anew."""
    write_whole(out / "run.json", json.dumps({**plain_run(run), "origin": origin}, indent=2) + "\n")


def _same_origin(out: Path, began: str, given: str) -> str:
    """What the run began with, where nothing else is given now; one path may be written in several ways."""
    if given == SCRATCH or Path(given).resolve() == Path(began).resolve():
        return began
    how = "without --init" if began == SCRATCH else f"with the weights of {began}"
    raise RunExistsError(
        f"the run in {out} began {how}, so it cannot go on with those of {given}. Name the same weights again, or "
        "choose another --out."
    )


def _check_same(out: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if there.get("format", 0) > FORMAT:
        raise CheckpointError(f"{out / 'run.json'} has format {there['format']}; this diptych reads up to {FORMAT}.")
    old, new = flat(json.loads(json.dumps(there))), flat(json.loads(json.dumps(now)))
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    differing = [name for name in differing if name not in FREE]
    if differing:
        lines = "".join(f"\n  {name}: {old.get(name)!r} in the run, {new.get(name)!r} now" for name in differing)
        raise RunExistsError(
            f"{out} holds a run with other settings, so it cannot go on with these:{lines}\n"
            "Leave those settings as they were, or choose another --out."
        )
