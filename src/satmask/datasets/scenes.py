"""Scenes: GeoTIFFs with vector files or mask rasters beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
from pyproj.exceptions import ProjError

from satmask.datasets.dataset import Problem, Sample, place_of
from satmask.datasets.legend_file import NAMES
from satmask.datasets.pairs import key_of, list_images, read_masks
from satmask.errors import DataError, SatmaskError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.polygons import read_polygons
from satmask.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import geopandas

    from satmask.grid import Grid

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml")
CLASS_FIELDS = ("class_id", "class", "label", "category")
IGNORE_FIELD = "ignore"  # true where nothing is known inside a polygon
LABELS = ".labels"  # ends the name of a vector file that holds the labels of one scene, and comes before its mask
FEATURE = "feature"  # class of polygons whose file names none


def read_scenes(
    folder: Path, legend: Legend | None = None, *, class_field: str | None = None
) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Read scenes and their labels.

    A scene takes its labels from a vector file of its own (`NAME.labels.gpkg`), else from a mask raster of its own
    (`NAME_mask.tif` or `NAME.labels.tif`), else from the vector file whose name it begins with, else from all vector files
    of the folder that aren't one scene's own. Vectors may be in any CRS. Their class is told, as an id or a name, by the
    first of `CLASS_FIELDS` that they have; without one, all features are one class. Inside features whose `ignore` is true
    nothing is known: such pixels are unlabelled.

    Args:
        folder: Holds GeoTIFFs, and vectors or masks.
        legend: The classes; by default numbered as they are found.
        class_field: Column of the vector files that tells the class, instead of one of `CLASS_FIELDS`.

    Returns:
        Samples, legend and problems.

    Raises:
        DataError: If a vector file can't be read, or has no such column.
    """
    rasters = list_images(folder)
    vectors = find_vectors(folder)
    masks = {key_of(path.stem): path for path in rasters if is_mask(path)}
    images = [path for path in rasters if not is_mask(path)]
    own = {path.stem.removesuffix(LABELS) for path in vectors if path.stem.endswith(LABELS)}
    masked = [
        (image, masks[key_of(image.stem)]) for image in images if key_of(image.stem) in masks and image.stem not in own
    ]
    drawn = [image for image in images if key_of(image.stem) not in masks or image.stem in own]
    samples: tuple[Sample, ...] = ()
    problems: list[Problem] = []
    if masked:
        samples, legend, problems = read_masks(masked, legend, problems)
    if not drawn or (masked and not vectors):
        problems += [Problem(image.name, f"Scene {image.name!r} has no labels.") for image in drawn]
        return samples, legend or Legend.of(["feature"]), problems
    layers = [Layer(path, class_field) for path in vectors]
    legend = legend or _legend(layers)
    for image in drawn:
        sample = _sample(image, layers, legend, problems)
        if sample:
            samples += (sample,)
    return samples, legend, problems


def is_mask(path: Path) -> bool:
    """Whether a raster's name says that it is a mask rather than a scene."""
    return path.stem.lower().endswith(("_mask", ".mask", "_labels", ".labels"))


def find_vectors(folder: Path) -> list[Path]:
    """The vector files of a folder, by name."""
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in VECTOR_SUFFIXES and path.name not in NAMES
    )


@dataclass(frozen=True)
class Layer:
    """A vector file of labels.

    Attributes:
        path: The file, in any format and CRS that GDAL reads.
        class_field: Column that tells the class; by default the first of `CLASS_FIELDS` that the file has.
    """

    path: Path
    class_field: str | None = None

    @cached_property
    def frame(self) -> geopandas.GeoDataFrame:
        """The polygons, without what is empty or isn't one.

        Raises:
            DataError: If the file can't be read.
        """
        frame = read_polygons(self.path)
        return frame[frame.geom_type.isin(["Polygon", "MultiPolygon"]) & ~frame.geometry.is_empty]

    @cached_property
    def classes(self) -> list[int | str | None]:
        """Class of each polygon, an id or a name; `"feature"` where the file names none.

        Raises:
            DataError: If the file hasn't the column asked for.
        """
        columns = [str(name) for name in self.frame.columns]
        if self.class_field and self.class_field not in columns:
            msg = f"Class field must be one of {', '.join(columns)}, got {self.class_field!r} for {self.path.name}."
            raise DataError(msg)
        name = self.class_field or next((name for name in CLASS_FIELDS if name in columns), None)
        return [_class(value) for value in self.frame[name]] if name else [FEATURE] * len(self.frame)

    @cached_property
    def ignored(self) -> np.ndarray:
        """Whether nothing is known inside each polygon, bool."""
        if IGNORE_FIELD not in self.frame.columns:
            return np.zeros(len(self.frame), bool)
        return np.array([_truth(value) for value in self.frame[IGNORE_FIELD]], bool)

    @property
    def single(self) -> bool:
        """Whether it holds the labels of one scene only, by its name."""
        return self.path.stem.endswith(LABELS)

    def named(self, image: Path) -> bool:
        """Whether a scene's name begins with the file's, or is it where the file is of one scene only."""
        own = self.path.stem.removesuffix(LABELS)
        return image.stem == own if self.single else image.stem.startswith(own)


