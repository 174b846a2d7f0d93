"""Tiles put together into scenes: what a tiled data set cut at every edge is made whole again."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS
from rasterio.errors import RasterioError

from satmask.datasets.grouping import join
from satmask.datasets.legend_file import to_toml
from satmask.datasets.tile_names import NAME, tile_bounds
from satmask.errors import DataError, SceneError, SettingError
from satmask.grid import Grid
from satmask.labels import PolygonLabels
from satmask.polygons import place, write_polygons
from satmask.scene import Scene
from satmask.seams import Piece, make_whole
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from satmask.datasets.dataset import Dataset, Sample
    from satmask.legend import Legend

EQUATOR_M = 2 * math.pi * 6_378_137.0  # side of the square that web maps show, in metres of EPSG:3857
ROWS_COLUMNS = re.compile(r"^(.+?)[-_. ]r(\d+)[-_. ]?c(\d+)$")
SEAMS = 16  # edges between tiles of rows and columns that are looked at
ROUGHEST = 2.0  # by how much pixels across an edge may differ more than inside; it was 0.9 to 1.3 where tiles meet
BLOCK = 256  # side of blocks in the files where tiles' own can't be


@dataclass(frozen=True)
class Tile:
    """A tile and its place.

    Attributes:
        sample: The image with its labels.
        column: In tiles, from the scene's left edge.
        row: In tiles, from its upper edge.
    """

    sample: Sample
    column: int = 0
    row: int = 0

    @property
    def window(self) -> Window:
        """Where it lies in the scene."""
        height, width = self.sample.shape
        return Window(self.row * height, self.column * width, height, width)


@dataclass(frozen=True)
class JoinPlan:
    """A scene to be made of tiles.

    Attributes:
        name: Of its files, without suffix.
        tiles: Row by row; all of one size.
        grid: Where it lies; None for a tile without a place in its name, whose file is left as it is.
    """

    name: str
    tiles: tuple[Tile, ...]
    grid: Grid | None = None


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
    check_empty(out)
    if dataset.layout not in ("coco", "pairs"):
        msg = f"Tiles must be of the layout coco or pairs to be joined, got {dataset.layout!r} in {dataset.root}."
        raise SettingError(msg)
    flat = not (dataset.root / "train").is_dir()
    found = []
    with _aside(out) as folder:
        (folder / "legend.toml").write_text(to_toml(dataset.legend), encoding="utf-8")
        for split, samples in dataset.splits.items():
            target = folder if flat else folder / split
            target.mkdir(exist_ok=True)
            for plan in plan_scenes(samples):
                found.append(_write(plan, target, split, dataset.legend))
                progress(len(plan.tiles))
    return found


def check_empty(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        SettingError: If it does, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"OUT must not exist or be an empty folder, got {str(out)!r}. Choose another."
        raise SettingError(msg)


def plan_scenes(samples: Sequence[Sample]) -> list[JoinPlan]:
    """Say which tiles make which scene.

    Args:
        samples: Images of one split.

    Returns:
        Scenes by name; those of one series are numbered from the north-west on.

    Raises:
        DataError: If two tiles claim one place, or two scenes one name.
    """
    series: dict[tuple[str, int | None, tuple[int, int]], dict[tuple[int, int], Sample]] = defaultdict(dict)
    plans = []
    for sample in samples:
        key, spot = _spot(sample.name)
        if spot is None:
            plans.append(JoinPlan(sample.name, (Tile(sample),)))
            continue
        there = series[(*key, sample.shape)].setdefault(spot, sample)
        if there is not sample:
            msg = f"Tiles must have places of their own, got {there.name!r} and {sample.name!r} at one."
            raise DataError(msg)
    sizes = Counter((prefix, zoom) for prefix, zoom, _ in series)
    for (prefix, zoom, shape), tiles in series.items():
        if zoom is None and not _fit(tiles):
            plans += [JoinPlan(sample.name, (Tile(sample),)) for sample in tiles.values()]
            continue
        title = prefix if zoom is None else f"{prefix}_z{zoom}"
        title += f"_{shape[1]}px" if sizes[prefix, zoom] > 1 else ""
        groups = _connected(tiles)
        digits = len(str(len(groups) - 1))
        plans += [
            _plan(f"{title}_{number:0{digits}}", zoom, {spot: tiles[spot] for spot in group})
            for number, group in enumerate(groups)
        ]
    if twice := [name for name, count in Counter(plan.name for plan in plans).items() if count > 1]:
        msg = f"Scenes must have names of their own, got {twice[0]!r} twice. Rename the tile of this name."
        raise DataError(msg)
    return sorted(plans, key=lambda plan: plan.name)


def _spot(name: str) -> tuple[tuple[str, int | None], tuple[int, int] | None]:
    """Beginning of a tile's name, its zoom, and its column and row; None for these if the name has none."""
    if tile_bounds(name) and (found := NAME.search(name)):
        return (name[: found.start()] or "tiles", int(found[4])), (int(found[1]), int(found[3]))
    if found := ROWS_COLUMNS.match(name):
        return (found[1], None), (int(found[3]), int(found[2]))
    return (name, None), None


