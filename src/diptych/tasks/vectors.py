"""Where vectors are kept while more of them are made: in memory, or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class Vectors(Protocol):
    """Takes vectors a chunk at a time."""

    def add(self, vectors: Tensor) -> None:
        """Keeps (n, D) more, behind those that are there."""

    def whole(self) -> Tensor:
        """(N, D) float32 all that were added; (0, 0) where none were."""


class InMemory:
    """Vectors in memory."""

    def __init__(self) -> None:
        self._chunks: list[Tensor] = []

    def add(self, vectors: Tensor) -> None:
        """Keeps (n, D) more, behind those that are there."""
        self._chunks.append(vectors.float())

    def whole(self) -> Tensor:
        """(N, D) float32 all that were added; (0, 0) where none were."""
        return torch.cat(self._chunks) if self._chunks else torch.empty(0, 0)


class InFile:
    """Vectors in a file of plain float32, which is mapped: what is read of it, the system may drop again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._shape = (0, 0)
        file.write_bytes(b"")

    def add(self, vectors: Tensor) -> None:
        """Keeps (n, D) more, behind those that are there."""
        with self._file.open("ab") as out:
            out.write(vectors.float().numpy().tobytes())
        self._shape = (self._shape[0] + len(vectors), vectors.shape[1])

    def whole(self) -> Tensor:
        """(N, D) float32 all that were added, mapped from the file; (0, 0) where none were."""
        num = self._shape[0] * self._shape[1]
        if not num:
            return torch.empty(0, 0)
        return torch.from_file(str(self._file), size=num, dtype=torch.float32).view(self._shape)
