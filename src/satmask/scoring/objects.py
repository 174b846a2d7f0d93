"""Object scores: how many true objects were found, and what is wrong with the others; counts that add.

Objects match one to one within a class, see `satmask.scoring.matching`. What has no match at IoU 0.5 is one kind of error,
the first that fits:

| Kind | True object | Predicted object |
|---|---|---|
| doubled | a predicted object overlaps it with an IoU above 0.5, but matches another | the same, the other way round |
| merged | half of it or more lies in a predicted object that holds half of two true objects or more | it holds half of two true objects or more |
| split | half of two predicted objects or more lies in it | half of it lies in a true object that holds half of two predicted objects or more |
| boundary | its best IoU is 0.1 or more | the same |
| missed, invented | its best IoU is below 0.1: missed | the same: invented |

Empty classes follow the rule of `satmask.scoring.pixels`, here for each class, size and distance by itself. Where there are
neither true nor predicted objects there is no score: NaN, left out of means. A share of nothing, where there are some on the
other side, is 0. Within sizes and distances each object lies in the bin of its own: a match may lie in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.scoring.matching import ROUNDING, Matching, Overlaps, find_overlaps, match
from satmask.scoring.polygon_quality import MEASURES, c_iou, max_tangent_angle, polis

THRESHOLDS = tuple(step / 20 for step in range(10, 20))  # 0.5, 0.55 … 0.95
ERRORS = ("doubled", "merged", "split", "boundary", "missed")  # of predicted objects, missed is called invented
BOUNDARY_IOU = 0.1
# Where the next bin begins: COCO's sizes in pixels, sizes on the ground, distances to the edge of the image in pixels.
SIZES_PX = (32**2, 96**2)
SIZES_M2 = (50, 200, 800)
EDGES_PX = (1, 16, 64)
BINS = (
    "all",
    *("small, below 32² px", "medium, to 96² px", "large, 96² px and more"),
    *("below 50 m²", "50 to 200 m²", "200 to 800 m²", "800 m² and more"),
    *("at the edge", "1 to 16 px from it", "16 to 64 px from it", "64 px and more from it"),
)
TRUTH, PREDICTED = 0, 1
OBJECTS, MATCHED, KINDS = 0, slice(1, 1 + len(THRESHOLDS)), slice(1 + len(THRESHOLDS), None)
COLUMNS = 1 + len(THRESHOLDS) + len(ERRORS)


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """How many objects of each class were found, and how well they are drawn: sums that add over images and machines.

    Attributes:
        legend: The classes.
        counts: Objects, int64, `(classes, bins, 2, columns)`. Bins are `BINS`: all, by area in pixels, by area on the ground
            where that is known, by distance to the edge of the image; a matched pair may lie in two. Next come the true
            and the predicted objects. Columns are the objects, those matched at each of `THRESHOLDS`, and those of each
            of `ERRORS` at IoU 0.5.
        quality: Sum over matched pairs at IoU 0.5, and number of pairs, of each of `MEASURES`, float64,
            `(classes, measures, 2)`. PoLiS is in pixels, angles are in degrees.

    Raises:
        SettingError: If the arrays don't have these shapes.

    Examples:
        >>> houses = [shapely.box(0, 0, 4, 4), shapely.box(6, 0, 9, 4)]
        >>> score = score_objects({1: houses}, {1: houses[:1]}, Legend.of(["house"]), shape=(20, 20))
        >>> total = score + score
        >>> total.recall(0).tolist(), total.precision(0).tolist(), total.errors(0)["missed"]
        ([0.5], [1.0], (2, 0))
    """

    legend: Legend
    counts: np.ndarray
    quality: np.ndarray

    def __post_init__(self) -> None:
        """Hold the rule of the docstring."""
        wanted = ((len(self.legend), len(BINS), 2, COLUMNS), (len(self.legend), len(MEASURES), 2))
        if (self.counts.shape, self.quality.shape) != wanted:
            msg = f"Object counts must have the shapes {wanted}, got {self.counts.shape} and {self.quality.shape}."
            raise SettingError(msg)

    @classmethod
    def empty(cls, legend: Legend) -> ObjectScore:
        """No objects yet: what sums start from."""
        counts = np.zeros((len(legend), len(BINS), 2, COLUMNS), np.int64)
        return cls(legend, counts, np.zeros((len(legend), len(MEASURES), 2)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ObjectScore:
        """Read what `to_dict` wrote."""
        arrays = (np.asarray(content[key], kind) for key, kind in (("counts", np.int64), ("quality", np.float64)))
        return cls(Legend.from_dict(content["legend"]), *arrays)

    def __add__(self, other: ObjectScore) -> ObjectScore:
        """Count both.

        Raises:
            SettingError: If their legends differ.
        """
        if self.legend != other.legend:
            msg = f"Scores must share a legend to be added, got {self.legend.names} and {other.legend.names}."
            raise SettingError(msg)
        return ObjectScore(self.legend, self.counts + other.counts, self.quality + other.quality)

    def precision(self, threshold: int = 0, *, bin_: int = 0) -> np.ndarray:
        """Share of predicted objects with a match, by place of the threshold; float64, `(classes,)`, 0 to 1 or NaN."""
        return self._share(bin_, threshold, (PREDICTED,))

    def recall(self, threshold: int = 0, *, bin_: int = 0) -> np.ndarray:
        """Share of true objects with a match, by place of the threshold; float64, `(classes,)`, 0 to 1 or NaN."""
        return self._share(bin_, threshold, (TRUTH,))

    def f1(self, threshold: int = 0, *, bin_: int = 0) -> np.ndarray:
        """Share of all objects, true and predicted, with a match; float64, `(classes,)`, 0 to 1 or NaN."""
        return self._share(bin_, threshold, (TRUTH, PREDICTED))

    def mean_f1(self, *, bin_: int = 0) -> np.ndarray:
        """The mean F1 over the thresholds 0.5 to 0.95, float64, `(classes,)`, 0 to 1 or NaN."""
        return np.asarray(np.mean([self.f1(place, bin_=bin_) for place in range(len(THRESHOLDS))], axis=0))

    def errors(self, channel: int, *, bin_: int = 0) -> dict[str, tuple[int, int]]:
        """True and predicted objects of each kind of error at IoU 0.5; what is missed on one side is invented on the other."""
        true, said = self.counts[channel, bin_, :, KINDS].tolist()
        return dict(zip(ERRORS, zip(true, said, strict=True), strict=True))

    def mean_quality(self, channel: int) -> dict[str, float]:
        """The mean of each of `MEASURES` over the matched pairs of a class; NaN without any."""
        sums = zip(MEASURES, self.quality[channel].tolist(), strict=True)
        return {name: total / count if count else float("nan") for name, (total, count) in sums}

    def _share(self, bin_: int, threshold: int, sides: tuple[int, ...]) -> np.ndarray:
        objects = self.counts[:, bin_, :, OBJECTS]
        part = self.counts[:, bin_, sides, MATCHED.start + threshold].sum(axis=1)
        return np.where(objects.sum(axis=1) > 0, part / np.maximum(objects[:, sides].sum(axis=1), 1), np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Sums and scores as plain values for JSON, None in place of NaN."""
        return {
            "legend": self.legend.to_dict(),
            "counts": self.counts.tolist(),
            "quality": self.quality.tolist(),
            "classes": [
                {"id": entry.id, "name": entry.name}
                | {name: self._told(channel, place) for place, name in enumerate(BINS)}
                | {"quality": {name: _plain(value) for name, value in self.mean_quality(channel).items()}}
                for channel, entry in enumerate(self.legend)
            ],
        }

    def _told(self, channel: int, bin_: int) -> dict[str, Any]:
        true, said = self.counts[channel, bin_, :, OBJECTS].tolist()
        measures = {name: _plain(getattr(self, name)(bin_=bin_)[channel]) for name in ("precision", "recall", "f1")}
        errors = {
            name if name != "missed" else "missed, invented": list(pair)
            for name, pair in self.errors(channel, bin_=bin_).items()
        }
        mean_f1 = _plain(self.mean_f1(bin_=bin_)[channel])
        return {"truths": true, "predictions": said} | measures | {"mean_f1": mean_f1, "errors": errors}


