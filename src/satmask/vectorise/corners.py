"""Corners of regions: where an outline turns, found by comparing neighbouring pixels.

A corner is a vertex of the pixel grid and one region that turns there. It ends one horizontal and one vertical edge of that
region. Four pixels meet in a vertex, here called after where they lie: north-west, north-east, south-west, south-east. A
corner is convex where one pixel differs from both of its neighbours, and concave where one agrees with both but not with
the one opposite.

Outlines are followed with the region to the left, as one sees it on a map with north up: along the lower side of a region
to the east, along its upper side to the west.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows compared at a time: what they need stays in the processor's cache.
CHUNK_PX = 1 << 18
X_BITS = 31
TOUCHES = 1


@dataclass(frozen=True)
class Ends:
    """Ends of vertical edges whose region lies on one side, those of a column one after another from north to south.

    Attributes:
        x: Column of the vertex, int32, `(ends,)`.
        y: Its row, counted from the first row of the scene.
        begins: Whether an edge begins here, seen from the north; else one ends.
        node: The horizontal edge that has the same corner.
    """

    x: np.ndarray
    y: np.ndarray
    begins: np.ndarray
    node: np.ndarray


@dataclass(frozen=True)
class Corners:
    """Corners of the regions in some rows, as the ends of their horizontal edges.

    A vertex is written as one number, `vertex_code`, whose order is that of rows and then columns.

    Attributes:
        codes: Where each horizontal edge begins and ends, as outlines are followed; int64, `(edges, 2)`.
        west: Ends of vertical edges with the region to their west, which are followed to the north.
        east: The same with the region to their east, followed to the south.
    """

    codes: np.ndarray
    west: Ends
    east: Ends


@dataclass(frozen=True)
class _Turns:
    """Which pixels have a corner at each vertex, bool, `(vertices,)` each; by the place of the pixel."""

    nw: np.ndarray
    ne: np.ndarray
    sw: np.ndarray
    se: np.ndarray


def vertex_code(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Write vertices as numbers; the lowest bit is left for `TOUCHES`, a region that meets itself across the vertex."""
    return (y.astype(np.int64) << (X_BITS + 1)) | (x.astype(np.int64) << 1)


def vertex_points(codes: np.ndarray) -> np.ndarray:
    """Points `(x, y)` of vertices, float64, `(vertices, 2)`."""
    points = np.empty((len(codes), 2))
    points[:, 0] = (codes >> 1) & ((1 << X_BITS) - 1)
    points[:, 1] = codes >> (X_BITS + 1)
    return points


