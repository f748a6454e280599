"""The folder of a run: begun once, and gone on with only by the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych.checkpoint.files import write_whole
from diptych.data.batch import Inputs
from diptych.errors import CheckpointError, RunExistsError
from diptych.train.run import FORMAT, Run, plain_run

FREE = {
    "inputs.workers",
    "training.log_every",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
    "training.keep",
    "training.skip_limit",
    "training.max_bad_rows",
}
"""Settings that may change when a run goes on: no weight depends on them."""


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return (folder / "run.json").is_file()


def begin_folder(out: Path, run: Run, inputs: Inputs, *, resume: bool) -> None:
    """Makes the folder with `tokenizer/` and `run.json`, or checks that the run in it is this one.

    Args:
        out: the run folder.
        run: what is to be trained.
        inputs: what saves the tokenizer.
        resume: whether a run that is there may go on.
    Raises:
        RunExistsError: there is a run and `resume` is False, or it differs from `run` in settings that matter.
        CheckpointError: a newer diptych wrote the run.
    """
    plain = plain_run(run)
    if holds_run(out):
        if not resume:
            raise RunExistsError(f"{out} holds a run already; pass --resume to go on with it, or choose another --out.")
        _check_same(out, json.loads((out / "run.json").read_text(encoding="utf-8")), plain)
    else:
        out.mkdir(parents=True, exist_ok=True)
        inputs.save(out)
    write_whole(out / "run.json", json.dumps(plain, indent=2) + "\n")  # last: its presence says that a run is here


def _check_same(out: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if there.get("format", 0) > FORMAT:
        raise CheckpointError(f"{out / 'run.json'} has format {there['format']}; this diptych reads up to {FORMAT}.")
    old, new = dict(_flat(json.loads(json.dumps(there)))), dict(_flat(json.loads(json.dumps(now))))
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    differing = [name for name in differing if name not in FREE]
    if differing:
        lines = "".join(f"\n  {name}: {old.get(name)!r} in the run, {new.get(name)!r} now" for name in differing)
        raise RunExistsError(
            f"{out} holds a run with other settings, so it cannot go on with these:{lines}\n"
            "Leave those settings as they were, or choose another --out."
        )


def _flat(plain: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{name}.")
        else:
            yield where + name, value
