"""Outlines that a person drew: from GeoJSON in map coordinates to polygons in the scene's CRS, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.datasets.repair import polygonal, repair
from satmask.errors import DataError
from satmask.polygons import place as to_ground
from satmask.viewing.shelf import Place

MOST_VERTICES = 20_000
"""Of an outline that is sent."""
MOST_RINGS = 1_000


def as_polygons(geometry: Mapping[str, Any], place: Place) -> BaseGeometry:
    """Read an outline that somebody sent; one that crosses itself is repaired.

    Args:
        geometry: A GeoJSON polygon or multipolygon in map coordinates.
        place: Where it lies.

    Returns:
        A valid polygon or multipolygon in the scene's CRS; in pixels where it has none.

    Raises:
        DataError: If it is none, is too large, or lies outside the scene.
    """
    rings = _rings(geometry)
    parts = [shapely.Polygon(part[0], part[1:]) for part in rings]
    pixels = shapely.transform(shapely.MultiPolygon(parts), place.view.to_pixels)
    if not np.isfinite(shapely.get_coordinates(pixels)).all():
        raise _refused(got="one that has no place in the scene's CRS")
    whole = polygonal(pixels if pixels.is_valid else repair(pixels).geometry)
    height, width = place.grid.shape
    inside = [part for part in whole if part.intersects(shapely.box(0, 0, width, height)) and part.area > 0]
    if not inside:
        raise _refused(got="one without an area in the scene")
    shape = inside[0] if len(inside) == 1 else shapely.MultiPolygon(inside)
    return to_ground(np.array([shape], object), place.grid)[0]  # type: ignore[no-any-return]


def to_map(shape: BaseGeometry, place: Place) -> BaseGeometry:
    """A polygon of the scene's CRS in map coordinates."""
    a, b, c, d, e, f = tuple(~place.grid.transform)[:6]
    turn, shift = np.array([[a, d], [b, e]]), np.array([c, f])
    return shapely.transform(shape, lambda points: place.view.to_map(points @ turn + shift))


def _rings(geometry: Mapping[str, Any]) -> list[list[np.ndarray]]:
    """The rings of each polygon, float64, `(points, 2)` each."""
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise _refused(got=f"{kind!r:.40}")
    parts = geometry.get("coordinates")
    parts = [parts] if kind == "Polygon" else parts
    try:
        rings = [[_ring(ring) for ring in part] for part in parts or []]
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused(got="one whose coordinates aren't pairs of numbers") from error
    every = [ring for part in rings for ring in part]
    if not every or not all(rings) or len(every) > MOST_RINGS or sum(map(len, every)) > MOST_VERTICES:
        raise _refused(got=f"{len(every):,} rings of {sum(map(len, every)):,} points")
    return rings


def _ring(ring: Any) -> np.ndarray:
    if not isinstance(ring, list | tuple) or len(ring) > MOST_VERTICES:
        raise ValueError
    points = np.array([(float(point[0]), float(point[1])) for point in ring], np.float64).reshape(-1, 2)
    # shapely may crash on numbers that are none, or enormous.
    if len(points) < 3 or not (np.abs(points) < 1e9).all():
        raise ValueError
    return points


def _refused(*, got: str) -> DataError:
    return DataError(f"Outline must be a polygon in the scene, of at most {MOST_VERTICES:,} points, got {got}.")
