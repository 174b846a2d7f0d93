"""Scenes: GeoTIFFs with vector files or mask rasters beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from pyproj.exceptions import ProjError

from satmask.datasets.dataset import Problem, Sample, place_of
from satmask.datasets.pairs import key_of, list_images, read_masks
from satmask.errors import DataError, SatmaskError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from satmask.grid import Grid

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".gml", ".kml")
CLASS_FIELDS = ("class_id", "class", "label", "category")


def read_scenes(folder: Path, legend: Legend | None = None) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Read scenes and their labels.

    A scene takes its labels from a mask raster of its own (`NAME_mask.tif` or `NAME.labels.tif`), else from the vector
    file whose name it begins with, else from all vector files of the folder. Vectors may be in any CRS. Their class is
    told by the first of `CLASS_FIELDS` that they have; without one, all features are one class.

    Args:
        folder: Holds GeoTIFFs, and vectors or masks.
        legend: The classes; by default numbered as they are found.

    Returns:
        Samples, legend and problems.

    Raises:
        DataError: If no vector file can be read.
    """
    rasters = list_images(folder)
    masks = {key_of(path.stem): path for path in rasters if is_mask(path)}
    images = [path for path in rasters if not is_mask(path)]
    masked = [(image, masks[key_of(image.stem)]) for image in images if key_of(image.stem) in masks]
    drawn = [image for image in images if key_of(image.stem) not in masks]
    samples: tuple[Sample, ...] = ()
    problems: list[Problem] = []
    if masked:
        samples, legend, problems = read_masks(masked, legend, problems)
    vectors = find_vectors(folder)
    if not drawn or (masked and not vectors):
        problems += [Problem(image.name, f"Scene {image.name!r} has no labels.") for image in drawn]
        return samples, legend or Legend.of(["feature"]), problems
    layers = [Layer(path) for path in vectors]
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
        path for path in folder.iterdir() if path.suffix.lower() in VECTOR_SUFFIXES and path.name != "legend.json"
    )


@dataclass(frozen=True)
class Layer:
    """A vector file of labels.

    Attributes:
        path: The file, in any format and CRS that GDAL reads.
    """

    path: Path

    @cached_property
    def frame(self) -> geopandas.GeoDataFrame:
        """The polygons, without what is empty or isn't one.

        Raises:
            DataError: If the file can't be read.
        """
        try:
            parquet = self.path.suffix == ".parquet"
            frame = geopandas.read_parquet(self.path) if parquet else geopandas.read_file(self.path)
        except Exception as error:  # GDAL, GEOS and Arrow each have their own; all mean the same to the user
            msg = f"Labels must be a vector file that GDAL reads, got {str(error).splitlines()[0]:.160} for {self.path.name}."
            raise DataError(msg) from error
        return frame[frame.geom_type.isin(["Polygon", "MultiPolygon"]) & ~frame.geometry.is_empty]

    @cached_property
    def classes(self) -> pd.Series[Any]:
        """Class of each polygon, an id or a name; `"feature"` where the file names none."""
        name = next((name for name in CLASS_FIELDS if name in self.frame.columns), None)
        return self.frame[name] if name else pd.Series("feature", index=self.frame.index)

    def named(self, image: Path) -> bool:
        """Whether a scene's name begins with the file's."""
        return image.stem.startswith(self.path.stem)


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


def _legend(layers: Sequence[Layer]) -> Legend:
    """A legend of all classes that the layers name."""
    names: dict[int, str] = {}
    for layer in layers:
        if pd.api.types.is_integer_dtype(layer.classes):
            titles = layer.frame.get("class", layer.classes)
            names |= {int(key): str(title) for key, title in zip(layer.classes, titles, strict=True)}
    if names:
        return Legend.of(dict(sorted(names.items())))
    return Legend.of(sorted({str(value) for layer in layers for value in layer.classes.dropna()}) or ["feature"])


def _channels(layer: Layer, legend: Legend) -> np.ndarray:
    """Channel of each polygon, or -2 for a class that the legend doesn't have."""
    by_id = {id_: channel for channel, id_ in enumerate(legend.ids)}
    by_name = {name: channel for channel, name in enumerate(legend.names)}
    if pd.api.types.is_integer_dtype(layer.classes):
        return np.array([by_id.get(int(value), -2) for value in layer.classes], int)
    only = 0 if len(legend) == 1 else -2
    return np.array([only if value == "feature" else by_name.get(str(value), -2) for value in layer.classes], int)


def _sample(image: Path, layers: Sequence[Layer], legend: Legend, problems: list[Problem]) -> Sample | None:
    own = [layer for layer in layers if layer.named(image)]
    # The longest name fits best: `town_north` before `town` for town_north_1.tif.
    chosen = [max(own, key=lambda layer: len(layer.path.stem))] if own else list(layers)
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
        problems.append(Problem(image.name, f"Scene {image.name!r} has no labels inside it.", severity="warning"))
    labels = PolygonLabels(legend, grid.shape, geometries, channels)
    return Sample(image.stem, image, grid.shape, labels, place_of(image.stem), grid.degrees)


def _in_pixels(layer: Layer, grid: Grid, legend: Legend, problems: list[Problem]) -> tuple[np.ndarray, np.ndarray]:
    """Polygons of a layer that touch a scene, in its pixel coordinates, with their channels."""
    frame, channels = layer.frame, _channels(layer, legend)
    for value in sorted({str(value) for value in layer.classes[channels == -2]}):
        problem = Problem(
            layer.path.name, f"Class {value!r} of {layer.path.name} isn't in the legend; left out.", severity="warning"
        )
        if problem not in problems:
            problems.append(problem)
    geometries = np.asarray(frame.geometry.array)
    if frame.crs is not None and grid.crs is not None and frame.crs != grid.crs:
        try:
            geometries = np.asarray(frame.geometry.to_crs(grid.crs).array)
        except ProjError as error:
            msg = f"Labels must have a CRS that can be turned into the scene's, got {error} for {layer.path.name}."
            raise DataError(msg) from error
    a, b, c, d, e, f = tuple(~grid.transform)[:6]

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))

    pixels = np.asarray(shapely.transform(geometries, to_pixels))
    keep = (channels >= 0) & shapely.intersects(pixels, shapely.box(0, 0, grid.width, grid.height))
    return pixels[keep], channels[keep]
