"""How fast a run is, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diptych.data.batch import Batch

FLOPS_AFTER_S = 20.0
"""Operations are counted from the first reading after so much training on: short runs are not worth the two seconds
that torch takes to learn to count."""


class Meter:
    """Counts since the last reading; time outside of `loading` and `learning` (evaluation, saving) is left out."""

    def __init__(
        self, pair_flops: Callable[[Batch], int] | None = None, peak: float | None = None, ranks: int = 1
    ) -> None:
        """Reads the model FLOPs utilisation too where both are given.

        Args:
            pair_flops: operations of a pair of a batch, as `PairFlops`.
            peak: operations a second that the device can do, as `product_rate`.
            ranks: processes that each count as many rows as this one.
        """
        self._pair_flops = pair_flops
        self.peak = peak
        self._ranks = ranks
        self._trained_s = 0.0
        self._clear()

    def _clear(self) -> None:
        self._samples = 0
        self._tokens = 0
        self._flops: int | None = 0 if self._trained_s >= FLOPS_AFTER_S else None
        self._loading_s = 0.0
        self._learning_s = 0.0

    def count(self, batch: Batch) -> None:
        """Rows, real tokens and operations of a batch, on the CPU."""
        self._samples += len(batch)
        if batch.text is not None:
            self._tokens += int(batch.text.mask.sum())
        if self._flops is not None and self._pair_flops is not None:
            try:
                self._flops += len(batch) * self._pair_flops(batch)
            except Exception:  # a model from outside the package need not run on shapes alone
                self._pair_flops = None

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
        """Samples/s and tokens/s of all ranks, the loader's share of the time since the last reading; `mfu` if known.

        Model FLOPs utilisation as in PaLM, arXiv:2204.02311, appendix B: what forward and backward pass need, once,
        over what the device could have done in the time, waiting for the loader included.
        """
        total_s = max(self._loading_s + self._learning_s, 1e-9)
        rates = {
            "samples_per_s": round(self._ranks * self._samples / total_s, 2),
            "tokens_per_s": round(self._ranks * self._tokens / total_s, 2),
            "loader_share": round(self._loading_s / total_s, 4),
        }
        if self._flops is not None and self._pair_flops is not None and self.peak is not None:
            rates["mfu"] = round(self._flops / (total_s * self.peak), 4)
        self._trained_s += total_s
        self._clear()
        return rates
