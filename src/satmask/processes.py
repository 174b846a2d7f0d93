"""Processes: calls are done in other processes of this machine, and one that dies is replaced.

Python's own `ProcessPoolExecutor` gives up all its processes, and all that they were doing, as soon as one of them dies. Work
that goes on for hours will meet the system's out-of-memory killer: here its neighbours don't notice.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How often a call is tried whose process dies of it, or beside it.
ATTEMPTS = 3
# Seconds that a process which has closed its end of a pipe is given to die by itself.
PATIENCE_S = 10
# New interpreters, on all systems: threads, and so networks and GDAL, don't outlive a fork.
_SPAWN = multiprocessing.get_context("spawn")

Call: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]"


@dataclass(frozen=True)
class _Task:
    """A call, and who waits for it."""

    future: Future[Any]
    call: Call


class Processes(Executor):
    """Does calls in processes of this machine, as `concurrent.futures` has it.

    A call is tried again in a new process if its process dies, at most `ATTEMPTS` times; its future then fails with
    `BrokenExecutor`. Functions, arguments and results must be picklable. Processes start at the first call, and die with
    this one, however it ends. Ctrl-C reaches this process only, which decides.

    Args:
        count: Processes.
        lanes: Calls that each does at a time, in threads.

    Examples:
        >>> with Processes(1) as pool:
        ...     pool.submit(divmod, 17, 5).result()
        (3, 2)
    """

    def __init__(self, count: int, *, lanes: int = 1) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._processes = [_Process(lanes) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(process, lane), name="satmask-lane", daemon=True)
            for process in self._processes
            for lane in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """Processes that are there now, by the system's number."""
        return [process.pid for process in self._processes if process.pid is not None]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a call done; see `concurrent.futures.Executor.submit`."""
        if self._stopping.is_set():
            msg = "Processes must not be shut down when a call is submitted."
            raise RuntimeError(msg)
        future: Future[Any] = Future()
        self._tasks.put(_Task(future, (fn, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: when all calls are done, or at once with `cancel_futures`, whatever they are doing."""
        if cancel_futures:
            self._stopping.set()
            for process in self._processes:
                process.end()
        for _ in self._threads:
            self._tasks.put(None)
        if wait or cancel_futures:
            for thread in self._threads:
                thread.join()
            self._stopping.set()
            self._drop_rest()
            for process in self._processes:
                process.end(at_once=False)

    def _drop_rest(self) -> None:
        while not self._tasks.empty():
            task = self._tasks.get()
            if task is not None:
                task.future.cancel()

    def _serve(self, process: _Process, lane: int) -> None:
        """Do calls one after the other in one lane of a process; a thread for each lane runs this."""
        while (task := self._tasks.get()) is not None:
            if self._stopping.is_set():
                task.future.cancel()
            elif task.future.set_running_or_notify_cancel():
                try:
                    value = self._do(task.call, process, lane)
                except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits for it
                    task.future.set_exception(error)
                else:
                    task.future.set_result(value)

    def _do(self, call: Call, process: _Process, lane: int) -> Any:
        for _ in range(ATTEMPTS):
            if self._stopping.is_set():
                raise CancelledError
            end = process.lane(lane)
            try:
                end.send(call)
                done, value = end.recv()
            except (EOFError, OSError):
                process.lost(end)
                continue
            if done:
                return value
            raise value
        if self._stopping.is_set():
            raise CancelledError
        msg = f"a process died {ATTEMPTS} times while it did the same work; the last one {process.death}"
        raise BrokenExecutor(msg)


class _Process:
    """A process that is started when it is needed, and again when it has died."""

    def __init__(self, lanes: int) -> None:
        self._lanes, self._lock = lanes, threading.Lock()
        self._process: Any = None
        self._ends: list[connection.Connection] = []
        self.death = "didn't start"

    @property
    def pid(self) -> int | None:
        """The system's number of it; None while it isn't there."""
        process = self._process
        return process.pid if process is not None else None

    def lane(self, number: int) -> connection.Connection:
        """The end of a pipe to one of its threads."""
        with self._lock:
            if self._process is None:
                self._start()
            return self._ends[number]

    def lost(self, end: connection.Connection) -> None:
        """Let go of a process whose pipe has broken, unless another lane has done so already."""
        with self._lock:
            if end in self._ends:
                self._bury(patience_s=PATIENCE_S)

    def end(self, *, at_once: bool = True) -> None:
        """End it: whatever it is doing, or when it has cleaned up."""
        with self._lock:
            if self._process is None:
                return
            if at_once:
                self._process.kill()
            else:
                for end in self._ends:
                    end.close()
            self._bury(patience_s=PATIENCE_S)

    def _start(self) -> None:
        pipes = [_SPAWN.Pipe() for _ in range(self._lanes)]
        self._ends, theirs = [ours for ours, _ in pipes], [end for _, end in pipes]
        self._process = _SPAWN.Process(target=_run, args=(theirs,), name="satmask-worker", daemon=True)
        self._process.start()
        for end in theirs:
            end.close()  # so that its death closes the last of these

    def _bury(self, *, patience_s: float) -> None:
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self.death = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        # Not closed: another lane may be reading, and a number of a file that is closed is soon given to another.
        self._process, self._ends = None, []


def _run(ends: Sequence[connection.Connection]) -> None:
    """What a process does: a thread for each lane, until the one that started it closes the pipes or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "fork" in multiprocessing.get_all_start_methods():
        # Locks that libraries make when they are imported leave nothing behind then, should this be killed.
        multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    threads = [threading.Thread(target=_answer, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _die_with_parent() -> None:
    """End at once when nobody is left to work for, lest something be written that somebody else has begun anew."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(end: connection.Connection) -> None:
    while True:
        try:
            function, args, kwargs = end.recv()
        except (EOFError, OSError):
            return
        except Exception as error:  # noqa: BLE001  # a call that can't be unpickled is as good as one that fails
            end.send((False, error))
            continue
        try:
            reply = True, function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # it is raised where somebody waits for it
            reply = False, error
        try:
            end.send(reply)
        except OSError:
            return
        except Exception as error:  # noqa: BLE001  # pickle raises what it likes
            end.send((False, RuntimeError(f"{type(error).__name__} while a result was sent: {error}")))
