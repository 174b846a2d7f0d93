"""Repair of invalid polygons, so that what is drawn stays what it was, and of those that rounding makes invalid.

What an invalid polygon means is what a rasteriser draws: a point is inside where a ray out of it crosses the rings an
odd number of times, and several polygons together cover what any of them covers. So the rings are cut where they cross,
and the faces between them that are inside are united. Ready-made ways keep to other rules: `buffer(0)` loses one half
of a figure of eight, and the two methods of shapely's `make_valid` fill what a ring surrounds twice, or cut off
holes that are tangled with the outline.
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

_TRIES = 4


@dataclass(frozen=True)
class Repair:
    """What was done to make polygons valid.

    Attributes:
        geometry: The polygons, valid.
        methods: How many polygons were repaired in which way: by the `even-odd` rule, or `dropped` where they had no
            area to keep.
        reasons: What GEOS found wrong with single polygons, each once, without places.
        united: Whether polygons that overlapped or shared an edge were united.
        area_before: Area that GEOS counts without repair, in square units of the coordinates: the halves of a figure of
            eight cancel out, and what two polygons share counts twice.
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

    Examples:
        >>> done = repair(Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]))
        >>> done.geometry.area, done.methods, done.area_before, done.reasons
        (2.0, {'even-odd': 1}, 0.0, ('Self-intersection',))
    """
    parts = np.array(polygonal(polygons), dtype=object)
    whole = MultiPolygon(list(parts))
    before = float(np.sum(shapely.area(parts)))
    if whole.is_valid:
        return Repair(whole, {}, (), united=False, area_before=before, area_after=before)
    good = shapely.is_valid(parts)
    fixed = [polygonal(even_odd(part)) for part in parts[~good]]
    pieces: list[Polygon] = [*parts[good], *(piece for found in fixed for piece in found)]
    result = MultiPolygon(pieces)
    if united := not result.is_valid:
        result = MultiPolygon(polygonal(shapely.union_all(pieces)))
    methods = Counter("even-odd" if found else "dropped" for found in fixed)
    reasons = tuple(sorted({str(reason).partition("[")[0] for reason in shapely.is_valid_reason(parts[~good])}))
    return Repair(result, dict(methods), reasons, united=united, area_before=before, area_after=result.area)


def even_odd(polygon: Polygon) -> BaseGeometry:
    """Make a polygon of any rings valid by the rule of rasterisers: inside is where a ray out crosses an odd number.

    Args:
        polygon: Its rings may cross themselves and each other.

    Returns:
        The same area as a valid geometry; empty where nothing is inside.

    Examples:
        >>> around_twice = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 1), (3, 1), (3, 3), (1, 3), (1, 0)]
        >>> even_odd(Polygon(around_twice)).area, Polygon(around_twice).buffer(0).area
        (11.0, 15.0)
    """
    rings = [polygon.exterior, *polygon.interiors]
    # The union of lines cuts them where they cross.
    lines = shapely.get_parts(shapely.union_all([shapely.LineString(ring.coords) for ring in rings]))
    faces = shapely.get_parts(shapely.polygonize(lines))
    spots = shapely.get_coordinates(shapely.point_on_surface(faces))
    crossed = sum(_surrounds(ring, spots) for ring in rings)
    return shapely.union_all(faces[np.asarray(crossed, np.int64) % 2 == 1]) if len(faces) else MultiPolygon()


def _surrounds(ring: shapely.LinearRing, spots: np.ndarray) -> np.ndarray:
    """1 where a ray out of a spot crosses a ring an odd number of times, else 0."""
    return np.asarray(shapely.contains_xy(Polygon(ring), spots[:, 0], spots[:, 1]), np.int64)


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

    Examples:
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

    Examples:
        >>> mixed = shapely.GeometryCollection([shapely.Point(0, 0), shapely.box(0, 0, 1, 1)])
        >>> len(polygonal(mixed))
        1
    """
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if isinstance(part, Polygon) and not part.is_empty]
