"""Claims in an object store: one run at a time works on an output, on whatever machine.

There is no lock of an operating system between machines. A lock object is written on the condition that there is none, and
again and again while its run lives. One that hasn't been written for a while belongs to a run that has died.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from satmask.errors import SceneError
from satmask.prediction.claim import ClaimedError
from satmask.prediction.scratch import Scratch

if TYPE_CHECKING:
    from satmask.buckets import Bucket

LOCK = "lock"
# Seconds between signs of life, and after which a run that gives none is taken for dead.
BEAT_S = 20.0
STALE_S = 120.0


class RemoteClaim:
    """What `satmask.prediction.claim.Claim` is, for a folder in an object store.

    A run that was killed on this machine blocks nobody; one that was killed on another does so for `STALE_S` seconds.

    Args:
        out: Folder of the output.
        stem: What the outputs are called after.

    Attributes:
        folder: For what is being written: `<out>/.<stem>.job`.
        drafts: A folder on this machine for outputs while they are made.

    Raises:
        ClaimedError: If another run holds it.
        SceneError: If nothing can be written there.
    """

    def __init__(self, out: Bucket, stem: str) -> None:
        self.folder, self._stem, self._out = out / f".{stem}.job", stem, out
        self._lock = self.folder / LOCK
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()
        try:
            self._state = self._take()
        except OSError as error:
            msg = (
                f"Object store must take what is being written, got {error.strerror!r} for {self._lock}. Check the "
                "address, the endpoint (AWS_ENDPOINT_URL) and the credentials (AWS_ACCESS_KEY_ID …)."
            )
            raise SceneError(msg) from error
        self._written = time.monotonic()
        self._lost = False
        self._scratch = Scratch()
        self.drafts = self._scratch.path / "drafts"
        self._thread = threading.Thread(target=self._live, name="satmask-claim", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._scratch.close()
        if not self._lost:
            with suppress(OSError):
                self._lock.delete()

    def publish(self, path: Path) -> Bucket:
        """Copy a finished file to its final name; it appears there whole, and stays.

        Raises:
            SceneError: If another run has taken over meanwhile, or the file can't be written.
        """
        if self._lost:
            msg = f"Output must be written by one run at a time, got another that took over {self._out / self._stem}."
            raise SceneError(msg)
        target = self._out / path.name
        try:
            target.write(path)
        except OSError as error:
            msg = f"Object store must take what is being written, got {error.strerror!r} for {target}."
            raise SceneError(msg) from error
        path.unlink()
        return target

    def remove(self) -> None:
        """Throw the folder away with all it holds; the lock is the last to go."""
        self.clear()

    def clear(self) -> None:
        """Throw away what the folder holds, and keep it claimed."""
        self.folder.clear(but=LOCK)

    def _take(self) -> str | None:
        with suppress(FileExistsError):
            return self._lock.write(self._content(), new=True)
        try:
            content, state = self._lock.read()
        except FileNotFoundError:
            return self._take()  # its run has just ended
        holder = _parse(content)
        left_s = 0.0 if _is_dead(holder) else STALE_S - self._age_s()
        if left_s <= 0:
            with suppress(FileExistsError):
                return self._lock.write(self._content(), expected=state)
            left_s = STALE_S  # somebody else was faster
        msg = (
            f"Output must be written by one run at a time, got another at work on {self._stem!r} in {self._out} "
            f"(process {holder.get('process')} on {holder.get('host')}). Wait for it; if it has died, try again in "
            f"{left_s:.0f} s."
        )
        raise ClaimedError(msg)

    def _age_s(self) -> float:
        """Seconds since the last sign of life, both by the store's clock."""
        probe = self.folder / f"probe-{self._token}"
        probe.write(b"")
        now, then = probe.changed(), self._lock.changed()
        probe.delete()
        return (now - then).total_seconds() if now and then else STALE_S

    def _live(self) -> None:
        """Give signs of life until the claim is closed."""
        while not self._ended.wait(BEAT_S):
            try:
                self._state = self._lock.write(self._content(), expected=self._state)
                self._written = time.monotonic()
            except FileExistsError:
                self._lost = True
                return
            except OSError:
                # Nobody hears from this run for so long: it must be taken for dead, by itself as well.
                if time.monotonic() - self._written > STALE_S:
                    self._lost = True
                    return

    def _end(self) -> None:
        self._ended.set()
        self._thread.join(timeout=BEAT_S)  # it may be waiting for a store that doesn't answer

    def _content(self) -> bytes:
        about = {"token": self._token, "process": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
        return json.dumps(about).encode()


def _parse(content: bytes) -> dict[str, Any]:
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _machine() -> str:
    """By what a machine, since it was started, and its space of process numbers are known; empty where that isn't told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  # a link of the system, not a path
    except OSError:
        return ""


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a run of this machine isn't there any more; of others nobody knows."""
    if not holder.get("machine") or holder["machine"] != _machine():
        return False
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False
