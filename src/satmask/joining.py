"""Tiles put together into scenes: what a tiled data set cut at every edge is made whole again."""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import rasterio
from rasterio.errors import RasterioError

from satmask.datasets.legend_file import to_toml
from satmask.errors import DataError, SceneError, SettingError
from satmask.folders import aside
from satmask.grid import Grid
from satmask.labels import PolygonLabels
from satmask.polygons import place, write_polygons
from satmask.scene import Scene
from satmask.seams import Piece, make_whole
from satmask.tile_plans import JoinPlan, Tile, image_file, plan_scenes
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from satmask.datasets.dataset import Dataset
    from satmask.legend import Legend

BLOCK = 256  # side of blocks in the files where tiles' own can't be


@dataclass(frozen=True)
class JoinedScene:
    """A scene that was written.

    Attributes:
        name: Name of its files, without suffix.
        split: `"train"` or `"val"`.
        height: Rows, in pixels.
        width: Columns, in pixels.
        tiles: How many were joined.
        pieces: Labelled polygons of the tiles.
        polygons: Objects after joining; None where the labels are a mask.
        gsd_m: Ground sampling distance in metres, None where unknown.
    """

    name: str
    split: str
    height: int
    width: int
    tiles: int
    pieces: int
    polygons: int | None
    gsd_m: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def join_tiles(
    dataset: Dataset, out: str | Path, *, progress: Callable[[float], None] = lambda _: None
) -> list[JoinedScene]:
    """Put tiles that lie side by side together into scenes, with their labels.

    Tiles of web maps tell their place in their names, `…-x-y-zoom`; those of other sets their row and column, `…_r3_c0`
    (looked at: they stay apart if their pixels don't fit together).
    Tiles of one zoom, size and beginning of the name that share an edge, directly or through others, become one scene: a
    GeoTIFF, in EPSG:3857 if it is of a web map, whose mask band tells the ground that no tile shows. Polygons lie beside
    it in a GeoPackage, masks in `NAME_mask.tif`. What has no place in its name is copied, with labels of its own.

    Args:
        dataset: Of the layout `coco` or `pairs`.
        out: Folder to write; it mustn't exist, or must be empty. It appears when all is written.
        progress: Called with the number of tiles done.

    Returns:
        What was written, by split and name.

    Raises:
        SettingError: If the folder holds something, or the data set is of another layout.
        DataError: If two tiles claim one place, or tiles to be joined have other bands or data types.
        SceneError: If a tile can't be decoded.
    """
    out = Path(out)
    if dataset.layout not in ("coco", "pairs"):
        msg = f"Tiles must be of the layout coco or pairs to be joined, got {dataset.layout!r} in {dataset.root}."
        raise SettingError(msg)
    flat = not (dataset.root / "train").is_dir()
    found = []
    with aside(out) as folder:
        (folder / "legend.toml").write_text(to_toml(dataset.legend), encoding="utf-8")
        for split, samples in dataset.splits.items():
            target = folder if flat else folder / split
            target.mkdir(exist_ok=True)
            for plan in plan_scenes(samples):
                found.append(_write(plan, target, split, dataset.legend))
                progress(len(plan.tiles))
    return found


def _write(plan: JoinPlan, folder: Path, split: str, legend: Legend) -> JoinedScene:
    """Write a scene and its labels."""
    first = plan.tiles[0].sample
    grid = plan.grid
    if grid is None:
        image = image_file(first)
        shutil.copyfile(image, folder / image.name)
        with Scene(image) as scene:
            grid = scene.grid
    else:
        _write_image(plan, grid, folder / f"{plan.name}.tif")
    labels = [tile.sample.labels for tile in plan.tiles]
    drawn = [label for label in labels if isinstance(label, PolygonLabels)]
    pieces, objects = sum(len(label.geometries) for label in drawn), None
    if len(drawn) == len(labels) and all(channel >= 0 for label in drawn for channel in label.channels):
        objects = _write_polygons(plan, grid, folder / f"{plan.name}.gpkg", legend)
    else:
        _write_labels(plan, grid, folder / f"{plan.name}_mask.tif", legend)
    return JoinedScene(plan.name, split, *grid.shape, len(labels), pieces, objects, grid.gsd_m)


