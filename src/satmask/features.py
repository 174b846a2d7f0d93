"""Features: the chain from classes to map features that need no redrawing, with what each step saves and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import geopandas
import numpy as np
import pandas as pd
import shapely

from satmask.attributes import ground_plane, measure_regions, orientations, true_perimeters
from satmask.cleaning import Cleaning, clean_classes
from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.masks import outlines, rasterise
from satmask.polygons import place, true_areas
from satmask.regularisation import regularise
from satmask.separation import separate
from satmask.simplification import simplify

# How far walls may lie from an outline's corners, in pixels: a staircase of pixels strays by less.
TOLERANCE_PX = 1.5


@dataclass(frozen=True)
class Shaping:
    """What is done to classes and their outlines, in this order; nothing by default.

    Attributes:
        cleaning: What is too small to be true; for all classes, or for some by id.
        separate_by: What parts objects that touch: the "distance" from their edge, or the "probability".
        separate_depth: How far that has to fall between two objects: in metres, or as a probability; 0 parts nothing.
        simplify_m: Tolerance of `simplification.simplify`, in metres.
        square: Whether outlines get right angles where the mask supports them.
        min_iou: Least IoU of a squared outline with the object's mask.

    Raises:
        SettingError: If a number is out of range.
    """

    cleaning: Cleaning | Mapping[int, Cleaning] = field(default_factory=Cleaning)
    separate_by: Literal["distance", "probability"] = "distance"
    separate_depth: float = 0.0
    simplify_m: float = 0.0
    square: bool = False
    min_iou: float = 0.85

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        for name, most in (("separate_depth", np.inf), ("simplify_m", np.inf), ("min_iou", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                msg = f"Shaping must have {name} from 0 to {most:g}, got {value}."
                raise SettingError(msg)


@dataclass(frozen=True)
class Step:
    """What one step made of the features.

    Attributes:
        name: "traced", "cleaned", "separated", "simplified" or "squared".
        polygons: Polygons after it.
        vertices: Their vertices; the point that closes a ring counts once.
        iou: IoU of the polygons, drawn again, with the classes as they were given; all classes pooled. 1 where there is
            nothing on either side.
    """

    name: str
    polygons: int
    vertices: int
    iou: float

    def to_dict(self) -> dict[str, Any]:
        """The step as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Features:
    """Map features, and how they came about.

    Attributes:
        frame: One row a feature, sorted by channel: `class_id` (int32), `class`, `area_m2` and `perimeter_m` (on the
            ellipsoid; NaN without a CRS), `area_px` (of the mask, int64), `mean_probability` and `min_probability` (NaN
            without probabilities), `orientation_deg` (bearing of the longer side, 0 to 180), `right_angles` and
            `touches_edge` (bool), and `geometry` in the grid's CRS.
        steps: The steps that were taken, tracing first.
    """

    frame: geopandas.GeoDataFrame
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class _Layer:
    """Objects that don't overlap: their regions, and the channel of each; polygons in pixels."""

    labels: np.ndarray
    channels: np.ndarray
    polygons: np.ndarray


def find_features(
    classes: np.ndarray,
    grid: Grid,
    legend: Legend,
    *,
    probabilities: np.ndarray | None = None,
    shaping: Shaping | None = None,
) -> Features:
    """Turn classes into map features: clean, separate, trace, simplify, square, describe.

    Args:
        classes: Class ids, `(height, width)`; or one mask a class where classes overlap, bool, `(height, width, classes)`.
        grid: Where the pixels lie. Without a CRS, a pixel counts as a metre.
        legend: The classes.
        probabilities: What the network said, `(height, width, classes)`, floats or unsigned integers.
        shaping: What is done; nothing by default.

    Returns:
        The features, and what each step made of them.

    Raises:
        SettingError: If shapes don't agree, or objects are to be parted by probabilities that aren't there.

    Example:
        >>> features = find_features(np.eye(2, dtype=np.uint8), Grid(2, 2), Legend.of(["house"]))
        >>> [(step.name, step.polygons, step.vertices, step.iou) for step in features.steps]
        [('traced', 2, 8, 1.0)]
    """
    shaping = shaping or Shaping()
    _check(classes, grid, legend, probabilities, shaping)
    plane = ground_plane(grid)
    gsd_m = float(np.sqrt(abs(np.linalg.det(plane))))
    steps = []
    for name, layers in _objects(classes, legend, probabilities, shaping, gsd_m=gsd_m):
        steps.append(_step(name, layers, classes, legend))
    shaped, squared = layers, [np.zeros(len(layer.polygons), bool) for layer in layers]
    if shaping.simplify_m:
        shaped = [_simplified(layer, plane, shaping.simplify_m) for layer in layers]
        steps.append(_step("simplified", shaped, classes, legend))
    if shaping.square:
        pairs = [_squared(*pair, plane, shaping) for pair in zip(layers, shaped, strict=True)]
        shaped, squared = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        steps.append(_step("squared", shaped, classes, legend))
    tables = [_describe(layer, grid, plane, probabilities) for layer in shaped]
    return Features(_frame(tables, squared, grid, legend), tuple(steps))


