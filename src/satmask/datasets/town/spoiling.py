"""Make polygons invalid in the ways in which hand-drawn ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from satmask.datasets.wkt import DECIMALS, read_wkt, write_wkt

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = ("bow tie", "spike", "doubled point", "hole outside")
"""A doubled point alone doesn't make a polygon invalid; the others do."""


def spoil(polygons: MultiPolygon, random: np.random.Generator, *, share: float) -> tuple[str, int]:
    """Write polygons as text, some of them spoiled.

    Args:
        polygons: Valid polygons in grid coordinates, rounded.
        random: Where chance comes from.
        share: Of polygons to be spoiled, each in a way drawn from `WAYS`.

    Returns:
        The text, and how many of its polygons are invalid to GEOS.
    """
    parts = list(polygons.geoms)
    for number in np.flatnonzero(random.random(len(parts)) < share).tolist():
        way = _CHANGES[WAYS[int(random.integers(len(WAYS)))]]
        parts[number] = way(parts[number], random)
    text = write_wkt(MultiPolygon(parts), DECIMALS)
    return text, int(np.count_nonzero(~shapely.is_valid(shapely.get_parts(read_wkt(text)))))


def _bow_tie(polygon: Polygon, random: np.random.Generator) -> Polygon:
    """Exchange two neighbouring points so that sides cross; the polygon as it is where none do."""
    points = np.asarray(polygon.exterior.coords)[:-1]
    for at in random.permutation(len(points)).tolist()[:20]:
        order = np.arange(len(points))
        order[[at - 1, at]] = at, order[at - 1]
        tied = Polygon(points[order], list(polygon.interiors))
        if not tied.is_valid:
            return tied
    return polygon


def _spike(polygon: Polygon, random: np.random.Generator) -> Polygon:
    """Go from a point to a place outside and come back on the same way."""
    points = np.asarray(polygon.exterior.coords)[:-1]
    at = int(random.integers(len(points)))
    middle = points.mean(axis=0)
    tip = np.round(points[at] + 0.4 * (points[at] - middle), DECIMALS)
    return Polygon(np.insert(points, at + 1, [tip, points[at]], axis=0), list(polygon.interiors))


def _doubled(polygon: Polygon, random: np.random.Generator) -> Polygon:
    """Write a point twice."""
    points = np.asarray(polygon.exterior.coords)
    at = int(random.integers(len(points)))
    return Polygon(np.insert(points, at, points[at], axis=0), list(polygon.interiors))


def _hole_outside(polygon: Polygon, random: np.random.Generator) -> Polygon:
    """Draw a tiny hole just beyond the edge."""
    left, _, right, bottom = polygon.bounds
    side = 0.1 * (right - left) * float(random.uniform(0.5, 1))
    hole = np.round([(right + side, bottom), (right + 2 * side, bottom), (right + side, bottom + side)], DECIMALS)
    return Polygon(polygon.exterior, [*polygon.interiors, hole])


_CHANGES: dict[str, Callable[[Polygon, np.random.Generator], Polygon]] = {
    "bow tie": _bow_tie,
    "spike": _spike,
    "doubled point": _doubled,
    "hole outside": _hole_outside,
}
