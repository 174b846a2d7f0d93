"""Tuning: the threshold and the smallest area of each class that score best on images with labels.

For every threshold, groups of pixels are counted by their size: how many of their pixels are of the class, and how many
aren't. These counts add over images, and from them follows the score of every threshold with every smallest area. So a
choice made on some images is judged on others without another look at the pixels, which tells the gain honestly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.fitting import open_for
from satmask.legend import Legend
from satmask.prediction import walk

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_file import ModelInfo

Metric = Literal["iou", "f1", "dstl"]
METRICS = ("iou", "f1", "dstl")
THRESHOLDS = (0.01, 0.02, *(round(0.05 * step, 2) for step in range(1, 20)), 0.98, 0.99)
AREAS_PX = (0, *(2**step for step in range(1, 15)))
# How a pixel is kept: the number of thresholds that its probability reaches, whether it is of the class, and whether it
# counts.
_TRUE, _COUNTED = 64, 128


@dataclass(frozen=True, eq=False)
class ObjectCounts:
    """Pixels of each class by threshold and by the size of their group: counts that add over images.

    Attributes:
        legend: The classes.
        thresholds: Those of each class, rising, float64, `(classes, thresholds)`.
        areas: Sizes from which bins begin for each class, rising from 0, float64, `(classes, areas)`; in pixels, or in
            square metres.
        truth: Pixels of each class in the truth, int64, `(classes,)`.
        found: Pixels in groups of each size, first those that aren't of the class, then those that are; int64,
            `(classes, thresholds, areas, 2)`.
    """

    legend: Legend
    thresholds: np.ndarray
    areas: np.ndarray
    truth: np.ndarray
    found: np.ndarray

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        """Count both; they must be of the same classes, thresholds and sizes."""
        truth, found = self.truth + other.truth, self.found + other.found
        return ObjectCounts(self.legend, self.thresholds, self.areas, truth, found)

    @property
    def kept(self) -> np.ndarray:
        """Pixels in groups of at least each size, as `found`."""
        return np.asarray(self.found[:, :, ::-1].cumsum(axis=2)[:, :, ::-1])

    def iou(self) -> np.ndarray:
        """IoU of each class with each threshold and smallest area, float64; NaN where neither side has a pixel."""
        return iou_of(self.kept, self.truth[:, None, None])


@dataclass(frozen=True)
class Choice:
    """What was chosen for one class.

    Attributes:
        name: The class.
        threshold: Probability from which a pixel has it.
        smallest: Size from which a group is kept, in the units of the counts.
        before: IoU with the decision as it was; NaN where the class doesn't occur.
        estimate: IoU where each image is decided by what was chosen without its place; NaN without a second place.
        after: IoU on the images on which it was chosen, which flatters.
        better: Whether the choice is to be used: the estimate is above what was before.
    """

    name: str
    threshold: float
    smallest: float
    before: float
    estimate: float
    after: float
    better: bool


@dataclass(frozen=True)
class Tuning:
    """What was chosen for all classes.

    Attributes:
        choices: One a class, in the legend's order.
        metric: What it was chosen for.
        images: Images used.
        folds: Parts in which they were judged; 1 where all were of one place, so that no gain could be told.
        in_m2: Whether sizes are square metres.
    """

    choices: tuple[Choice, ...]
    metric: Metric
    images: int
    folds: int
    in_m2: bool

    def mean(self, key: Literal["before", "estimate"]) -> float:
        """The mean over classes of the metric, before or as estimated; classes that keep what they had count as before."""
        values = [getattr(choice, key if choice.better else "before") for choice in self.choices]
        known = np.array([value for value in values if not np.isnan(value)])
        return float(in_metric(known, self.metric).mean()) if len(known) else float("nan")

    def apply(self, info: ModelInfo) -> ModelInfo:
        """What a model file says with the better choices in it, and how they were found."""
        key = "min_area_m2" if self.in_m2 else "min_area_px"
        limits, smallest = list(info.thresholds), list(getattr(info, key))
        for channel, choice in enumerate(self.choices):
            if choice.better:
                limits[channel], smallest[channel] = choice.threshold, choice.smallest
        told = self.to_dict()
        del told["classes"]
        changes = {"thresholds": tuple(limits), key: tuple(smallest), "training": {**info.training, "tuning": told}}
        return info.model_copy(update=changes)

    def to_dict(self) -> dict[str, Any]:
        """The choices as plain values for JSON, None in place of NaN."""
        classes = [
            {key: _plain(value) if isinstance(value, float) else value for key, value in vars(choice).items()}
            for choice in self.choices
        ]
        means = {"before": _plain(self.mean("before")), "estimate": _plain(self.mean("estimate"))}
        return {"metric": self.metric, "images": self.images, "folds": self.folds, "in_m2": self.in_m2, **means, "classes": classes}  # fmt: skip


def tune(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    metric: Metric = "iou",
    folds: int = 5,
    progress: Callable[[int], None] = lambda _: None,
) -> Tuning:
    """Choose thresholds and smallest areas on images with labels that the network wasn't trained on.

    Images are judged in parts that keep places together: of each part, what was chosen on the others. IoU, F1 and the
    Jaccard index of DSTL rise and fall together class by class, so that the same choice is best for all three; they
    differ in the numbers told. Merging rules are left aside.

    Args:
        engine: The network; its classes may overlap.
        samples: The images. Probabilities of one are in memory at a time, a byte for each pixel and class.
        metric: "iou", "f1" or "dstl".
        folds: Parts at most, 2 or more.
        progress: Called with 1 after each image.

    Returns:
        The choices; none is better where all images are of one place.

    Raises:
        SettingError: If classes exclude each other, or a setting is out of range.
        DataError: If there are no images.
    """
    info = engine.info
    if info.legend.exclusive or metric not in METRICS or folds < 2:
        what = "classes that exclude each other" if info.legend.exclusive else f"{metric!r} and {folds} folds"
        msg = f"Tuning must be of classes that overlap, for iou, f1 or dstl, with 2 folds or more, got {what}."
        raise SettingError(msg)
    if not samples:
        msg = "Tuning must have images with labels, got none."
        raise DataError(msg)
    pixels = _pixel_areas(engine, samples)
    parts: dict[int, ObjectCounts] = {}
    for sample, fold in zip(samples, assign(samples, folds), strict=True):
        counted = _count_sample(engine, sample, pixels.get(sample.name))
        parts[fold] = parts[fold] + counted if fold in parts else counted
        progress(1)
    choices = choose(list(parts.values()), info, in_m2=bool(pixels))
    return Tuning(choices, metric, len(samples), len(parts), bool(pixels))


def assign(samples: Sequence[Sample], folds: int) -> list[int]:
    """Deal images into parts of about equal size; those of one place stay together, where places are known."""
    named = len({sample.place for sample in samples}) > 1
    groups: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        groups.setdefault(sample.place if named else sample.name, []).append(number)
    loads, found = [0] * min(folds, len(groups)), [0] * len(samples)
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        fold = loads.index(min(loads))
        loads[fold] += len(groups[name])
        for number in groups[name]:
            found[number] = fold
    return found


def count_objects(
    probabilities: np.ndarray, truth: np.ndarray, counted: np.ndarray, info: ModelInfo, *, pixel_m2: float | None = None
) -> ObjectCounts:
    """Count one image.

    Args:
        probabilities: float32, `(height, width, classes)`; NaN where unknown.
        truth: One mask a class, bool or 0 and 1, of the same shape.
        counted: False where a pixel doesn't count, bool, `(height, width)`.
        info: Gives the classes, and the decision as it is, which is tried too.
        pixel_m2: Area of a pixel, so that sizes are square metres; pixels without it.

    Returns:
        The counts.
    """
    grids = _grids(info, in_m2=pixel_m2 is not None)
    codes = (_codes(probabilities[..., at], truth[..., at], counted, grid) for at, grid in enumerate(grids[0]))
    return _count(codes, info.legend, grids, pixel_m2 or 1.0)


def choose(parts: Sequence[ObjectCounts], info: ModelInfo, *, in_m2: bool = False) -> tuple[Choice, ...]:
    """Choose for each class, and judge the choice part by part.

    Args:
        parts: Counts of parts that share no place.
        info: The decision as it is.
        in_m2: Whether sizes are square metres.
    """
    kept = [part.kept for part in parts]
    return tuple(_choose_one(parts, kept, at, _own(parts[0], info, at, in_m2=in_m2)) for at in range(len(info.legend)))


def _choose_one(parts: Sequence[ObjectCounts], kept: Sequence[np.ndarray], at: int, own: tuple[int, int]) -> Choice:
    """Choose for one class; `own` is the place of the decision as it is."""
    truths, tables = [int(part.truth[at]) for part in parts], [table[at] for table in kept]
    truth, every = sum(truths), np.sum(tables, axis=0)
    limits = parts[0].thresholds[at]
    best = _best(iou_of(every, truth), limits, own)
    # Of each part, what the others would choose.
    hits = np.zeros(2, np.int64)
    for table, there in zip(tables, truths, strict=True):
        hits += table[_best(iou_of(every - table, truth - there), limits, own) if truth > there else own]
    before, after = float(iou_of(every[own], truth)), float(iou_of(every[best], truth))
    estimate = float(iou_of(hits, truth)) if len(parts) > 1 else float("nan")
    smallest = float(parts[0].areas[at][best[1]])
    better = bool(truth) and estimate > before
    return Choice(parts[0].legend.names[at], float(limits[best[0]]), smallest, before, estimate, after, better)


def _own(counts: ObjectCounts, info: ModelInfo, at: int, *, in_m2: bool) -> tuple[int, int]:
    smallest = (info.min_area_m2 if in_m2 else info.min_area_px)[at]
    return (
        int(np.searchsorted(counts.thresholds[at], info.thresholds[at])),
        int(np.searchsorted(counts.areas[at], smallest)),
    )


def _grids(info: ModelInfo, *, in_m2: bool) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds and areas to be tried for each class, its own among them, float64, `(classes, …)`, rising."""
    low, high = info.gsd_m or (1.0, 1.0)
    areas = np.asarray(AREAS_PX) * (low * high if in_m2 else 1.0)
    own = info.thresholds, info.min_area_m2 if in_m2 else info.min_area_px
    thresholds, sizes = (
        np.sort([[*tried, value] for value in values], axis=1)
        for tried, values in zip((THRESHOLDS, areas.tolist()), own, strict=True)
    )
    return thresholds, sizes


