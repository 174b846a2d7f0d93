"""Where pixels lie on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from affine import Affine
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from satmask.errors import SettingError

if TYPE_CHECKING:
    from satmask.windows import Window


@dataclass(frozen=True)
class Grid:
    """The pixels of a scene and their place on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        transform: Pixel `(column, row)` to ground `(x, y)`, of the pixel's outer corner; rotation and south-up are
            allowed. The identity where a scene has no place.
        crs: Coordinate reference system, or None where a scene has none.

    Raises:
        SettingError: If a side is shorter than one pixel or the transform can't be inverted.

    Examples:
        >>> Grid(100, 200, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), CRS("EPSG:32633")).bounds
        (500000.0, 3999950.0, 500100.0, 4000000.0)
    """

    height: int
    width: int
    transform: Affine = Affine.identity()
    crs: CRS | None = None

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        if self.height < 1 or self.width < 1:
            msg = f"Grid must have at least one row and one column, got {self.height} × {self.width}."
            raise SettingError(msg)
        if self.transform.is_degenerate:
            msg = f"Grid transform must be invertible, got {tuple(self.transform)[:6]}."
            raise SettingError(msg)

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x, largest y over the four corners."""
        corners = [self.transform @ (x, y) for x in (0, self.width) for y in (0, self.height)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def part(self, window: Window) -> Grid:
        """The grid of a window."""
        moved = self.transform @ Affine.translation(window.column, window.row)
        return Grid(window.height, window.width, moved, self.crs)

    @cached_property
    def degrees(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north in degrees; None where the scene has no CRS, or PROJ can't say."""
        if self.crs is None:
            return None
        try:
            to_degrees = _transformer(self.crs, CRS("OGC:CRS84"))
            west, south, east, north = to_degrees.transform_bounds(*self.bounds)
        except ProjError:  # a local or engineering CRS has no place on Earth
            return None
        return (west, south, east, north) if all(map(math.isfinite, (west, south, east, north))) else None

    @cached_property
    def corners_degrees(self) -> tuple[tuple[float, float], ...] | None:
        """Longitude and latitude of the four corners in turn; None where `degrees` is.

        Tiles side by side share their edges, where the boxes of `degrees` overlap if north isn't up.
        """
        if self.crs is None or self.degrees is None:
            return None
        corners = [self.transform @ corner for corner in ((0, 0), (self.width, 0), self.shape[::-1], (0, self.height))]
        xs, ys = zip(*corners, strict=True)
        longitudes, latitudes = _transformer(self.crs, CRS("OGC:CRS84")).transform(xs, ys)
        return tuple(zip(longitudes, latitudes, strict=True))

    @cached_property
    def gsd_m(self) -> float | None:
        """Ground sampling distance in metres at the middle: side of the square with a pixel's true area.

        Measured along the ellipsoid, so that a web-mercator pixel at 60° north counts half its nominal side.
        None where the scene has no CRS, or one without a place on Earth.
        """
        if self.crs is None:
            return None
        try:
            to_degrees = _transformer(self.crs, self.crs.geodetic_crs or CRS("EPSG:4326"))
        except ProjError:
            return None
        column, row = self.width / 2, self.height / 2
        corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
        points = [to_degrees.transform(*(self.transform @ (column + x, row + y))) for x, y in corners]
        if not all(math.isfinite(value) for point in points for value in point):
            return None
        longitudes, latitudes = zip(*points, strict=True)
        area, _ = Geod(ellps="WGS84").polygon_area_perimeter(longitudes, latitudes)
        return math.sqrt(abs(area)) or None


@lru_cache(maxsize=32)
def _transformer(source: CRS, target: CRS) -> Transformer:
    """Keep transformers: making one takes as long as reading a tile, and the tiles of a set share few systems."""
    return Transformer.from_crs(source, target, always_xy=True)
