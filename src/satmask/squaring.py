"""Squaring: many outlines at once to rectilinear ones, as arithmetic on flat arrays.

All vertices of all rings lie in one array of complex numbers (x + iy), so that five thousand buildings cost a few hundred
array operations rather than five thousand times a few hundred. A ring becomes *runs*: stretches of boundary that go along
the polygon's direction or across it, each replaced by a line. A line lies where it leaves the area as it was, which is at
the mean of its stretch weighted by the length along the line; runs alternate, so that neighbours meet at right angles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

# Edges further than this from the first guess of a direction don't vote on it.
NEAR = np.radians(20)
# Angles in radians, and shares of a length, that count as rounding.
EXACT = 1e-6


@dataclass(frozen=True)
class Rings:
    """The rings of polygons, one after the other, seen from the middle of their polygon.

    Attributes:
        points: Vertices x + iy, complex128, `(vertices,)`; the one that closes a ring isn't repeated.
        ring: Ring of each vertex, int64, `(vertices,)`.
        sizes: Vertices of each ring, int64, `(rings,)`.
        owner: Polygon of each ring, int64, `(rings,)`; a polygon's shell comes before its holes.
        middles: Where the polygons' middles lie, complex128, `(polygons,)`.
    """

    points: np.ndarray
    ring: np.ndarray
    sizes: np.ndarray
    owner: np.ndarray
    middles: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First vertex of each ring, int64, `(rings,)`."""
        return begins(self.sizes)

    def after(self, values: np.ndarray) -> np.ndarray:
        """What the vertex after each vertex has, of values with one entry a vertex."""
        shifted = np.empty_like(values)
        shifted[:-1] = values[1:]
        shifted[self.starts + self.sizes - 1] = values[self.starts]
        return shifted

    def begun_at(self, first: np.ndarray) -> np.ndarray:
        """Places of all vertices if rings begin at other vertices, int64, `(vertices,)`.

        Args:
            first: The vertex at which each ring is to begin, int64, `(rings,)`.
        """
        place = np.arange(len(self.ring)) + (first - self.starts)[self.ring]
        ends = (self.starts + self.sizes)[self.ring]
        return np.asarray(np.where(place >= ends, place - self.sizes[self.ring], place))


@dataclass(frozen=True)
class Runs:
    """Stretches of boundary, each to be replaced by a line.

    Attributes:
        ring: Ring of each run, int64, `(runs,)`; the runs of a ring follow each other.
        upright: Whether the line goes along the second axis, bool, `(runs,)`.
        place: Where the line lies on the other axis, float64, `(runs,)`.
        weight: Length of the stretch along its line, float64, `(runs,)`.
        of_edge: Run of each edge that was asked about, int64, `(edges,)`.
    """

    ring: np.ndarray
    upright: np.ndarray
    place: np.ndarray
    weight: np.ndarray
    of_edge: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Runs of each ring that has any, int64."""
        counts = np.bincount(self.ring)
        return np.asarray(counts[counts > 0])

    @property
    def corners(self) -> np.ndarray:
        """Where each run meets the next, complex128, `(runs,)`."""
        after = self.place[neighbours(self.sizes)[1]]
        return np.where(self.upright, self.place, after) + 1j * np.where(self.upright, after, self.place)


def begins(sizes: np.ndarray) -> np.ndarray:
    """Where groups of these sizes begin, one after the other."""
    return np.asarray(np.cumsum(sizes) - sizes)


def neighbours(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entry before and after each entry of groups of these sizes, round and round.

    Examples:
        >>> neighbours(np.array([3]))[0].tolist(), neighbours(np.array([3]))[1].tolist()
        ([2, 0, 1], [1, 2, 0])
    """
    count, starts = int(sizes.sum()), begins(sizes)
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[starts], after[starts + sizes - 1] = starts + sizes - 1, starts
    return before, after


def first_of(chosen: np.ndarray, ring: np.ndarray, rings: int) -> np.ndarray:
    """The first chosen entry of each ring, -1 where there is none.

    Args:
        chosen: bool, `(entries,)`.
        ring: Ring of each entry, rising.
        rings: How many rings there are.
    """
    places = np.flatnonzero(chosen)[::-1]
    first = np.full(rings, -1)
    first[ring[places]] = places  # of several that are written to one place, the last one stays
    return first


