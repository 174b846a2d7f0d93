"""Files on the shelf: found by walking one folder, looked at again whenever one is opened.

Who asks names an id that was given to a file that was found, never a path. Still a file may be exchanged after it was
found, by a link that leads elsewhere; so its path is followed anew before and after each opening.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from satmask.errors import SatmaskError

RASTERS = (".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".webp")
"""Rasters that hold their pixels themselves. A VRT or an ERDAS file (.img) may name others."""
VECTORS = (".gpkg", ".geojson", ".fgb", ".shp", ".parquet")
# Begin of each, for a GeoJSON what it may begin with: what GDAL's other drivers read may name files and addresses.
MAGIC = {
    ".gpkg": (b"SQLite format 3\0",),
    ".fgb": (b"fgb",),
    ".shp": (b"\0\0\x27\x0a",),
    ".parquet": (b"PAR1",),
    ".geojson": (b"{", b"\xef\xbb\xbf{", b" ", b"\n", b"\r", b"\t"),
}
DEEPEST = 4
"""Folders inside the folder that are looked into."""
MOST = 20_000
"""Files that are found at most."""
Opened = TypeVar("Opened")


class NotFoundError(SatmaskError):
    """Nothing on the shelf has this name; whatever was asked for, the message is the same."""

    def __init__(self) -> None:
        super().__init__("Name must be of something that is shown, got another.")


@dataclass(frozen=True)
class ShelfFile:
    """A file that may be shown.

    Attributes:
        root: The folder that it lies in, without links.
        path: Where it was found.
    """

    root: Path
    path: Path

    @property
    def name(self) -> str:
        """Its path in the folder, with `/` whatever the system."""
        return self.path.relative_to(self.root).as_posix()

    def real(self) -> Path:
        """Follow its path as it is now.

        Raises:
            NotFoundError: If it is no file any more, or one outside the folder.
        """
        try:
            found = self.path.resolve(strict=True)
            if found.is_relative_to(self.root) and found.is_file():
                return found
        except (OSError, RuntimeError, ValueError):
            pass
        raise NotFoundError

    def open(self, opener: Callable[[Path], Opened], close: Callable[[Opened], object] = lambda _: None) -> Opened:
        """Open it, unless it is exchanged meanwhile.

        Args:
            opener: Opens a path.
            close: Closes what was opened, should it have to be thrown away.

        Raises:
            NotFoundError: As `real` does, or if it is another file afterwards.
        """
        path = self.real()
        before = path.stat()
        opened = opener(path)
        try:
            after = self.real().stat()
        except (NotFoundError, OSError):
            close(opened)
            raise NotFoundError from None
        if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
            close(opened)
            raise NotFoundError
        return opened


def walk(root: Path) -> Iterator[ShelfFile]:
    """Find the files of a folder and of those in it, by name; nothing hidden, no folder that is a link.

    Args:
        root: The folder, without links.

    Yields:
        Rasters, vector files, the few that describe them, and model files; at most `MOST`.
    """
    left = MOST
    folders = [(root, 0)]
    while folders and left:
        folder, depth = folders.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < DEEPEST and not entry.name.endswith(".zarr"):
                    folders.append((Path(entry.path), depth + 1))
            elif left and _may_be_shown(file := ShelfFile(root, Path(entry.path))):
                left -= 1
                yield file


def _may_be_shown(file: ShelfFile) -> bool:
    suffix = file.path.suffix.lower()
    if suffix not in (*RASTERS, *VECTORS, ".json", ".toml", ".onnx"):
        return False
    try:
        path = file.real()
        if suffix not in MAGIC:
            return True
        with path.open("rb") as opened:
            return opened.read(16).startswith(MAGIC[suffix])
    except (SatmaskError, OSError):
        return False
