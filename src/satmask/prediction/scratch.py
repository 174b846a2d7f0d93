"""Scratch folders: what is made on this machine for an output elsewhere; what a run that was killed has left is thrown away."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from satmask.prediction.claim import LOCK, take_lock

PREFIX = "satmask-scratch-"
# A folder as young as this may be one whose run is about to lock it.
YOUNG_S = 60.0


class Scratch:
    """A folder among the system's temporary ones, locked while it is in use; folders of dead runs go when one is made.

    Attributes:
        path: The folder.

    Examples:
        >>> scratch = Scratch()
        >>> scratch.close()
        >>> scratch.path.exists()
        False
    """

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._file = (self.path / LOCK).open("x", encoding="utf-8")
        take_lock(self._file)

    def close(self) -> None:
        """Throw it away with all it holds."""
        self._file.close()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep() -> None:
    """Throw away this user's scratch folders that no run holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if mine and time.time() - status.st_ctime > YOUNG_S and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder's lock can be had; one that can't be opened is somebody's."""
    with (folder / LOCK).open("r+", encoding="utf-8") as file:
        return take_lock(file)
