"""What a TIFF file says about its blocks: read before anything is decoded, to find what is missing or far too large.

GDAL doesn't ask whether the blocks lie inside the file before it is asked for them, and takes as much memory as a block
says it needs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Struct codes of TIFF's field types that hold whole numbers.
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_COUNTS, _PLANAR = 273, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 317, 322, 323, 324, 325
_WANTED = {
    *(_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_COUNTS, _PLANAR),
    *(_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS),
}
UNCOMPRESSED = 1
MOST_DIRECTORIES = 64
"""Overviews and masks are directories of their own; a file has a dozen. Pages beyond are no part of a scene."""
MOST_ENTRIES = 4096


class TiffError(ValueError):
    """A directory that can't be read, in words that go into a sentence."""


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file: the scene, an overview or a mask.

    Attributes:
        width: Columns.
        height: Rows.
        samples: Bands.
        bits: Bits of a band's value; the largest, where they differ.
        block: `(height, width)` of its blocks, tiles or strips.
        planar: Whether each band has blocks of its own.
        compression: TIFF's number of it; 1 for none.
        predictor: TIFF's number of what is compressed: 1 for values, 2 for their differences along a row.
        offsets: Where each block begins, int64; 0 for one that isn't there.
        counts: Bytes of each block, int64.
    """

    width: int
    height: int
    samples: int
    bits: int
    block: tuple[int, int]
    planar: bool
    compression: int
    predictor: int
    offsets: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)

    @property
    def blocks(self) -> int:
        """Number of blocks that it must have."""
        across, down = -(-self.width // self.block[1]), -(-self.height // self.block[0])
        return across * down * (self.samples if self.planar else 1)

    @property
    def block_bytes(self) -> int:
        """Bytes of a decoded block."""
        together = 1 if self.planar else self.samples
        return self.block[0] * -(-self.block[1] * together * self.bits // 8)

    @property
    def in_parts(self) -> bool:
        """Whether GDAL can read a block in parts: strips that aren't compressed."""
        return self.compression == UNCOMPRESSED and self.block[1] == self.width

    def absent(self) -> int:
        """Number of blocks that aren't there: they read as nodata, or as 0."""
        return int(np.count_nonzero((self.offsets == 0) | (self.counts == 0)))

    def beyond(self, size: int) -> int:
        """Number of blocks that end after the file does, of `size` bytes."""
        counts = self.counts
        if self.compression == UNCOMPRESSED:
            # Some writers count a whole last strip although fewer rows follow.
            counts = np.minimum(counts, self._raw_bytes())
        # Not the sum: it overflows where a damaged offset is near 2⁶³.
        return int(np.count_nonzero((self.offsets != 0) & ((self.offsets > size) | (counts > size - self.offsets))))

    def _raw_bytes(self) -> np.ndarray:
        """Bytes that each block must have if it isn't compressed."""
        rows, across = self.block[0], -(-self.width // self.block[1])
        down = -(-self.height // rows)
        sizes = np.full((len(self.offsets) // (across * down) or 1, down, across), self.block_bytes, np.int64)
        if across == 1 and self.block[1] == self.width:
            sizes[:, -1] = self.block_bytes // rows * (self.height - (down - 1) * rows)
        return np.resize(sizes.ravel(), len(self.offsets))

    def overlapping(self) -> int:
        """Number of blocks that begin inside of another; blocks shared as a whole are none."""
        there = self.offsets != 0
        begins, ends = self.offsets[there], (self.offsets + self.counts)[there]
        if (begins[1:] >= ends[:-1]).all():  # one after the other, as most are
            return 0
        order = np.lexsort((ends, begins))
        begins, ends = begins[order], ends[order]
        same = (begins[1:] == begins[:-1]) & (ends[1:] == ends[:-1])
        reached = np.maximum.accumulate(ends)[:-1] if len(ends) else ends
        return int(np.count_nonzero((begins[1:] < reached) & ~same))


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF file, also a large one (BigTIFF)."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_directories(path: Path, *, most_blocks: int = 2**25) -> list[Directory]:
    """Read the directories of a TIFF file, the scene's first.

    Args:
        path: The file.
        most_blocks: More blocks than this in a directory aren't believed; their list alone takes 16 bytes each.

    Returns:
        The directories that hold images.

    Raises:
        TiffError: If the first can't be read, or one of them says what can't be.
        OSError: If the file can't be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        walk = _Walk(file, size, most_blocks)
        directories = list(walk)
    if not directories:
        msg = "a file without a directory"
        raise TiffError(msg)
    return directories


class _Walk:
    """Iterate over the directories of an open file."""

    def __init__(self, file: BinaryIO, size: int, most_blocks: int) -> None:
        self.file, self.size, self.most_blocks = file, size, most_blocks
        head = self._take(0, 16)
        if not is_tiff(head):
            msg = "no TIFF file"
            raise TiffError(msg)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        self.first = struct.unpack_from(self.order + ("Q" if self.big else "I"), head, 8 if self.big else 4)[0]

    def __iter__(self) -> Iterator[Directory]:
        seen: set[int] = set()
        place = self.first
        while place and place not in seen and len(seen) < MOST_DIRECTORIES:
            seen.add(place)
            entries, place = self._entries(place)
            if _WIDTH in entries and entries.keys() & {_TILE_OFFSETS, _STRIP_OFFSETS}:
                yield self._directory(entries)

    def _take(self, place: int, count: int) -> bytes:
        if count < 0 or place < 0 or place + count > self.size:
            msg = f"a directory that ends beyond the file's {self.size:,} bytes"
            raise TiffError(msg)
        self.file.seek(place)
        return self.file.read(count)

    def _entries(self, place: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """Type, count and value field of each entry wanted, by tag; and where the next directory is."""
        head, length, layout = (8, 20, "HHQ") if self.big else (2, 12, "HHI")
        number = struct.unpack(self.order + ("Q" if self.big else "H"), self._take(place, head))[0]
        if number > MOST_ENTRIES:
            msg = f"a directory of {number:,} entries"
            raise TiffError(msg)
        body = self._take(place + head, number * length + (8 if self.big else 4))
        entries = {}
        for index in range(number):
            tag, kind, count = struct.unpack_from(self.order + layout, body, index * length)
            if tag in _WANTED:
                value = body[index * length + (12 if self.big else 8) : (index + 1) * length]
                entries[tag] = kind, count, value
        return entries, struct.unpack_from(self.order + ("Q" if self.big else "I"), body, number * length)[0]

    def _numbers(self, entries: dict[int, tuple[int, int, bytes]], tag: int, default: int) -> np.ndarray:
        """Whole numbers of an entry, int64."""
        if tag not in entries:
            return np.asarray([default], np.int64)
        kind, count, value = entries[tag]
        if kind not in _INTEGERS or not count:
            msg = f"no numbers in its entry {tag}"
            raise TiffError(msg)
        form = np.dtype(self.order + {"B": "u1", "H": "u2", "I": "u4", "Q": "u8"}[_INTEGERS[kind]])
        total = count * form.itemsize
        if total > len(value):
            if count > self.most_blocks:
                msg = f"{count:,} numbers in its entry {tag}"
                raise TiffError(msg)
            value = self._take(struct.unpack(self.order + ("Q" if self.big else "I"), value)[0], total)
        numbers = np.frombuffer(value, form, count)
        if form.itemsize == 8 and (numbers >= 2**63).any():
            msg = f"numbers beyond 2⁶³ in its entry {tag}"
            raise TiffError(msg)
        return numbers.astype(np.int64)

    def _directory(self, entries: dict[int, tuple[int, int, bytes]]) -> Directory:
        def one(tag: int, default: int) -> int:
            kind, count, value = entries.get(tag, (0, 0, b""))
            # Without NumPy, which takes ten times as long for one number.
            if count == 1 and kind in (3, 4):
                return int(struct.unpack_from(self.order + _INTEGERS[kind], value)[0])
            return int(self._numbers(entries, tag, default)[0])

        tiled = _TILE_OFFSETS in entries
        width, height = one(_WIDTH, 0), one(_HEIGHT, 0)
        block = (
            (one(_TILE_HEIGHT, 0), one(_TILE_WIDTH, 0)) if tiled else (min(one(_STRIP_ROWS, 2**32 - 1), height), width)
        )
        if min(width, height, *block) < 1:
            msg = f"{height:,} × {width:,} pixels in blocks of {block[0]:,} × {block[1]:,}"
            raise TiffError(msg)
        offsets = self._numbers(entries, _TILE_OFFSETS if tiled else _STRIP_OFFSETS, 0)
        count_tag = _TILE_COUNTS if tiled else _STRIP_COUNTS
        # Old writers leave the counts out where nothing is compressed.
        counts = self._numbers(entries, count_tag, 0) if count_tag in entries else np.full(len(offsets), 1, np.int64)
        directory = Directory(
            width,
            height,
            one(_SAMPLES, 1),
            int(self._numbers(entries, _BITS, 1).max()),
            block,
            one(_PLANAR, 1) == 2,
            one(_COMPRESSION, 1),
            one(_PREDICTOR, 1),
            offsets,
            counts,
        )
        if len(offsets) != len(counts) or len(offsets) < directory.blocks:
            msg = f"places of {len(offsets):,} and sizes of {len(counts):,} of its {directory.blocks:,} blocks"
            raise TiffError(msg)
        return directory