def _check(classes: np.ndarray, grid: Grid, legend: Legend, probabilities: np.ndarray | None, shaping: Shaping) -> None:
    shape = (*grid.shape, len(legend))
    if classes.shape not in (grid.shape, shape):
        msg = f"Classes must have the shape {grid.shape} or {shape}, got {classes.shape}."
        raise SettingError(msg)
    if probabilities is not None and probabilities.shape != shape:
        msg = f"Probabilities must have the shape {shape}, got {probabilities.shape}."
        raise SettingError(msg)
    if shaping.separate_depth and shaping.separate_by == "probability" and probabilities is None:
        msg = "Objects must come with probabilities to be parted by them, got none. Part them by distance."
        raise SettingError(msg)


def _rules(cleaning: Cleaning | Mapping[int, Cleaning]) -> Iterator[Cleaning]:
    yield from (cleaning,) if isinstance(cleaning, Cleaning) else cleaning.values()


def _trace(classes: np.ndarray, legend: Legend) -> list[_Layer]:
    """Find the groups of pixels that share edges and a class: one layer, or one a class where classes overlap."""
    import cv2

    stack = [classes == id_ for id_ in legend.ids] if classes.ndim == 2 else list(np.moveaxis(classes != 0, -1, 0))
    labels, channels, layers = np.zeros(stack[0].shape, np.int32), np.zeros(0, np.int64), []
    for channel, mask in enumerate(stack):
        count, found = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        of_class = np.full(count - 1, channel)
        if classes.ndim == 3:
            layers.append(_outlined(found, of_class))
            continue
        np.copyto(labels, found + np.int32(len(channels)), where=found > 0)
        channels = np.concatenate([channels, of_class])
    return layers or [_outlined(labels, channels)]


def _objects(
    classes: np.ndarray, legend: Legend, probabilities: np.ndarray | None, shaping: Shaping, *, gsd_m: float
) -> Iterator[tuple[str, list[_Layer]]]:
    """Find the objects; each step gives its name and what there is after it."""
    layers = _trace(classes, legend)
    yield "traced", layers
    if any(rule.any for rule in _rules(shaping.cleaning)):
        layers = _trace(clean_classes(classes, legend, shaping.cleaning, gsd_m=gsd_m), legend)
        yield "cleaned", layers
    if shaping.separate_depth:
        yield "separated", [_separated(layer, probabilities, shaping, gsd_m=gsd_m) for layer in layers]


def _outlined(labels: np.ndarray, channels: np.ndarray) -> _Layer:
    """Trace regions; polygons come in the order of their numbers."""
    polygons, values = outlines(labels)
    return _Layer(labels, channels, polygons[np.argsort(values, kind="stable")])


def _separated(layer: _Layer, probabilities: np.ndarray | None, shaping: Shaping, *, gsd_m: float) -> _Layer:
    """Cut objects that have grown together, class by class."""
    labels, channels = np.zeros_like(layer.labels), np.zeros(0, np.int64)
    class_of = np.append(-1, layer.channels)[layer.labels]
    for channel in np.unique(layer.channels).tolist():
        mask = class_of == channel
        if shaping.separate_by == "probability" and probabilities is not None:
            scale = np.iinfo(probabilities.dtype).max if probabilities.dtype.kind == "u" else 1
            found = separate(mask, depth=shaping.separate_depth, surface=probabilities[..., channel] / scale)
        else:
            found = separate(mask, depth=shaping.separate_depth / gsd_m)
        np.copyto(labels, found + np.int32(len(channels)), where=found > 0)
        channels = np.concatenate([channels, np.full(int(found.max(initial=0)), channel)])
    return _outlined(labels, channels)


