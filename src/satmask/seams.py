"""Polygons that tiles have cut: pieces of one object, found again by the stretch of tile edge that they share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import shapely

from satmask.datasets.grouping import join
from satmask.datasets.repair import repair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

    Spot = tuple[int, int]
    Stretch = tuple[float, float]

NEAR_PX = 0.02  # annotation files are rounded to hundredths of a pixel
SHORTEST_PX = 0.05  # of a shared stretch; what is shorter is a corner
SHARE = 0.5  # of the shorter of two stretches that must be shared: neighbours in a row share a rounding error


@dataclass(frozen=True)
class Piece:
    """What a tile shows of an object.

    Attributes:
        geometry: In pixels of the tile, y down.
        channel: Its class; only pieces of one class are joined.
    """

    geometry: BaseGeometry
    channel: int


def make_whole(tiles: Mapping[Spot, Sequence[Piece]], shape: tuple[int, int]) -> list[Piece]:
    """Join pieces of one object that were cut at the edges of tiles.

    Two pieces are of one object if they have the same class, lie in tiles side by side, and have a stretch of the edge
    between these in common: at least half of the shorter of their two stretches. Pieces that touch inside a tile stay
    apart. What hangs over the edge of its tile is cut off, since the tile across has its own piece of it.

    Args:
        tiles: Pieces of each tile, by its column and row, counted in tiles.
        shape: `(height, width)` of every tile, in pixels.

    Returns:
        Objects in pixels of the whole, whose origin is the corner of the tile at column 0 and row 0; in the order of
        their first pieces, row of tiles by row of tiles.

    Examples:
        >>> tiles = {(0, 0): [Piece(shapely.box(6, 2, 8, 4), 0)], (1, 0): [Piece(shapely.box(0, 2, 3, 4), 0)]}
        >>> [piece.geometry.bounds for piece in make_whole(tiles, (8, 8))]
        [(6.0, 2.0, 11.0, 4.0)]
    """
    pieces: list[Piece] = []
    here: dict[Spot, list[int]] = defaultdict(list)
    for spot in sorted(tiles, key=lambda spot: spot[::-1]):
        for piece in tiles[spot]:
            if not (inside := _inside(piece.geometry, shape)).is_empty:
                here[spot].append(len(pieces))
                pieces.append(Piece(inside, piece.channel))
    spots = [spot for spot in here for _ in here[spot]]
    groups: dict[int, list[int]] = defaultdict(list)
    for index, first in enumerate(join(len(pieces), _pairs(pieces, here, shape))):
        groups[first].append(index)
    return [
        Piece(_union([(pieces[index].geometry, spots[index]) for index in members], shape), pieces[first].channel)
        for first, members in groups.items()
    ]


def _inside(geometry: BaseGeometry, shape: tuple[int, int]) -> BaseGeometry:
    """The part of a piece that its tile shows."""
    west, north, east, south = geometry.bounds
    height, width = shape
    if west >= 0 and north >= 0 and east <= width and south <= height:
        return geometry
    return repair(shapely.intersection(repair(geometry).geometry, shapely.box(0, 0, width, height))).geometry


def _pairs(
    pieces: Sequence[Piece], here: Mapping[Spot, list[int]], shape: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Pieces of one object in tiles side by side, and one below the other."""
    for axis, (right, below) in enumerate(((1, 0), (0, 1))):
        for (column, row), mine in here.items():
            ends = _on_edge(pieces, mine, axis, shape[1 - axis])
            begins = _on_edge(pieces, here.get((column + right, row + below), []), axis, 0)
            for one, other in product(ends, begins):
                if pieces[one].channel == pieces[other].channel and _share(ends[one], begins[other]):
                    yield one, other


def _on_edge(pieces: Sequence[Piece], indexes: Sequence[int], axis: int, edge: float) -> dict[int, list[Stretch]]:
    """Stretches of a line that pieces lie on, where they lie on it at all."""
    found = {index: stretches(pieces[index].geometry, axis, edge) for index in indexes}
    return {index: lying for index, lying in found.items() if lying}


def stretches(geometry: BaseGeometry, axis: int, edge: float) -> list[tuple[float, float]]:
    """Find where the outline of a polygon runs along a line.

    Args:
        geometry: A polygon or several.
        axis: 0 for a line of one x, 1 for a line of one y.
        edge: This x or y.

    Returns:
        From and to on the other axis, each.

    Examples:
        >>> stretches(shapely.box(0, 2, 3, 4), 0, 0)
        [(2.0, 4.0)]
    """
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(geometry)), return_index=True)
    near = np.abs(points[:, axis] - edge) <= NEAR_PX
    along = near[:-1] & near[1:] & (ring[:-1] == ring[1:])
    ends = np.sort(np.stack([points[:-1, 1 - axis], points[1:, 1 - axis]], axis=1)[along], axis=1)
    merged: list[tuple[float, float]] = []
    for begin, end in ends[np.argsort(ends[:, 0])].tolist():
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _share(ends: Sequence[Stretch], begins: Sequence[Stretch]) -> bool:
    for (a, b), (c, d) in product(ends, begins):
        shared = min(b, d) - max(a, c)
        if shared >= SHORTEST_PX and shared >= SHARE * min(b - a, d - c):
            return True
    return False


def _union(members: Sequence[tuple[BaseGeometry, Spot]], shape: tuple[int, int]) -> BaseGeometry:
    """One object of its pieces, in pixels of the whole."""
    if len(members) == 1:
        geometry, spot = members[0]
        return _moved(geometry, spot, shape)
    # Edges must be met exactly, or a gap of a hundredth of a pixel keeps the pieces apart.
    parts = [
        _moved(repair(shapely.transform(geometry, partial(_snapped, shape=shape))).geometry, spot, shape)
        for geometry, spot in members
    ]
    # What cutting and rounding left on the edges, in corners and steps of a hundredth of a pixel, goes.
    return shapely.simplify(shapely.union_all(parts), NEAR_PX)


def _moved(geometry: BaseGeometry, spot: Spot, shape: tuple[int, int]) -> BaseGeometry:
    offset = np.multiply(spot, shape[::-1])
    return shapely.transform(geometry, lambda points: points + offset)


def _snapped(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    for edge in ((0, 0), shape[::-1]):
        points = np.where(np.abs(points - edge) <= NEAR_PX, edge, points)
    return points
