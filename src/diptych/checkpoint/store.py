"""Checkpoints of a run: each a folder that appears whole, with the SHA-256 of its files; the newest and the best stay.

checkpoints/step_0000100/{model.safetensors optimizer.safetensors state.json SHA256}; the files `last` and `best` beside
`checkpoints` name a step's folder. Where weights are cut over ranks, `optimizer/` stands for optimizer.safetensors:
each rank writes its share there, and any number of ranks reads it back. `model.safetensors` is whole always.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.checkpoint import shares
from diptych.checkpoint.files import PARTIAL, damage_in, write_sums, write_whole
from diptych.data.durable import flush_to_disk
from diptych.errors import CheckpointError
from diptych.progress import SILENT, Progress
from diptych.ranks import ALONE, Ranks

FORMAT = 1
"""The number in state.json; one that is newer than this is refused."""
DAMAGED = ".damaged"
MODEL, OPTIMIZER, STATE, SHARES = "model.safetensors", "optimizer.safetensors", "state.json", "optimizer"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One that was read back and found undamaged."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def model(self) -> dict[str, Tensor]:
        """The weights to use, on the CPU."""
        return _tensors(self.folder / MODEL)

    @property
    def in_shares(self) -> bool:
        """Whether the optimizer's tensors were written by several ranks, each its share."""
        return (self.folder / SHARES).is_dir()

    def optimizer(self) -> dict[str, Tensor]:
        """What only going on with the run needs; not of a checkpoint in shares."""
        return _tensors(self.folder / OPTIMIZER)

    def optimizer_names(self) -> list[str]:
        """Names of the tensors of a checkpoint in shares."""
        return sorted(shares.names(self.folder / SHARES))

    def fill(self, tensors: dict[str, Tensor]) -> None:
        """Reads a checkpoint in shares into tensors that are whole or cut over any number of ranks; all ranks call it.

        Args:
            tensors: by name, of the shapes that were saved.
        Raises:
            CheckpointError: a name or shape is not there.
        """
        shares.fill(self.folder / SHARES, tensors)


class CheckpointStore:
    """The checkpoints of one run folder, which all ranks share. Those that write are called by every rank."""

    def __init__(self, run_folder: Path, keep: int = 2, progress: Progress = SILENT, ranks: Ranks = ALONE) -> None:
        self.run_folder = run_folder
        self.folder = run_folder / "checkpoints"
        self.keep = max(keep, 1)
        self._progress = progress
        self._ranks = ranks

    def save(
        self,
        step: int,
        *,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        state: Mapping[str, Any],
        in_shares: bool = False,
    ) -> Path:
        """Writes the checkpoint of `step`, names it `last`, and removes those that need not be kept.

        Args:
            step: optimizer steps made.
            model: by name, whole; what `load` gives to users. Read of the lead alone.
            optimizer: by name; what only going on needs.
            state: what JSON can hold.
            in_shares: the optimizer's tensors are cut over the ranks, and each writes its own.
        Returns:
            The folder.
        Raises:
            CheckpointError: the disk is full or cannot be written; what was saved before is untouched.
        """
        final = self._folder_of(step)
        partial = self.folder / (final.name + PARTIAL)
        files = {MODEL: model} if in_shares else {MODEL: model, OPTIMIZER: optimizer}
        try:
            self._ranks.from_lead(lambda: _write(partial, files, {"format": FORMAT, "step": step, **state}))
            if in_shares:
                shares.write(partial / SHARES, optimizer)
            self._ranks.from_lead(lambda: self._put_in_place(partial, final))
        except (OSError, SafetensorError, CheckpointError) as error:
            if self._ranks.leads:
                shutil.rmtree(partial, ignore_errors=True)
            raise _unwritten(f"the checkpoint of step {step}", final, error) from error
        return final

    def _put_in_place(self, partial: Path, final: Path) -> None:
        _close(partial)
        if final.exists():
            shutil.rmtree(final)  # of a run that went on from before it: the same bytes, or damaged ones
        partial.rename(final)
        flush_to_disk(self.folder)
        write_whole(self.run_folder / "last", final.name + "\n")
        self._prune()

    def mark_best(self, step: int | None) -> None:
        """Names the checkpoint of `step` the best so far, so that it is kept; None: there is none.

        Raises:
            CheckpointError: the disk is full or cannot be written.
        """
        self._ranks.from_lead(lambda: self._mark_best(step))

    def _mark_best(self, step: int | None) -> None:
        file = self.run_folder / "best"
        if step is None:
            file.unlink(missing_ok=True)
        else:
            try:
                write_whole(file, self._folder_of(step).name + "\n")
            except OSError as error:
                raise _unwritten("the name of the best checkpoint", file, error) from error
        self._prune()

    def latest(self) -> Checkpoint | None:
        """The newest undamaged checkpoint; a damaged one is told by name and the one before it is used.

        Raises:
            CheckpointError: there are checkpoints and all are damaged, or a newer diptych wrote the newest.
        """
        return self._ranks.from_lead(self._latest)

    def _latest(self) -> Checkpoint | None:
        folders = self._steps()
        for folder in reversed(folders):
            damage = damage_in(folder)
            if damage is None:
                return _opened(folder)
            self._progress.say(f"The checkpoint {folder} is damaged ({damage}); trying the one before it.")
        if folders:
            raise CheckpointError(
                f"all {len(folders)} checkpoints in {self.folder} are damaged; nothing can go on from them. "
                "Begin again with another --out, and look at the disk."
            )
        return None

    def go_on_from(self, step: int, best_step: int | None) -> None:
        """Makes `step` the newest: removes what a kill left half written, sets aside damaged newer checkpoints.

        Args:
            step: of the checkpoint that the run goes on from.
            best_step: the best one as that checkpoint knew it.
        """
        self._ranks.from_lead(lambda: self._go_on_from(step, best_step))

    def _go_on_from(self, step: int, best_step: int | None) -> None:
        for leftover in [*self.folder.glob("*" + PARTIAL), *self.run_folder.glob("*" + PARTIAL)]:
            _remove(leftover)
        for folder in self._steps():
            if _step_of(folder) > step:
                aside = folder.with_name(folder.name + DAMAGED)
                _remove(aside)
                folder.rename(aside)
        # A kill may have come after another was found to be the best, and this one removed.
        there = best_step is not None and self._folder_of(best_step).is_dir()
        self._mark_best(best_step if there else None)

    def _folder_of(self, step: int) -> Path:
        return self.folder / f"step_{step:07d}"

    def _steps(self) -> list[Path]:
        found = [path for path in self.folder.glob("step_*") if path.name[5:].isdecimal() and path.is_dir()]
        return sorted(found, key=_step_of)  # by number: from 10,000,000 on a name has a digit more

    def _prune(self) -> None:
        best = named_by(self.run_folder / "best")
        for folder in self._steps()[: -self.keep]:
            if folder.name != best:
                _remove(folder)