def score_objects(
    truth: Mapping[int, Sequence[BaseGeometry]],
    predicted: Mapping[int, Sequence[BaseGeometry]],
    legend: Legend,
    *,
    shape: tuple[int, int],
    gsd_m: float | None = None,
    matching: Matching = "greedy",
) -> ObjectScore:
    """Score the objects of an image, class by class.

    Args:
        truth: True objects by class id: valid polygons or multipolygons in pixel coordinates.
        predicted: Predicted objects by class id.
        legend: The classes; objects of ids that it doesn't hold aren't counted.
        shape: `(height, width)` of the image, in pixels.
        gsd_m: Side of a pixel on the ground, in metres; sizes in m² aren't counted where it isn't known.
        matching: How objects are paired, see `satmask.scoring.matching.match`. Kinds of error are those of the pairs at 0.5.

    Returns:
        The counts.

    Raises:
        SettingError: If the way to match is unknown.
    """
    score = ObjectScore.empty(legend)
    for channel, id_ in enumerate(legend.ids):
        sides = [np.asarray([*side.get(id_, ()), None], dtype=object)[:-1] for side in (truth, predicted)]
        overlaps = find_overlaps(*sides)
        pairs = [overlaps.pairs[match(overlaps, step, matching=matching)] for step in THRESHOLDS]
        errors = kinds_of_errors(overlaps, pairs[0])
        for side, objects in enumerate(sides):
            rows = _columns(len(objects), [found[:, side] for found in pairs], errors[side])
            score.counts[channel, :, side] = _bins(objects, shape, gsd_m).astype(np.int64) @ rows
        matched = np.array([_measure(sides[0][true], sides[1][said]) for true, said in pairs[0].tolist()])
        if len(matched):
            score.quality[channel] = np.stack([np.nansum(matched, axis=0), (~np.isnan(matched)).sum(axis=0)], axis=1)
    return score