def _to_plane(layer: _Layer, plane: np.ndarray) -> np.ndarray:
    return np.asarray(shapely.transform(layer.polygons, lambda points: points @ plane), dtype=object)


def _simplified(layer: _Layer, plane: np.ndarray, tolerance_m: float) -> _Layer:
    return _changed(layer, simplify(_to_plane(layer, plane), tolerance=tolerance_m), plane)


def _squared(layer: _Layer, otherwise: _Layer, plane: np.ndarray, shaping: Shaping) -> tuple[_Layer, np.ndarray]:
    """Square a layer's outlines; those that can't be squared become what they are otherwise."""
    height, width = layer.labels.shape
    polygons, squared = regularise(
        _to_plane(layer, plane),
        tolerance=TOLERANCE_PX * float(np.sqrt(abs(np.linalg.det(plane)))),
        min_iou=shaping.min_iou,
        otherwise=_to_plane(otherwise, plane),
        frame=np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ plane,
    )
    return _changed(layer, polygons, plane), squared


def _changed(layer: _Layer, polygons: np.ndarray, plane: np.ndarray) -> _Layer:
    """The same objects with other polygons, given in the ground plane."""
    back = np.linalg.inv(plane)
    moved = shapely.transform(polygons, lambda points: points @ back)
    return _Layer(layer.labels, layer.channels, np.asarray(moved, dtype=object))


def _step(name: str, layers: list[_Layer], classes: np.ndarray, legend: Legend) -> Step:
    """Count what there is, and draw it again to compare it with the classes."""
    both = either = 0
    for channel, id_ in enumerate(legend.ids):
        given = classes == id_ if classes.ndim == 2 else classes[..., channel] != 0
        layer = layers[0 if classes.ndim == 2 else channel]
        drawn = rasterise(layer.polygons[layer.channels == channel].tolist(), *given.shape) > 0
        both += int(np.count_nonzero(drawn & given))
        either += int(np.count_nonzero(drawn | given))
    polygons = np.concatenate([layer.polygons for layer in layers])
    rings = int(shapely.get_num_interior_rings(polygons).sum()) + len(polygons)
    vertices = int(shapely.get_num_coordinates(polygons).sum()) - rings
    return Step(name, len(polygons), vertices, both / either if either else 1.0)


def _describe(layer: _Layer, grid: Grid, plane: np.ndarray, probabilities: np.ndarray | None) -> dict[str, np.ndarray]:
    """All columns but the names of classes."""
    said = None
    if probabilities is not None:
        # Of each pixel, what was said of its own class.
        channel = np.append(0, layer.channels)[layer.labels]
        said = np.take_along_axis(probabilities, channel[..., None], axis=-1)[..., 0]
    return measure_regions(layer.labels, said) | {
        "channel": layer.channels,
        "orientation_deg": orientations(_to_plane(layer, plane)),
        "geometry": place(layer.polygons, grid),
    }


def _frame(
    tables: list[dict[str, np.ndarray]], squared: list[np.ndarray], grid: Grid, legend: Legend
) -> geopandas.GeoDataFrame:
    table = {name: np.concatenate([part[name] for part in tables]) for name in tables[0]}
    table["right_angles"] = np.concatenate(squared)
    order = np.argsort(table["channel"], kind="stable")
    table = {name: values[order] for name, values in table.items()}
    channels, geometry = table["channel"], table["geometry"]
    columns: dict[str, Any] = {
        "class_id": np.asarray(legend.ids, np.int32)[channels],
        "class": pd.Series(np.asarray(legend.names, object)[channels], dtype="str"),
        "area_m2": true_areas(geometry, grid.crs),
        "perimeter_m": true_perimeters(geometry, grid.crs),
    }
    for name in ("area_px", "mean_probability", "min_probability", "orientation_deg", "right_angles", "touches_edge"):
        columns[name] = table[name]
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=grid.crs)
