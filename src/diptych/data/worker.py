"""The life of a process that makes batches: what it is asked for, what it answers, and how it ends."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from diptych.errors import DataError

T = TypeVar("T")
Begin = Callable[[int | None], None]
"""Called with each row before it is read, and with None for what no row is to blame for.

Raises a DataError for a row that was given up: a process was stuck over it, or two died.
"""
Compute = Callable[[int, Begin], T]
"""What makes a batch of a step: a pure function that can be pickled."""

NO_ROW = -1
"""Said where no row is read."""
LOOK_S = 1.0
"""How often it looks whether its parent is still there."""


def serve(compute: Compute[Any], pipe: Connection, at: Any) -> None:
    """Answers each step that comes through the pipe, and says in `at` how many rows were begun and which is read."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # they reach the whole group, but the parent says when its processes end
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    gc.freeze()  # a collection would write to every object that came with the fork, and so copy its memory
    given_up: Mapping[int, str] = {}

    def begin(row: int | None) -> None:
        if row is not None and row in given_up:
            raise DataError(given_up[row])
        at[1] = NO_ROW if row is None else row
        at[0] += 1

    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            step, given_up = pipe.recv()
            pipe.send(_answer(compute, step, begin))


def _answer(compute: Compute[T], step: int, begin: Begin) -> T | Exception:
    try:
        return compute(step, begin)
    except Exception as error:
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error with its process's traceback as a note; where it cannot be sent as it is, its words."""
    told = f"In a process that decodes pictures:\n{traceback.format_exc()}"
    try:
        sent: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(told)
    return sent


def _end_with_parent(parent: int) -> None:
    """A parent that was killed cannot end its processes."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