def _unwritten(what: str, where: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{what} could not be written to {where}: {error}. "
        "Make room or check the folder's rights, then go on with --resume; earlier checkpoints are untouched."
    )


def named_by(file: Path) -> str | None:
    """The step's folder that `best` or `last` names, or None where there is no such file."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def best_or_last(run_folder: Path) -> Checkpoint:
    """The checkpoint that users of a run mean: the best one, else the last.

    Raises:
        CheckpointError: there is none yet, or the one that is named is damaged.
    """
    for file in ("best", "last"):
        name = named_by(run_folder / file)
        if name is not None:
            return read_checkpoint(run_folder / "checkpoints" / name)
    raise CheckpointError(f"{run_folder} holds no checkpoint yet; expected a file 'last' that names one.")


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint and compares its files with their SHA-256.

    Raises:
        CheckpointError: it is missing, damaged, or written by a newer diptych.
    """
    damage = damage_in(folder) if folder.is_dir() else "there is no such folder"
    if damage is not None:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: {damage}. Use another one of the run, or go on with it by "
            "`diptych train ... --resume`, which takes the newest undamaged one."
        )
    return _opened(folder)


def _opened(folder: Path) -> Checkpoint:
    """A checkpoint whose files are known to be whole."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state["format"] > FORMAT:
        raise CheckpointError(
            f"the checkpoint {folder} has format {state['format']}; this diptych reads up to {FORMAT}. Update diptych."
        )
    return Checkpoint(folder=folder, step=state["step"], state=state)


def _write(partial: Path, files: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    _remove(partial)
    partial.mkdir(parents=True)
    for name, tensors in files.items():
        # Own memory for each: safetensors refuses tied weights that share it.
        own = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
        # One entry: safetensors writes several in any order, and equal checkpoints should have equal bytes.
        save_file(own, partial / name, metadata={"diptych_format": str(FORMAT)})
    (partial / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


def _close(partial: Path) -> None:
    """Sums of all that was written, and all of it on the disk."""
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    write_sums(partial, [path.relative_to(partial).as_posix() for path in files])
    for path in [*files, partial / "SHA256", *{path.parent for path in files}]:
        flush_to_disk(path)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
