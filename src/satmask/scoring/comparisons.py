"""A prediction and its truth side by side: masks to compare, and objects, whatever the two are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import shapely
from affine import Affine
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from satmask.datasets.repair import polygonal, repair
from satmask.datasets.scenes import read_labels
from satmask.grid import Grid
from satmask.labels import Labels, PolygonLabels
from satmask.legend import Legend
from satmask.masks import outlines
from satmask.scene import Scene
from satmask.scoring.boundaries import RATIO, BoundaryScore, boundary_distance, score_boundaries
from satmask.scoring.matching import Matching
from satmask.scoring.objects import ObjectScore, score_objects
from satmask.scoring.rasters import Reader, id_reader, windows_of
from satmask.windows import Window

Objects: TypeAlias = dict[int, list[BaseGeometry]]


@dataclass(frozen=True, eq=False)
class Masks:
    """Truth and prediction of a window.

    Attributes:
        truth: One mask a class, bool, `(height, width, classes)`.
        predicted: The same of the prediction.
        known: Where something was predicted, bool, `(height, width)`.
        counted: Where the truth is known, too, bool, `(height, width)`.
    """

    truth: np.ndarray
    predicted: np.ndarray
    known: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """A prediction and its truth, on one grid; which pixels count is what `satmask.scoring.pixels.confusion` says.

    Attributes:
        prediction: Raster of class ids, or the probabilities that predict wrote.
        truth: Labels, or a raster of class ids.
        legend: The classes.
        mapping: Class id of other ids: in the truth if that is a raster, else in the prediction.
        bounds: West, south, east and north in degrees, where they are known but not from the prediction.
        polygons: Vector file of the predicted objects; by default the prediction's are traced.
    """

    prediction: Path
    truth: Labels | Path
    legend: Legend
    mapping: Mapping[int, int] = field(default_factory=dict)
    bounds: tuple[float, float, float, float] | None = None
    polygons: Path | None = None

    @contextmanager
    def reader(self) -> Iterator[tuple[Grid, Callable[[Window], Masks]]]:
        """Open what there is to read, and give its grid and a function that reads a window."""
        with ExitStack() as stack:
            said = stack.enter_context(Scene(self.prediction))
            true = stack.enter_context(Scene(self.truth)) if isinstance(self.truth, Path) else None
            read_said = id_reader(said, self.legend, {} if true else self.mapping)
            read_true = id_reader(true, self.legend, self.mapping) if true else None
            yield said.grid, lambda window: self._read(window, read_said, read_true)

    def _read(self, window: Window, read_said: Reader, read_true: Reader | None) -> Masks:
        predicted, known = read_said(window)
        known = known & self._labelled(predicted)
        if read_true is not None:
            values, labelled = read_true(window)
            labelled = labelled & self._labelled(values)
        else:
            assert not isinstance(self.truth, Path)  # noqa: S101  # for the type checker: a path was opened
            found = self.truth.read(window)
            values, labelled = found.classes, found.labelled
        truth = self._masks(values)
        if self.legend.exclusive:
            labelled = labelled & (truth.sum(axis=-1) == 1)
        return Masks(truth, self._masks(predicted), known, known & labelled)

    def _masks(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values != 0 if values.ndim == 3 else values[..., None] == np.asarray(self.legend.ids))

    def _labelled(self, values: np.ndarray) -> np.ndarray:
        return np.ones(values.shape[:2], bool) if values.ndim == 3 else np.asarray(values != self.legend.nodata)

    def gsd_m(self, grid: Grid) -> float | None:
        """Side of a pixel on the ground, in metres; None where nothing tells."""
        if grid.gsd_m is not None or self.bounds is None:
            return grid.gsd_m
        west, south, east, north = self.bounds
        step = Affine((east - west) / grid.width, 0, west, 0, (south - north) / grid.height, north)
        return Grid(grid.height, grid.width, step, CRS("OGC:CRS84")).gsd_m


def compare_boundaries(
    comparison: Comparison, *, ratio: float = RATIO, distance_px: int | None = None, distance_m: float | None = None
) -> BoundaryScore:
    """Count what prediction and truth share near their contours, window by window.

    Args:
        comparison: The two.
        ratio: How far from its contour a mask counts, as a share of the image's diagonal.
        distance_px: The same in pixels, instead.
        distance_m: The same in metres, instead.

    Returns:
        The counts.

    Raises:
        SettingError: If metres are asked of an image without a place on the ground.
        SceneError: If a file can't be read.
    """
    with comparison.reader() as (grid, read):
        gsd_m = comparison.gsd_m(grid)
        reach = distance_px or boundary_distance(grid.shape, ratio=ratio, distance_m=distance_m, gsd_m=gsd_m)
        total = BoundaryScore.empty(comparison.legend)
        for core in windows_of(grid):
            around = Window(core.row - reach, core.column - reach, core.height + 2 * reach, core.width + 2 * reach)
            around = around.clip(*grid.shape)
            masks = read(around)
            total += score_boundaries(
                masks.truth, masks.predicted, comparison.legend,
                distance_px=reach, valid=masks.counted, core=core.seen_from(around).slices,
            )  # fmt: skip
    return total


def compare_objects(comparison: Comparison, *, matching: Matching = "greedy") -> ObjectScore:
    """Score the objects of an image: true polygons where the truth has them, else groups of pixels that share edges.

    Predicted objects are such groups, or the polygons of a vector file. A class with id 0, the background, has no objects. The image is read whole: it needs
    two bytes a pixel and class.

    Args:
        comparison: Prediction and truth.
        matching: See `satmask.scoring.matching.match`.

    Returns:
        The counts.

    Raises:
        SceneError: If a file can't be read.
    """
    with comparison.reader() as (grid, read):
        truth, predicted = find_objects(grid, read, comparison)
        gsd_m = comparison.gsd_m(grid)
    return score_objects(truth, predicted, comparison.legend, shape=grid.shape, gsd_m=gsd_m, matching=matching)


def find_objects(grid: Grid, read: Callable[[Window], Masks], comparison: Comparison) -> tuple[Objects, Objects]:
    """Find true and predicted objects of each class, in pixel coordinates; what doesn't count is cut off.

    Args:
        grid: The image's grid.
        read: Reads a window.
        comparison: Where both come from.
    """
    legend = comparison.legend
    true, said = (np.zeros((*grid.shape, len(legend)), bool) for _ in range(2))
    known, counted = (np.zeros(grid.shape, bool) for _ in range(2))
    for window in windows_of(grid):
        masks, here = read(window), window.slices
        known[here] = masks.known
        true[here] = masks.truth & masks.counted[..., None]
        said[here] = masks.predicted & masks.counted[..., None]
        counted[here] = masks.counted
    drawn = _drawn(comparison, grid)
    predicted = _clipped(drawn, counted) if drawn else _traced(said, legend)
    if isinstance(comparison.truth, PolygonLabels):
        return _clipped(comparison.truth, known), predicted
    return _traced(true, legend), predicted


def _drawn(comparison: Comparison, grid: Grid) -> PolygonLabels | None:
    """The predicted polygons of a vector file, in pixel coordinates, with the channels of the comparison's legend."""
    if comparison.polygons is None:
        return None
    legend = comparison.legend
    # Labels say what the prediction's ids are called in the truth: its files hold its own.
    said = {} if isinstance(comparison.truth, Path) else {there: here for here, there in comparison.mapping.items()}
    reading = Legend.of({said.get(entry.id, entry.id): entry.name for entry in legend})
    labels, _ = read_labels(comparison.polygons, grid, reading)
    places = {name: place for place, name in enumerate(legend.names)}
    channels = [-1 if channel < 0 else places[reading.names[channel]] for channel in labels.channels]
    return PolygonLabels(legend, grid.shape, labels.geometries, channels)


