"""Ctrl-C and SIGTERM as a wish that the loop grants after the step it is in."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from diptych.progress import Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While it is open, the first signal is a wish to stop, and a second one stops at once.

    In a thread other than the main one there are no signals to catch, and nothing is changed.
    """

    def __init__(self, progress: Progress) -> None:
        self.received: str | None = None
        """The name of the signal that came, None while there was none."""
        self._progress = progress
        self._before: dict[signal.Signals, Any] = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._progress.say(f"{self.received}: finishing this step and writing a checkpoint; once more to stop at once.")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._receive) for one in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