def _connected(spots: dict[tuple[int, int], Sample]) -> list[list[tuple[int, int]]]:
    """Groups of spots that share edges, directly or through others."""
    ordered = sorted(spots, key=lambda spot: spot[::-1])
    index = {spot: number for number, spot in enumerate(ordered)}
    beside = ((index[x, y], index.get(other)) for x, y in ordered for other in ((x + 1, y), (x, y + 1)))
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for spot, first in zip(ordered, join(len(ordered), [(a, b) for a, b in beside if b is not None]), strict=True):
        groups[first].append(spot)
    return list(groups.values())


def _fit(tiles: dict[tuple[int, int], Sample]) -> bool:
    """Whether tiles of rows and columns meet without overlap or gap: names don't say.

    Across their edges pixels then differ about as much as inside; what lies some pixels apart differs more.
    """
    beside = [(sample, tiles[x + 1, y]) for (x, y), sample in tiles.items() if (x + 1, y) in tiles]
    ratios = []
    for west, east in beside[:: -(-len(beside) // SEAMS) or 1]:
        left, right = (_edge(sample, from_right=sample is west) for sample in (west, east))
        inside = np.abs(left[:, 1] - left[:, 0]).mean() + np.abs(right[:, 1] - right[:, 0]).mean()
        ratios.append(2 * np.abs(right[:, 0] - left[:, 1]).mean() / max(inside, 1e-9))
    return not ratios or float(np.median(ratios)) <= ROUGHEST


def _edge(sample: Sample, *, from_right: bool) -> np.ndarray:
    """The first or last two columns of a tile, float64, `(height, 2, bands)`."""
    with Scene(_file(sample)) as scene:
        height, width = scene.shape
        return scene.read(Window(0, width - 2 if from_right else 0, height, 2)).values.astype(np.float64)


def _plan(name: str, zoom: int | None, tiles: dict[tuple[int, int], Sample]) -> JoinPlan:
    west, north = (min(spot[axis] for spot in tiles) for axis in (0, 1))
    east, south = (max(spot[axis] for spot in tiles) + 1 for axis in (0, 1))
    height, width = next(iter(tiles.values())).shape
    grid = Grid((south - north) * height, (east - west) * width)
    if zoom is not None:
        side = EQUATOR_M / 2**zoom
        corner = Affine.translation(west * side - EQUATOR_M / 2, EQUATOR_M / 2 - north * side)
        grid = Grid(*grid.shape, corner @ Affine.scale(side / width, -side / height), CRS("EPSG:3857"))
    placed = tuple(Tile(sample, x - west, y - north) for (x, y), sample in tiles.items())
    return JoinPlan(name, placed, grid)


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside the one wanted, which takes its place when all is written, and vanishes if something fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder.chmod(0o755)  # mkdtemp lets nobody else in
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(plan: JoinPlan, folder: Path, split: str, legend: Legend) -> JoinedScene:
    """Write a scene and its labels."""
    first = plan.tiles[0].sample
    grid = plan.grid
    if grid is None:
        image = _file(first)
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


def _file(sample: Sample) -> Path:
    """The image file of a tile; these layouts have one each."""
    assert isinstance(sample.image, Path)  # noqa: S101  # stacks are of the layout dstl, which is refused
    return sample.image


def _write_image(plan: JoinPlan, grid: Grid, path: Path) -> None:
    """Write the pixels tile by tile; at the end the mask band, where something is unknown."""
    with Scene(_file(plan.tiles[0].sample)) as scene:
        bands, dtype = scene.bands, scene.dtype
    hidden: dict[Window, np.ndarray] = {}
    with _raster(path, grid, count=len(bands), dtype=dtype) as file:
        for tile in plan.tiles:
            with Scene(_file(tile.sample)) as scene:
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
