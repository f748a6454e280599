"""The record of a run: one JSON object a line in log.jsonl, and TensorBoard beside it for who wants it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from diptych.errors import TrainingError, require_extra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Appends events; what stands there has reached the operating system."""

    def __init__(
        self, path: Path | None, *, keep_bytes: int = 0, step: int = 0, time_s: float = 0.0, tensorboard: bool = False
    ) -> None:
        """Goes on after the first `keep_bytes` of the file: what a run that was killed wrote after them is cut off.

        Args:
            path: log.jsonl; None keeps the time and writes nothing, for processes beside the one that does.
            keep_bytes: size of the file when the checkpoint was written that the run goes on from.
            step: of that checkpoint.
            time_s: seconds that the run has taken up to there.
            tensorboard: also write the numbers as TensorBoard reads them, to the folder `tensorboard` beside.
        Raises:
            MissingExtraError: tensorboard is asked for and not installed.
        """
        if tensorboard:
            require_extra("tensorboard", "track", "--tensorboard")
        self._begun = time.monotonic() - time_s
        self._board = _board(path.parent / "tensorboard", step) if tensorboard and path is not None else None
        if path is not None:
            path.touch()
            os.truncate(path, min(keep_bytes, path.stat().st_size))
        self._path = path or Path(os.devnull)
        self._file = self._path.open("ab", buffering=0)  # a buffer would be written once more at the end of a full disk

    @property
    def num_bytes(self) -> int:
        """How long the file is by now."""
        return self._file.tell()

    @property
    def time_s(self) -> float:
        """Seconds since the run began, over all its parts."""
        return time.monotonic() - self._begun

    def write(self, event: str, step: int, fields: Mapping[str, Any]) -> None:
        """One line: what happened after how many steps. A number that is not finite becomes null: JSON has no NaN.

        Raises:
            TrainingError: the disk is full or cannot be written.
        """
        line = {"event": event, "step": step, "time_s": round(self.time_s, 3), **fields}
        self._append(json.dumps(_finite(line), allow_nan=False).encode() + b"\n")
        if self._board is not None and event in ("step", "eval"):
            _add_scalars(self._board, event, step, fields)

    def _append(self, line: bytes) -> None:
        try:
            while line:
                line = line[self._file.write(line) :]  # a disk that is nearly full takes a part
        except OSError as error:
            raise TrainingError(
                f"{self._path} could not be written: {error.strerror}. Make room or check the folder's rights, then go "
                "on with --resume; the checkpoints are untouched."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(folder: Path, step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    # What an earlier part of the run drew after the checkpoint is hidden; a new run hides nothing.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _add_scalars(board: SummaryWriter, event: str, step: int, fields: Mapping[str, Any]) -> None:
    prefix = {"step": "train", "eval": str(fields.get("split", "eval"))}[event]
    for name, value in fields.items():
        if isinstance(value, Mapping):
            for inner, number in value.items():
                board.add_scalar(f"{prefix}/{inner}", number, step)
        elif isinstance(value, int | float):
            board.add_scalar(f"{prefix}/{name}", value, step)
