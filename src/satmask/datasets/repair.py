"""Repair of invalid polygons, so that what is drawn stays what it was, and of those that rounding makes invalid.

What an invalid polygon means is what a rasteriser draws: a point is inside where a ray out of it crosses the rings an
odd number of times; several polygons together cover what any of them covers. `shapely`'s `buffer(0)` loses one half of
a figure of eight, and the two methods of `make_valid` differ where a ring winds around a place twice. So each
invalid polygon is repaired in all three ways, and the one that draws the same mask is taken.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from satmask.datasets.wkt import DECIMALS, read_wkt, write_wkt
from satmask.errors import DataError
from satmask.masks import rasterise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

_MASK_PX = 256
_TRIES = 4


@dataclass(frozen=True)
class Repair:
    """What was done to make polygons valid.

    Attributes:
        geometry: The polygons, valid.
        methods: How many polygons were repaired in which way: `linework`, `structure`, `buffer`; `dropped` where
            nothing with an area was left.
        reasons: What GEOS found wrong, each once, without places.
        united: Whether polygons that overlapped were united.
        area_before: Area that the polygons covered, as drawn, in square units of the coordinates.
        area_after: Area of `geometry`.
    """

    geometry: MultiPolygon
    methods: dict[str, int]
    reasons: tuple[str, ...]
    united: bool
    area_before: float
    area_after: float

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.methods) or self.united


def repair(polygons: BaseGeometry) -> Repair:
    """Make polygons valid and say what was done.

    Args:
        polygons: Polygons with finite coordinates; valid ones come back as they are.

    Returns:
        The repaired polygons with a report.

    Example:
        >>> eight = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
        >>> done = repair(eight)
        >>> done.geometry.area, eight.buffer(0).area, done.methods
        (2.0, 1.0, {'linework': 1})
    """
    parts = np.array(polygonal(polygons), dtype=object)
    whole = MultiPolygon(list(parts))
    if whole.is_valid:
        return Repair(whole, {}, (), united=False, area_before=whole.area, area_after=whole.area)
    good = shapely.is_valid(parts)
    pieces: list[Polygon] = list(parts[good])
    methods: Counter[str] = Counter()
    drawn = 0.0
    for part in parts[~good]:
        fixed, method, area = _repair_one(part)
        methods[method] += 1
        drawn += area
        pieces += polygonal(fixed)
    before = float(np.sum(shapely.area(parts[good]))) + drawn
    reasons = tuple(sorted({str(reason).partition("[")[0] for reason in shapely.is_valid_reason(parts[~good])}))
    result = MultiPolygon(pieces)
    united = not result.is_valid
    if united:
        result = MultiPolygon(polygonal(shapely.union_all(pieces)))
        before += result.area - float(np.sum(shapely.area(pieces)))
    return Repair(result, dict(methods), reasons, united=united, area_before=before, area_after=result.area)


def _repair_one(polygon: Polygon) -> tuple[BaseGeometry, str, float]:
    """Repair one invalid polygon in the way that draws the same mask; its drawn area."""
    # GEOS's own bounds leave out holes that lie outside.
    points = shapely.get_coordinates(polygon)
    corner = points.min(axis=0)
    side = float(np.ptp(points, axis=0).max())
    if side <= 0:
        return MultiPolygon(), "dropped", 0.0
    scale = _MASK_PX / side

    def mask(geometry: BaseGeometry) -> np.ndarray:
        moved = shapely.transform(polygonal(geometry), lambda points: (points - corner) * scale)
        return np.asarray(rasterise(list(moved), _MASK_PX, _MASK_PX) != 0)

    wanted = mask(polygon)
    ways = {
        "linework": shapely.make_valid(polygon),
        "structure": shapely.make_valid(polygon, method="structure"),
        "buffer": polygon.buffer(0),
    }
    # The first of equals: thin polygons may hold no centre of a mask's pixel.
    method = min(ways, key=lambda way: int(np.count_nonzero(mask(ways[way]) != wanted)))
    best = MultiPolygon(polygonal(ways[method]))
    return (best, "dropped", 0.0) if best.is_empty else (best, method, float(wanted.sum()) / scale**2)


def round_valid(polygons: BaseGeometry, decimals: int = DECIMALS) -> MultiPolygon:
    """Round polygons so that their text, read again, is valid.

    Vertices are snapped to the decimal grid, crossings included; what collapses to a line is dropped. The text is then
    read as anyone would, and judged by GEOS.

    Args:
        polygons: Polygons with finite coordinates; invalid ones are repaired.
        decimals: Digits after the point, 0 to 15.

    Returns:
        Polygons that `write_wkt` with as many decimals writes as valid text.

    Raises:
        DataError: If the numbers have more digits than a double holds, or no attempt leads to valid text.

    Example:
        >>> thin = Polygon([(0, 0), (1, 0.4), (0, 0.3)])
        >>> round_valid(thin, decimals=0).is_empty
        True
    """
    current = repair(polygons).geometry
    for _ in range(_TRIES):
        current = MultiPolygon(polygonal(_snap(current, decimals)))
        read = read_wkt(write_wkt(current, decimals))
        if read.is_valid:
            return read
        current = repair(read).geometry
    msg = f"Polygons must be valid after rounding to {decimals} decimals, got {shapely.is_valid_reason(read)}."
    raise DataError(msg)


def _snap(polygons: MultiPolygon, decimals: int) -> BaseGeometry:
    """Snap to the decimal grid, in whole numbers, which doubles hold exactly."""
    factor = 10.0**decimals
    if (largest := float(np.abs(shapely.get_coordinates(polygons)).max(initial=0.0))) * factor > 2**53:
        msg = f"Polygons must fit into 53 bits, got {largest:g} with {decimals} decimals. Write fewer decimals."
        raise DataError(msg)
    whole = shapely.set_precision(shapely.transform(polygons, lambda points: points * factor), 1.0)
    return shapely.transform(whole, lambda points: np.round(points) / factor)


def polygonal(geometry: BaseGeometry | Sequence[BaseGeometry]) -> list[Polygon]:
    """The polygons inside a geometry; points and lines fall away.

    Example:
        >>> mixed = shapely.GeometryCollection([shapely.Point(0, 0), shapely.box(0, 0, 1, 1)])
        >>> len(polygonal(mixed))
        1
    """
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if isinstance(part, Polygon) and not part.is_empty]
