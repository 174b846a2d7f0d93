"""Features: the chain from classes to map features that need no redrawing, with what each step saves and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely

from satmask.attributes import ground_plane, orientations, true_perimeters
from satmask.cleaning import Cleaning, clean_classes, compose
from satmask.decisions import Decision
from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.masks import rasterise
from satmask.polygons import channel_labels, own_probabilities, place, true_areas
from satmask.refinements import Refinement
from satmask.shaping import Objects, Shaper, Shaping
from satmask.strips import STRIP_PX, Decided, Rule
from satmask.vectorise import Tracer
from satmask.windows import Window

__all__ = ["Features", "Shaping", "Step", "Steps", "find_features", "shaping_of", "stream_features"]

# Classes of a window, and probabilities or None; see `find_features` for what they may be.
Read = Callable[[Window], "tuple[np.ndarray, np.ndarray | None]"]


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
            ellipsoid; NaN without a CRS), `area_px` (of the mask, int64), `mean_probability`, `min_probability` and `score`,
            the mean again (NaN without probabilities), `orientation_deg` (bearing of the longer side, 0 to 180),
            `right_angles` and
            `touches_edge` (bool), and `geometry` in the grid's CRS.
        steps: The steps that were taken, tracing first.
    """

    frame: geopandas.GeoDataFrame
    steps: tuple[Step, ...]


