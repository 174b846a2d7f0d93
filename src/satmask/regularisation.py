"""Regularisation: right angles for outlines of buildings, where the mask supports them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely

from satmask.errors import SettingError
from satmask.squaring import (
    Rings,
    Runs,
    are_rectilinear,
    begins,
    drop_short,
    find_corners,
    find_directions,
    find_runs,
    flatten,
    keep_rings,
    swept_areas,
)

# Each outline is tried with walls from so many tolerances on; the last is a rectangle.
SHORTEST = (3.0, 6.0, 12.0, np.inf)
# A pair of corners has to win so much IoU to be worth its while.
PRICE = 0.01
# Below this agreement of its edges an outline has no direction: what is round stays round.
AGREEMENT = 0.5
# Touching polygons share a direction if theirs differ by less.
LIKE = np.radians(10)
# Less of a polygon than this is rounding.
NOTHING = 1e-7


@dataclass(frozen=True)
class _Tried:
    """One rectilinear form of each polygon.

    Attributes:
        polygons: The forms, which needn't be valid; None where there is none.
        iou: At most the IoU with the outline, and 0 where there is no new form; float64.
        corners: Corners of all rings, int64.
    """

    polygons: np.ndarray
    iou: np.ndarray
    corners: np.ndarray


def regularise(
    polygons: np.ndarray,
    *,
    tolerance: float,
    min_iou: float = 0.85,
    otherwise: np.ndarray | None = None,
    frame: np.ndarray | None = None,
    reach: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Give outlines right angles, each along its own direction, where they then still cover what they covered.

    Of each outline some rectilinear forms are made, from one that follows every wall of three tolerances to a plain
    rectangle; the one that fits best is taken, where each pair of corners has to win 1 % of IoU. What fits worse than
    `min_iou`, is round, or goes in many directions is left as it is. Polygons that share a border share a direction; where
    two forms overlap, the one that fits worse loses the overlap.

    What comes out with right angles comes back unchanged from a second run, unless it was cut so.

    Args:
        polygons: shapely polygons that don't overlap, such as outlines of a mask, in coordinates in which right angles are
            right angles. Other geometries and empty ones are left as they are.
        tolerance: How far walls may lie from the outline's corners, in those coordinates: about one and a half pixels.
        min_iou: Least IoU of each with its outline, 0 to 1.
        otherwise: What to give for an outline that is left, such as a simplified one; itself by default.
        frame: Corners of the image in turn, float64, `(4, 2)`: where it cuts objects off, their outlines follow it, which
            says nothing of their direction.
        reach: How far from its outline a form may go at most.

    Returns:
        Polygons, and whether each has got right angles, bool; both `(polygons,)`.

    Raises:
        SettingError: If the tolerance isn't above 0, `min_iou` isn't between 0 and 1, or numbers of polygons differ.

    Examples:
        >>> steps = shapely.Polygon([(0, 0), (20, 0), (20, 1), (30, 1), (30, 11), (0, 11)])
        >>> squared, _ = regularise(np.array([steps]), tolerance=1.5)
        >>> len(squared[0].exterior.coords) - 1, round(squared[0].area / steps.area, 3)
        (4, 1.0)
    """
    polygons = np.asarray(polygons, dtype=object)
    left = polygons if otherwise is None else np.asarray(otherwise, dtype=object)
    _check(tolerance, min_iou, len(polygons), len(left))
    result, squared = left.copy(), np.zeros(len(polygons), bool)
    usable = np.flatnonzero((shapely.get_type_id(polygons) == 3) & ~shapely.is_empty(polygons))
    if len(usable):
        sides = None if frame is None else np.asarray(frame, np.float64) @ np.array([1, 1j])
        chosen, iou = _best(polygons[usable], tolerance, min_iou, frame=sides)
        fits = iou >= min_iou
        fits[fits] = _is_near(chosen[fits], polygons[usable[fits]], reach)
        squared[usable] = fits
        result[usable[fits]] = chosen[fits]
        known = np.full(len(polygons), -1.0)
        known[usable] = iou
        _part(result, squared, polygons, left, known, min_iou=min_iou)
    return result, squared


