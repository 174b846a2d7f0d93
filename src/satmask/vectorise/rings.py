"""Rings of vertices to polygons: split where a ring meets itself, begun where it ought to, sorted, and closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from satmask.vectorise.corners import TOUCHES, X_BITS, vertex_points
from satmask.vectorise.linking import follow


@dataclass(frozen=True)
class Rings:
    """Lists of vertices, one after another.

    Attributes:
        codes: Vertices as `vertex_code` writes them, int64, `(vertices,)`.
        lengths: Vertices of each ring, int64, `(rings,)`.
        owners: Region of each ring, int64, `(rings,)`.
    """

    codes: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray

    @classmethod
    def none(cls) -> Rings:
        """No ring at all."""
        return cls(*(np.empty(0, np.int64) for _ in range(3)))

    def take(self, chosen: np.ndarray) -> Rings:
        """The rings that are chosen, bool, `(rings,)`."""
        if chosen.all():
            return self
        starts, lengths = (np.cumsum(self.lengths) - self.lengths)[chosen], self.lengths[chosen]
        return Rings(self.codes.take(spans(starts, lengths)), lengths, self.owners[chosen])

    def owned(self, owners: np.ndarray) -> Rings:
        """The same rings under other owners."""
        return Rings(self.codes, self.lengths, owners)

    def join(self, other: Rings) -> Rings:
        """These rings and those."""
        if not len(self.lengths) or not len(other.lengths):
            return self if len(self.lengths) else other
        return Rings(
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.lengths, other.lengths]),
            np.concatenate([self.owners, other.owners]),
        )


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of pieces of an array, one piece after another.

    Examples:
        >>> spans(np.array([7, 0]), np.array([2, 3])).tolist()
        [7, 8, 0, 1, 2]
    """
    if not lengths.all():
        filled = np.flatnonzero(lengths)
        starts, lengths = starts.take(filled), lengths.take(filled)
    if not len(lengths):
        return np.empty(0, np.int64)
    heads = np.cumsum(lengths)
    # Within a piece, indices grow by one; from piece to piece, they jump.
    indices = np.ones(heads[-1], np.int64)
    indices[0] = starts[0]
    indices[heads[:-1]] = starts[1:] - (starts + lengths)[:-1] + 1
    return np.cumsum(indices, out=indices)


