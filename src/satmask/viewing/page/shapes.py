"""Shapes between GeoJSON, as labels are kept, and the rings of corners that a map draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Ring = list[tuple[float, float]]
"""Corners as `(lng, lat)`, the first not said again."""
Part = list[Ring]
"""A polygon: its outline, then its holes."""
Box = tuple[tuple[float, float], tuple[float, float]]
"""South and west, north and east."""


def parts_of(geometry: Mapping[str, Any]) -> list[Part]:
    """Take a GeoJSON polygon or multipolygon apart, the largest part first.

    Examples:
        >>> square = [[0, 0], [2, 0], [2, 2], [0, 0]]
        >>> parts_of({"type": "Polygon", "coordinates": [square]})
        [[[(0.0, 0.0), (2.0, 0.0), (2.0, 2.0)]]]
    """
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    parts = [[[(float(x), float(y)) for x, y, *_ in ring[:-1]] for ring in polygon] for polygon in polygons]
    return sorted(parts, key=lambda part: -_area(part[0]))


def geometry_of(parts: Sequence[Part]) -> dict[str, Any]:
    """Put parts together as GeoJSON, which wants rings closed.

    Examples:
        >>> geometry_of([[[(0, 0), (2, 0), (2, 2)]]])
        {'type': 'Polygon', 'coordinates': [[(0, 0), (2, 0), (2, 2), (0, 0)]]}
    """
    closed = [[[*ring, ring[0]] for ring in part] for part in parts]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def box_of(geometry: Mapping[str, Any]) -> Box:
    """South and west, north and east of a polygon or multipolygon."""
    corners = [corner for part in parts_of(geometry) for corner in part[0]]
    lngs, lats = zip(*corners, strict=True)
    return (min(lats), min(lngs)), (max(lats), max(lngs))


def meet(one: Box, other: Box) -> bool:
    """Say whether two boxes have something in common.

    Examples:
        >>> meet(((0, 0), (1, 1)), ((1, 1), (2, 2))), meet(((0, 0), (1, 1)), ((3, 0), (4, 1)))
        (True, False)
    """
    return all(one[0][axis] <= other[1][axis] and other[0][axis] <= one[1][axis] for axis in (0, 1))


def _area(ring: Ring) -> float:
    """Twice the area, as good as it for telling which is larger."""
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(ring, [*ring[1:], ring[0]], strict=True)))
