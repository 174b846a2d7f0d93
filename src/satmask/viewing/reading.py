"""Reading map tiles of rasters: warped to web mercator by rio-tiler, or as they are where a scene has no place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.vrt import WarpedVRT

from satmask.errors import InstallError
from satmask.grid import Grid
from satmask.opening import GDAL_ERRORS, undecodable
from satmask.viewing.called_alpha import misnamed_alpha, read_plain, warp_plain
from satmask.viewing.files import ShelfFile
from satmask.viewing.handles import HANDLES, OpenRaster
from satmask.viewing.map_view import MERCATOR, TILE, MapView, Tile
from satmask.windows import Window

CACHE_BYTES = 64 * 2**20
"""What GDAL keeps of decoded blocks, in all: by itself a twentieth of the machine's memory."""


def read_tile(
    view: MapView, file: ShelfFile, tile: Tile, *, bands: Sequence[int] | None = None, smooth: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Read what a map tile shows of a raster, from overviews where there are some.

    Args:
        view: Where the raster lies.
        file: The raster; one without a place of its own lies where the scene does.
        tile: Zoom, column and row.
        bands: Places of the bands to read, from 0, alpha not counted; all by default.
        smooth: Whether pixels are blended where a tile's pixel stands for several: of amounts, not of classes.

    Returns:
        Values `(256, 256, bands)`, and where the raster has any, bool `(256, 256)`.

    Raises:
        NotFoundError: If there is no such tile, or the file isn't on the shelf any more.
        SceneError: If the file can't be read.
    """
    view.check(tile)
    blended = smooth and view.step(tile[0]) > 1
    with HANDLES.use(file) as raster, rasterio.Env(**raster.options, GDAL_CACHEMAX=CACHE_BYTES):
        indexes = raster.indexes if bands is None else [raster.indexes[band] for band in bands]
        try:
            if view.projection == "mercator":
                values, valid = _warped(raster, view, tile, indexes, smooth=blended)
            else:
                values, valid = _plain(raster, view, tile, indexes, smooth=blended)
        except GDAL_ERRORS as error:
            raise undecodable(error, file.path) from error
    if values.dtype.kind == "f":
        valid &= np.isfinite(values).all(axis=-1)
    return values, valid


def _warped(
    raster: OpenRaster, view: MapView, tile: Tile, indexes: Sequence[int], *, smooth: bool
) -> tuple[np.ndarray, np.ndarray]:
    if misnamed_alpha(raster):
        return warp_plain(raster, view, tile, indexes, smooth=smooth)
    reader, file = _reader(), raster.file
    real = file.dtypes[0].startswith("float") and file.nodata is None
    plain = all(MaskFlags.all_valid in flags for flags in file.mask_flag_enums)
    # rio-tiler takes for known what is opaque to the last bit, which real numbers aren't once they are blended.
    method = "bilinear" if smooth and (plain or not real) else "nearest"
    with ExitStack() as stack:
        found = reader.part(
            _placed(raster, view.grid, stack),
            view.tile_bounds(tile),
            height=TILE,
            width=TILE,
            dst_crs=rasterio.crs.CRS.from_string(MERCATOR),
            bounds_crs=rasterio.crs.CRS.from_string(MERCATOR),
            indexes=list(indexes),
            resampling_method=method,
            reproject_method=method,
            nodata=math.nan if real and plain else None,
            # Always by the warper: rasters in web mercator may be turned or upside down.
            vrt_options={"warp_mem_limit": 64},
        )
    return _unmasked(found.array)


def _placed(raster: OpenRaster, grid: Grid, stack: ExitStack) -> Any:
    """The raster, or a view of it that says where it lies, or that has north up as rio-tiler wants it in web mercator."""
    file = raster.file
    if file.crs is not None and not file.transform.is_identity:
        a, b, _, d, e, _ = tuple(file.transform)[:6]
        plain = a > 0 > e and b == d == 0
        return file if plain or file.crs.to_epsg() != 3857 else stack.enter_context(WarpedVRT(file, crs=file.crs))
    crs = rasterio.crs.CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None
    place = {"crs": crs, "transform": grid.transform}
    size = {"height": grid.height, "width": grid.width}
    return stack.enter_context(WarpedVRT(file, src_crs=crs, src_transform=grid.transform, **place, **size))


def _plain(
    raster: OpenRaster, view: MapView, tile: Tile, indexes: Sequence[int], *, smooth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A tile of the scene's own pixels."""
    step = view.step(tile[0])
    left, bottom, right, top = view.tile_bounds(tile)
    height, width = view.grid.shape
    right, bottom = min(right, width), min(bottom, height)
    across, down = math.ceil((right - left) / step), math.ceil((bottom - top) / step)
    # Where a pixel of the scene covers several of the tile, each is read once and repeated.
    repeat = max(round(1 / step), 1)
    wide, tall = math.ceil(across / repeat), math.ceil(down / repeat)
    place = rasterio.windows.Window(left, top, right - left, bottom - top)
    if misnamed_alpha(raster):
        whole = Window(math.floor(top), math.floor(left), math.ceil(bottom - top), math.ceil(right - left))
        small, known = read_plain(raster, whole, (tall, wide), indexes, smooth=smooth)
    else:
        method = "average" if smooth else "nearest"
        settings = {"height": tall, "width": wide, "indexes": list(indexes), "resampling_method": method}
        small, known = _unmasked(_reader().read(raster.file, window=place, **settings).array)
    values = np.zeros((TILE, TILE, len(indexes)), small.dtype)
    valid = np.zeros((TILE, TILE), bool)
    values[:down, :across] = small.repeat(repeat, axis=0).repeat(repeat, axis=1)[:down, :across]
    valid[:down, :across] = known.repeat(repeat, axis=0).repeat(repeat, axis=1)[:down, :across]
    return values, valid


def _unmasked(array: np.ma.MaskedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values with their bands last; a pixel has some unless all its bands have none, as scenes are read."""
    values = np.moveaxis(array.data, 0, -1)
    return values, np.asarray(~np.ma.getmaskarray(array).all(axis=0))


def _reader() -> Any:
    try:
        from rio_tiler import reader
    except ImportError as error:
        msg = "Viewer must have rio-tiler to draw map tiles, got none. Run `pip install 'satmask[view]'`."
        raise InstallError(msg) from error
    return reader
