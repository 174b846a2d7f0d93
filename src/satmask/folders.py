"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_empty(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        SettingError: If it does, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"Folder to write must not exist or be an empty folder, got {str(out)!r}. Choose another."
        raise SettingError(msg)


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A folder beside the one wanted, which takes its place when all is written, and vanishes if something fails.

    Args:
        out: The folder wanted; it mustn't exist, or must be empty.

    Yields:
        The folder to write into.

    Raises:
        SettingError: If the one wanted holds something.
    """
    check_empty(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder.chmod(0o755)  # mkdtemp lets nobody else in
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
