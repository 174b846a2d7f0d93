"""Labels to polygons, strip by strip: exact, valid, and the same whatever the strips.

Corners of outlines are found by comparing neighbouring pixels, joined along rows and columns, and followed to rings. What
crosses the lower edge of a strip waits: open ends of vertical edges, the chains that they belong to, and the regions that
go on. Nothing else is kept: memory doesn't grow with the height of a scene, but with what is still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satmask.errors import SettingError
from satmask.vectorise.corners import X_BITS, find_corners
from satmask.vectorise.linking import NONE, Chains, connect, follow
from satmask.vectorise.regions import Regions, Runs, grow, merge
from satmask.vectorise.rings import Rings, assemble, spans
from satmask.vectorise.verticals import Open, Verticals, join_verticals


@dataclass(frozen=True)
class Traced:
    """Regions, one entry each, in the order of their last row, then of their first pixel.

    Attributes:
        polygons: shapely polygons in pixel coordinates: x is the column, y the row, counted from the outer corner of the
            first pixel. Each ring begins at its first vertex in raster order; outer rings run anticlockwise as seen on a
            map with north up, holes clockwise.
        labels: Label of each, int64, `(regions,)`.
        areas_px: Pixels of each, int64.
        means: Mean value of its pixels, 0 to 1, float64; NaN without values.
        minima: Smallest value, 0 to 1, float64; NaN without values.
    """

    polygons: np.ndarray
    labels: np.ndarray
    areas_px: np.ndarray
    means: np.ndarray
    minima: np.ndarray

    def __len__(self) -> int:
        """Number of regions."""
        return len(self.polygons)

    @classmethod
    def join(cls, parts: Sequence[Traced]) -> Traced:
        """Put lists of regions one behind another."""
        return cls(*(np.concatenate(columns) for columns in zip(*(part.columns for part in parts), strict=True)))

    def take(self, regions: np.ndarray) -> Traced:
        """Some of the regions, or all in another order."""
        return Traced(*(column[regions] for column in self.columns))

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """All attributes in their order."""
        return self.polygons, self.labels, self.areas_px, self.means, self.minima


@dataclass(frozen=True)
class _Outlines:
    """Vertices of a strip's chains: those of chains from above, and two for each edge.

    Attributes:
        chains: Links chains from above, which are the first nodes, and edges.
        above: Chains from above.
        edges: Vertices of each edge, int64, `(edges, 2)`.
        owners: Region of each chain.
    """

    chains: Chains
    above: Rings
    edges: np.ndarray
    owners: np.ndarray

    def take(self, chosen: np.ndarray) -> Rings:
        """Those of the chains that are chosen, bool, `(chains,)`."""
        lengths = self.chains.lengths
        members = lengths[chosen]
        if not len(members):
            return Rings.none()
        nodes = self.chains.order.take(spans((np.cumsum(lengths) - lengths)[chosen], members))
        sizes = np.concatenate([self.above.lengths, np.full(len(self.edges), 2)])
        starts, sizes = (np.cumsum(sizes) - sizes).take(nodes), sizes.take(nodes)
        codes = np.concatenate([self.above.codes, self.edges.ravel()]).take(spans(starts, sizes))
        return Rings(codes, np.add.reduceat(sizes, np.cumsum(members) - members), self.owners[chosen])


@dataclass(frozen=True)
class _State:
    """What waits for the next strip.

    Attributes:
        row: Number of the next row.
        last: The last row's labels, `(width,)`.
        west: Vertical edges that go on, with their region to the west.
        east: The same with the region to the east.
        chains: Chains of vertices with two open ends, and the region of each.
        rings: Closed rings of regions that go on, in batches.
        regions: The regions that go on.
    """

    row: int
    last: np.ndarray
    west: Open
    east: Open
    chains: Rings
    rings: tuple[Rings, ...]
    regions: Regions


class Tracer:
    """Traces the regions of a raster that comes strip by strip, and gives each as soon as it is complete.

    A region is a group of pixels that share edges and a label. The same regions come in the same order, to the last bit,
    however the raster is cut into strips.

    Args:
        width: Columns of the raster.
        outside: Label of pixels that belong to no region.

    Examples:
        >>> tracer = Tracer(width=3)
        >>> [tracer.add(np.array([row], np.uint8)).labels.tolist() for row in ([5, 0, 7], [5, 0, 0], [5, 5, 5])]
        [[], [7], []]
        >>> tracer.finish().polygons[0].wkt
        'POLYGON ((0 0, 0 3, 3 3, 3 2, 1 2, 1 0, 0 0))'
    """

    def __init__(self, width: int, *, outside: int = 0) -> None:
        if not 0 < width < 1 << X_BITS:
            msg = f"Width of a raster must be 1 to 2³¹ - 1 pixels, got {width}."
            raise SettingError(msg)
        self._width, self._outside = width, outside
        self._value_type: np.dtype | None = None
        self._state: _State | None = None

    def add(self, strip: np.ndarray, values: np.ndarray | None = None) -> Traced:
        """Go on with the next rows.

        Args:
            strip: Labels, integers or bool, the same type in all strips, `(rows, width)`.
            values: A value for each pixel, whose mean and minimum are told of each region: 0 to 1 as floats, or 0 to the
                type's largest value as unsigned integers; `(rows, width)`. With all strips or with none.

        Returns:
            Regions that end above the last of these rows.

        Raises:
            SettingError: If shapes or types aren't as they must be.
        """
        strip, values = np.asarray(strip), None if values is None else np.asarray(values)
        if strip.dtype == bool:
            strip = strip.view(np.uint8)
        self._check(strip, values)
        if self._state is None:
            last = np.full(self._width, self._outside, strip.dtype)
            self._state = _State(0, last, Open.none(), Open.none(), Rings.none(), (), Regions.none())
            self._value_type = None if values is None else values.dtype
        return self._advance(self._state, strip, values)

    def finish(self) -> Traced:
        """End the raster.

        Returns:
            The regions that reach its last row.
        """
        if self._state is None:
            return self._told(Rings.none(), Regions.none())
        return self._advance(self._state, np.full((1, self._width), self._outside, self._state.last.dtype), None)

    @property
    def open_row(self) -> int:
        """First row of what isn't complete yet; what is given from now on lies there or below."""
        if self._state is None:
            return 0
        codes = self._state.chains.codes
        return int(codes.min() >> (X_BITS + 1)) if len(codes) else self._state.row

    def _check(self, strip: np.ndarray, values: np.ndarray | None) -> None:
        if strip.ndim != 2 or strip.shape[1] != self._width:
            msg = f"Strip must have the shape (rows, {self._width}), got {strip.shape}."
            raise SettingError(msg)
        if values is not None and (values.shape != strip.shape or values.dtype.kind not in "uf"):
            msg = f"Values must be floats or unsigned integers of the shape {strip.shape}, got {values.dtype} of {values.shape}."
            raise SettingError(msg)
        kind = strip.dtype
        if kind.kind not in "ui" or not np.iinfo(kind).min <= self._outside <= np.iinfo(kind).max:
            msg = f"Labels must be integers of a type that holds {self._outside}, got {kind}."
            raise SettingError(msg)
        if self._state is None:
            return
        known, given = (self._state.last.dtype, self._value_type), (kind, None if values is None else values.dtype)
        if known != given:
            msg = f"Labels and values must have the types of the first strip, {known[0]} and {known[1]}, got {given[0]} and {given[1]}."
            raise SettingError(msg)

    def _advance(self, state: _State, strip: np.ndarray, values: np.ndarray | None) -> Traced:
        if not len(strip):
            return self._told(Rings.none(), Regions.none())
        row, height = state.row, len(strip)
        corners = find_corners(state.last, strip, row, outside=self._outside)
        west = join_verticals(state.west, corners.west, row, height)
        east = join_verticals(state.east, corners.east, row, height)
        chains = _link(west, east, len(state.chains.lengths) + len(corners.codes))
        left, right = east.units(row), west.units(row)
        of_chain, of_known, count = _regions(chains, state, left[2], right[2])
        regions = merge(state.regions, of_known, count)
        runs = Runs(left[0], left[1], right[1] - left[1], of_chain.take(chains.chain.take(left[2])))
        grow(regions, runs, strip, values, outside=self._outside)
        # A region goes on where one of its chains does. Those that go on, and the others, are numbered apart.
        goes_on = np.zeros(count, bool)
        goes_on[of_chain[~chains.closed]] = True
        number = np.where(goes_on, np.cumsum(goes_on), np.cumsum(~goes_on)) - 1
        outlines = _Outlines(chains, state.chains, corners.codes, number[of_chain])
        done, kept = Rings.none(), []
        for batch in state.rings:
            stays, rings = goes_on[of_known][batch.owners], batch.owned(number[of_known][batch.owners])
            done = done.join(rings.take(~stays))
            kept.append(rings.take(stays))
        waits = chains.closed & goes_on[of_chain]
        opened = (np.cumsum(~chains.closed) - 1)[chains.chain]
        self._state = _State(
            row + height,
            strip[-1].copy(),
            west.left_open(opened),
            east.left_open(opened),
            outlines.take(~chains.closed),
            _batched([*kept, outlines.take(waits)]),
            regions.take(goes_on),
        )
        return self._told(done.join(outlines.take(chains.closed & ~waits)), regions.take(~goes_on))

    def _told(self, rings: Rings, regions: Regions) -> Traced:
        """Make polygons of complete regions."""
        order, polygons = assemble(rings, len(regions.areas))
        regions = regions.take(order)
        kind = self._value_type
        unit = float(np.iinfo(kind).max) if kind is not None and kind.kind == "u" else 1.0
        minima = np.where(np.isinf(regions.minima), np.nan, regions.minima)
        means = regions.means if kind is not None else np.full(len(order), np.nan)
        return Traced(polygons, regions.labels, regions.areas, means / unit, minima / unit)


