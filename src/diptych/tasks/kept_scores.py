"""Scores of many pairs in a file that grows tile by tile, so that long work goes on where it was stopped."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from diptych.data.durable import flush_to_disk
from diptych.errors import RunExistsError

BYTES = 4
"""Of a score, float32."""


class KeptScores:
    """Tiles of scores one after the other, and nothing else; what they are of, the file's name must say.

    A tile counts once all of it has reached the disk: half a one, which a kill may leave, is cut off.
    """

    def __init__(self, path: Path | None, sizes: Sequence[int]) -> None:
        """Takes over what an earlier run finished.

        Args:
            path: the file; it need not be there. None: all stays in memory.
            sizes: scores of each tile.
        Raises:
            RunExistsError: another process is writing it.
        """
        self.path = path
        self._ends = list(accumulate(sizes))
        self._file = None if path is None else _locked(path)
        self._in_memory: list[Tensor] = []
        there = 0 if path is None else path.stat().st_size // BYTES
        self.tiles = sum(end <= there for end in self._ends)
        """That are whole."""
        if self._file is not None:
            self._file.truncate(BYTES * self.pairs)

    @property
    def pairs(self) -> int:
        """Scores of the tiles that are whole."""
        return self._ends[self.tiles - 1] if self.tiles else 0

    def add(self, scores: Tensor) -> None:
        """The next tile, float32."""
        if self.path is None or self._file is None:
            self._in_memory.append(scores)
        else:
            self._file.write(scores.numpy().astype("<f4").tobytes())
            self._file.flush()
            flush_to_disk(self.path)
        self.tiles += 1

    def scores(self) -> list[Tensor]:
        """Those of every whole tile; of a file as it is mapped."""
        if self.path is None or not self.tiles:
            return self._in_memory
        mapped = torch.from_numpy(np.memmap(self.path, "<f4", mode="c", shape=self.pairs))
        starts = [0, *self._ends[: self.tiles - 1]]
        return [mapped[start:end] for start, end in zip(starts, self._ends, strict=False)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _locked(path: Path) -> BinaryIO:
    """The file, to be written to by this process alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RunExistsError(f"{path} is being written by another process; wait for it to end") from error
    return file
