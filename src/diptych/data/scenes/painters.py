"""Processes that draw scenes: they import numpy and Pillow, and nothing of whoever started them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import SimpleQueue
from typing import BinaryIO

from diptych.data.scenes.scene import Scene, make_scene
from diptych.data.scenes.settings import SceneSettings
from diptych.errors import DataError

AHEAD = 4
"""Pieces of work that wait for each process."""

_BEGIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from diptych.data.scenes.painters import serve; serve()"
)

Piece = tuple[str, Sequence[int]]
"""A split, and the numbers of scenes in it."""


def draw(settings: SceneSettings, piece: Piece) -> list[Scene]:
    """The scenes of one piece."""
    split, indices = piece
    return [make_scene(settings, split, index) for index in indices]


def draw_all(settings: SceneSettings, pieces: Iterable[Piece], workers: int) -> Generator[list[Scene]]:
    """The scenes of all pieces in their order, drawn by `workers` processes; one draws here.

    Raises:
        DataError: a process died.
    """
    if workers <= 1:
        yield from (draw(settings, piece) for piece in pieces)
        return
    rest = iter(pieces)
    painters = [_Painter(settings) for _ in range(workers)]
    free = SimpleQueue[_Painter]()
    for painter in painters:
        free.put(painter)

    def drawn(piece: Piece) -> list[Scene]:
        painter = free.get()
        try:
            return painter.draw(piece)
        finally:
            free.put(painter)

    # A thread waits for each process; unpickling is all that they do themselves.
    pool = ThreadPoolExecutor(workers, thread_name_prefix="painter")
    try:
        ahead: deque[Future[list[Scene]]] = deque(pool.submit(drawn, piece) for piece in islice(rest, AHEAD * workers))
        while ahead:
            scenes = ahead.popleft().result()
            ahead.extend(pool.submit(drawn, piece) for piece in islice(rest, 1))
            yield scenes
    finally:
        for painter in painters:
            painter.end()
        pool.shutdown(cancel_futures=True)
        for painter in painters:
            painter.close()


class _Painter:
    """One process that draws what it is asked for.

    multiprocessing's "spawn" would import the main module again in each process: a script's `import torch` made two
    processes slower than one (2,000 scenes: 317 against 720 a second), and a script without a guard started itself.
    """

    def __init__(self, settings: SceneSettings) -> None:
        # A process group of its own: Ctrl-C is the parent's to answer. Where the parent is killed, the pipe ends.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._first: tuple[object, ...] = (sys.path, settings)

    def draw(self, piece: Piece) -> list[Scene]:
        """The scenes of one piece.

        Raises:
            DataError: the process died.
        """
        try:
            for word in (*self._first, piece):
                pickle.dump(word, self._to)
            self._first = ()
            self._to.flush()
            scenes: list[Scene] = pickle.load(self._from)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise DataError(
                "a process that draws scenes died, perhaps for want of memory; what is drawn is kept, so run the same "
                "again, with fewer workers"
            ) from error
        return scenes

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Lets go of the pipes, once no thread reads from them."""
        for pipe in (self._to, self._from):
            with suppress(OSError):  # what was not sent yet needs no sending
                pipe.close()


def serve() -> None:
    """Draws what standard input asks for, until it ends."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may be said between the answers
    settings: SceneSettings = pickle.load(asked)
    while True:
        try:
            piece: Piece = pickle.load(asked)
        except EOFError:
            return
        pickle.dump(draw(settings, piece), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
