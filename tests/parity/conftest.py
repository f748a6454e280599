"""What the parity tests share: sets of golden data, and for CLIP small inputs with texts of unequal length."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor


class GoldenSet:
    """Stored outputs of released code: facts from golden.json, tensors by name from whichever file holds them."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.facts: dict[str, Any] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file of each tensor."""
        found: dict[str, Path] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            with safe_open(file, "pt") as tensors:
                names = list(tensors.keys())
            twice = found.keys() & set(names)
            assert not twice, f"{file} has {sorted(twice)[:3]}, as {[found[name] for name in sorted(twice)[:3]]} have"
            found |= dict.fromkeys(names, file)
        return found

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.files[name], "pt") as tensors:
            return tensors.get_tensor(name).to(self.device)

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names that begin with it."""
        return [name.removeprefix(prefix) for name in self.files if name.startswith(prefix)]


@pytest.fixture(scope="session")
def golden(golden_root: Path) -> Callable[..., GoldenSet]:
    """A function: a room's golden set, with its tensors on a device."""

    def of_room(room: str, device: torch.device = torch.device("cpu")) -> GoldenSet:
        if not (golden_root / room).is_dir():
            pytest.skip(f"{golden_root} has no set for {room}")
        return GoldenSet(golden_root / room, device)

    return of_room


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def padded_texts():
    """A function: (3, context) ids that begin with start, end with the largest id, and are padded with 0."""

    def make(vocab_size: int, context: int) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        ids = torch.zeros(3, context, dtype=torch.long)
        for row, length in zip(ids, (context, context // 2, 3), strict=True):
            row[:length] = torch.randint(1, vocab_size - 2, (length,), generator=generator)
            row[0], row[length - 1] = vocab_size - 2, vocab_size - 1
        return ids

    return make
