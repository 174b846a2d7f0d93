"""Checksums of DEFLATE blocks: GDAL stops decoding before it comes to them, and so never looks."""

from __future__ import annotations

import os
import threading
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from satmask.errors import SceneError
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from satmask.tiff_directory import Directory

# Gives pixels of a window and of bands numbered from 1, as GDAL decodes them, `(height, width, bands)`.
Decoded: TypeAlias = "Callable[[Window, Sequence[int]], np.ndarray]"
DEFLATE = (8, 32946)
# A smaller block is decoded sooner than GDAL is asked for it.
WORTH_BYTES = 1 << 16


class Checksums:
    """Look at each block of a GeoTIFF once, before its pixels are used.

    A flipped bit often leaves a DEFLATE stream that can be decoded, to other pixels. Measured: 1 in 8 of single flipped
    bits goes unnoticed by GDAL 3.10, none here. Other compressions have no checksum, or decoders that look at theirs.

    Args:
        path: The file.
        directory: What it says of its blocks.

    Raises:
        SceneError: If it can't be opened.
    """

    def __init__(self, path: Path, directory: Directory) -> None:
        self.path, self.directory = path, directory
        self._seen = np.zeros(len(directory.offsets), bool)
        # Blocks that aren't there have nothing to be looked at.
        self._seen[(directory.offsets == 0) | (directory.counts == 0)] = True
        self._lock = threading.Lock()
        self._fits = directory.block_bytes >= WORTH_BYTES and directory.predictor in (1, 2)  # not 3, of floats
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            msg = f"Scene must be readable, got {error.strerror} for {path.name}."
            raise SceneError(msg) from error

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def check(self, window: Window, bands: Sequence[int], decoded: Decoded) -> None:
        """Look at the blocks of a window inside the scene that nobody has looked at.

        Args:
            window: The window.
            bands: Numbers of the bands that are read, from 1.
            decoded: Gives their pixels.

        Raises:
            SceneError: If one of them isn't as it was written.
        """
        for index in self._blocks(window, bands):
            if self._seen[index]:
                continue
            place = self._place(index) if self._fits else None
            if place is None or not self._is_decoded(index, place, decoded):
                self._look_at(index)
                # It is sound, so sums differ for another reason: the order of bytes, or what follows a stream.
                self._fits = self._fits and place is None
            self._seen[index] = True

    def _place(self, index: int) -> Window | None:
        """Pixels of a block; None for a tile that reaches over the scene's edge: what lies there nobody gives."""
        (tall, wide), directory = self.directory.block, self.directory
        down, across = -(-directory.height // tall), -(-directory.width // wide)
        row, column = index % (down * across) // across * tall, index % across * wide
        place = Window(row, column, tall, wide)
        inside = place.clip(directory.height, directory.width)
        return inside if inside == place or wide == directory.width else None

    def _is_decoded(self, index: int, place: Window, decoded: Decoded) -> bool:
        """Whether pixels as they are decoded have the checksum that stands at the end of a block."""
        directory, (tall, wide) = self.directory, self.directory.block
        blocks = -(-directory.height // tall) * -(-directory.width // wide)
        bands = [index // blocks + 1] if directory.planar else range(1, directory.samples + 1)
        try:
            pixels = decoded(place, bands)
            stored = self._read(int(directory.offsets[index]) + int(directory.counts[index]) - 4, 4)
        except (OSError, SceneError):
            return False
        if directory.predictor == 2:
            pixels = _differences(pixels)
        return zlib.adler32(np.ascontiguousarray(pixels).data) == int.from_bytes(stored, "big")

    def _read(self, place: int, count: int) -> bytes:
        with self._lock:
            os.lseek(self._file, place, os.SEEK_SET)
            return os.read(self._file, count)

    def _blocks(self, window: Window, bands: Sequence[int]) -> np.ndarray:
        """Numbers of the blocks that a window touches."""
        tall, wide = self.directory.block
        down, across = -(-self.directory.height // tall), -(-self.directory.width // wide)
        rows = np.arange(window.row // tall, (window.row + window.height - 1) // tall + 1)
        columns = np.arange(window.column // wide, (window.column + window.width - 1) // wide + 1)
        planes = np.asarray(bands) - 1 if self.directory.planar else np.zeros(1, int)
        return (planes[:, None, None] * down * across + rows[:, None] * across + columns).ravel()

    def _look_at(self, index: int) -> None:
        place, count = int(self.directory.offsets[index]), int(self.directory.counts[index])
        stream = zlib.decompressobj()
        try:
            data = self._read(place, count)
            # One byte more than there should be, so that the stream is read to its end, where the sum stands.
            found = len(stream.decompress(data, self.directory.block_bytes + 1))
        except (OSError, zlib.error) as error:
            raise self._damaged(index, str(error)) from error
        if found > self.directory.block_bytes or (not stream.eof and found < self._needed(index)):
            raise self._damaged(index, f"{found:,} bytes of {self._needed(index):,}")

    def _needed(self, index: int) -> int:
        """Bytes that a block must have at least: that of the last row of strips may be shorter."""
        tall, wide = self.directory.block
        down, across = -(-self.directory.height // tall), -(-self.directory.width // wide)
        last = index // across % down == down - 1 and across == 1
        rows = self.directory.height - (down - 1) * tall if last else tall
        return self.directory.block_bytes // tall * rows

    def _damaged(self, index: int, why: str) -> SceneError:
        columns = -(-self.directory.width // self.directory.block[1])
        row = index // columns % -(-self.directory.height // self.directory.block[0]) * self.directory.block[0]
        return SceneError(f"Scene must decode, got a damaged block ({why}) in {self.path.name} at row {row}.")


def _differences(pixels: np.ndarray) -> np.ndarray:
    """What TIFF's predictor 2 makes of pixels: each but a row's first is what it is more than the one before."""
    found = np.empty_like(pixels)
    found[:, 0] = pixels[:, 0]
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=found[:, 1:])
    return found
