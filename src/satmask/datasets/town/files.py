"""Write a synthetic town as files: a scene with its vectors, or tiles in the crowdAI layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import geopandas
import numpy as np
import rasterio
import shapely
import shapely.affinity

import satmask.vector_io  # noqa: F401  # geopandas then finds pyogrio loaded as it must be
from satmask.datasets.town.drawing import LEGEND, Town, draw_town
from satmask.datasets.town.materials import BANDS
from satmask.datasets.town.streets import polygons_of
from satmask.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shapely.geometry import Polygon

TILES_A_SIDE = 4
"""Tiles are cut from towns of up to 4 × 4 of them: neighbours share streets and light, as in real sets."""


def write_scene(town: Town, folder: Path | str, name: str) -> Path:
    """Write a town as `<name>.tif` and `<name>.gpkg`.

    Args:
        town: The town.
        folder: Where to write; made if it isn't there.
        name: Stem of both files.

    Returns:
        The path of the GeoTIFF. The GeoPackage has one layer, `labels`, with the fields `class_id` and `class`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scene(draw_town(40, 40), folder, "town").name
        'town.tif'
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    raster, vectors = folder / f"{name}.tif", folder / f"{name}.gpkg"
    _write_vectors(town, hidden := folder / f".{name}.part.gpkg")
    hidden.replace(vectors)
    _write_raster(town, hidden := folder / f".{name}.part.tif")
    hidden.replace(raster)
    return raster


def _write_raster(town: Town, path: Path) -> None:
    """Write the image as a tiled, deflated GeoTIFF that says it is synthetic."""
    height, width, count = town.image.shape
    bands = ("red", "green", "blue") if count == 3 else BANDS
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": count, "dtype": town.image.dtype,
        "crs": town.grid.crs.to_wkt() if town.grid.crs else None, "transform": town.grid.transform,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2,
        "photometric": "RGB" if count == 3 else "MINISBLACK",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.moveaxis(town.image, -1, 0))
        target.descriptions = bands
        target.update_tags(SATMASK_SYNTHETIC="YES")


def _write_vectors(town: Town, path: Path) -> None:
    """Write the polygons on the ground, one row each, in draw order."""
    matrix = town.grid.transform
    flat = [matrix.a, matrix.b, matrix.d, matrix.e, matrix.c, matrix.f]
    names = dict(zip(town.legend.ids, town.legend.names, strict=True))
    ids = [id_ for id_, _ in town.features]
    table = geopandas.GeoDataFrame(
        {"class_id": np.asarray(ids, np.int32), "class": [names[id_] for id_ in ids]},
        geometry=[shapely.affinity.affine_transform(polygon, flat) for _, polygon in town.features],
        crs=town.grid.crs,
    )
    path.unlink(missing_ok=True)
    table.to_file(path, layer="labels", driver="GPKG", geometry_type="Polygon")


def write_tiles(
    folder: Path | str, *, count: int, size: int = 300, seed: int = 0, classes: Sequence[str] = ("building",)
) -> Path:
    """Write tiles of synthetic towns in the layout of the crowdAI Mapping Challenge.

    A fifth of the tiles go to `val`; they come from towns of their own, so that no place is on both sides.

    Args:
        folder: Where to write `train` and `val`; made if it isn't there.
        count: Tiles in all, at least 2.
        size: Side of a tile, in pixels of 0.3 m.
        seed: Fixes everything.
        classes: Names of the legend; buildings get category 100 as in the challenge, other classes 100 + their id.

    Returns:
        The folder.

    Raises:
        SettingError: If there are too few tiles, or a class isn't one of the town's.
        DataError: If the folder already holds tiles.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in write_tiles(folder, count=2, size=64).iterdir())
        ['train', 'val']
    """
    folder = Path(folder)
    if count < 2:
        msg = f"Tiles must be at least 2, got {count}. One goes to train and one to val."
        raise SettingError(msg)
    if unknown := [name for name in classes if name not in LEGEND.names]:
        msg = f"Class must be one of {', '.join(LEGEND.names)}, got {unknown[0]!r}."
        raise SettingError(msg)
    val = max(round(count / 5), 1)
    # Towns of the two splits have seeds of different parity, and different seeds are different places.
    for split, wanted, first in (("train", count - val, 2_000 * seed), ("val", val, 2_000 * seed + 1)):
        _write_split(folder / split, wanted, size=size, seed=first, classes=classes)
    return folder


