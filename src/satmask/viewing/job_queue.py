"""The queue of predictions that were started from the page: one at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from satmask.errors import SettingError
from satmask.viewing.job_process import STOPPED

State = Literal["waiting", "running", "stopping", "done", "failed", "cancelled"]
MOST_WAITING = 20
KEPT = 50
"""Jobs that have ended and are still told of."""
PATIENCE_S = 20
"""Seconds that a process is given to stop by itself."""
MOST_NOTES = 20


@dataclass(frozen=True)
class Order:
    """What is to be predicted.

    Attributes:
        model: Model file.
        scene: Raster.
        out: Folder for what is written.
        restart: Throw away what an earlier run began.
    """

    model: Path
    scene: Path
    out: Path
    restart: bool = False


@dataclass(frozen=True)
class Job:
    """A prediction that was asked for, as it stands.

    Attributes:
        id: Its number, from 1.
        title: What people call it.
        order: What is to be done.
        state: How far it is; "stopping" is between being cancelled and having ended.
        total: Megapixels of the scene; 0 until they are known.
        done: Megapixels that are predicted. Outputs are made after the last.
        notes: What is doubtful or good to know, a sentence each.
        error: Why it failed.
        classes: The raster of classes, once it is done.
        objects: Number of polygons.
    """

    id: int
    title: str
    order: Order
    state: State = "waiting"
    total: float = 0.0
    done: float = 0.0
    notes: tuple[str, ...] = field(default=())
    error: str = ""
    classes: Path | None = None
    objects: int = 0

    @property
    def share(self) -> float:
        """Share of the scene that is predicted, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in {"done", "failed", "cancelled"}


class JobQueue:
    """Does one job after the other. Safe in threads.

    Args:
        on_end: Called with each job that has ended, in the queue's thread, before it is told that it has.
        threads: Processor threads of a job; all by default.
    """

    def __init__(self, *, on_end: Callable[[Job], object] = lambda _: None, threads: int | None = None) -> None:
        self._on_end, self._threads = on_end, threads
        self._jobs: dict[int, Job] = {}
        self._waiting: deque[int] = deque()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="satmask-jobs", daemon=True)
        self._thread.start()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All that are told of, the latest first."""
        with self._lock:
            return tuple(reversed(self._jobs.values()))

    def add(self, order: Order, title: str) -> Job:
        """Put an order at the queue's end.

        Raises:
            SettingError: If too many wait, or the same is waiting or running.
        """
        with self._lock:
            same = [job for job in self._jobs.values() if not job.ended and job.order == order]
            if same or len(self._waiting) >= MOST_WAITING or self._closed:
                what = "the same once more" if same else f"{len(self._waiting)} that wait already"
                msg = f"Predictions must be at most {MOST_WAITING} that wait, each another, got {what}."
                raise SettingError(msg)
            job = Job(max(self._jobs, default=0) + 1, title, order)
            self._jobs[job.id] = job
            self._waiting.append(job.id)
            self._forget()
            self._lock.notify_all()
            return job

    def cancel(self, id_: int) -> None:
        """Stop a job; what it has done is kept, and the same order goes on from there. Does nothing once it has ended."""
        with self._lock:
            job = self._jobs.get(id_)
            if job is None or job.ended:
                return
            if job.state == "waiting":
                self._waiting.remove(id_)
                self._change(id_, state="cancelled")
            else:
                self._change(id_, state="stopping")
                self._stop()

    def close(self) -> None:
        """Stop what is running, and wait until it has stopped."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            for job in list(self._jobs.values()):
                if not job.ended:
                    self._change(job.id, state="stopping" if job.state == "running" else "cancelled")
            self._stop()
            self._lock.notify_all()
        self._thread.join(2 * PATIENCE_S)

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._change(self._waiting.popleft(), state="running")
                process = self._process = self._begin()
            self._follow(process, job)
            with self._lock:
                self._process = None
                ended = self._end(job.id, process.returncode)
            # Whoever hears that it's done finds its result: it is told last.
            self._on_end(ended)
            with self._lock:
                self._jobs[ended.id] = ended

    def _begin(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "satmask.viewing.job_process"]
        # A group of its own, so that Ctrl-C in the terminal reaches the viewer only, which then ends it well.
        return subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
        )

    def _follow(self, process: subprocess.Popen[str], job: Job) -> None:
        """Send the order, and take what is told until the process has ended."""
        order = {name: str(getattr(job.order, name)) for name in ("model", "scene", "out")}
        line = json.dumps(order | {"restart": job.order.restart, "threads": self._threads})
        assert process.stdin is not None  # noqa: S101  # it is a pipe
        assert process.stdout is not None  # noqa: S101
        with contextlib.suppress(OSError, ValueError):  # stopped before it began
            process.stdin.write(line + "\n")
            process.stdin.flush()
        for told in process.stdout:
            with contextlib.suppress(ValueError):
                self._hear(job.id, json.loads(told))
        process.stdout.close()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _hear(self, id_: int, told: dict[str, Any]) -> None:
        with self._lock:
            job = self._jobs[id_]
            if "done" in told:
                self._change(id_, done=job.done + float(told["done"]))
            if "note" in told:
                self._change(id_, notes=(*job.notes, str(told["note"]))[-MOST_NOTES:])
            if "classes" in told:
                self._change(id_, classes=Path(told["classes"]), objects=int(told["objects"]))
            self._change(id_, **{name: told[name] for name in ("total", "error") if name in told})

    def _end(self, id_: int, code: int) -> Job:
        """How a job has ended. One that was done before it could be stopped is done."""
        job = self._jobs[id_]
        if job.classes is not None:
            return replace(job, state="done")
        if job.state == "stopping" or code == STOPPED:
            return replace(job, state="cancelled")
        error = job.error or f"Prediction must end by itself, but its process ended with code {code}. Start it again."
        return replace(job, state="failed", error=error)

    def _stop(self) -> None:
        """Let the process stop by itself: the end of its stdin tells it to. Kill it if it doesn't."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        killing = threading.Timer(PATIENCE_S, process.kill)
        killing.daemon = True
        killing.start()

    def _change(self, id_: int, **parts: Any) -> Job:
        self._jobs[id_] = replace(self._jobs[id_], **parts)
        return self._jobs[id_]

    def _forget(self) -> None:
        ended = [id_ for id_, job in self._jobs.items() if job.ended]
        for id_ in ended[: max(len(self._jobs) - KEPT, 0)]:
            del self._jobs[id_]
