"""Whether a raster file may be opened: what would take a lot of memory, and what lacks a part, is refused beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from satmask.errors import SceneError
from satmask.permissions import allowed
from satmask.tiff_directory import Directory, TiffError, is_tiff, read_directories

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_BLOCK = 64 * 2**20
"""Bytes of one decoded block, the least that can be read at once. Decoding takes some three times as much."""
LARGEST_IMAGE = 2**30
"""Bytes of a decoded image that isn't stored in blocks: a window at its end can't be reached but through all of it."""
MOST_BANDS = 2048
SIDECARS = (".msk", ".aux.xml", ".ovr")
"""What GDAL would read beside a file. satmask doesn't: they may name further files, anywhere."""
WORLD_FILES = {".tif": ".tfw", ".tiff": ".tfw", ".jpg": ".jgw", ".jpeg": ".jgw", ".png": ".pgw", ".jp2": ".j2w"}
# What files of each driver begin with. WebP has four bytes of its size between the two parts.
_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JP2OpenJPEG": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "WEBP": (b"RIFF",),
    "HFA": (b"EHFA_HEADER_TAG",),
}


def looks_like(path: Path, driver: str) -> bool:
    """Whether a file begins as those of a driver do."""
    with path.open("rb") as file:
        head = file.read(16)
    return is_tiff(head) if driver == "GTiff" else head.startswith(_MAGIC.get(driver, ()))


def check_tiff(path: Path) -> tuple[Directory, list[str]]:
    """Refuse a GeoTIFF that lacks blocks at its end, or whose blocks are too large to be decoded.

    Args:
        path: The file.

    Returns:
        What it says of the scene's blocks, and what is doubtful: blocks that aren't there or lie over one another.

    Raises:
        SceneError: If it can't be used.
    """
    try:
        directories = read_directories(path)
        size = path.stat().st_size
    except TiffError as error:
        msg = f"Scene must be a whole TIFF file that can be opened, got {error} in {path.name}."
        raise SceneError(msg) from error
    except OSError as error:
        msg = f"Scene must be readable, got {error.strerror or error} for {path.name}."
        raise SceneError(msg) from error
    first = directories[0]
    for directory in directories:
        # What decoding takes: the block, or what it is made from where that pretends to be larger. Strips that aren't
        # compressed GDAL reads in parts.
        memory = max(directory.block_bytes, int(directory.counts.max()) // 2)
        check_memory(path.name, directory.block, 0 if directory.in_parts else memory, directory.samples)
        if lost := directory.beyond(size):
            what = "" if directory is first else " of a mask or an overview"
            msg = (
                f"Scene must be whole, got {lost:,} of {len(directory.offsets):,} blocks{what} that end beyond the file's "
                f"{size:,} bytes in {path.name}. Download or copy it again."
            )
            raise SceneError(msg)
    return first, _doubts(path.name, first)


def check_memory(name: str, block: tuple[int, int], block_bytes: int, bands: int) -> None:
    """Refuse a raster whose parts are too large to be decoded, unless the user allows it.

    Args:
        name: What messages call it.
        block: `(height, width)` of its blocks.
        block_bytes: What one of them takes.
        bands: Number of bands.

    Raises:
        SceneError: With the way out.
    """
    if allowed("huge"):
        return
    if bands > MOST_BANDS:
        msg = f"Scene must have at most {MOST_BANDS:,} bands, got {bands:,} in {name}. --allow-huge reads it all the same."
        raise SceneError(msg)
    if block_bytes > LARGEST_BLOCK:
        msg = (
            f"Scene must be stored in blocks of at most {LARGEST_BLOCK >> 20} MiB, got {block_bytes / 2**20:,.0f} MiB "
            f"({block[0]:,} × {block[1]:,} pixels) in {name}. Rewrite it with `gdal_translate -co TILED=YES`, or read it "
            f"all the same with --allow-huge."
        )
        raise SceneError(msg)


def check_image(name: str, shape: tuple[int, int], pixel_bytes: int, *, at_once: bool) -> None:
    """Refuse an image without blocks, such as a PNG, that is too large to be read from its beginning.

    Args:
        name: What messages call it.
        shape: `(height, width)`.
        pixel_bytes: Bytes of a pixel, of all bands.
        at_once: Whether it can only be decoded as a whole.

    Raises:
        SceneError: With the way out.
    """
    largest, size = LARGEST_BLOCK if at_once else LARGEST_IMAGE, shape[0] * shape[1] * pixel_bytes
    if size > largest and not allowed("huge"):
        msg = (
            f"Scene must take at most {largest >> 20:,} MiB where it isn't stored in blocks, got {size / 2**20:,.0f} MiB "
            f"({shape[0]:,} × {shape[1]:,} pixels) in {name}. Make it a tiled GeoTIFF, or read it all the same with "
            f"--allow-huge."
        )
        raise SceneError(msg)


def _doubts(name: str, directory: Directory) -> list[str]:
    found = []
    if absent := directory.absent():
        found.append(
            f"{absent:,} of {len(directory.offsets):,} blocks of {name} aren't there and read as nodata, or 0 without one: "
            f"a sparse file, or one that was never written to its end."
        )
    if overlapping := directory.overlapping():
        found.append(f"{overlapping:,} blocks of {name} lie over others: the file may be damaged.")
    return found


def unread_sidecars(path: Path) -> list[str]:
    """Names of the files beside a raster that GDAL would read and satmask doesn't."""
    names = [path.name + suffix for suffix in SIDECARS]
    world = WORLD_FILES.get(path.suffix.lower())
    names += [path.stem + world] if world else []
    return [name for name in names if path.with_name(name).is_file()]