def _write_split(folder: Path, count: int, *, size: int, seed: int, classes: Sequence[str]) -> None:
    """Write one split: images first, the annotation file last, under its own name only once it is complete."""
    if (folder / "annotation.json").exists():
        msg = f"Folder for tiles must be empty, got {folder} with tiles in it. Choose another or delete it."
        raise DataError(msg)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    categories = {LEGEND.ids[LEGEND.names.index(name)]: name for name in classes}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (pixels, features) in enumerate(_tiles(count, size=size, seed=seed)):
        file_name = f"{number:012d}.jpg"
        _write_jpeg(folder / "images" / file_name, pixels)
        images.append({"id": number, "file_name": file_name, "width": size, "height": size})
        for id_, polygon in features:
            if id_ in categories and (entry := _annotation(polygon)):
                key = {"id": len(annotations) + 1, "image_id": number, "category_id": _category(id_)}
                annotations.append(key | entry)
    content = {
        "info": {"description": "Synthetic town drawn by satmask; not a real place.", "synthetic": True},
        "categories": [{"id": _category(id_), "name": name, "supercategory": name} for id_, name in categories.items()],
        "images": images,
        "annotations": annotations,
    }
    hidden = folder / ".annotation.part.json"
    hidden.write_text(json.dumps(content), encoding="utf-8")
    hidden.replace(folder / "annotation.json")


def _category(class_id: int) -> int:
    """Category in the annotation file: 100 for buildings, as in the challenge."""
    return 100 if class_id == 1 else 100 + class_id


def _tiles(count: int, *, size: int, seed: int) -> Iterator[tuple[np.ndarray, list[tuple[int, Polygon]]]]:
    """Cut towns into tiles until there are enough."""
    made = 0
    while made < count:
        side = min(int(np.ceil(np.sqrt(count - made))), TILES_A_SIDE)
        town = draw_town(side * size, side * size, seed=seed, gsd_m=0.3)
        shapes = np.array([polygon for _, polygon in town.features], dtype=object)
        tree = shapely.STRtree(shapes)
        for place in range(min(side * side, count - made)):
            row, column = divmod(place, side)
            window = shapely.box(column * size, row * size, (column + 1) * size, (row + 1) * size)
            hits = np.sort(tree.query(window, predicate="intersects"))
            cut = shapely.intersection(shapes[hits], window)
            features = [
                (town.features[hit][0], shapely.affinity.translate(part, -column * size, -row * size))
                for hit, piece in zip(hits.tolist(), cut, strict=True)
                for part in polygons_of(piece)
            ]
            yield town.image[row * size : (row + 1) * size, column * size : (column + 1) * size], features
        made, seed = made + side * side, seed + 2


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write red, green, blue as JPEG."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    if not done:
        msg = f"Tile must be encodable as JPEG, got {pixels.shape} for {path.name}."
        raise DataError(msg)
    hidden = path.with_name(f".{path.name}.part")
    hidden.write_bytes(data.tobytes())
    hidden.replace(path)


def _annotation(polygon: Polygon) -> dict[str, Any] | None:
    """A polygon in the challenge's terms: one closed ring of whole numbers, its area and its box.

    Holes are dropped, as the challenge drops them. None where rounding leaves nothing.
    """
    ring = np.rint(np.asarray(polygon.exterior.coords))
    rounded = shapely.Polygon(ring)
    if rounded.area < 1 or not rounded.is_valid:
        return None
    left, top, right, bottom = rounded.bounds
    return {
        "iscrowd": 0,
        "segmentation": [ring.ravel().tolist()],
        "area": float(rounded.area),
        "bbox": [left, top, right - left, bottom - top],
    }
