"""Open rasters, kept for the next tile: opening one takes longer than reading a tile from it."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rasterio.io import DatasetReader

from satmask.opening import WITHOUT_BLOCKS, Opened
from satmask.raster_bands import alpha_band, band_names
from satmask.viewing.files import ShelfFile
from satmask.viewing.map_view import TILE

MOST_PIXELS = 1 << 26
"""Pixels that are decoded at most for one tile."""
Stamp: TypeAlias = tuple[int, int, int, int]
"""Device, number, time and size of a file: what changes when it is written anew."""


@dataclass(frozen=True, eq=False)
class OpenRaster:
    """A raster, open for one thread at a time.

    Attributes:
        file: As rasterio has it.
        options: GDAL's settings for reading it.
        indexes: Numbers of its bands from 1, without alpha.
        bands: Their names.
    """

    file: DatasetReader
    options: dict[str, Any]
    indexes: tuple[int, ...]
    bands: tuple[str, ...]

    @property
    def coarsest(self) -> float:
        """How many pixels, along a side, a tile's pixel may stand for, lest more than `MOST_PIXELS` be decoded."""
        file = self.file
        height, width = file.shape
        factor = int(max(file.overviews(1) or [1]))
        if height * width <= MOST_PIXELS * factor**2 or file.driver in WITHOUT_BLOCKS:
            return math.inf
        # Strips are decoded in all their width.
        strips = bool(file.block_shapes[0][1] * 4 >= width)
        across = MOST_PIXELS * factor**2 / (TILE * width) if strips else math.inf
        return max(min(math.sqrt(MOST_PIXELS) * factor / TILE, across), 1.0)


def stamp(path: Path) -> Stamp:
    """What tells a file from what is written in its place later."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class Handles:
    """Rasters that stay open, each lent to one thread at a time. Safe in threads.

    Args:
        most: How many stay open while nobody needs them.
    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[ShelfFile, Stamp, int], OpenRaster] = OrderedDict()
        self._number = 0

    @contextmanager
    def use(self, file: ShelfFile) -> Iterator[OpenRaster]:
        """Lend a raster; its path is followed anew, and it is opened anew if it was written meanwhile.

        Raises:
            NotFoundError: If it isn't on the shelf any more.
            SceneError: If it can't be opened.
        """
        mark = stamp(file.real())
        raster = self._take(file, mark) or file.open(_open, lambda raster: raster.file.close())
        try:
            yield raster
        except BaseException:
            raster.file.close()
            raise
        self._give(file, mark, raster)

    def close(self) -> None:
        """Close all that aren't lent."""
        with self._lock:
            for raster in self._idle.values():
                raster.file.close()
            self._idle.clear()

    def _take(self, file: ShelfFile, mark: Stamp) -> OpenRaster | None:
        with self._lock:
            found = next((key for key in reversed(self._idle) if key[:2] == (file, mark)), None)
            return self._idle.pop(found) if found else None

    def _give(self, file: ShelfFile, mark: Stamp, raster: OpenRaster) -> None:
        with self._lock:
            self._number += 1
            self._idle[file, mark, self._number] = raster
            while len(self._idle) > self._most:
                self._idle.popitem(last=False)[1].file.close()


HANDLES = Handles()
"""Those of this process."""


def _open(path: Path) -> OpenRaster:
    opened = Opened(path)
    alpha = alpha_band(opened.file, opened.options)
    indexes = tuple(index for index in opened.file.indexes if index != alpha)
    names = band_names(opened.file)
    return OpenRaster(opened.file, dict(opened.options), indexes, tuple(names[index - 1] for index in indexes))