def read_labels(path: Path, grid: Grid, legend: Legend | None = None) -> tuple[PolygonLabels, list[Problem]]:
    """Read a vector file as the labels of a grid.

    Args:
        path: The file, in any format and CRS that GDAL reads.
        grid: The grid.
        legend: The classes; by default numbered as they are found.

    Returns:
        The labels, and what in the file the legend doesn't know.

    Raises:
        DataError: If the file can't be read, or its CRS can't be turned into the grid's.
    """
    problems: list[Problem] = []
    layer = Layer(path)
    legend = legend or _legend([layer])
    geometries, channels = _in_pixels(layer, grid, legend, problems)
    return PolygonLabels(legend, grid.shape, list(geometries), [int(channel) for channel in channels]), problems


def _class(value: Any) -> int | str | None:
    """An id or a name from a cell: formats and missing cells turn whole numbers into floats or text."""
    if pd.isna(value):
        return None
    text = str(value).strip()
    whole = text.removesuffix(".0")
    return int(whole) if whole.isdecimal() else text


def _truth(value: Any) -> bool:
    """Whether a cell says yes: formats without a type for it hold 1 or text."""
    return not pd.isna(value) and str(value).strip().lower() in ("1", "1.0", "true", "yes")


def _legend(layers: Sequence[Layer]) -> Legend:
    """A legend of all classes that the layers name."""
    found = {value for layer in layers for value in layer.classes if value is not None}
    if not all(isinstance(value, int) for value in found):
        return Legend.of(sorted(map(str, found)))
    names: dict[int, str] = {}
    for layer in layers:
        titles = layer.frame.get("class", layer.classes)
        names |= {key: str(title) for key, title in zip(layer.classes, titles, strict=True) if isinstance(key, int)}
    return Legend.of(dict(sorted(names.items())) or [FEATURE])


def _channels(layer: Layer, legend: Legend) -> np.ndarray:
    """Channel of each polygon, -1 where it is to be ignored, or -2 for a class that the legend doesn't have."""
    known: dict[int | str | None, int] = {name: channel for channel, name in enumerate(legend.names)}
    known |= {id_: channel for channel, id_ in enumerate(legend.ids)}
    if len(drawn := [id_ for id_ in legend.ids if id_]) == 1:
        known.setdefault(FEATURE, legend.channel(drawn[0]))
    return np.where(layer.ignored, -1, np.array([known.get(value, -2) for value in layer.classes], int))


def _sample(image: Path, layers: Sequence[Layer], legend: Legend, problems: list[Problem]) -> Sample | None:
    own = [layer for layer in layers if layer.named(image)]
    # The longest name fits best: `town_north` before `town` for town_north_1.tif.
    # Labels of its own before those of several scenes.
    shared = [layer for layer in layers if not layer.single]
    chosen = [max(own, key=lambda layer: (layer.single, len(layer.path.stem)))] if own else shared
    if not chosen:
        problems.append(Problem(image.name, f"Scene {image.name!r} has no labels."))
        return None
    try:
        with Scene(image) as scene:
            grid = scene.grid
        parts = [_in_pixels(layer, grid, legend, problems) for layer in chosen]
    except SatmaskError as error:
        problems.append(Problem(image.name, str(error)))
        return None
    geometries = [geometry for found, _ in parts for geometry in found]
    channels = [int(channel) for _, found in parts for channel in found]
    if not geometries:
        problems.append(Problem(image.name, f"Scene {image.name!r} has no labels inside it.", "warning", "no labels"))
    labels = PolygonLabels(legend, grid.shape, geometries, channels)
    return Sample(image.stem, image, grid.shape, labels, place_of(image.stem), grid.degrees)


def _in_pixels(layer: Layer, grid: Grid, legend: Legend, problems: list[Problem]) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of a layer that touch a scene, in its pixel coordinates, with their channels."""
    channels = _channels(layer, legend)
    unknown = {value for value, channel in zip(layer.classes, channels, strict=True) if channel == -2}
    for what in sorted("Polygons without a class" if value is None else f"Class {value!r}" for value in unknown):
        problem = Problem(
            layer.path.name, f"{what} of {layer.path.name}: not in the legend, left out.", "warning", "unknown class"
        )
        if problem not in problems:
            problems.append(problem)
    a, b, c, d, e, f = tuple(~grid.transform)[:6]

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))

    pixels = np.asarray(shapely.transform(_in_crs(layer, grid), to_pixels))
    west, south, east, north = shapely.bounds(pixels).T
    # Where a CRS can't show a point PROJ says infinity; such a polygon isn't near the scene.
    keep = (channels >= -1) & (east > 0) & (north > 0) & (west < grid.width) & (south < grid.height)
    keep &= np.isfinite([west, south, east, north]).all(axis=0)
    return pixels[keep], channels[keep]


def _in_crs(layer: Layer, grid: Grid) -> np.ndarray:
    """Polygons of a layer in a scene's CRS; as they are where one of the two has none."""
    frame = layer.frame
    if frame.crs is None or grid.crs is None or frame.crs == grid.crs:
        return np.asarray(frame.geometry.array)
    try:
        return np.asarray(frame.geometry.to_crs(grid.crs).array)
    except ProjError as error:
        msg = f"Labels must have a CRS that can be turned into the scene's, got {error} for {layer.path.name}."
        raise DataError(msg) from error
