"""LiveBytes: what tensors hold at once, counted operation by operation, on any device or on none."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diptych.data.batch import Batch


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, each once, for as long as they live."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        """Leaves out what is there before: `given`."""
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: dict[int, Any] = {one.untyped_storage()._cdata: None for one in given}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operation and looks at what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._meet(tensor.untyped_storage())
        return made

    def _meet(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address not in self._known:
            self._known[address] = weakref.ref(storage, lambda _: self._forget(address, size))
            self._now += size
            self.peak = max(self.peak, self._now)

    def _forget(self, address: int, size: int) -> None:
        del self._known[address]
        self._now -= size


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """All of a batch."""
    yield batch.group
    if batch.text is not None:
        yield from (batch.text.ids, batch.text.mask)
    if batch.image is not None:
        yield batch.image.pixels
    if batch.objects is not None:
        yield from (value for value in vars(batch.objects).values() if isinstance(value, Tensor))
