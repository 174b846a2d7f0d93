"""Measuring: images with what a network said of them and their truth, and what a setting gets right on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from satmask.labels import PolygonLabels, draw
from satmask.prediction import decide
from satmask.refinements import refine
from satmask.separation import separate
from satmask.shapes import Shape, choose_objects
from satmask.tuning.settings import Choices, Setting
from satmask.tuning.tallies import ObjectTally, PixelTally
from satmask.windows import Window

if TYPE_CHECKING:
    from satmask.legend import Legend
    from satmask.model_info import ModelInfo

FOUND = 0.5
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class TrueObjects:
    """Objects of the truth, by their pixels; they may overlap.

    Attributes:
        pixels: Places in the raveled image, int64, object after object.
        owners: Object of each of these, int64.
        areas: Pixels of each object, int64; 0 where it holds no pixel's centre.
    """

    pixels: np.ndarray
    owners: np.ndarray
    areas: np.ndarray


class Image:
    """One image for tuning one class.

    Args:
        said: Gives what the network says, float32, `(classes, height, width)`.
        labels: The truth; a `satmask.labels.Labels`.
        info: The classes.
        at: The class's channel.
        shape: `(height, width)`.
        gsd_m: Side of a pixel in metres where sizes are on the ground, else None.
    """

    def __init__(
        self,
        said: Callable[[], np.ndarray],
        labels: object,
        info: ModelInfo,
        at: int,
        *,
        shape: tuple[int, int],
        gsd_m: float | None,
    ) -> None:
        self._said, self._labels, self._at, self._shape, self.gsd_m = said, labels, at, shape, gsd_m
        self._legend: Legend = info.legend
        self._thresholds = info.thresholds
        name = info.legend.names[at]
        self._shape_rule: Shape | None = next((shape for shape in info.shapes if shape.name == name), None)
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def pixel_tallies(self, settings: Sequence[Setting], choices: Choices) -> list[PixelTally]:
        """Count pixels for each setting."""
        truth, counted = self._truth
        true = truth & counted
        sizes = self._in_pixels(choices.areas)
        band, found, before = self._band(), list[PixelTally](), dict[object, np.ndarray]()
        for setting in settings:
            mask = self._mask(band, setting, choices)
            # Of masks that differ in their thresholds alone, one lies in the other: as many pixels, the same mask.
            key = (setting.plain, np.count_nonzero(mask))
            if key not in before:
                before[key] = _by_size(mask, true, counted, sizes)
            found.append(PixelTally(int(np.count_nonzero(true)), before[key]))
        return found

    def object_tallies(self, settings: Sequence[Setting], choices: Choices) -> list[ObjectTally]:
        """List objects for each setting."""
        _, counted = self._truth
        band, sizes = self._band(), self._in_pixels(choices.areas)
        return [self._objects(band, setting, choices, counted, sizes) for setting in settings]

    def _in_pixels(self, areas: Sequence[float]) -> np.ndarray:
        return np.asarray(areas) / (self.gsd_m**2 if self.gsd_m else 1.0)

    def _band(self) -> np.ndarray:
        """The class's probabilities; where classes exclude each other, 0 where another one is more probable."""
        said = self._said()
        band = np.asarray(said[self._at])
        if not self._legend.exclusive:
            return band
        chosen = decide(np.moveaxis(np.asarray(said), 0, -1), self._legend, self._thresholds)
        return np.where(chosen == self._legend.ids[self._at], np.maximum(band, np.float32(1e-30)), np.float32(0))

    def _mask(self, band: np.ndarray, setting: Setting, choices: Choices) -> np.ndarray:
        """Pixels of the class, small groups included."""
        # As decisions compare: in float32, NaN reaches no threshold.
        mask = band > 0 if setting.threshold is None else band >= np.float32(setting.threshold)
        rule = setting.refinement(choices.name, in_m2=choices.in_m2)
        return choose_objects(refine(mask, rule, gsd_m=self.gsd_m), 0, self._shape_rule)

    @property
    def _truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the class, and those that count, both bool; kept as bits."""
        if self._kept is None:
            truth = self._labels.read(Window(0, 0, *self._shape))  # type: ignore[attr-defined]  # Labels is a protocol
            counted = truth.labelled & ~np.isnan(self._said()[self._at])
            self._kept = np.packbits(truth.classes[..., self._at] != 0), np.packbits(counted)
        pixels = self._shape[0] * self._shape[1]
        one, other = (np.unpackbits(bits, count=pixels).reshape(self._shape).view(bool) for bits in self._kept)
        return one, other

    @cached_property
    def _true_objects(self) -> TrueObjects:
        labels = self._labels
        if isinstance(labels, PolygonLabels):
            mine = [
                shape for shape, channel in zip(labels.geometries, labels.channels, strict=True) if channel == self._at
            ]
            parts = [_pixels_of(shape, self._shape) for shape in mine]
        else:
            parts = _groups(self._truth[0])
        areas = np.array([len(part) for part in parts], np.int64)
        pixels = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return TrueObjects(pixels, np.repeat(np.arange(len(parts)), areas), areas)

    def _objects(
        self, band: np.ndarray, setting: Setting, choices: Choices, counted: np.ndarray, sizes: np.ndarray
    ) -> ObjectTally:
        """Find the objects of a setting, and which of them are true."""
        import cv2

        mask = self._mask(band, setting, choices)
        count, groups, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S
        )
        labels = groups
        depth = setting.refinement(choices.name, in_m2=choices.in_m2).depth_px(self.gsd_m)
        if depth:
            labels = separate(mask, depth=depth)
            count = int(labels.max(initial=0)) + 1
        flat = labels.ravel()
        areas = np.bincount(flat, minlength=count)
        means = np.bincount(flat, np.nan_to_num(band).ravel().astype(np.float64), count) / np.maximum(areas, 1)
        group_of = np.zeros(count, np.int64)
        group_of[flat] = groups.ravel()
        bins = np.searchsorted(sizes, stats[group_of, cv2.CC_STAT_AREA], side="right") - 1
        found = _found(self._true_objects, flat, areas, means)
        # What lies where nothing is known is neither right nor wrong.
        unknown = np.bincount(flat, ~counted.ravel(), count)
        listed = np.flatnonzero(found | (unknown < areas / 2))
        listed = listed[listed > 0]
        return ObjectTally(len(self._true_objects.areas), means[listed], found[listed], bins[listed], len(sizes))


def _by_size(mask: np.ndarray, true: np.ndarray, counted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Wrong and right pixels in groups of at least each size, int64, `(areas, 2)`."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    inside = mask & counted
    # A group is kept where it has at least the smallest area: the last bin that begins no later than its size.
    bins = np.searchsorted(sizes, stats[:, cv2.CC_STAT_AREA], side="right") - 1
    # Where a smallest area is given, groups below it are in no bin: -1.
    places = 2 * bins[labels[inside]] + true[inside]
    found = np.bincount(places[places >= 0], minlength=2 * len(sizes)).reshape(-1, 2)
    return np.asarray(found[::-1].cumsum(axis=0)[::-1])


def _pixels_of(shape: object, image: tuple[int, int]) -> np.ndarray:
    """Places of an object's pixels in the raveled image."""
    left, top, right, bottom = shape.bounds  # type: ignore[attr-defined]  # a shapely geometry
    if not left <= right:  # an empty one has no bounds
        return np.zeros(0, np.int64)
    row, column = max(int(top), 0), max(int(left), 0)
    height, width = min(int(bottom) + 1, image[0]) - row, min(int(right) + 1, image[1]) - column
    if height <= 0 or width <= 0:
        return np.zeros(0, np.int64)
    rows, columns = np.nonzero(draw([shape], Window(row, column, height, width)))  # type: ignore[list-item]
    return (rows + row) * image[1] + columns + column


def _groups(mask: np.ndarray) -> list[np.ndarray]:
    """Places of the pixels of each group that shares edges."""
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    flat = labels.ravel()
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=count))
    return [order[begin:end] for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def _found(true: TrueObjects, flat: np.ndarray, areas: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Tell which labels are true objects at IoU 0.5, bool, `(labels,)`."""
    found = np.zeros(len(areas), bool)
    under = flat[true.pixels].astype(np.int64)
    hit = under > 0
    keys, shared = np.unique(true.owners[hit] * len(areas) + under[hit], return_counts=True)
    owners, labels = np.divmod(keys, len(areas))
    iou = shared / (true.areas[owners] + areas[labels] - shared)
    good = np.flatnonzero(iou + ROUNDING >= FOUND)
    # Two halves of one object reach 0.5 both; the one with the higher score has it.
    order = good[np.lexsort((-scores[labels[good]], owners[good]))]
    first = np.unique(owners[order], return_index=True)[1]
    found[labels[order[first]]] = True
    return found