class Steps:
    """Adds up what each step makes of features while they come.

    Args:
        drawing: Whether anything is added up: everything is drawn again for it.

    Examples:
        >>> steps, mask = Steps(drawing=True), np.eye(2, dtype=np.uint8)
        >>> frames = stream_features(lambda at: (mask[at.slices], None), Grid(2, 2), Legend.of(["house"]), steps=steps)
        >>> sum(map(len, frames)), [step.to_dict() for step in steps.told()]
        (2, [{'name': 'traced', 'polygons': 2, 'vertices': 8, 'iou': 1.0}])
    """

    def __init__(self, *, drawing: bool = False) -> None:
        self.drawing = drawing
        self._counts: dict[str, list[int]] = {}
        self._given = 0
        self._names = ["traced"]
        self._told: tuple[Step, ...] = ()

    def told(self) -> tuple[Step, ...]:
        """The steps that were taken; complete when all features have come."""
        if self._told:
            return self._told
        told = []
        for name in self._names:
            polygons, vertices, both, drawn = self._counts.get(name, [0, 0, 0, 0])
            union = self._given + drawn - both
            told.append(Step(name, polygons, vertices, both / union if union else 1.0))
        return tuple(told)

    def adopt(self, steps: Sequence[Step]) -> None:
        """Take over steps that were told elsewhere."""
        self._told = tuple(steps)

    def take(self, shaping: Shaping) -> None:
        """Name the steps, in their order."""
        taken = {
            "cleaned": shaping.cleans, "separated": shaping.parts, "simplified": shaping.simplify_m, "squared": shaping.square,
        }  # fmt: skip
        self._names = ["traced", *(name for name, is_taken in taken.items() if is_taken)]

    def count(self, name: str, polygons: np.ndarray) -> None:
        """Count polygons and their vertices."""
        if name in self._names:
            rings = int(shapely.get_num_interior_rings(polygons).sum()) + len(polygons)
            self._add(name, len(polygons), int(shapely.get_num_coordinates(polygons).sum()) - rings, 0, 0)

    def cover(self, name: str, both: int, drawn: int) -> None:
        """Count pixels: those of the polygons, and those of them that have the class as it was given."""
        if name == "traced":
            self._given += drawn
        if name in self._names:
            self._add(name, 0, 0, both, drawn)

    def _add(self, name: str, *counts: int) -> None:
        self._counts[name] = [one + other for one, other in zip(self._counts.get(name, [0] * 4), counts, strict=True)]


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

    Examples:
        >>> features = find_features(np.eye(2, dtype=np.uint8), Grid(2, 2), Legend.of(["house"]))
        >>> [(step.name, step.polygons, step.vertices, step.iou) for step in features.steps]
        [('traced', 2, 8, 1.0)]
    """
    _check(classes, grid, legend, probabilities)

    def read(window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        return classes[window.slices], None if probabilities is None else probabilities[window.slices]

    steps = Steps(drawing=True)
    found = [*_stream(read, grid, legend, shaping or Shaping(), steps=steps, rows=None, whole=classes)]
    return Features(_frame(Objects.join(found).sorted(), grid, legend), steps.told())


def stream_features(
    read: Read,
    grid: Grid,
    legend: Legend,
    *,
    shaping: Shaping | None = None,
    rows: int | None = None,
    steps: Steps | None = None,
) -> Iterator[geopandas.GeoDataFrame]:
    """Turn the classes of a scene of any size into map features.

    Memory is bounded by a strip of the scene, by the largest object that is to be parted, and by the outlines of what isn't
    complete yet: objects that go on below, and those that touch or nearly touch one that does.

    Args:
        read: Gives classes of a window, and what the network said, as `find_features` takes them. Classes that exclude each
            other can't be cleaned in a stream.
        grid: Where the pixels lie.
        legend: The classes.
        shaping: What is done; nothing by default.
        rows: Rows of a strip.
        steps: Told of each step.

    Yields:
        Features that are complete after each strip, the columns of `Features.frame`. Together they are those of
        `find_features`, in another order, whatever the strips.

    Raises:
        SettingError: If shapes don't agree, or something is asked that isn't possible.
    """
    for found in _stream(read, grid, legend, shaping or Shaping(), steps=steps, rows=rows):
        yield _frame(found.sorted(), grid, legend)


def _stream(
    read: Read,
    grid: Grid,
    legend: Legend,
    shaping: Shaping,
    *,
    steps: Steps | None,
    rows: int | None,
    whole: np.ndarray | None = None,
) -> Iterator[Objects]:
    """Find features strip by strip; `whole` are the classes, where they are in memory."""
    rows = rows or max(STRIP_PX // grid.width, 1)
    layers = _first_look(read, legend, shaping)
    steps = steps or Steps()
    steps.take(shaping)
    clean = _cleaned(read, grid, legend, shaping, rows=rows, whole=whole) if shaping.cleans else read
    make = partial(Shaper, shaping, legend.ids, ground_plane(grid), grid.shape, said=lambda at: read(at)[1])
    shapers = [make(told=_told(steps, read, layer, grid.shape)) for layer in layers]
    tracers, raw = ([Tracer(grid.width) for _ in layers] for _ in range(2))
    for top in range(0, grid.height, rows):
        window = Window(top, 0, min(rows, grid.height - top), grid.width)
        classes, said = clean(window)
        if steps.drawing:
            _count_strip(steps, read(window)[0], classes, layers, raw if shaping.cleans else [])
        for layer, tracer, shaper in zip(layers, tracers, shapers, strict=True):
            labels = layer(classes)
            traced = tracer.add(labels, None if said is None else own_probabilities(said, labels))
            yield shaper.add(traced, tracer.open_row)
    for tracer, shaper in zip(tracers, shapers, strict=True):
        yield shaper.add(tracer.finish(), None)
    for tracer in raw if steps.drawing and shaping.cleans else []:
        steps.count("traced", tracer.finish().polygons)


def _first_look(read: Read, legend: Legend, shaping: Shaping) -> list[Layer]:
    """The layers of a scene, by what its first pixel says."""
    classes, said = read(Window(0, 0, 1, 1))
    if shaping.parts and shaping.separate_by == "probability" and said is None:
        msg = "Objects must come with probabilities to be parted by them, got none. Part them by distance."
        raise SettingError(msg)
    return _layers(classes, legend)


def shaping_of(decision: Decision, grid: Grid) -> Shaping:
    """What a decision leaves to polygons: objects that are parted, and where classes exclude each other, small ones dropped.

    Args:
        decision: How probabilities become classes.
        grid: Where the pixels lie.

    Examples:
        >>> decision = Decision(Legend.of(["house"]), refinements=(Refinement("house", separate_px=2),))
        >>> shaping_of(decision, Grid(2, 2)).depth(1), shaping_of(Decision(Legend.of(["house"])), Grid(2, 2)).parts
        (2.0, False)
    """
    side, legend = float(np.sqrt(abs(np.linalg.det(ground_plane(grid))))), decision.legend
    depths = dict(zip(legend.ids, (decision.depths_px(grid.gsd_m) * side).tolist(), strict=True))
    smallest = dict(zip(legend.ids, decision.smallest_px(grid.gsd_m).tolist(), strict=True)) if legend.exclusive else {}
    return Shaping(separate_depth=depths, smallest_px={id_: least for id_, least in smallest.items() if least})


# Labels of a layer, channels counted from 1, of a window's classes.
Layer = Callable[[np.ndarray], np.ndarray]


def _layers(classes: np.ndarray, legend: Legend) -> list[Layer]:
    """One layer, or one a class where classes overlap."""
    if classes.ndim == 2:
        return [lambda values: channel_labels(values, legend)]
    dtype = np.min_scalar_type(len(legend))
    return [partial(_one, channel=channel, dtype=dtype) for channel in range(len(legend))]


def _one(classes: np.ndarray, *, channel: int, dtype: np.dtype[Any]) -> np.ndarray:
    return np.asarray((classes[..., channel] != 0) * dtype.type(channel + 1))


def _cleaned(read: Read, grid: Grid, legend: Legend, shaping: Shaping, *, rows: int, whole: np.ndarray | None) -> Read:
    """Classes as cleaning leaves them."""
    gsd_m = float(np.sqrt(abs(np.linalg.det(ground_plane(grid)))))
    cleaning = shaping.cleaning
    given = dict.fromkeys(legend.ids, cleaning) if isinstance(cleaning, Cleaning) else dict(cleaning)
    by_id = read(Window(0, 0, 1, 1))[0].ndim == 2
    if by_id and legend.exclusive:
        # What is taken from a class goes to the nearest pixel's, however far that is.
        if whole is None:
            msg = "Classes that exclude each other must be cleaned as a whole, got a stream. Use find_features."
            raise SettingError(msg)
        done = clean_classes(whole, legend, given, gsd_m=gsd_m)
        return lambda window: (done[window.slices], read(window)[1])
    for id_ in given:
        legend.channel(id_)
    rules = [_rule(entry.name, given.get(entry.id, Cleaning()), gsd_m) for entry in legend]

    def masks(window: Window) -> np.ndarray:
        classes = read(window)[0]
        return np.stack([classes == id_ for id_ in legend.ids], axis=-1) if by_id else classes != 0

    decided = Decided(masks, grid.shape, legend, rules, gsd_m=gsd_m, rows=rows)

    def clean(window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        classes, said = read(window)
        kept = decided.read(window)
        return compose(classes, kept, legend) if by_id else kept, said

    return clean


def _rule(name: str, cleaning: Cleaning, gsd_m: float) -> Rule:
    refinement = Refinement(
        name, open_m=cleaning.opening_m, close_m=cleaning.closing_m, min_hole_m2=cleaning.min_hole_m2
    )
    return Rule(refinement, cleaning.min_area_m2 / gsd_m**2)


def _count_strip(
    steps: Steps, given: np.ndarray, classes: np.ndarray, layers: Sequence[Layer], raw: Sequence[Tracer]
) -> None:
    """Count the pixels of a strip, and what would be traced without cleaning."""
    for layer, tracer in zip(layers, raw, strict=False):
        steps.count("traced", tracer.add(layer(given)).polygons)
    for layer in layers:
        before, after = layer(given), layer(classes)
        pixels, both = int(np.count_nonzero(before)), int(np.count_nonzero((before == after) & (after > 0)))
        steps.cover("traced", pixels, pixels)
        for name in ("cleaned", "separated"):
            steps.cover(name, both, int(np.count_nonzero(after)))


def _told(steps: Steps, read: Read, layer: Layer, shape: tuple[int, int]) -> Callable[[str, Objects], None]:
    """What a shaper tells: counts, and what polygons cover when they are drawn again."""

    def told(name: str, objects: Objects) -> None:
        if not steps.drawing or not len(objects):
            return
        steps.count(name, objects.polygons)
        if name not in ("simplified", "squared"):
            return
        for at, window in _boxes(objects, shape):
            corner = np.array([window.column, window.row])
            mine = np.asarray(shapely.transform(objects.polygons[at], partial(_from, corner)), dtype=object)
            values = (objects.channels[at] + 1).tolist()
            drawn = rasterise(mine.tolist(), window.height, window.width, values=values)
            given = layer(read(window)[0])
            steps.cover(name, int(np.count_nonzero((drawn == given) & (drawn > 0))), int(np.count_nonzero(drawn)))

    return told


def _frame(objects: Objects, grid: Grid, legend: Legend) -> geopandas.GeoDataFrame:
    """All columns; rows as the objects come."""
    geometry, plane = place(objects.polygons, grid), ground_plane(grid)
    metres = np.asarray(shapely.transform(objects.polygons, lambda points: points @ plane), dtype=object)
    columns: dict[str, Any] = {
        "class_id": np.asarray(legend.ids, np.int32)[objects.channels],
        "class": pd.Series(np.asarray(legend.names, object)[objects.channels], dtype="str"),
        "area_m2": true_areas(geometry, grid.crs),
        "perimeter_m": true_perimeters(geometry, grid.crs),
        "area_px": objects.areas_px,
        "mean_probability": objects.means,
        "min_probability": objects.minima,
        "score": objects.means,
        "orientation_deg": orientations(metres),
        "right_angles": objects.squared,
        "touches_edge": objects.at_edge,
    }
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=grid.crs)


def _check(classes: np.ndarray, grid: Grid, legend: Legend, probabilities: np.ndarray | None) -> None:
    shape = (*grid.shape, len(legend))
    if classes.shape not in (grid.shape, shape):
        msg = f"Classes must have the shape {grid.shape} or {shape}, got {classes.shape}."
        raise SettingError(msg)
    if probabilities is not None and probabilities.shape != shape:
        msg = f"Probabilities must have the shape {shape}, got {probabilities.shape}."
        raise SettingError(msg)


def _from(corner: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points - corner)


def _boxes(objects: Objects, shape: tuple[int, int]) -> Iterator[tuple[np.ndarray, Window]]:
    """Group objects into windows to be drawn in, none much larger than a strip unless an object is."""
    bounds = shapely.bounds(objects.polygons)
    low, high = np.floor(bounds[:, :2]).astype(np.int64), np.ceil(bounds[:, 2:]).astype(np.int64)
    low, high = np.clip(low, 0, shape[::-1]), np.clip(high, 0, shape[::-1])
    group = np.arange(len(objects))
    if np.prod(high.max(axis=0) - low.min(axis=0)) <= STRIP_PX:
        group[:] = 0
    for number in np.unique(group):
        mine = np.flatnonzero(group == number)
        (left, top), (right, bottom) = low[mine].min(axis=0).tolist(), high[mine].max(axis=0).tolist()
        if right > left and bottom > top:
            yield mine, Window(top, left, bottom - top, right - left)