def _traced(masks: np.ndarray, legend: Legend) -> Objects:
    """Outlines of groups of pixels, class by class."""
    return {
        id_: list(outlines(masks[..., channel].astype(np.int32))[0])
        for channel, id_ in enumerate(legend.ids)
        if id_ != 0
    }


def _clipped(labels: PolygonLabels, known: np.ndarray) -> Objects:
    """Polygons as far as they lie where something was predicted, and outside what is to be ignored."""
    height, width = known.shape
    inside: BaseGeometry = shapely.box(0, 0, width, height)
    if not known.all():
        inside = shapely.union_all(outlines(known.astype(np.int32))[0])
    ignored = [
        repair(shape).geometry for shape, channel in zip(labels.geometries, labels.channels, strict=True) if channel < 0
    ]
    if ignored:
        inside = shapely.difference(inside, shapely.union_all(ignored))
    shapely.prepare(inside)
    found: Objects = {id_: [] for id_ in labels.legend.ids if id_ != 0}
    for shape, channel in zip(labels.geometries, labels.channels, strict=True):
        listed = found.get(labels.legend.ids[channel]) if channel >= 0 else None
        whole = shape if shape.is_valid else repair(shape).geometry
        if listed is None or not shapely.intersects(inside, whole):
            continue
        parts = polygonal(whole if shapely.contains(inside, whole) else shapely.intersection(inside, whole))
        if parts:
            listed.append(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    return found