def assemble(rings: Rings, regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a polygon of each region's rings.

    A ring begins at its first vertex in raster order; the outer ring comes first, the others in the order of their first
    vertices. Polygons come in the order of their last row, then of their first vertex.

    Args:
        rings: All rings of the regions.
        regions: How many there are.

    Returns:
        The region of each polygon, int64, and shapely polygons, both `(regions,)`.
    """
    if not regions:
        return np.empty(0, np.int64), np.empty(0, object)
    rings = _split(rings)
    firsts, begins, ends = _outset(rings)
    width = np.int64(1) << (X_BITS + 1)
    # At its first vertex an outer ring turns south, a hole east.
    starts = ends - rings.lengths
    seconds = rings.codes[starts + (begins - starts + 1) % rings.lengths]
    outer = (seconds % width) >> 1 == (firsts % width) >> 1
    order = _regions_in_order(rings, firsts, outer, starts)
    place = np.empty(regions, np.int64)
    place[order] = np.arange(regions)
    chosen = np.lexsort((firsts, ~outer, place[rings.owners]))
    points, offsets = _closed(rings, starts, begins, chosen)
    counts = np.bincount(place[rings.owners], minlength=regions)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (offsets, np.concatenate([[0], np.cumsum(counts)]))
    )
    return order, np.asarray(polygons, dtype=object)


def _outset(rings: Rings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First vertex of each ring in raster order, where it stands in `codes`, and where the ring ends there."""
    ends = np.cumsum(rings.lengths)
    plain = rings.codes & ~np.int64(TOUCHES)
    firsts = np.minimum.reduceat(plain, ends - rings.lengths)
    return firsts, np.flatnonzero(plain == np.repeat(firsts, rings.lengths)), ends


def _regions_in_order(rings: Rings, firsts: np.ndarray, outer: np.ndarray, starts: np.ndarray) -> np.ndarray:
    last = np.maximum.reduceat(rings.codes, starts) >> (X_BITS + 1)
    order = np.lexsort((firsts[outer], last[outer]))
    return np.asarray(rings.owners[outer][order])


def _closed(rings: Rings, starts: np.ndarray, begins: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of rings that begin where they ought to and end where they begin, and where each ring's points start."""
    lengths = rings.lengths[chosen]
    ahead = (begins - starts)[chosen]
    # From the first vertex to the end of the list, and from its start back to the first vertex.
    pieces = np.stack([begins[chosen], starts[chosen]], axis=1), np.stack([lengths - ahead, ahead + 1], axis=1)
    points = vertex_points(rings.codes.take(spans(*(piece.ravel() for piece in pieces))))
    return points, np.concatenate([[0], np.cumsum(lengths + 1)])


def _split(rings: Rings) -> Rings:
    """Split rings that pass a vertex twice, which a polygon's must not.

    Corners are linked as if pixels that share just a vertex had nothing to do with each other. Where both belong to one
    region, its ring passes there twice; going on where the other pass goes on gives rings that merely touch.
    """
    cuts, partners = _meetings(rings)
    if not len(cuts):
        return rings
    ring_of = np.repeat(np.arange(len(rings.lengths)), rings.lengths)[cuts]
    affected, counts = np.unique(ring_of, return_counts=True)
    lasts = np.cumsum(counts) - 1
    # An arc goes from one cut to the next of its ring, round the end of its list if need be.
    following = np.arange(1, len(cuts) + 1)
    following[lasts] = lasts - counts + 1
    ends = np.cumsum(rings.lengths)
    starts, size = (ends - rings.lengths)[ring_of], rings.lengths[ring_of]
    arc_lengths = (cuts[following] - cuts) % size
    arc_lengths[arc_lengths == 0] = size[arc_lengths == 0]
    chains = follow(partners[following])
    arcs = chains.order
    # An arc has a piece up to the end of its ring's list, and one from its start.
    first = np.minimum(arc_lengths, starts + size - cuts)
    pieces = np.stack([cuts, starts], axis=1)[arcs], np.stack([first, arc_lengths - first], axis=1)[arcs]
    codes = rings.codes.take(spans(*(piece.ravel() for piece in pieces)))
    heads = np.cumsum(chains.lengths) - chains.lengths
    # Parts of a ring come together, in the order of the rings, and fill the ring's place.
    codes_now = rings.codes.copy()
    codes_now[spans((ends - rings.lengths)[affected], rings.lengths[affected])] = codes
    parts = np.ones(len(rings.lengths), np.int64)
    parts[affected] = np.unique(ring_of[arcs[heads]], return_counts=True)[1]
    lengths = np.repeat(rings.lengths, parts)
    lengths[spans((np.cumsum(parts) - parts)[affected], parts[affected])] = np.add.reduceat(arc_lengths[arcs], heads)
    return Rings(codes_now, lengths, np.repeat(rings.owners, parts))


def _meetings(rings: Rings) -> tuple[np.ndarray, np.ndarray]:
    """Where rings pass a vertex for the first or second time, ascending, and the number of the other pass among these."""
    marked = np.flatnonzero(rings.codes & TOUCHES)
    if not len(marked):
        return marked, marked
    ring_of = np.searchsorted(np.cumsum(rings.lengths), marked, side="right")
    order = np.lexsort((rings.codes[marked], ring_of))
    ring_of, codes = ring_of[order], rings.codes[marked[order]]
    first = np.flatnonzero((ring_of[1:] == ring_of[:-1]) & (codes[1:] == codes[:-1]))
    one, other = marked[order[first]], marked[order[first + 1]]
    cuts = np.sort(np.concatenate([one, other]))
    partners = np.empty(len(cuts), np.int64)
    at_one, at_other = np.searchsorted(cuts, one), np.searchsorted(cuts, other)
    partners[at_one], partners[at_other] = at_other, at_one
    return cuts, partners