def find_corners(before: np.ndarray, strip: np.ndarray, row: int, *, outside: int) -> Corners:
    """Find the corners on the upper border of each row of a strip.

    Args:
        before: The row above the strip, `(width,)`.
        strip: Labels, `(height, width)`, integers.
        row: Number of the strip's first row in the scene.
        outside: The label of what belongs to no region.

    Returns:
        The corners.
    """
    height, width = strip.shape
    rows = max(CHUNK_PX // max(width, 1), 1)
    parts = [
        _vertices(before if not at else strip[at - 1], strip[at : at + rows], outside) for at in range(0, height, rows)
    ]
    y, x = (
        np.concatenate([part[0] + at for part, at in zip(parts, range(row, row + height, rows), strict=True)]),
        np.concatenate([part[1] for part in parts]),
    )
    nw, ne, sw, se = (np.concatenate([part[place] for part in parts]) for place in range(2, 6))
    return _corners(y, x, *_turns((nw, ne, sw, se), outside))


def _vertices(above: np.ndarray, rows: np.ndarray, outside: int) -> tuple[np.ndarray, ...]:
    """Vertices where any outline turns, and the four labels around each."""
    height, width = rows.shape
    padded = np.full((height + 1, width + 2), outside, rows.dtype)
    padded[0, 1:-1], padded[1:, 1:-1] = above, rows
    vertical = padded[:, 1:] != padded[:, :-1]
    horizontal = padded[1:] != padded[:-1]
    north, south, west, east = vertical[:-1], vertical[1:], horizontal[:, :-1], horizontal[:, 1:]
    found = np.flatnonzero((north ^ south) | (west ^ east) | (north & west))
    # Division takes longer than all the rest.
    y = np.repeat(
        np.arange(height, dtype=np.int32), np.diff(np.searchsorted(found, np.arange(height + 1) * (width + 1)))
    )
    x = (found - y * np.int64(width + 1)).astype(np.int32)
    corner = found + y  # in the padded rows, which are one longer than those of vertices
    flat, below = padded.ravel(), width + 2
    return y, x, *(flat.take(corner + step) for step in (0, 1, below, below + 1))


def _turns(labels: tuple[np.ndarray, ...], outside: int) -> tuple[_Turns, _Turns, _Turns]:
    """Where outlines turn: convex corners, concave ones, and the convex ones of regions that may touch themselves."""
    nw, ne, sw, se = labels
    north, south, west, east, falling, rising = nw == ne, sw == se, nw == sw, ne == se, nw == se, ne == sw
    in_nw, in_ne, in_sw, in_se = (label != outside for label in labels)
    convex = _Turns(in_nw & ~(north | west), in_ne & ~(north | east), in_sw & ~(south | west), in_se & ~(south | east))
    concave = _Turns(
        in_nw & north & west & ~falling,
        in_ne & north & east & ~rising,
        in_sw & south & west & ~rising,
        in_se & south & east & ~falling,
    )
    touching = _Turns(convex.nw & falling, convex.ne & rising, convex.sw & rising, convex.se & falling)
    return convex, concave, touching


def _corners(y: np.ndarray, x: np.ndarray, convex: _Turns, concave: _Turns, touching: _Turns) -> Corners:
    """Join corners to horizontal edges: along a row, edges of one side end and begin in turn."""
    vertices = vertex_code(y, x)
    # Edges with their region to the north (above the line), and to the south.
    north, north_codes = _pairs(convex.nw | concave.ne, convex.ne | concave.nw, vertices, touching.nw, touching.ne)
    south, south_codes = _pairs(convex.sw | concave.se, convex.se | concave.sw, vertices, touching.sw, touching.se)
    south = south + np.int32(len(north_codes))
    edges = np.concatenate([north, south], axis=1).ravel()
    return Corners(
        np.concatenate([north_codes, south_codes[:, ::-1]]),
        # Which edge: 0 ends in the vertex and has its region to the north, 1 begins there; 2 and 3 to the south.
        _ends(y, x, edges, {0: convex.nw, 3: concave.sw}, {2: convex.sw, 1: concave.nw}),
        _ends(y, x, edges, {1: convex.ne, 2: concave.se}, {3: convex.se, 0: concave.ne}),
    )


def _pairs(
    ends: np.ndarray, begins: np.ndarray, vertices: np.ndarray, *touching: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Number the edges of one side from west to east.

    Returns:
        The edge that ends at each vertex and the one that begins there, int32, `(vertices, 2)`, undefined where none
        does; and the codes of both ends of each edge, int64, `(edges, 2)`.
    """
    found = np.flatnonzero(np.stack([ends, begins], axis=1))
    numbers = np.empty(2 * len(vertices), np.int32)
    numbers[found] = np.arange(len(found), dtype=np.int32) >> 1
    codes = vertices[found >> 1] | np.stack(touching, axis=1).ravel()[found]
    return numbers.reshape(-1, 2), codes.reshape(-1, 2)


def _ends(
    y: np.ndarray, x: np.ndarray, edges: np.ndarray, ends: dict[int, np.ndarray], begins: dict[int, np.ndarray]
) -> Ends:
    """List the ends of vertical edges; where one ends and one begins, the first comes first."""
    found = np.flatnonzero(np.stack([*ends.values(), *begins.values()], axis=1))
    vertex, kind = found >> 2, found & 3
    edge = edges.take((vertex << 2) + np.array([*ends, *begins]).take(kind))
    return Ends(x.take(vertex), y.take(vertex), kind >= len(ends), edge)
