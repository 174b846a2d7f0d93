"""Polygons on the map: turned into the map's pixels once, then found and drawn tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely

from satmask.errors import DataError
from satmask.labels import PolygonLabels, draw
from satmask.legend import Legend
from satmask.polygons import read_polygons
from satmask.viewing.files import NotFoundError
from satmask.viewing.layers import Layer
from satmask.viewing.map_view import TILE, MapView, Tile
from satmask.viewing.styles import NOTHING, UNKNOWN
from satmask.windows import Window

CLASS_COLUMN = "class_id"
LARGEST = 2**30
"""Bytes of a vector file: all of its polygons are kept in memory."""


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons of a place.

    Attributes:
        view: How the place lies on the map.
        shapes: Polygons in pixel coordinates, an array of objects.
        channels: Place of each one's class in the legend, or -1, `(polygons,)`.
        rows: What else is known of each: their attributes, without geometry.
    """

    view: MapView
    shapes: np.ndarray
    channels: np.ndarray
    rows: pd.DataFrame

    @cached_property
    def on_map(self) -> np.ndarray:
        """The polygons in map coordinates."""
        return np.asarray(shapely.transform(self.shapes, self.view.to_map), object)

    @cached_property
    def world(self) -> np.ndarray:
        """The polygons in pixels of the map at zoom 0."""
        return np.asarray(shapely.transform(self.on_map, self.view.to_world), object)

    @cached_property
    def tree(self) -> shapely.STRtree:
        """Finds polygons by where they are, in pixel coordinates."""
        return shapely.STRtree(list(self.shapes))

    @cached_property
    def _on_world(self) -> shapely.STRtree:
        return shapely.STRtree(list(self.world))

    def touching(self, tile: Tile, margin_px: float = 0) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the polygons that touch a tile, in their order, and they in pixels of the map at its zoom."""
        zoom, column, row = tile
        scale = 2.0**zoom
        sides = np.array([column, row, column + 1, row + 1]) * TILE + np.array([-1, -1, 1, 1]) * margin_px
        found = np.sort(self._on_world.query(shapely.box(*(sides / scale)))) if len(self.world) else np.zeros(0, int)
        return found, np.asarray(shapely.transform(self.world[found], lambda points: points * scale), object)

    def over(self, column: float, row: float) -> np.ndarray:
        """Numbers of the polygons that hold a point in pixel coordinates."""
        if not len(self.shapes):
            return np.zeros(0, int)
        return np.sort(self.tree.query(shapely.Point(column, row), predicate="intersects"))


def outlines_of(view: MapView, layer: Layer) -> Outlines:
    """The polygons that a layer holds; they are kept until its file is written anew.

    Raises:
        NotFoundError: If its file isn't on the shelf any more.
        DataError: If it can't be read.
    """
    return _kept(view, layer, layer.stamp())


@lru_cache(maxsize=16)
def _kept(view: MapView, layer: Layer, stamp: object) -> Outlines:
    del stamp  # only tells old from new
    if isinstance(layer.labels, PolygonLabels):
        labels = layer.labels
        shapes = np.asarray([*labels.geometries, None], object)[:-1]
        return Outlines(view, shapes, np.asarray(labels.channels, int), pd.DataFrame(index=range(len(shapes))))
    if layer.file is None:
        raise NotFoundError
    size = layer.file.real().stat().st_size
    if size > LARGEST:
        msg = f"Polygon file to be shown must take at most {LARGEST >> 30} GiB, got {size / 2**30:.1f} for {layer.file.name}."
        raise DataError(msg)
    return from_frame(layer.file.open(read_polygons), view, layer.legend)


def from_frame(frame: geopandas.GeoDataFrame, view: MapView, legend: Legend | None) -> Outlines:
    """Put the polygons of a table on the map; what is none is left out."""
    frame = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"]) & ~frame.geometry.is_empty]
    grid = view.grid
    if frame.crs is not None and grid.crs is not None and frame.crs != grid.crs:
        frame = frame.to_crs(grid.crs)
    a, b, c, d, e, f = tuple(~grid.transform)[:6]
    shapes = shapely.transform(
        np.asarray(frame.geometry.array), lambda points: points @ np.array([[a, d], [b, e]]) + (c, f)
    )
    known = {} if legend is None else {id_: channel for channel, id_ in enumerate(legend.ids)}
    ids: list[Any] = list(frame[CLASS_COLUMN]) if CLASS_COLUMN in frame.columns else [None] * len(frame)
    channels = [-1 if pd.isna(id_) else known.get(int(id_), -1) for id_ in ids]
    rows = pd.DataFrame(frame.drop(columns=frame.geometry.name)).reset_index(drop=True)
    return Outlines(view, np.asarray(shapes, object), np.asarray(channels, int), rows)


def draw_labels(view: MapView, layer: Layer, labels: PolygonLabels, tile: Tile) -> np.ndarray:
    """Draw polygons that are truth as `PolygonLabels` does: a pixel of the tile has the class that its centre lies in.

    Returns:
        Place of each pixel's class in the legend, `NOTHING` or `UNKNOWN`, int, `(256, 256)`.
    """
    outlines = outlines_of(view, layer)
    numbers, shapes = outlines.touching(tile)
    window = Window(tile[2] * TILE, tile[1] * TILE, TILE, TILE)
    legend, channels = labels.legend, outlines.channels[numbers]
    # Where classes overlap the later one of the legend is seen, else the later polygon.
    order = np.arange(len(numbers)) if legend.exclusive else np.argsort(channels, kind="stable")
    order = order[channels[order] >= 0]
    drawn = np.zeros((TILE, TILE), int)
    if len(order):
        drawn = draw(list(shapes[order]), window, values=list(range(1, len(order) + 1)))
    empty = legend.channel(0) if 0 in legend.ids else UNKNOWN if legend.exclusive else NOTHING
    seen = np.append(empty, channels[order])[drawn]
    ignored = draw(list(shapes[channels < 0]), window) if (channels < 0).any() else np.zeros((TILE, TILE), int)
    return np.where(inside(view, tile) & (ignored == 0), seen, UNKNOWN)


def inside(view: MapView, tile: Tile) -> np.ndarray:
    """Which pixels of a tile have their centre in the scene, bool, `(256, 256)`."""
    height, width = view.grid.shape
    # Straight edges of the scene are bent on the map.
    edge = shapely.segmentize(shapely.box(0, 0, width, height), max(height, width) / 32)
    edge = shapely.transform(edge, lambda points: view.to_world(view.to_map(points)) * 2.0 ** tile[0])
    return np.asarray(draw([edge], Window(tile[2] * TILE, tile[1] * TILE, TILE, TILE)) > 0)
