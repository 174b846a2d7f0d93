"""Polygons to pixels and back.

One rule decides which pixels a polygon covers, wherever polygons become pixels: a pixel belongs to the polygon that
holds its centre. Rasterisers that follow other rules disagree by 4–13 % IoU on buildings of 12–60 pixels.

Polygons are in pixel coordinates here: x is the column and y the row, counted from the outer corner of the first pixel.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import shapely
from rasterio.features import rasterize, shapes
from shapely.geometry.base import BaseGeometry

from satmask.errors import DataError, SettingError

Ring: TypeAlias = Sequence[float]
# A shapely polygon, one COCO ring `[x, y, x, y, …]`, or several of them as COCO's `segmentation` holds.
Outline: TypeAlias = BaseGeometry | Ring | Sequence[Ring]

# GDAL counts rows and columns in 32-bit integers: beyond this a polygon silently covers nothing.
FARTHEST_PX = 1e9


def rasterise(
    polygons: Sequence[Outline], height: int, width: int, *, values: Sequence[int] | None = None
) -> np.ndarray:
    """Draw polygons into a mask: a pixel belongs to the polygon that holds its centre.

    Polygons may have holes and may reach over the edge. Where several hold a pixel's centre, the last one wins. Rings
    with fewer than three points hold no centre and leave no trace.

    Args:
        polygons: shapely polygons, COCO rings, or COCO segmentations, in pixel coordinates.
        height: Rows of the mask.
        width: Columns of the mask.
        values: Value of each polygon, -2³¹ to 2³¹ - 1; 1 for all by default.

    Returns:
        The values, 0 where no polygon is, `(height, width)`; uint8 if it holds the values, else uint16 or int32.

    Raises:
        DataError: If a coordinate isn't finite, lies further than 10⁹ pixels away, or lacks its pair.
        SettingError: If polygons and values differ in number.

    Examples:
        >>> rasterise([[0, 0, 2, 0, 2, 1, 0, 1]], height=2, width=3).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    chosen = [1] * len(polygons) if values is None else [int(value) for value in values]
    if len(chosen) != len(polygons):
        msg = f"Polygons must have one value each, got {len(chosen)} values for {len(polygons)} polygons."
        raise SettingError(msg)
    mask = np.zeros((height, width), _smallest_dtype(chosen))
    # GeoJSON goes into GDAL two to five times as fast as shapely's own geometries.
    pairs = [
        ({"type": "Polygon", "coordinates": rings}, value)
        for parts, value in zip(_split(polygons), chosen, strict=True)
        for rings in parts
    ]
    return np.asarray(rasterize(pairs, out=mask)) if pairs and mask.size else mask


def polygonise(mask: np.ndarray, *, connectivity: int = 4) -> list[shapely.Polygon]:
    """Trace the outlines of a mask along its pixels' edges; `rasterise` gives the mask back exactly.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        connectivity: 4, or 8 if pixels that share only a corner belong together; the polygons of 8 may touch
            themselves at such corners, which makes them invalid to shapely.

    Returns:
        One polygon, with its holes, for each connected part.

    Examples:
        >>> polygonise(np.array([[0, 1], [0, 1]]))[0].bounds
        (1.0, 0.0, 2.0, 2.0)
    """
    polygons, _ = outlines((np.asarray(mask) != 0).astype(np.int32), connectivity=connectivity)
    return list(polygons)


def outlines(labels: np.ndarray, *, connectivity: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Trace the outline of every connected region of equal value; 0 is outside.

    Args:
        labels: Values, int32, `(height, width)`.
        connectivity: 4 or 8, see `polygonise`.

    Returns:
        shapely polygons, and the value of each, int32; both `(regions,)`.

    Examples:
        >>> polygons, values = outlines(np.array([[5, 5, 0, 9]], np.int32))
        >>> [polygon.area for polygon in polygons], values.tolist()
        ([2.0, 1.0], [5, 9])
    """
    points: list[tuple[float, float]] = []
    ring_ends, polygon_ends, values = [0], [0], []
    for geometry, value in shapes(labels, mask=labels != 0, connectivity=connectivity):
        for ring in geometry["coordinates"]:
            points += ring
            ring_ends.append(len(points))
        polygon_ends.append(len(ring_ends) - 1)
        values.append(value)
    offsets = (np.asarray(ring_ends), np.asarray(polygon_ends))
    coordinates = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates, offsets)
    return np.asarray(polygons, dtype=object), np.asarray(values, dtype=np.int32)


def _smallest_dtype(values: Sequence[int]) -> type[np.uint8 | np.uint16 | np.int32]:
    low, high = min(values, default=0), max(values, default=0)
    if low < 0 or high > 65535:
        return np.int32
    return np.uint8 if high < 256 else np.uint16


def _split(polygons: Sequence[Outline]) -> list[list[list[list[Any]]]]:
    """Split each outline into its parts, each a list of rings, each a list of points."""
    placed = [index for index, polygon in enumerate(polygons) if isinstance(polygon, BaseGeometry)]
    found: list[list[list[list[Any]]]] = [[] for _ in polygons]
    if placed:
        _split_geometries([polygons[index] for index in placed], placed, found)
    for index in set(range(len(polygons))).difference(placed):
        polygon: Any = polygons[index]
        rings = [polygon] if len(polygon) and isinstance(polygon[0], numbers.Real) else polygon
        found[index] = [[points] for ring in rings if len(points := _coco_ring(ring, index)) > 3]
    return found


def _split_geometries(geometries: list[Any], placed: list[int], found: list[list[list[list[Any]]]]) -> None:
    """Take shapely geometries apart all at once: one by one it would cost more than drawing them."""
    parts, owners = shapely.get_parts(geometries, return_index=True)
    rings, part_of = shapely.get_rings(parts, return_index=True)
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    near = np.abs(points) <= FARTHEST_PX  # False for NaN too
    if not near.all():
        place = int(np.flatnonzero(~near.all(axis=1))[0])
        raise _too_far(points[place][~near[place]][0], placed[owners[part_of[ring_of[place]]]])
    listed, ends = points.tolist(), np.cumsum(np.bincount(ring_of, minlength=len(rings))).tolist()
    taken: list[list[list[Any]]] = [[] for _ in parts]
    for begin, end, part in zip([0, *ends][:-1], ends, part_of.tolist(), strict=True):
        if end > begin:
            taken[part].append(listed[begin:end])
    for owner, part in zip(owners.tolist(), taken, strict=True):
        if part:
            found[placed[owner]].append(part)


def _coco_ring(ring: Any, index: int) -> list[tuple[float, float]]:
    """Pair the numbers of a ring, and close it."""
    try:
        # A sum shows NaN, which comparisons can hide.
        total, largest = sum(ring), max(map(abs, ring), default=0)
    except (TypeError, OverflowError):
        total, largest = None, 0
    if total is None or len(ring) % 2:
        msg = f"Ring must be x and y in turn, got {ring!r:.60} in polygon {index}."
        raise DataError(msg)
    if largest > FARTHEST_PX or not math.isfinite(total):
        raise _too_far(next(value for value in ring if not abs(value) <= FARTHEST_PX), index)
    points = list(zip(ring[::2], ring[1::2], strict=True))
    return [*points, *points[:1]]


def _too_far(value: float, index: int) -> DataError:
    return DataError(f"Polygon must have finite coordinates within 10⁹ pixels, got {value} in polygon {index}.")
