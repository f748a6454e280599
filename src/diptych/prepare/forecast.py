"""What an extraction will take, by a few timed pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from diptych.data.regions import Regions
from diptych.errors import DataError
from diptych.progress import spoken_size, spoken_time

TIMED = 2
"""Batches that the prediction is made of, after a picture that warms up."""
SLOW_S = 1.0
"""A detector that takes longer for a picture is timed on single ones."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of all that is still to be done."""

    pictures: int
    """That are still to be done, by all processes."""
    seconds_per_picture: float
    """Of one process: decoding and detecting, one after the other."""
    seconds: float
    bytes: float
    """On disk, of these pictures."""
    free_bytes: int

    def __str__(self) -> str:
        rate = 1 / self.seconds_per_picture
        return (
            f"{self.pictures:,} pictures to go: about {spoken_time(self.seconds)} at {rate:.3g} pictures/s a process, "
            f"and {spoken_size(self.bytes)} on disk ({spoken_size(self.free_bytes)} free)"
        )


def forecast(
    find: Callable[[Sequence[int]], Iterable[tuple[str, Regions | DataError]]],
    rows: Sequence[int],
    num_bytes: Callable[[Regions], int],
    *,
    batch: int,
    pictures: int,
    processes: int,
    free_bytes: int,
) -> Forecast:
    """Times a few pictures.

    Args:
        find: the regions of rows.
        rows: from the middle of what is to do.
        num_bytes: that a picture's regions take on disk; 0 of those that will be rejected.
        batch: pictures that the detector is handed together.
        pictures: all that are to be done.
        processes: that will have something to do.
        free_bytes: on the disk.
    """
    warm_up_s, _ = _timed(find, rows, 1)
    seconds, found = _timed(find, rows, TIMED * (1 if warm_up_s > SLOW_S else batch))
    sizes = [size for one in found if isinstance(one, Regions) and (size := num_bytes(one))]
    each_s = seconds / len(found)
    return Forecast(
        pictures=pictures,
        seconds_per_picture=each_s,
        seconds=each_s * pictures / processes,
        bytes=pictures * sum(sizes) / max(len(sizes), 1),
        free_bytes=free_bytes,
    )


def _timed(
    find: Callable[[Sequence[int]], Iterable[tuple[str, Regions | DataError]]], rows: Sequence[int], num: int
) -> tuple[float, list[Regions | DataError]]:
    """Seconds, and what was found in `num` rows, some of them again where they are fewer."""
    start = time.perf_counter()
    found = [one for _, one in find([rows[place % len(rows)] for place in range(num)])]
    return time.perf_counter() - start, found