def flatten(polygons: np.ndarray) -> Rings:
    """Take polygons apart; each ring then begins at its vertex furthest from the polygon's middle.

    A beginning that doesn't depend on how the polygon was stored makes what follows independent of it too.

    Args:
        polygons: shapely polygons, none empty.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    sizes = np.bincount(ring, minlength=len(rings))
    kept = np.ones(len(ring), bool)
    kept[np.cumsum(sizes) - 1] = False
    # Far from the origin, numbers would lose the digits that right angles need.
    middles = _complex(shapely.get_coordinates(shapely.centroid(polygons)))
    ring, sizes = ring[kept], sizes - 1
    points = _complex(coordinates[kept]) - middles[owner[ring]]
    found = Rings(points, ring, sizes, owner, middles)
    far = np.abs(points)
    furthest = np.maximum.reduceat(far, found.starts)
    first = first_of(far >= furthest[ring] * (1 - 1e-9), ring, len(sizes))
    return replace(found, points=points[found.begun_at(first)])


def find_corners(rings: Rings, tolerance: float) -> np.ndarray:
    """Choose the vertices between which straight lines stay near the boundary.

    Rings that would be left with fewer than four keep them all.

    Args:
        rings: The rings.
        tolerance: Largest distance of a vertex that isn't chosen.

    Returns:
        bool, `(vertices,)`.

    References:
        Douglas & Peucker, 1973, https://doi.org/10.3138/FM57-6770-U75U-7727
    """
    count, ends = len(rings.points), rings.starts + rings.sizes
    # Each vertex carries its number as its height, which is how the chosen ones are known again.
    closed = np.insert(np.arange(count), ends, rings.starts)
    points = rings.points[closed]
    lines = shapely.linestrings(
        np.column_stack([points.real, points.imag, closed]), indices=np.insert(rings.ring, ends, np.arange(len(ends)))
    )
    simple = shapely.simplify(lines, tolerance, preserve_topology=False)
    chosen = np.zeros(count, bool)
    chosen[shapely.get_coordinates(simple, include_z=True)[:, 2].astype(np.int64)] = True
    few = np.bincount(rings.ring[chosen], minlength=len(ends)) < 4
    return np.asarray(chosen | few[rings.ring])


def find_directions(
    rings: Rings, corners: np.ndarray, groups: np.ndarray, *, frame: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the direction in which most of the boundary goes, or goes across.

    Each edge between corners votes with the square of its length; directions a right angle apart are the same, as the
    fourth power of a complex number makes them.

    Args:
        rings: The rings.
        corners: bool, `(vertices,)`.
        groups: Group of each polygon, int64, `(polygons,)`; polygons of a group share their direction.
        frame: Corners x + iy of the image in turn; edges on its sides, where objects are cut off, have no vote.

    Returns:
        Angle of each group in radians, -π/4 to π/4; and how well its edges agree, 0 (a disc) to 1 (a rectangle).
    """
    chosen, count = np.flatnonzero(corners), int(groups.max(initial=-1)) + 1
    after = neighbours(np.bincount(rings.ring[chosen], minlength=len(rings.sizes)))[1]
    edges = rings.points[chosen][after] - rings.points[chosen]
    squares = np.abs(edges) ** 2
    if frame is not None:
        ends = rings.points[chosen] + rings.middles[rings.owner[rings.ring[chosen]]]
        squares[_on_sides(ends, edges, frame)] = 0
    votes = np.divide(edges**4, squares, out=np.zeros_like(edges), where=squares > 0)
    group = groups[rings.owner[rings.ring[chosen]]]
    total = _sums(votes, group, count)
    most = np.bincount(group, squares, count)
    agreement = np.divide(np.abs(total), most, out=np.zeros(count), where=most > 0)
    near = np.abs(np.angle(votes * np.conj(total[group]))) < 4 * NEAR
    return np.angle(_sums(np.where(near, votes, 0), group, count)) / 4, agreement