def iou_of(pixels: np.ndarray, truth: np.ndarray | int) -> np.ndarray:
    """IoU from wrong and right pixels, `(…, 2)`, and those of the truth; NaN where there are none."""
    union = np.asarray(truth + pixels[..., 0], np.float64)
    return np.asarray(np.divide(pixels[..., 1], union, out=np.full(union.shape, np.nan), where=union > 0))


def in_metric(iou: np.ndarray, metric: Metric) -> np.ndarray:
    """An IoU in the words of a metric: F1 is 2 IoU / (1 + IoU)."""
    return 2 * iou / (1 + iou) if metric == "f1" else iou


def _best(table: np.ndarray, thresholds: np.ndarray, own: tuple[int, int]) -> tuple[int, int]:
    """Place of the highest IoU; of equals what is, else the smallest area, then the threshold nearest to one half."""
    values = np.nan_to_num(table, nan=-1.0)
    highest = values.max() - 1e-12
    if values[own] >= highest:
        return own
    rows, columns = np.nonzero(values >= highest)
    order = np.lexsort([np.abs(thresholds[rows] - 0.5), columns])
    return int(rows[order[0]]), int(columns[order[0]])


def _pixel_areas(engine: Engine, samples: Sequence[Sample]) -> dict[str, float]:
    """Square metres of a pixel of each image; empty unless all are known, or where sizes are in pixels already."""
    info, found = engine.info, dict[str, float]()
    if info.gsd_m is None or any(info.min_area_px):
        return found
    for sample in samples:
        with open_for(info, sample.image) as scene:
            if scene.grid.gsd_m is None:
                return {}
            found[sample.name] = scene.grid.gsd_m**2
    return found


