"""Shaping: objects parted, simplified and squared as they become known, whatever the strips they come in.

Objects near one another are shaped together, in clusters: what lies farther apart than twice the distance by which outlines
may move can't meet. A cluster is shaped as soon as nothing can join it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import shapely

from satmask.cleaning import Cleaning
from satmask.errors import SettingError
from satmask.masks import rasterise
from satmask.regularisation import regularise
from satmask.separation import separate
from satmask.simplification import match_borders, simplify
from satmask.vectorise import Traced, trace
from satmask.vectorise.linking import connect
from satmask.windows import Window

# How far walls may lie from an outline's corners, in pixels: a staircase of pixels strays by less.
TOLERANCE_PX = 1.5
# How far squared outlines may move, in pixels; and simplified ones, in tolerances.
SQUARED_PX = 8.0
SIMPLIFIED = 4.0
# Objects that are near one another are parted together: drawing each by itself costs more. So many pixels are drawn at once at
# most, and so many times what the objects' boxes hold, unless it is hardly anything.
TOGETHER_PX = 1 << 21
EMPTY = 8
LITTLE_PX = 1 << 18


@dataclass(frozen=True)
class Shaping:
    """What is done to classes and their outlines, in this order; nothing by default.

    Attributes:
        cleaning: What is too small to be true; for all classes, or for some by id.
        separate_by: What parts objects that touch: the "distance" from their edge, or the "probability".
        separate_depth: How far that has to fall between two objects: in metres, or as a probability; 0 parts nothing. For
            all classes, or for some by id.
        simplify_m: Tolerance of `simplification.simplify`, in metres.
        square: Whether outlines get right angles where the mask supports them.
        min_iou: Least IoU of a squared outline with the object's mask.
        smallest_px: Pixels from which a group is kept, before it is parted; for some classes by id. Unlike with cleaning,
            what is dropped goes to no other class.

    Raises:
        SettingError: If a number is out of range.
    """

    cleaning: Cleaning | Mapping[int, Cleaning] = field(default_factory=Cleaning)
    separate_by: Literal["distance", "probability"] = "distance"
    separate_depth: float | Mapping[int, float] = 0.0
    simplify_m: float = 0.0
    square: bool = False
    min_iou: float = 0.85
    smallest_px: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        depths = self.separate_depth.values() if isinstance(self.separate_depth, Mapping) else [self.separate_depth]
        given = [("separate_depth", depth, np.inf) for depth in depths]
        for name, value, most in (*given, ("simplify_m", self.simplify_m, np.inf), ("min_iou", self.min_iou, 1.0)):
            if not 0 <= value <= most:
                msg = f"Shaping must have {name} from 0 to {most:g}, got {value}."
                raise SettingError(msg)

    def depth(self, id_: int) -> float:
        """The depth at which objects of a class are parted."""
        return self.separate_depth.get(id_, 0.0) if isinstance(self.separate_depth, Mapping) else self.separate_depth

    @property
    def parts(self) -> bool:
        """Whether objects are parted."""
        return bool(
            any(self.separate_depth.values()) if isinstance(self.separate_depth, Mapping) else self.separate_depth
        )

    @property
    def plain(self) -> bool:
        """Whether nothing is done at all."""
        return not (self.cleans or self.parts or self.simplify_m or self.square or self.smallest_px)

    @property
    def cleans(self) -> bool:
        """Whether masks are cleaned."""
        rules = (self.cleaning,) if isinstance(self.cleaning, Cleaning) else self.cleaning.values()
        return any(rule.any for rule in rules)


@dataclass(frozen=True)
class Objects:
    """Objects, one entry each.

    Attributes:
        polygons: shapely polygons in pixels.
        channels: Channel of each, int64, `(objects,)`.
        areas_px: Pixels, int64.
        means: Mean probability, float64; NaN without probabilities.
        minima: Smallest probability, float64.
        firsts: Row and column of the first vertex in raster order, float64, `(objects, 2)`.
        bottoms: The row behind the last one, float64.
        at_edge: Whether each touches the scene's edge, bool.
        squared: Whether each has got right angles, bool.
    """

    polygons: np.ndarray
    channels: np.ndarray
    areas_px: np.ndarray
    means: np.ndarray
    minima: np.ndarray
    firsts: np.ndarray
    bottoms: np.ndarray
    at_edge: np.ndarray
    squared: np.ndarray

    @classmethod
    def of(cls, traced: Traced, shape: tuple[int, int]) -> Objects:
        """Take what was traced for objects; labels are channels counted from 1."""
        polygons = traced.polygons
        left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T
        at_edge = (left <= 0) | (top <= 0) | (right >= shape[1]) | (bottom >= shape[0])
        return cls(
            polygons,
            traced.labels - 1,
            traced.areas_px,
            traced.means,
            traced.minima,
            _firsts(polygons),
            bottom,
            at_edge,
            np.zeros(len(polygons), bool),
        )

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.polygons)

    def take(self, chosen: np.ndarray) -> Objects:
        """Some of the objects, or all in another order."""
        return Objects(*(column[chosen] for column in vars(self).values()))

    @classmethod
    def join(cls, parts: Sequence[Objects]) -> Objects:
        """Put lists of objects one behind another; there must be one."""
        return cls(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))

    def sorted(self) -> Objects:
        """In the order of their channels, then of their first vertices."""
        return self.take(np.lexsort((self.firsts[:, 1], self.firsts[:, 0], self.channels)))


def _firsts(polygons: np.ndarray) -> np.ndarray:
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    order = np.lexsort((points[:, 0], points[:, 1], owner))
    starts = np.unique(owner[order], return_index=True)[1]
    return points[order][starts][:, ::-1]


def _groups(boxes: np.ndarray, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """Put objects together that lie near one another, by their boxes: left, top, right, bottom."""
    places, areas = boxes[chosen, :2] // int(TOGETHER_PX**0.5), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    group: list[int] = []
    frame, filled = boxes[:1].ravel(), 0
    for at in chosen[np.lexsort((places[:, 0], places[:, 1]))].tolist():
        low, high = np.minimum(frame[:2], boxes[at, :2]), np.maximum(frame[2:], boxes[at, 2:])
        if group and np.prod(high - low) > min(TOGETHER_PX, max(EMPTY * (filled + areas[at]), LITTLE_PX)):
            yield np.array(group)
            group, filled = [], 0
        frame = np.concatenate([low, high]) if group else boxes[at]
        group.append(at)
        filled += areas[at]
    if group:
        yield np.array(group)


# Probabilities of a window, `(height, width, classes)`, or None.
Said = Callable[[Window], "np.ndarray | None"]
# Told of the name of a step, and of objects with their polygons as it left them.
Told = Callable[[str, Objects], None]


class Shaper:
    """Shapes the objects of one layer, which don't overlap.

    Args:
        shaping: What is done.
        ids: Class ids by channel.
        plane: See `satmask.attributes.ground_plane`.
        shape: `(height, width)` of the scene.
        said: Gives probabilities.
        told: Called after each step.
    """

    def __init__(
        self,
        shaping: Shaping,
        ids: Sequence[int],
        plane: np.ndarray,
        shape: tuple[int, int],
        *,
        said: Said,
        told: Told = lambda *_: None,
    ) -> None:
        self._shaping, self._ids, self._plane, self._shape, self._said, self._told = (
            shaping,
            ids,
            plane,
            shape,
            said,
            told,
        )
        self._gsd_m = float(np.sqrt(abs(np.linalg.det(plane))))
        squared = SQUARED_PX * self._gsd_m if shaping.square else 0.0
        self._reach_m = max(SIMPLIFIED * shaping.simplify_m, squared)
        self._waiting: list[Objects] = []
        self._asked = -1

    def add(self, traced: Traced, open_row: int | None) -> Objects:
        """Take complete objects, and give those that are shaped.

        Args:
            traced: The objects.
            open_row: Objects that come later lie in this row or below; None where none come.

        Returns:
            Objects; those that wait for others come later.
        """
        found = self._large(Objects.of(traced, self._shape))
        self._told("cleaned" if self._shaping.cleans else "traced", found)
        found = self._parted(found)
        self._told("separated", found)
        if not (self._shaping.simplify_m or self._shaping.square):
            return found
        self._waiting.append(found)
        if open_row is not None and open_row <= self._asked:
            return found.take(np.zeros(0, np.int64))
        self._asked = -1 if open_row is None else open_row
        waiting = Objects.join(self._waiting)
        done = self._closed(waiting, open_row)
        self._waiting = [waiting.take(~done)]
        return self._shaped(waiting.take(done).sorted())

    def _large(self, objects: Objects) -> Objects:
        """Leave out what is too small."""
        if not self._shaping.smallest_px:
            return objects
        smallest = np.array([self._shaping.smallest_px.get(id_, 0.0) for id_ in self._ids])
        return objects.take(objects.areas_px >= smallest[objects.channels])

    def _closed(self, objects: Objects, open_row: int | None) -> np.ndarray:
        """Tell which objects are in clusters that nothing can join any more, bool."""
        if open_row is None or not len(objects):
            return np.ones(len(objects), bool)
        # Metres between rows, measured across them.
        step_m = abs(np.linalg.det(self._plane)) / float(np.hypot(*self._plane[0]))
        late = (open_row - objects.bottoms) * step_m <= 2 * self._reach_m
        outlines_m = self._to_plane(objects.polygons)
        one, other = shapely.STRtree(outlines_m).query(outlines_m, predicate="dwithin", distance=2 * self._reach_m)
        cluster = connect(len(objects), one, other)
        open_ = np.zeros(len(objects), bool)
        open_[cluster[late]] = True
        return np.asarray(~open_[cluster])

    def _shaped(self, objects: Objects) -> Objects:
        """Simplify and square whole clusters, layer by layer."""
        raw = self._to_plane(objects.polygons)
        left = raw
        if self._shaping.simplify_m and len(raw):
            left = self._simplified(raw)
            objects = self._changed(objects, left)
        self._told("simplified", objects)
        if self._shaping.square and len(raw):
            height, width = self._shape
            polygons, squared = regularise(
                raw,
                tolerance=TOLERANCE_PX * self._gsd_m,
                min_iou=self._shaping.min_iou,
                otherwise=left,
                frame=np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ self._plane,
                reach=self._reach_m,
            )
            objects = replace(self._changed(objects, polygons), squared=squared)
        self._told("squared", objects)
        return objects

    def _simplified(self, raw: np.ndarray) -> np.ndarray:
        """Simplify; clusters in which an outline moved too far keep their outlines."""
        simple = simplify(raw, tolerance=self._shaping.simplify_m)
        far = shapely.hausdorff_distance(raw, simple) > self._reach_m
        if far.any():
            one, other = shapely.STRtree(raw).query(raw, predicate="dwithin", distance=2 * self._reach_m)
            cluster = connect(len(raw), one, other)
            kept = np.isin(cluster, cluster[far])
            simple[kept] = match_borders(raw[kept], near=1e-6 * self._shaping.simplify_m)
        return simple

    def _parted(self, objects: Objects) -> Objects:
        """Cut objects that have grown together."""
        if not self._shaping.parts or not len(objects):
            return objects
        whole, found = np.ones(len(objects), bool), []
        by_distance = self._shaping.separate_by == "distance"
        boxes = shapely.bounds(objects.polygons).astype(np.int64)
        narrowest = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        for channel in np.unique(objects.channels).tolist():
            depth = self._shaping.depth(self._ids[channel]) / (self._gsd_m if by_distance else 1)
            if not depth:
                continue
            narrow = (narrowest - 1) / 2 < depth
            chosen = (objects.channels == channel) & ~(by_distance & narrow & ~objects.at_edge)
            for members in _groups(boxes, np.flatnonzero(chosen)):
                cut, parts = self._cut(objects.polygons[members], channel, depth, by_distance=by_distance)
                whole[members[cut]] = False
                found.append(parts)
        return Objects.join([objects.take(whole), *found])

    def _cut(
        self, polygons: np.ndarray, channel: int, depth: float, *, by_distance: bool
    ) -> tuple[np.ndarray, Objects]:
        """Which objects of a class are several, bool, and the parts of these."""
        left, top, right, bottom = (int(side) for side in shapely.total_bounds(polygons))
        # A pixel more, but not beyond the scene.
        top, left = max(top - 1, 0), max(left - 1, 0)
        bottom, right = min(bottom + 1, self._shape[0]), min(right + 1, self._shape[1])
        window = Window(top, left, bottom - top, right - left)
        moved = shapely.transform(polygons, lambda points: points - (left, top))
        drawn = rasterise(list(moved), window.height, window.width, values=range(1, len(polygons) + 1))
        surface = None if by_distance else self._own(window, channel)
        if surface is not None and surface.dtype.kind == "u":
            surface = surface / np.iinfo(surface.dtype).max
        labels = separate(drawn > 0, depth=depth, surface=surface)
        owners = np.zeros(int(labels.max()) + 1, np.int64)
        owners[labels] = drawn
        cut = np.bincount(owners, minlength=len(polygons) + 1) > 1
        cut[0] = False
        parts = trace(np.where(cut[drawn], labels, 0), self._own(window, channel) if cut.any() else None)
        placed = np.asarray(
            shapely.transform(parts.polygons, lambda points: points + np.array([left, top])), dtype=object
        )
        labelled = replace(parts, polygons=placed, labels=np.full(len(parts), channel + 1))
        return cut[1:], Objects.of(labelled, self._shape)

    def _own(self, window: Window, channel: int) -> np.ndarray | None:
        """What the network said of one class."""
        said = self._said(window)
        return None if said is None else said[..., channel]

    def _to_plane(self, polygons: np.ndarray) -> np.ndarray:
        return np.asarray(shapely.transform(polygons, lambda points: points @ self._plane), dtype=object)

    def _changed(self, objects: Objects, polygons: np.ndarray) -> Objects:
        """The same objects with other polygons, given in the ground plane."""
        back = np.linalg.inv(self._plane)
        moved = shapely.transform(polygons, lambda points: points @ back)
        return replace(objects, polygons=np.asarray(moved, dtype=object))
