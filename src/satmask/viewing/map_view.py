"""Where a scene lies on the page's map, and which tiles of it there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from satmask.grid import Grid
from satmask.viewing.files import NotFoundError

TILE = 256
"""Side of a map tile, in pixels."""
CIRCUMFERENCE = 2 * math.pi * 6378137.0
"""Of the Earth in web mercator (EPSG:3857), in its metres."""
FARTHEST_NORTH = 85.05
"""Degrees up to which web mercator reaches."""
DEEPEST_ZOOM = 26
CLOSER = 3
"""Zooms beyond the one that shows each pixel once."""
MERCATOR = "EPSG:3857"
Projection = Literal["mercator", "pixels"]
Tile = tuple[int, int, int]
"""Zoom, column and row of a map tile."""


@dataclass(frozen=True)
class MapView:
    """How a scene is put on the map.

    Map coordinates are degrees, east and north, on a web-mercator map. Where a scene has no place on Earth, or lies
    beyond 85° north or south or across the antimeridian, they are those of Leaflet's `CRS.Simple`: a tile of the native
    zoom shows each pixel once, x grows to the right and y upwards, from the scene's upper left corner.

    Attributes:
        grid: Where the pixels lie.
        coarsest: How many pixels a tile's pixel may stand for, along a side: coarser tiles would take too long.
    """

    grid: Grid
    coarsest: float = math.inf

    @cached_property
    def projection(self) -> Projection:
        """Which of the two maps the scene is shown on."""
        degrees = self.grid.degrees
        # A file may have a CRS but no transform: then GDAL would look for a place elsewhere.
        if degrees is None or self.grid.transform.is_identity:
            return "pixels"
        west, south, east, north = degrees
        fits = west < east and -FARTHEST_NORTH <= south < north <= FARTHEST_NORTH
        return "mercator" if fits else "pixels"

    @cached_property
    def bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """South and west, north and east, in map coordinates: Leaflet's `LatLngBounds`."""
        if self.projection == "mercator" and self.grid.degrees:
            west, south, east, north = self.grid.degrees
            return (south, west), (north, east)
        return (-self.grid.height / self._scale, 0.0), (0.0, self.grid.width / self._scale)

    @cached_property
    def native_zoom(self) -> int:
        """The zoom from which no pixel is lost."""
        if self.projection == "pixels":
            return max(math.ceil(math.log2(max(self.grid.shape) / TILE)), 0)
        return min(max(math.ceil(math.log2(CIRCUMFERENCE / (TILE * self._pixel_m)) - 0.1), 0), DEEPEST_ZOOM - CLOSER)

    @property
    def min_zoom(self) -> int:
        """The zoom at which all of the scene is about a tile, or the first that `coarsest` allows."""
        whole = self.native_zoom - max(math.ceil(math.log2(max(self.grid.shape) / TILE)), 0)
        bounded = 0 if math.isinf(self.coarsest) else self.native_zoom - math.floor(math.log2(self.coarsest))
        return max(whole, bounded, 0)

    @property
    def max_zoom(self) -> int:
        """The zoom at which single pixels are plain to see."""
        return self.native_zoom + CLOSER

    def check(self, tile: Tile) -> None:
        """Refuse a tile that isn't there.

        Raises:
            NotFoundError: If its zoom is out of range, or it doesn't touch the scene.
        """
        zoom, column, row = tile
        if not (self.min_zoom <= zoom <= self.max_zoom and column >= 0 and row >= 0):
            raise NotFoundError
        left, top, right, bottom = self._extent
        scale = 2.0**zoom / TILE
        if not (
            left * scale < column + 1 and top * scale < row + 1 and right * scale > column and bottom * scale > row
        ):
            raise NotFoundError

    def step(self, zoom: int) -> float:
        """Pixels of the scene that a pixel of a tile stands for, along a side."""
        if self.projection == "pixels":
            return math.ldexp(1.0, self.native_zoom - zoom)
        return math.ldexp(CIRCUMFERENCE / TILE, -zoom) / self._pixel_m

    def tile_bounds(self, tile: Tile) -> tuple[float, float, float, float]:
        """West, south, east and north of a tile: metres of web mercator, or columns and rows (south is the larger row)."""
        zoom, column, row = tile
        if self.projection == "pixels":
            side = TILE * self.step(zoom)
            return column * side, (row + 1) * side, (column + 1) * side, row * side
        side, half = CIRCUMFERENCE / 2**zoom, CIRCUMFERENCE / 2
        return column * side - half, half - (row + 1) * side, (column + 1) * side - half, half - row * side

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Map coordinates to pixels of the map at zoom 0, x to the right and y down, float64, `(points, 2)`."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if self.projection == "pixels":
            return points * (1, -1)
        latitudes = np.radians(np.clip(points[:, 1], -FARTHEST_NORTH - 0.001, FARTHEST_NORTH + 0.001))
        y = 0.5 - np.arcsinh(np.tan(latitudes)) / (2 * math.pi)
        return np.column_stack([points[:, 0] / 360 + 0.5, y]) * TILE

    def from_world(self, points: np.ndarray) -> np.ndarray:
        """Pixels of the map at zoom 0 to map coordinates, float64, `(points, 2)`."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if self.projection == "pixels":
            return points * (1, -1)
        latitudes = np.degrees(np.arctan(np.sinh(math.pi * (1 - 2 * points[:, 1] / TILE))))
        return np.column_stack([(points[:, 0] / TILE - 0.5) * 360, latitudes])

    def to_map(self, points: np.ndarray) -> np.ndarray:
        """Pixel coordinates, column and row, to map coordinates; float64, `(points, 2)`."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if self.projection == "pixels":
            return points * (1 / self._scale, -1 / self._scale)
        return _turn(_apply(self.grid.transform, points), self._to_degrees, inverse=False)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map coordinates to pixel coordinates, column and row; float64, `(points, 2)`; infinite where PROJ can't say."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        if self.projection == "pixels":
            return points * (self._scale, -self._scale)
        return _apply(~self.grid.transform, _turn(points, self._to_degrees, inverse=True))

    @cached_property
    def _scale(self) -> float:
        return float(2**self.native_zoom)

    @cached_property
    def _to_degrees(self) -> Transformer:
        return Transformer.from_crs(self.grid.crs, CRS("OGC:CRS84"), always_xy=True)

    @cached_property
    def _corners(self) -> np.ndarray:
        """Points along the scene's edge, in pixels of the map at zoom 0."""
        height, width = self.grid.shape
        share = np.linspace(0, 1, 33)
        edge = np.concatenate(
            [np.column_stack([share * width, np.full(33, row)]) for row in (0, height)]
            + [np.column_stack([np.full(33, column), share * height]) for column in (0, width)]
        )
        return self.to_world(self.to_map(edge))

    @cached_property
    def _extent(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in pixels of the map at zoom 0."""
        (left, top), (right, bottom) = self._corners.min(axis=0), self._corners.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    @cached_property
    def _pixel_m(self) -> float:
        """Side of a pixel in metres of web mercator: of the square with its area, in the middle."""
        column, row = self.grid.width / 2, self.grid.height / 2
        square = np.array([(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)])
        corners = self.to_world(self.to_map(square)) * CIRCUMFERENCE / TILE
        # Of large numbers the differences that make an area would be lost.
        x, y = (corners - corners[0]).T
        area = float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
        return math.sqrt(area) or CIRCUMFERENCE / TILE / 2 ** (DEEPEST_ZOOM - CLOSER)


def _apply(transform: Affine, points: np.ndarray) -> np.ndarray:
    a, b, c, d, e, f = tuple(transform)[:6]
    with np.errstate(invalid="ignore"):  # where PROJ can't say where a point is
        return np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))


def _turn(points: np.ndarray, to_degrees: Transformer, *, inverse: bool) -> np.ndarray:
    try:
        x, y = to_degrees.transform(points[:, 0], points[:, 1], direction="INVERSE" if inverse else "FORWARD")
    except ProjError:
        return np.full(points.shape, np.inf)
    return np.column_stack([x, y])