def _count_sample(engine: Engine, sample: Sample, pixel_m2: float | None) -> ObjectCounts:
    """Predict an image and count it; a byte is kept for each pixel and class."""
    info = engine.info
    grids = _grids(info, in_m2=pixel_m2 is not None)
    codes = np.zeros((len(info.legend), *sample.shape), np.uint8)
    with open_for(info, sample.image) as scene:
        for piece in walk(engine, scene):
            here = piece.tile.core.slices
            there = sample.labels.read(piece.tile.core)
            counted = there.labelled & piece.valid
            for at, grid in enumerate(grids[0]):
                codes[at][here] = _codes(piece.probabilities[..., at], there.classes[..., at], counted, grid)
    return _count(codes, info.legend, grids, pixel_m2 or 1.0)


def _codes(said: np.ndarray, truth: np.ndarray, counted: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """One byte a pixel: how many thresholds are reached, in float32 as decisions compare; `_TRUE`; `_COUNTED`."""
    reached = np.searchsorted(thresholds.astype(np.float32), np.nan_to_num(said, nan=-1.0), side="right")
    return np.asarray(reached + _TRUE * (truth != 0) + _COUNTED * counted, np.uint8)


def _count(
    codes: Iterable[np.ndarray], legend: Legend, grids: tuple[np.ndarray, np.ndarray], pixel: float
) -> ObjectCounts:
    thresholds, areas = grids
    found = np.zeros((len(legend), thresholds.shape[1], areas.shape[1], 2), np.int64)
    truth = np.zeros(len(legend), np.int64)
    for at, code in enumerate(codes):
        level, true = code % _TRUE, (code & _TRUE > 0) & (code >= _COUNTED)
        truth[at] = np.count_nonzero(true)
        last = None
        for row in range(thresholds.shape[1]):
            mask = level > row
            pixels = np.count_nonzero(mask)
            if pixels != last:  # fewer pixels: other groups
                sizes = _by_size(mask, code, true, areas[at] / pixel)
            found[at, row], last = sizes, pixels
    return ObjectCounts(legend, thresholds, areas, truth, found)


def _by_size(mask: np.ndarray, code: np.ndarray, true: np.ndarray, areas_px: np.ndarray) -> np.ndarray:
    """Wrong and right pixels in groups of each size, int64, `(areas, 2)`."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    inside = mask & (code >= _COUNTED)
    # A group is kept where it has at least the smallest area: the last bin that begins no later than its size.
    bins = np.searchsorted(areas_px, stats[:, cv2.CC_STAT_AREA], side="right") - 1
    places = 2 * bins[labels[inside]] + true[inside]
    return np.asarray(np.bincount(places, minlength=2 * len(areas_px)).reshape(-1, 2))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