def _write_image(plan: JoinPlan, grid: Grid, path: Path) -> None:
    """Write the pixels tile by tile; at the end the mask band, where something is unknown."""
    with Scene(image_file(plan.tiles[0].sample)) as scene:
        bands, dtype = scene.bands, scene.dtype
    hidden: dict[Window, np.ndarray] = {}
    with _raster(path, grid, count=len(bands), dtype=dtype) as file:
        for tile in plan.tiles:
            with Scene(image_file(tile.sample)) as scene:
                _check_alike(scene, tile, len(bands), dtype)
                pixels = scene.read(Window(0, 0, *scene.shape))
            file.write(np.moveaxis(pixels.values, -1, 0), window=_place(tile.window))
            if not pixels.valid.all():
                hidden[tile.window] = np.packbits(pixels.valid)
        if hidden or len(plan.tiles) * math.prod(plan.tiles[0].sample.shape) < math.prod(grid.shape):
            for tile in plan.tiles:
                file.write_mask(_unpacked(hidden.get(tile.window), tile.sample.shape), window=_place(tile.window))


def _unpacked(bits: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """A tile's mask, 255 where it is valid."""
    if bits is None:
        return np.full(shape, 255, np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape) * np.uint8(255)


def _check_alike(scene: Scene, tile: Tile, count: int, dtype: np.dtype[Any]) -> None:
    if (scene.shape, len(scene.bands), scene.dtype) != (tile.sample.shape, count, dtype):
        want = " × ".join(map(str, tile.sample.shape))
        got = " × ".join(map(str, scene.shape))
        msg = f"Tiles of a scene must be alike, {want}, {count} bands of {dtype}, got {got}, {len(scene.bands)} of {scene.dtype} in {scene.name}. "
        raise DataError(msg + "--skip-invalid doesn't help here: move the tile away.")


@contextmanager
def _raster(path: Path, grid: Grid, **settings: Any) -> Iterator[Any]:
    """A GeoTIFF to be written window by window; blocks that nothing is written to take no room."""
    kind = np.dtype(settings["dtype"]).kind
    placed = grid.crs is not None or not grid.transform.is_identity
    try:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                crs=grid.crs.to_wkt() if grid.crs else None,
                transform=grid.transform if placed else None,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="DEFLATE",
                predictor=3 if kind == "f" else 2,
                interleave="pixel",
                bigtiff="IF_SAFER",
                sparse_ok=True,
                **settings,
            ) as file,
        ):
            yield file
    except RasterioError as error:
        msg = f"Scene must be written whole, got {str(error.__cause__ or error)!r:.200} for {path}. Is there room on the disk?"
        raise SceneError(msg) from error


def _place(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.column, window.row, window.width, window.height)


def _write_polygons(plan: JoinPlan, grid: Grid, path: Path, legend: Legend) -> int:
    """Write the objects of a scene in its CRS; in its pixels, y down, where it has none."""
    pieces = {(tile.column, tile.row): _pieces(tile.sample.labels) for tile in plan.tiles}
    objects = make_whole(pieces, plan.tiles[0].sample.shape)
    geometries = np.empty(len(objects), object)
    geometries[:] = [piece.geometry for piece in objects]
    columns = {
        "class_id": [legend.ids[piece.channel] for piece in objects],
        "class": [legend.names[piece.channel] for piece in objects],
    }
    write_polygons(geopandas.GeoDataFrame(columns, geometry=place(geometries, grid), crs=grid.crs), path)
    return len(objects)


def _pieces(labels: Any) -> list[Piece]:
    return [Piece(geometry, channel) for geometry, channel in zip(labels.geometries, labels.channels, strict=True)]


def _write_labels(plan: JoinPlan, grid: Grid, path: Path, legend: Legend) -> None:
    """Write the labels of a scene as class ids; of those that overlap, the last one."""
    wide = max(legend.ids) >= 255
    unknown = 65535 if wide else 255
    settings = {"nodata": unknown} if legend.exclusive else {}
    with _raster(path, grid, count=1, dtype="uint16" if wide else "uint8", **settings) as file:
        for tile in plan.tiles:
            truth = tile.sample.labels.read(Window(0, 0, *tile.sample.shape))
            _check_single(truth.classes, tile)
            ids = np.where(truth.labelled, (truth.classes * np.asarray(legend.ids)).max(axis=-1), unknown)
            file.write(ids.astype(file.dtypes[0]), 1, window=_place(tile.window))


def _check_single(classes: np.ndarray, tile: Tile) -> None:
    """Refuse what a mask of ids can't hold."""
    if classes.sum(axis=-1).max(initial=0) > 1:
        msg = f"Classes must not overlap where regions are to be ignored, got a pixel of two in {tile.sample.name}. Join one class at a time."
        raise DataError(msg)
