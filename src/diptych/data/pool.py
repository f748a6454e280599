"""Processes that make batches ahead, in order. One that dies or is stuck is replaced, and nothing changes by it.

torch's DataLoader cannot go on without a worker, and tells of its death by an error in the middle of whatever the
training process is doing. Here each process has a pipe of its own, so that the end of one hurts no other, and says in
shared memory which row it is on.
"""

from __future__ import annotations

import atexit
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import process
from multiprocessing.context import BaseContext
from threading import Thread
from typing import Generic

from torch import multiprocessing

from diptych.data.worker import NO_ROW, Compute, T, serve
from diptych.errors import DataError

AHEAD = 4
"""Batches that each process makes ahead, where they are not too large for that."""
POLL_S = 1.0
"""How often a process that is waited for is looked at."""
NO_ROW_S = 300.0
"""How long a process may be on no row, or `timeout_s` where that is more: to start or to put a batch together takes
seconds, and minutes where memory is short."""
END_S = 5.0
"""How long a process that was killed is waited for: one whose read the kernel waits for, of a disk that is gone, does
not end before it."""
MOST_LOST = 5
"""Processes that may be lost over one batch."""
_STUCK = "was stuck for {:g} s"


def in_processes(
    compute: Compute[T],
    steps: Sequence[int],
    *,
    processes: int,
    timeout_s: float,
    ahead: int = AHEAD,
    start_method: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[T]:
    """compute(step) for the steps, in order, from processes that end with the iterator.

    Args:
        compute: gives the same whenever it is called again, for a process that is replaced begins anew.
        steps: what to compute.
        processes: at least one.
        timeout_s: how long a row may take while its batch is waited for; what is no row may take NO_ROW_S.
        ahead: steps that each process makes ahead, at least one.
        start_method: "fork", "spawn" or "forkserver"; None: the platform's.
        tell: who hears of a process that was replaced.

    Raises:
        DataError: too many processes were lost over one batch.
        Exception: what `compute` raised, with the traceback there as a note.
    """
    start = partial(_Worker[T], multiprocessing.get_context(start_method), compute)
    pool = _Pool(start, steps, processes, ahead, timeout_s, tell)
    atexit.register(pool.close)  # else multiprocessing would wait at the end for a process that is stuck
    try:
        for number in range(len(steps)):
            answer = pool.answer(number)
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        pool.close()
        atexit.unregister(pool.close)


class _Pool(Generic[T]):
    """Of n processes, number i makes the steps i, i + n, i + 2n ..."""

    def __init__(
        self,
        start: Callable[[], _Worker[T]],
        steps: Sequence[int],
        processes: int,
        ahead: int,
        timeout_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._steps, self._ahead, self._timeout_s, self._tell = steps, ahead, timeout_s, tell
        self._given_up: dict[int, str] = {}  # row -> why
        self._deaths: Counter[int] = Counter()  # by the row that a process was on
        self._workers = [start() for _ in range(processes)]
        for number in range(processes * ahead):
            self._ask(number)

    def close(self) -> None:
        """Ends the processes, or leaves them to themselves without a word: whoever heard may be gone."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.ended()

    def answer(self, number: int) -> T | Exception:
        """What came of the step of that number; each is asked for once, in order."""
        worker = self._workers[number % len(self._workers)]
        lost = 0
        while True:
            try:
                answer = worker.answer(self._timeout_s)
                break
            except _LostError as error:
                lost += 1
                self._replace(worker, error, lost)
        self._ask(number + self._ahead * len(self._workers))
        return answer

    def _ask(self, number: int) -> None:
        if number < len(self._steps):
            self._workers[number % len(self._workers)].ask(self._steps[number], self._given_up)

    def _replace(self, worker: _Worker[T], error: _LostError, lost: int) -> None:
        if lost > MOST_LOST:
            raise DataError(
                f"{lost} processes that decode pictures were lost over one batch; the last one {error}. If memory is "
                "short, use fewer inputs.workers or smaller pictures; if pictures come slowly, a longer "
                "inputs.decode_timeout_s. A run goes on with --resume."
            ) from error
        if error.row is not None:
            self._deaths[error.row] += 1
            if error.stuck or self._deaths[error.row] > 1:
                self._given_up[error.row] = f"{'a' if error.stuck else 'a second'} process {error} over it"
        worker.kill()
        if not worker.ended():
            self._tell(
                f"Process {worker.pid} was killed and does not end: a disk or network file system may not answer. It "
                "is left to itself, with the memory that it holds."
            )
        self._tell(f"A process that decodes pictures {error} and was replaced.")
        worker.begin_anew(self._given_up)


class _LostError(Exception):
    """A process will not answer any more; the text says what it did."""

    def __init__(self, what: str, row: int | None, *, stuck: bool = False) -> None:
        super().__init__(what)
        self.row = row
        self.stuck = stuck


class _Worker(Generic[T]):
    """One process, the steps it was asked for, and the row it is on."""

    def __init__(self, context: BaseContext, compute: Compute[T]) -> None:
        self._context, self._compute = context, compute
        self._asked: deque[int] = deque()
        self._start()

    def _start(self) -> None:
        self._at = self._context.RawArray("q", (0, NO_ROW))  # rows begun so far, and the row of now
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(  # type: ignore[attr-defined]
            target=serve, args=(self._compute, theirs, self._at), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def ask(self, step: int, given_up: Mapping[int, str]) -> None:
        """Asks for one more step."""
        self._asked.append(step)
        self._send(step, given_up)

    def _send(self, step: int, given_up: Mapping[int, str]) -> None:
        with suppress(OSError):  # it died; `answer` will see that
            self._pipe.send((step, dict(given_up)))

    def answer(self, timeout_s: float) -> T | Exception:
        """What came of the first step that it owes.

        Raises:
            _LostError: it died, or was on one row or on none for too long.
        """
        look_s = min(POLL_S, timeout_s)
        waited_s, before = 0.0, self._at[:]
        while not self._pipe.poll(look_s):
            # Looks are counted, no clock is read: a job that rested after Ctrl-Z must not lose a row by it.
            waited_s = waited_s + look_s if self._at[:] == before else 0.0
            before = self._at[:]
            if self._row() is None:
                if waited_s >= (most_s := max(timeout_s, NO_ROW_S)):
                    raise _LostError(_STUCK.format(most_s) + " without a row", None, stuck=True)
            elif waited_s >= timeout_s:
                raise _LostError(_STUCK.format(timeout_s), self._row(), stuck=True)
        answer = self._received(timeout_s)
        self._asked.popleft()
        return answer

    def _received(self, timeout_s: float) -> T | Exception:
        """The answer in the pipe, and its tensors: they come from a thread of a process that is on its next batch."""
        pipe, answer = self._pipe, Future[T | Exception]()

        def receive() -> None:
            try:
                answer.set_result(pipe.recv())
            except BaseException as error:
                answer.set_exception(error)

        Thread(target=receive, daemon=True).start()  # stays behind where the process does not even end
        try:
            return answer.result(timeout_s)
        except TimeoutError as error:
            raise _LostError(_STUCK.format(timeout_s), self._row(), stuck=True) from error
        except (EOFError, OSError) as error:
            raise _LostError(self._how_it_died(), self._row()) from error

    def _row(self) -> int | None:
        row = self._at[1]
        return None if row == NO_ROW else row

    def _how_it_died(self) -> str:
        self._process.join(POLL_S)
        code = self._process.exitcode
        return f"ended by itself (exit code {code})" if code is None or code >= 0 else _of_signal(-code)

    def begin_anew(self, given_up: Mapping[int, str]) -> None:
        """Asks another process for all that the one that was killed owed."""
        self._start()
        for step in self._asked:
            self._send(step, given_up)

    def kill(self) -> None:
        """Ends the process in whatever it is doing: it has nothing to lose."""
        self._process.kill()

    def ended(self) -> bool:
        """Whether the process that was killed ends in time; nobody waits for it any more where it does not."""
        self._process.join(END_S)
        if self._process.is_alive():
            # When Python ends, multiprocessing waits for its children without a limit; it has no word to leave one out.
            process._children.discard(self._process)  # type: ignore[attr-defined]
            return False
        self._pipe.close()
        return True

    @property
    def pid(self) -> int | None:
        """The process's number."""
        pid: int | None = self._process.pid
        return pid


def _of_signal(number: int) -> str:
    name = signal.Signals(number).name
    match name:
        case "SIGKILL":
            return "was killed (SIGKILL: memory may be short)"
        case "SIGBUS":
            return "was killed (SIGBUS: /dev/shm may be full, or a file was cut short)"
        case _:
            return f"was killed ({name})"
