"""Claims: one run at a time works on an output, in a folder of its own beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, Self

from satmask.errors import SceneError

LOCK = "lock"
MANIFEST = "manifest.json"


class ClaimedError(SceneError):
    """Another run holds an output: it may end, or have died without anybody knowing yet."""


class Claim:
    """A folder beside an output for what is being written, and the right to write it, held until this is closed.

    The right is a lock of the operating system, which dies with its process: a run that was killed blocks nobody.

    Args:
        out: Folder of the output.
        stem: What the outputs are called after; the folder is `<out>/.<stem>.job`.

    Attributes:
        folder: The folder. It stays when the claim is closed, unless `remove` was called.

    Raises:
        ClaimedError: If another run holds it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out, Claim(Path(out), "north") as claim:
        ...     claim.folder.name
        '.north.job'
    """

    def __init__(self, out: Path, stem: str) -> None:
        self.folder = out / f".{stem}.job"
        self._stem = stem
        self._file = self._take()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def drafts(self) -> Path:
        """Where outputs lie while they are made."""
        return self.folder / "drafts"

    def remove(self) -> None:
        """Throw the folder away with all it holds; the lock is the last to go."""
        self.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Throw away what the folder holds, and keep it claimed; the manifest goes first, for nobody to trust the rest."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()

    def _take(self) -> IO[str]:
        path = self.folder / LOCK
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("a+", encoding="utf-8")
            except FileNotFoundError:
                continue  # another run has just finished and taken the folder away
            if not take_lock(file):
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                file.close()
                msg = (
                    f"Output must be written by one run at a time, got another at work on {self._stem!r} in "
                    f"{self.folder.parent} (process {holder}). Wait for it, or choose another folder."
                )
                raise ClaimedError(msg)
            if path.exists() and os.path.sameopenfile(file.fileno(), (again := path.open(encoding="utf-8")).fileno()):
                again.close()
                break
            file.close()
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file


def take_lock(file: IO[str]) -> bool:
    """Take the operating system's lock of a file, at once or not at all; it is given back when the file is closed."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