def _is_near(forms: np.ndarray, polygons: np.ndarray, reach: float) -> np.ndarray:
    """Tell which forms stay within a distance of their polygons, bool."""
    if not np.isfinite(reach) or not len(forms):
        return np.ones(len(forms), bool)
    # Points on a form's edges lie so close to one another that none in between is farther than these and half their gap.
    gap = reach / 4
    points, owner = shapely.get_coordinates(shapely.segmentize(forms, gap), return_index=True)
    shapely.prepare(polygons)
    far = shapely.distance(shapely.points(points), polygons[owner]) > reach - gap / 2
    return np.asarray(np.bincount(owner[far], minlength=len(forms)) == 0)


def _check(tolerance: float, min_iou: float, count: int, others: int) -> None:
    if not 0 < tolerance < np.inf:
        msg = f"Tolerance must be above 0, got {tolerance}."
        raise SettingError(msg)
    if not 0 <= min_iou <= 1:
        msg = f"Least IoU must lie in 0 to 1, got {min_iou}."
        raise SettingError(msg)
    if count != others:
        msg = f"Polygons must have one replacement each, got {others} for {count}."
        raise SettingError(msg)


def _best(
    polygons: np.ndarray, tolerance: float, min_iou: float, *, frame: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The form of each polygon that is worth most, and its IoU; -1 where none is good enough."""
    best, best_iou, most = polygons.copy(), np.full(len(polygons), -1.0), np.full(len(polygons), -np.inf)
    rings = flatten(polygons)
    # What is rectilinear stays as it is, which makes a second run change nothing.
    already = are_rectilinear(rings, SHORTEST[0] * tolerance)
    best_iou[already], most[already] = 1.0, np.inf
    for tried in _forms(polygons, rings, tolerance, frame=frame):
        worth = tried.iou - PRICE * (tried.corners - 4) / 2
        better = np.flatnonzero((tried.iou >= max(min_iou, NOTHING)) & (worth > most))
        better = better[shapely.is_valid(tried.polygons[better])]
        best[better], best_iou[better], most[better] = tried.polygons[better], tried.iou[better], worth[better]
    return best, best_iou


def _forms(polygons: np.ndarray, rings: Rings, tolerance: float, *, frame: np.ndarray | None) -> Iterator[_Tried]:
    """Make rectilinear forms of polygons, from the finest to the plainest."""
    corners = find_corners(rings, tolerance)
    angles, agreement = _directions(polygons, rings, corners, frame=frame)
    turns = np.exp(1j * angles)
    turned, runs = find_runs(replace(rings, points=rings.points / turns[rings.owner[rings.ring]]), corners)
    count, areas = len(polygons), shapely.area(polygons)
    # Where a hole can't be squared, neither is its polygon.
    possible = np.bincount(turned.owner, minlength=count) == np.bincount(rings.owner, minlength=count)
    possible &= agreement >= AGREEMENT
    before = np.zeros(count, np.int64)
    for shortest in SHORTEST:
        runs = drop_short(runs, shortest * tolerance)
        numbers = np.bincount(turned.owner[runs.ring], minlength=count)
        # What has lost no corner has been tried.
        changed, before = possible & (numbers != before), numbers
        asked, mine = keep_rings(turned, runs, changed[turned.owner])
        made = _polygons(asked, mine, turns)
        made_areas, swept = shapely.area(made), swept_areas(asked, mine, count)
        # |A ∪ B| - |A ∩ B| is at most what is swept, and |A ∪ B| + |A ∩ B| is |A| + |B|.
        iou = (areas + made_areas - swept) / (areas + made_areas + swept)
        yield _Tried(made, np.where(changed & (swept < areas), iou, 0.0), numbers)


def _directions(
    polygons: np.ndarray, rings: Rings, corners: np.ndarray, *, frame: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Each polygon's direction and agreement; terraced houses whose own directions are near take that of the terrace."""
    each = np.arange(len(polygons))
    own, agreement = find_directions(rings, corners, each, frame=frame)
    one, other = _touching(polygons, each)
    if not len(one):
        return own, agreement
    groups = _groups(one, other, len(polygons))
    common = find_directions(rings, corners, groups, frame=frame)[0][groups]
    near = np.abs(np.angle(np.exp(4j * (own - common)))) < 4 * LIKE
    return np.where(near, common, own), agreement


def _polygons(rings: Rings, runs: Runs, turns: np.ndarray) -> np.ndarray:
    """Draw runs as polygons, turned back and at their place."""
    owner, sizes = rings.owner[runs.ring], runs.sizes
    points = (runs.corners * turns[owner] + rings.middles[owner])[
        np.insert(np.arange(len(owner)), np.cumsum(sizes), begins(sizes))
    ]
    ring_ends = np.cumsum(np.append(0, sizes + 1))
    polygon_ends = np.cumsum(np.append(0, np.bincount(rings.owner, minlength=len(turns))))
    coordinates = np.column_stack([points.real, points.imag])
    drawn = shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates, (ring_ends, polygon_ends))
    return np.asarray(drawn, dtype=object)


