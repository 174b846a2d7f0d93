"""Simplification: fewer vertices for polygons, with borders that neighbours share still shared."""

from __future__ import annotations

import numpy as np
import shapely

from satmask.errors import SettingError

# Polygons that touch no other and have less area than so many squares of the tolerance are left as they are.
TINY = 16
# Vertices nearer to an edge than this share of the tolerance lie on it.
ON_EDGE = 1e-6


def simplify(polygons: np.ndarray, *, tolerance: float) -> np.ndarray:
    """Leave out vertices of polygons; what two polygons share is simplified once, for both.

    No gaps or overlaps arise between polygons, none is lost, and all stay valid. A vertex goes where the triangle that it
    makes with its neighbours is smaller than the square of the tolerance; that bounds areas, not distances. Tiny polygons
    that touch no other stay as they are.

    Args:
        polygons: shapely polygons that don't overlap, such as outlines of a mask.
        tolerance: In the units of the coordinates; 0 leaves out only vertices on straight lines.

    Returns:
        Polygons, `(polygons,)`.

    Raises:
        SettingError: If the tolerance is negative, or polygons overlap.

    Examples:
        >>> halves = np.array([shapely.box(0, 0, 1, 2), shapely.Polygon([(1, 0), (2, 0), (2, 1), (2.1, 2), (1, 2)])])
        >>> shapely.get_num_coordinates(simplify(halves, tolerance=0.5)).tolist()
        [5, 5]

    References:
        Visvalingam & Whyatt, 1993, https://doi.org/10.1179/000870493786962263
    """
    if not 0 <= tolerance < np.inf:
        msg = f"Tolerance must be 0 or more, got {tolerance}."
        raise SettingError(msg)
    polygons = np.asarray(polygons, dtype=object)
    if not len(polygons):
        return polygons
    matched = match_borders(polygons, near=ON_EDGE * (tolerance or 1.0))
    if not shapely.coverage_is_valid(matched):
        msg = "Polygons must not overlap to be simplified together, got some that do. Simplify class by class."
        raise SettingError(msg)
    simple = np.asarray(shapely.coverage_simplify(matched, tolerance), dtype=object)
    return _keep_tiny(polygons, simple, tolerance)


def _keep_tiny(polygons: np.ndarray, simple: np.ndarray, tolerance: float) -> np.ndarray:
    """Take tiny polygons as they were, where they touch no other: they would become triangles."""
    tiny = np.flatnonzero(shapely.area(polygons) < TINY * tolerance**2)
    for others in (polygons, simple):
        tree = shapely.STRtree(others)
        found, _ = tree.query(polygons[tiny], predicate="intersects")
        tiny = tiny[np.bincount(found, minlength=len(tiny)) <= 1]
    simple[tiny] = polygons[tiny]
    return simple


def match_borders(polygons: np.ndarray, *, near: float) -> np.ndarray:
    """Give polygons the vertices that neighbours have on their edges, so that shared borders have the same vertices.

    An outline of a mask turns only where itself does; where two of its neighbours meet at a straight edge, it has no vertex.

    Args:
        polygons: shapely polygons.
        near: How near to an edge a vertex lies on it.

    Returns:
        Polygons; those that needed none are the same objects.
    """
    lacking = np.flatnonzero(~_matched(polygons))
    if not len(lacking):
        return polygons
    result = polygons.copy()
    points = shapely.points(np.unique(shapely.get_coordinates(polygons[lacking]), axis=0))
    tree = shapely.STRtree(np.asarray(points, dtype=object))
    rings, owner = shapely.get_rings(polygons[lacking], return_index=True)
    full = [_with_vertices(ring, tree, near) for ring in rings]
    for index, polygon in enumerate(lacking.tolist()):
        mine = [full[ring] for ring in np.flatnonzero(owner == index)]
        result[polygon] = shapely.Polygon(mine[0], mine[1:])
    return result


def _matched(polygons: np.ndarray) -> np.ndarray:
    """Tell which polygons share all of their borders vertex by vertex."""
    wrong = shapely.coverage_invalid_edges(polygons)
    return np.asarray(shapely.is_empty(wrong))


def _with_vertices(ring: shapely.LinearRing, tree: shapely.STRtree, near: float) -> np.ndarray:
    """A ring's coordinates, and those of points on its edges in between."""
    coordinates = shapely.get_coordinates(ring)
    edges = shapely.linestrings(np.stack([coordinates[:-1], coordinates[1:]], axis=1))
    edge, point = tree.query(edges, predicate="dwithin", distance=near)
    found = shapely.get_coordinates(tree.geometries[point])
    start, step = coordinates[edge], coordinates[edge + 1] - coordinates[edge]
    along = ((found - start) * step).sum(1) / (step**2).sum(1)
    ends = (found == start).all(1) | (found == coordinates[edge + 1]).all(1)
    places = np.concatenate([np.arange(len(coordinates)), (edge + along)[~ends]])
    return np.concatenate([coordinates, found[~ends]])[np.argsort(places, kind="stable")]
