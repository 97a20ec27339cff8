"""Requests to a run: signals, files in its folder, a time limit, and checkpoints that are due.

SIGINT (Ctrl-C)       checkpoint, stop, exit code 130; a second one ends the run at once
SIGTERM               checkpoint, stop, 143
SIGUSR1, file STOP    checkpoint, stop, 75: the job may be queued again (`sbatch --signal=USR1@120` sends it in time)
--max-minutes         checkpoint, stop, 75, early enough for the limit
file CHECKPOINT       checkpoint, go on

All ranks take a request at the end of the same step. Before the first step has ended there is nothing to keep, and a
signal ends the process at once.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import FrameType, TracebackType

from cfd_coupling.parallel import Communicator
from chemnet.runtime.processes import is_first_rank

STOP_FILE = "STOP"
CHECKPOINT_FILE = "CHECKPOINT"
STOPPED = 75  # exit code: stopped with a checkpoint, to be resumed

_ECHO = 0.5  # [s]; launchers and terminals may send one Ctrl-C twice within it


class Request(IntEnum):
    """Request to a run, in ascending order of weight."""

    NONE = 0
    CHECKPOINT = 1
    TIME_LIMIT = 2
    STOP = 3
    SIGUSR1 = 4
    SIGTERM = 5
    SIGINT = 6

    @property
    def stops(self) -> bool:
        """Whether the run ends after the checkpoint."""
        return self >= Request.TIME_LIMIT

    @property
    def exit_code(self) -> int:
        """Exit code of a run that ends by this request."""
        return {Request.SIGTERM: 143, Request.SIGINT: 130}.get(self, STOPPED if self.stops else 0)

    @property
    def reason(self) -> str:
        """The request as words for the log."""
        words = {Request.TIME_LIMIT: "--max-minutes", Request.STOP: f"file {STOP_FILE}", Request.SIGINT: "Ctrl-C"}
        return words.get(self, self.name)


_SIGNALS = {
    signal.SIGINT: Request.SIGINT,
    signal.SIGTERM: Request.SIGTERM,
    signal.SIGUSR1: Request.SIGUSR1,
}


class Signals:
    """Signals of this process as requests, read by a thread of its own; a context for the main thread.

    Python calls handlers in the main thread and only between two instructions: not while that thread waits in MPI or
    compiles a kernel. A rank that took its signal alone would leave the others waiting for it, and they would burn
    their cores for ever. So the signal goes into a pipe, which a thread reads at any time; the handler reads it too,
    for code that holds Python's lock and looks for signals, such as Cantera.
    """

    def __init__(self) -> None:
        self.request = Request.NONE
        self.last_acts: list[Callable[[], None]] = []
        self._in_steps = False
        self._received = 0.0
        self._lock = threading.RLock()

    def __enter__(self) -> Signals:
        """Until `listen` a signal has its effect of old: it kills, also a rank that waits in the start of MPI.

        A rank that left by itself there would not be missed by the launcher, but by the other ranks, for ever. SIGUSR1
        is kept until then, since MPICH takes it for one of its own.
        """
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        self._before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def listen(self) -> None:
        """From now on signals are requests; those before the first step has ended end the process at once."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def begin_steps(self) -> None:
        """From now on a signal waits for the end of a step."""
        self._in_steps = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Take the signal, unless the thread has it, which may wait for what the main thread holds, such as stdout."""
        if self._lock.acquire(blocking=False):
            try:
                self._take()
            finally:
                self._lock.release()

    def _watch(self) -> None:
        while True:
            select.select([self._read_end], [], [])
            if not self._take():
                return

    def _take(self) -> bool:
        """Take what is in the pipe; False when it is closed."""
        with self._lock:
            try:
                numbers = os.read(self._read_end, 64)
            except BlockingIOError:
                return True
            for number in numbers:
                if number in _SIGNALS:
                    self._receive(_SIGNALS[signal.Signals(number)])
            return bool(numbers)

    def _receive(self, request: Request) -> None:
        if not self._in_steps:
            self._end(request, "before the first step")
        now = time.monotonic()
        if request is self.request is Request.SIGINT and now - self._received > _ECHO:
            self._end(request, "without a checkpoint of this step")
        if request > self.request:
            self.request, self._received = request, now

    def _end(self, request: Request, where: str) -> None:
        """End the process: nothing else may run, since the main thread can be anywhere."""
        if is_first_rank():
            os.write(2, f"ended by {request.reason} {where}\n".encode())
        try:
            for act in self.last_acts:
                act()
        finally:
            os._exit(request.exit_code)


class Control:
    """Asks at the end of every step what all ranks are to do.

    every, minutes: a checkpoint is due after so many steps or minutes of wall time; max_minutes: of the whole process,
    counted from `start` (of time.monotonic).
    """

    def __init__(
        self,
        comm: Communicator,
        folder: Path,
        *,
        every: int | None = None,
        minutes: float | None = None,
        max_minutes: float | None = None,
        start: float | None = None,
        signals: Signals | None = None,
    ) -> None:
        self.comm, self.folder, self.signals = comm, folder, signals
        self.every, self.minutes, self.max_minutes = every, minutes, max_minutes
        self._checkpointed = time.monotonic()
        self.start = self._checkpointed if start is None else start
        self._before: float | None = None
        self._slowest = 0.0  # [s] of a step; the first one, which may compile, is no measure

    def agree(self, step: int) -> Request:
        """The request of all ranks at the end of `step`; every rank calls it."""
        if self.signals is not None:
            self.signals.begin_steps()
        mine = self.signals.request if self.signals is not None else Request.NONE
        if self.comm.rank == 0:
            mine = max(mine, self._due(step))
        return Request(int(self.comm.max(float(mine))))

    def checkpointed(self) -> None:
        """Note that a checkpoint has been written: the next one is due by the clock from here."""
        self._checkpointed = time.monotonic()

    def _due(self, step: int) -> Request:
        """The request of clock, steps and files; files are removed when they are read."""
        now = time.monotonic()
        self._slowest = max(self._slowest, 0.0 if self._before is None else now - self._before)
        self._before = now
        if self._take(STOP_FILE):
            return Request.STOP
        if self.max_minutes is not None and now + self._slowest - self.start > 60.0 * self.max_minutes:
            return Request.TIME_LIMIT
        if self._take(CHECKPOINT_FILE) or (self.every is not None and step % self.every == 0):
            return Request.CHECKPOINT
        late = self.minutes is not None and now - self._checkpointed > 60.0 * self.minutes
        return Request.CHECKPOINT if late else Request.NONE

    def _take(self, name: str) -> bool:
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True