def kinds_of_errors(overlaps: Overlaps, matched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say what is wrong with each object that has no match; the table above has the rules.

    Args:
        overlaps: Who shares what.
        matched: Matched pairs, true and predicted place, `(matches, 2)`.

    Returns:
        Place in `ERRORS`, or -1 of what is matched, of true and of predicted objects: int64, `(truths,)` and
        `(predictions,)`.

    Examples:
        >>> overlaps = find_overlaps([shapely.box(0, 0, 9, 9)], [shapely.box(0, 0, 9, 4), shapely.box(0, 5, 9, 9)])
        >>> [[ERRORS[kind] for kind in side] for side in kinds_of_errors(overlaps, np.empty((0, 2), int))]
        [['split'], ['split', 'split']]
    """
    areas = overlaps.truth_areas, overlaps.predicted_areas
    # Whether half of the true object lies in the predicted one, and the other way round.
    held = [overlaps.shared + ROUNDING >= areas[side][overlaps.pairs[:, side]] / 2 for side in (TRUTH, PREDICTED)]
    many = [np.bincount(overlaps.pairs[held[1 - side], side], minlength=len(areas[side])) > 1 for side in (0, 1)]
    found = []
    for side in (TRUTH, PREDICTED):
        own, other = overlaps.pairs[:, side], overlaps.pairs[:, 1 - side]
        best = np.zeros(len(areas[side]))
        np.maximum.at(best, own, overlaps.iou)
        inside = np.zeros(len(best), bool)
        inside[own[held[side] & many[1 - side][other]]] = True
        merged, split = (inside, many[side]) if side == TRUTH else (many[side], inside)
        # At exactly 0.5 two halves of one object are a split; above it, the two must overlap each other.
        rules = [best > THRESHOLDS[0] + ROUNDING, merged, split, best + ROUNDING >= BOUNDARY_IOU]
        kinds = np.select(rules, range(len(rules)), default=len(rules))
        kinds[matched[:, side]] = -1
        found.append(kinds.astype(np.int64))
    return found[0], found[1]


def _columns(count: int, matched: Sequence[np.ndarray], errors: np.ndarray) -> np.ndarray:
    """One row an object: that it is one, whether it has a match at each threshold, which error it is."""
    rows = np.zeros((count, COLUMNS), np.int64)
    rows[:, OBJECTS] = 1
    for place, found in enumerate(matched):
        rows[found, MATCHED.start + place] = 1
    wrong = np.flatnonzero(errors >= 0)
    rows[wrong, KINDS.start + errors[wrong]] = 1
    return rows


def _bins(objects: np.ndarray, shape: tuple[int, int], gsd_m: float | None) -> np.ndarray:
    """Which objects lie in which bin, bool, `(bins, objects)`."""
    areas = shapely.area(objects)
    bounds = shapely.bounds(objects).reshape(-1, 4)
    far = np.stack([bounds[:, 0], bounds[:, 1], shape[1] - bounds[:, 2], shape[0] - bounds[:, 3]], axis=1).min(axis=1)
    ground = np.zeros((len(SIZES_M2) + 1, len(objects)), bool)
    if gsd_m is not None:
        ground = _between(areas * gsd_m**2, SIZES_M2)
    every = np.ones((1, len(objects)), bool)
    return np.concatenate([every, _between(areas, SIZES_PX), ground, _between(far, EDGES_PX)])


def _between(values: np.ndarray, limits: Sequence[float]) -> np.ndarray:
    return np.asarray(np.digitize(values, limits) == np.arange(len(limits) + 1)[:, None])


def _measure(truth: BaseGeometry, predicted: BaseGeometry) -> tuple[float, float, float]:
    return c_iou(truth, predicted), polis(truth, predicted), max_tangent_angle(truth, predicted)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