def _link(west: Verticals, east: Verticals, nodes: int) -> Chains:
    """Follow outlines: northwards on edges with their region to the west, southwards on the others."""
    successors = np.full(nodes, NONE)
    (north, south), (from_, to) = west.joined, east.joined
    successors[south], successors[from_] = north, to
    return follow(successors)


def _regions(chains: Chains, state: _State, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Number the regions of a strip.

    Chains belong to one region if a run of pixels lies between them; those from above belong to theirs already.

    Args:
        chains: All chains of the strip.
        state: Holds the chains from above, which are the first nodes, and their regions.
        left: Node to the left of each run.
        right: Node to its right.

    Returns:
        The region of each chain, the new number of each region from above, and how many there are.
    """
    count, above = len(chains.lengths), np.arange(len(state.chains.owners))
    one = np.concatenate([chains.chain.take(left), chains.chain[above]])
    other = np.concatenate([chains.chain.take(right), count + state.chains.owners])
    smallest = connect(count + len(state.regions.areas), one, other)
    is_smallest = smallest == np.arange(len(smallest))
    became = (np.cumsum(is_smallest) - 1)[smallest]
    return became[:count], became[count:], int(is_smallest.sum())


def _batched(batches: list[Rings]) -> tuple[Rings, ...]:
    """Join small batches, never large ones with small ones: a ring that waits long is then copied just a few times."""
    kept: list[Rings] = []
    for batch in batches:
        kept.append(batch)
        while len(kept) > 1 and len(kept[-2].codes) < 2 * len(kept[-1].codes):
            last = kept.pop()
            kept[-1] = kept[-1].join(last)
    return tuple(batch for batch in kept if len(batch.codes))
