"""Map tiles of rasters that hold an ordinary band which they call alpha, such as the near infrared of many 4-band files.

GDAL's warper, and rio-tiler with it, would take that band for transparency. So pixels are read as they are here, at about
the tile's resolution, and warped as an array, which has no colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from satmask.viewing.handles import OpenRaster
from satmask.viewing.map_view import MERCATOR, TILE, MapView, Tile
from satmask.windows import Window


def misnamed_alpha(raster: OpenRaster) -> bool:
    """Whether a band is called alpha that isn't believed to be it."""
    return any(raster.file.colorinterp[index - 1].name == "alpha" for index in raster.indexes)


def read_plain(
    raster: OpenRaster, window: Window, shape: tuple[int, int], indexes: Sequence[int], *, smooth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Read a window at another shape.

    Returns:
        Values `(height, width, bands)`, and where not all of them are nodata, bool `(height, width)`.
    """
    place = rasterio.windows.Window(window.column, window.row, window.width, window.height)
    method = Resampling.average if smooth else Resampling.nearest
    out_shape = (len(indexes), *shape)
    values = raster.file.read(list(indexes), window=place, out_shape=out_shape, resampling=method)
    values = np.moveaxis(values, 0, -1)
    nodata = raster.file.nodata
    return values, np.ones(shape, bool) if nodata is None else (values != nodata).any(axis=-1)


def warp_plain(
    raster: OpenRaster, view: MapView, tile: Tile, indexes: Sequence[int], *, smooth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Read a tile of a web-mercator map.

    Returns:
        Values `(256, 256, bands)`, and where there are any, bool `(256, 256)`.
    """
    values = np.zeros((len(indexes), TILE, TILE), raster.file.dtypes[0])
    known = np.zeros((TILE, TILE), np.uint8)
    seen = _seen(view, tile)
    if not (seen.height and seen.width and view.grid.crs):
        return np.moveaxis(values, 0, -1), known > 0
    step = max(view.step(tile[0]), 1.0)
    shape = math.ceil(seen.height / step), math.ceil(seen.width / step)
    found, valid = read_plain(raster, seen, shape, indexes, smooth=smooth)
    scale = Affine.scale(seen.width / shape[1], seen.height / shape[0])
    west, _, _, north = view.tile_bounds(tile)
    side = view.tile_bounds(tile)[2] - west
    place = {
        "src_crs": view.grid.crs.to_wkt(),
        "src_transform": view.grid.part(seen).transform @ scale,
        "dst_crs": MERCATOR,
        "dst_transform": Affine(side / TILE, 0, west, 0, -side / TILE, north),
    }
    method = Resampling.bilinear if smooth else Resampling.nearest
    reproject(np.moveaxis(found, -1, 0), values, resampling=method, **place)
    reproject(valid.astype(np.uint8) * 255, known, resampling=Resampling.nearest, **place)
    return np.moveaxis(values, 0, -1), known > 0


def _seen(view: MapView, tile: Tile) -> Window:
    """The part of the scene that a tile shows, and a little more."""
    zoom, column, row = tile
    share = np.linspace(0, TILE, 17)
    corners = np.array([column, row]) * TILE
    points = np.stack(np.meshgrid(share, share), axis=-1).reshape(-1, 2) + corners
    pixels = view.to_pixels(view.from_world(points / 2.0**zoom))
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return Window(0, 0, 0, 0)
    margin = 2 * max(view.step(zoom), 1.0)
    (left, top), (right, bottom) = np.floor(pixels.min(axis=0) - margin), np.ceil(pixels.max(axis=0) + margin)
    whole = np.clip([top, left, bottom, right], 0, [view.grid.height, view.grid.width] * 2).astype(int).tolist()
    return Window(whole[0], whole[1], whole[2] - whole[0], whole[3] - whole[1])
