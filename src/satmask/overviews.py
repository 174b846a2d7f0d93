"""Overviews of classes: each pixel is the class of most of those below it, as GDAL decides, in a fraction of its time.

GDAL counts 256 classes for each pixel. Most pixels lie within one class, where there is nothing to count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import rasterio
from rasterio.enums import Resampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Pixels of the raster that are looked at in one go.
STRIP_PX = 1 << 22

# First pixel that each new one touches along an axis, and the one after its last.
Touched: TypeAlias = "tuple[np.ndarray, np.ndarray]"


def touched(length: int) -> Touched:
    """Pixels that those of half as many touch along an axis, as GDAL reckons: where their number is odd, up to three.

    Examples:
        >>> [places.tolist() for places in touched(5)]
        [[0, 1, 3], [2, 4, 5]]
    """
    count = -(-length // 2)
    ratio, places = length / count, np.arange(count)
    return (places * ratio + 1e-8).astype(np.intp), np.ceil((places + 1) * ratio - 1e-8).astype(np.intp)


def halve(classes: np.ndarray, nodata: float, *, rows: Touched | None = None) -> np.ndarray:
    """Shrink classes to half their sides, rounded up: that of most pixels below, the first to be so many among equals.

    Args:
        classes: Class ids, `(height, width)`.
        nodata: Id of unknown pixels, which don't count; new ones are unknown where all of theirs are.
        rows: Rows that the new ones touch, where `classes` are some rows of a raster; see `touched`.

    Returns:
        Class ids in the same data type.

    Examples:
        >>> halve(np.array([[1, 1, 2, 3], [2, 1, 3, 2], [0, 0, 9, 9], [0, 4, 9, 5]], np.uint8), nodata=0).tolist()
        [[1, 3], [4, 9]]
    """
    down, across = _places(rows or touched(len(classes))), _places(touched(classes.shape[1]))
    seen = [classes.take(row, 0).take(column, 1) for row, _ in down for column, _ in across]
    found = seen[0]
    mixed = np.zeros(found.shape, bool)
    for other in seen[1:]:
        mixed |= other != found
    at = np.flatnonzero(mixed)
    counts = [(tall[:, None] & wide).ravel()[at] for _, tall in down for _, wide in across]
    found.ravel()[at] = _mode([values.ravel()[at] for values in seen], counts, nodata)
    return found


def _places(touching: Touched) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first, second … pixel that each new one touches, and whether it has as many: its last is repeated otherwise."""
    first, end = touching
    return [(np.minimum(first + at, end - 1), first + at < end) for at in range(int((end - first).max()))]


def _mode(seen: Sequence[np.ndarray], counts: Sequence[np.ndarray], nodata: float) -> np.ndarray:
    """The value that is the first to have been seen most often."""
    found, most = np.full_like(seen[0], nodata), np.zeros(len(seen[0]), np.uint8)
    counts = [count & (values != found) for values, count in zip(seen, counts, strict=True)]
    for at, values in enumerate(seen):
        times = np.zeros(len(found), np.uint8)
        for other, count in zip(seen[: at + 1], counts[: at + 1], strict=True):
            times += count & (other == values)
        better = counts[at] & (times > most)
        found[better], most[better] = values[better], times[better]
    return found


def add_class_overviews(path: Path, factors: Sequence[int]) -> None:
    """Write overviews of a GeoTIFF of one band, those of GDAL's "mode", to a file beside it: `<path>.ovr`.

    Args:
        path: The GeoTIFF; it must have a nodata value.
        factors: 2, 4, 8 …: all that are wanted.
    """
    target = path.with_name(f"{path.name}.ovr")
    with rasterio.open(path) as file:
        (height, width), half = file.shape, [-(-side // 2) for side in file.shape]
        profile = {"driver": "GTiff", "count": 1, "dtype": file.dtypes[0], "nodata": file.nodata, "bigtiff": "IF_SAFER"}
        first, end = touched(height)
        step = max(STRIP_PX // width // 2, 1)
        with rasterio.open(target, "w", height=half[0], width=half[1], **profile) as smaller:
            for row in range(0, half[0], step):
                begins, ends = first[row : row + step], end[row : row + step]
                strip = file.read(1, window=_rows(begins[0], ends[-1], width))
                made = halve(strip, file.nodata, rows=(begins - begins[0], ends - begins[0]))
                smaller.write(made, 1, window=_rows(row, row + len(made), half[1]))
    if len(factors) > 1:
        with rasterio.open(target, "r+") as smaller:
            smaller.build_overviews([factor // 2 for factor in factors[1:]], Resampling.mode)


def _rows(begin: int, end: int, width: int) -> rasterio.windows.Window:
    return rasterio.windows.Window(0, begin, width, end - begin)