def are_rectilinear(rings: Rings, shortest: float) -> np.ndarray:
    """Tell which polygons have nothing but right angles, and no wall shorter than a length unless a ring is a rectangle.

    Args:
        rings: Their rings.
        shortest: The length.

    Returns:
        bool, `(polygons,)`.
    """
    edges, polygon, count = rings.after(rings.points) - rings.points, rings.owner[rings.ring], len(rings.middles)
    short = (edges.real**2 + edges.imag**2 < (shortest * (1 - EXACT)) ** 2) & (rings.sizes > 4)[rings.ring]
    possible = np.ones(count, bool)
    possible[polygon[short]] = False
    # Of outlines of masks, that leaves few.
    asked = possible[polygon]
    edges, polygon = edges[asked], polygon[asked]
    lengths = np.abs(edges)
    votes = np.divide(edges, lengths, out=np.zeros_like(edges), where=lengths > 0) ** 4
    total = _sums(votes * lengths, polygon, count)
    wrong = np.abs(np.angle(votes * np.conj(total[polygon]))) > EXACT
    return np.asarray(possible & (np.bincount(polygon, wrong, count) == 0))


def _on_sides(starts: np.ndarray, edges: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Tell which edges lie on a side of a frame, bool."""
    on_any = np.zeros(len(starts), bool)
    for corner, side in zip(frame, np.roll(frame, -1) - frame, strict=True):
        along = np.conj(side) / abs(side)
        near = EXACT * abs(side)
        start, end = ((points - corner) * along for points in (starts, starts + edges))
        on_any |= (np.abs(start.imag) < near) & (np.abs(end.imag) < near)
    return on_any


def find_runs(rings: Rings, corners: np.ndarray) -> tuple[Rings, Runs]:
    """Cut rings into runs along the two axes: the boundary between corners belongs to the axis that it is nearer to.

    Args:
        rings: The rings, turned so that their polygons' directions are the axes.
        corners: bool, `(vertices,)`.

    Returns:
        The rings with at least four runs, each begun where a run begins; and the runs, placed so that each leaves the area
        as it is. Edges are those of the rings.
    """
    chosen = np.flatnonzero(corners)
    before, after = neighbours(np.bincount(rings.ring[chosen], minlength=len(rings.sizes)))
    edges = rings.points[chosen][after] - rings.points[chosen]
    upright = np.abs(edges.imag) > np.abs(edges.real)
    turning = chosen[upright != upright[before]]
    enough = np.bincount(rings.ring[turning], minlength=len(rings.sizes)) >= 4
    # From here on, rings with fewer are left out.
    kept = enough[rings.ring]
    number = np.cumsum(enough) - 1
    begun, stands = np.zeros(len(kept), bool), np.zeros(len(kept), bool)
    begun[turning], stands[chosen] = True, upright
    left = Rings(rings.points[kept], number[rings.ring[kept]], rings.sizes[enough], rings.owner[enough], rings.middles)
    taken = left.begun_at(first_of(begun[kept], left.ring, len(left.sizes)))
    left, begun, stands = replace(left, points=left.points[taken]), begun[kept][taken], stands[kept][taken]
    starts = np.flatnonzero(begun)
    return left, _placed(left, np.cumsum(begun) - 1, starts, stands[starts])


def _placed(rings: Rings, run: np.ndarray, starts: np.ndarray, upright: np.ndarray) -> Runs:
    """Place each run at the mean of its stretch, weighted by the signed length along it."""
    if not len(starts):
        nothing = np.zeros(0)
        return Runs(np.zeros(0, np.int64), upright, nothing, nothing, run)
    along, start, end = _measured(rings, upright[run])
    across = (start + end) / 2
    length, moment = np.add.reduceat(along, starts), np.add.reduceat(along * across, starts)
    mean = np.divide(moment, length, out=across[starts].copy(), where=length != 0)
    # Only a stretch that turns back could send its mean beyond itself.
    low, high = np.minimum.reduceat(across, starts), np.maximum.reduceat(across, starts)
    return Runs(rings.ring[starts], upright, np.clip(mean, low, high), np.abs(length) + 1e-12, run)


def _measured(rings: Rings, upright: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each edge: its length along its line, and where it starts and ends across it."""
    x, y = rings.points.real.copy(), rings.points.imag.copy()
    x_end, y_end = rings.after(x), rings.after(y)
    along = np.where(upright, y_end - y, x_end - x)
    return along, np.where(upright, x, y), np.where(upright, x_end, y_end)


def drop_short(runs: Runs, shortest: float) -> Runs:
    """Leave out lines that are shorter than a length, from the shortest on; its two neighbours then become one line.

    A ring never has fewer than four lines.
    """
    if not len(runs.ring):
        return runs
    place, weight, became = runs.place.copy(), runs.weight.copy(), np.arange(len(runs.ring))
    before, after = neighbours(runs.sizes)
    # Rings that have nothing to lose any more are left out of further rounds.
    active = became.copy()
    while len(active):
        lengths, ring = np.abs(place[after[active]] - place[before[active]]), runs.ring[active]
        starts = np.flatnonzero(np.append(True, ring[1:] != ring[:-1]))
        sizes, least = np.diff(np.append(starts, len(ring))), np.minimum.reduceat(lengths, starts)
        loses = (least < shortest) & (sizes > 4)
        worst = np.flatnonzero(np.repeat(np.where(loses, least, -1), sizes) >= lengths)
        gone = active[worst[np.append(True, ring[worst[1:]] != ring[worst[:-1]])[: len(worst)]]]
        one, other = before[gone], after[gone]
        weight[one] += weight[other]
        place[one] += (place[other] - place[one]) * (weight[other] / weight[one])
        following = after[other]
        after[one], before[following] = following, one
        became[gone] = became[other] = one
        active = active[np.repeat(loses, sizes)]
        active = active[became[active] == active]
    while not np.array_equal(further := became[became], became):
        became = further
    kept = became == np.arange(len(became))
    number = (np.cumsum(kept) - 1)[became]
    return Runs(runs.ring[kept], runs.upright[kept], place[kept], weight[kept], number[runs.of_edge])


def swept_areas(rings: Rings, runs: Runs, polygons: int) -> np.ndarray:
    """Bound the area by which polygons differ from what their runs make of them.

    A boundary that is moved onto another one changes no more area than it sweeps: each edge sweeps at most the trapezoid
    between it and its line; where one run ends and the next begins, a rectangle is left between that vertex and the corner.

    Args:
        rings: The rings, turned as the runs are.
        runs: Their runs.
        polygons: How many polygons there are.

    Returns:
        At least the area of the symmetric difference, float64, `(polygons,)`.
    """
    upright, place = runs.upright[runs.of_edge], runs.place[runs.of_edge]
    along, start, end = _measured(rings, upright)
    far = np.abs(end - place)
    swept = np.abs(along) * (far + np.abs(start - place)) / 2
    # The last edge of a run ends where the next run begins.
    next_run = rings.after(runs.of_edge)
    last = np.flatnonzero(runs.of_edge != next_run)
    point, next_run = rings.after(rings.points)[last], next_run[last]
    across_next = np.where(runs.upright[next_run], point.real, point.imag)
    swept[last] += far[last] * np.abs(across_next - runs.place[next_run])
    return np.bincount(rings.owner, np.bincount(rings.ring, swept, len(rings.sizes)), polygons)


def keep_rings(rings: Rings, runs: Runs, kept: np.ndarray) -> tuple[Rings, Runs]:
    """Leave out rings, with their runs; polygons keep their numbers.

    Args:
        rings: The rings.
        runs: Their runs.
        kept: bool, `(rings,)`.
    """
    of_vertex, of_run = kept[rings.ring], kept[runs.ring]
    number, run_number = np.cumsum(kept) - 1, np.cumsum(of_run) - 1
    few = Rings(
        rings.points[of_vertex], number[rings.ring[of_vertex]], rings.sizes[kept], rings.owner[kept], rings.middles
    )
    ring, edges = number[runs.ring[of_run]], run_number[runs.of_edge[of_vertex]]
    return few, Runs(ring, runs.upright[of_run], runs.place[of_run], runs.weight[of_run], edges)


def _complex(coordinates: np.ndarray) -> np.ndarray:
    return np.asarray(coordinates[:, 0] + 1j * coordinates[:, 1])


def _sums(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(np.bincount(group, values.real, count) + 1j * np.bincount(group, values.imag, count))
