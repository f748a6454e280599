"""How fast a run is, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from diptych.data.batch import Batch


class Meter:
    """Counts since the last reading; time outside of `loading` and `learning` (evaluation, saving) is left out."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._samples = 0
        self._tokens = 0
        self._loading_s = 0.0
        self._learning_s = 0.0

    def count(self, batch: Batch) -> None:
        """Rows and real tokens of a batch, on the CPU."""
        self._samples += len(batch)
        if batch.text is not None:
            self._tokens += int(batch.text.mask.sum())

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time in which the model waits for its next batch."""
        start = time.perf_counter()
        yield
        self._loading_s += time.perf_counter() - start

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Time of forward pass, backward pass and update."""
        start = time.perf_counter()
        yield
        self._learning_s += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Samples/s, tokens/s and the loader's share of the time since the last reading."""
        total_s = max(self._loading_s + self._learning_s, 1e-9)
        rates = {
            "samples_per_s": round(self._samples / total_s, 2),
            "tokens_per_s": round(self._tokens / total_s, 2),
            "loader_share": round(self._loading_s / total_s, 4),
        }
        self._clear()
        return rates