def _touching(polygons: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of polygons that have a point in common, one of them asked about, each pair once."""
    # Boxes alone first: a polygon meets itself in any case, and asking for that costs more than all the rest.
    found, other = shapely.STRtree(polygons).query(polygons[asked])
    pairs = np.sort(np.column_stack([asked[found], other]), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    first = polygons[np.unique(pairs[:, 0])]
    shapely.prepare(first)
    one, other = pairs[shapely.intersects(polygons[pairs[:, 0]], polygons[pairs[:, 1]])].T
    shapely.destroy_prepared(first)
    return one, other


def _overlapping(polygons: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of polygons, one of them asked about, that have some area in common."""
    one, other = _touching(polygons, asked)
    common = shapely.area(shapely.intersection(polygons[one], polygons[other]))
    much = common > NOTHING * np.minimum(shapely.area(polygons[one]), shapely.area(polygons[other]))
    return one[much], other[much]


def _groups(one: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Number the groups that pairs make: the number of each member, int64, `(count,)`."""
    group, before = np.arange(count), np.full(count, -1)
    while not np.array_equal(group, before):
        before = group.copy()
        least = np.minimum(group[one], group[other])
        np.minimum.at(group, one, least)
        np.minimum.at(group, other, least)
    return np.unique(group, return_inverse=True)[1]


def _part(
    result: np.ndarray, squared: np.ndarray, outlines: np.ndarray, left: np.ndarray, fits: np.ndarray, *, min_iou: float
) -> None:
    """Make polygons share no area, in place: cut those that fit worse; what can't be cut so is left as it was."""
    one, other = _overlapping(result, np.flatnonzero(squared))
    met: dict[int, list[int]] = {}
    for first, second in zip(one.tolist(), other.tolist(), strict=True):
        met.setdefault(first, []).append(second)
        met.setdefault(second, []).append(first)
    members = np.array(sorted(met), np.int64)
    settled = set[int]()
    for member in members[np.lexsort([-fits[members], ~squared[members]])].tolist():
        ahead = [result[index] for index in met[member] if index in settled]
        if ahead:
            cut = shapely.difference(result[member], shapely.union_all(ahead))
            fit = cut.geom_type == "Polygon" and cut.is_valid
            if fit and _still_fits(cut, result[member], outlines[member], fits[member], min_iou):
                result[member], squared[member] = cut, are_rectilinear(flatten(np.array([cut])), 0)[0]
            else:
                result[member], squared[member] = left[member], False
        settled.add(member)
    _leave(result, squared, left, members)


def _still_fits(
    cut: shapely.Polygon, form: shapely.Polygon, outline: shapely.Polygon, fit: float, min_iou: float
) -> bool:
    """Tell whether a form that was cut has enough IoU with its outline; by what it had and has lost, where that will do."""
    shared = max(fit, 0.0) * (outline.area + form.area) / (1 + max(fit, 0.0)) - (form.area - cut.area)
    if shared >= min_iou * (outline.area + cut.area - shared):
        return True
    return bool(iou_of(np.array([cut]), np.array([outline]))[0] >= min_iou)


def _leave(result: np.ndarray, squared: np.ndarray, left: np.ndarray, changed: np.ndarray) -> None:
    """Leave as they were what still overlaps, until nothing does: at the latest when all are."""
    while len(changed):
        pair = np.unique(np.concatenate(_overlapping(result, changed)))
        changed = pair[[result[index] is not left[index] for index in pair]] if len(pair) else pair
        result[changed], squared[changed] = left[changed], False


def iou_of(polygons: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs of polygons, float64.

    Examples:
        >>> iou_of(np.array([shapely.box(0, 0, 2, 1)]), np.array([shapely.box(1, 0, 3, 1)])).round(3).tolist()
        [0.333]
    """
    common = shapely.area(shapely.intersection(polygons, others))
    union = shapely.area(polygons) + shapely.area(others) - common
    return np.divide(common, union, out=np.zeros(len(common)), where=union > 0)
