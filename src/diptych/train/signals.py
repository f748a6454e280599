"""Ctrl-C and SIGTERM as a wish that the loop grants after the step, or the batch of an evaluation, it is in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from diptych.progress import Progress
from diptych.ranks import ALONE, Ranks

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopAskedError(Exception):
    """The wish to stop, at a moment that the run can go on from."""


class StopSignals:
    """While it is open, the first signal is a wish to stop, and a second one stops at once.

    In a thread other than the main one there are no signals to catch, and nothing is changed.
    """

    def __init__(self, progress: Progress, ranks: Ranks = ALONE) -> None:
        self.received: str | None = None
        """The name of the signal that came, None while there was none."""
        self._progress = progress
        self._ranks = ranks
        self._before: dict[signal.Signals, Any] = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._progress.say(f"{self.received}: finishing this step and writing a checkpoint; once more to stop at once.")

    def check(self) -> None:
        """Grants the wish, if there is one; every rank calls it.

        Raises:
            StopAskedError: a signal came, to this process or another.
        """
        if any(asked for (asked,) in self._ranks.gathered([self.received is not None])):
            raise StopAskedError

    def checked(self, batches: Iterable[T]) -> Iterator[T]:
        """`batches`, with a look before each: an evaluation is long, and made anew when the run goes on."""
        for batch in batches:
            self.check()
            yield batch

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._receive) for one in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
