"""Scores at every threshold: probabilities counted in fine bins, which add, and the curves that follow from them.

A bin begins at each multiple of 1/1000, so that what reaches any such threshold is counted exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.errors import DataError, SettingError

if TYPE_CHECKING:
    from satmask.legend import Legend

BINS = 1000
# As the network's numbers are compared with a threshold: in float32, where 0.7 is a little less than 0.7.
EDGES = (np.arange(BINS + 1) / BINS).astype(np.float32)
STEPS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds told in `to_dict`


@dataclass(frozen=True)
class ThresholdCurve:
    """How precision and recall of one class change with its threshold.

    Attributes:
        thresholds: From 0 to 1, float64, `(thresholds,)`; a pixel is given the class if its probability is at least that.
        precision: TP / (TP + FP) at each, float64, 0 to 1; NaN where nothing is given the class.
        recall: TP / (TP + FN) at each, float64, 0 to 1; NaN where the truth has none of the class.
        f1: 2 TP / (2 TP + FP + FN) at each, float64, 0 to 1; NaN where the truth has none of the class.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def average_precision(self) -> float:
        """Area below the steps of the curve, Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds; NaN without truth."""
        if np.isnan(self.recall).all():
            return float("nan")
        gained = -np.diff(self.recall, append=0)
        return float((gained * np.nan_to_num(self.precision)).sum())

    @property
    def best(self) -> int:
        """Position of the highest F1, the lowest threshold of several; 0 without truth."""
        return int(np.argmax(np.nan_to_num(self.f1)))


@dataclass(frozen=True)
class Reliability:
    """How often a class is there when the network says it is with a probability: one entry a bin of probabilities.

    Attributes:
        edges: Where the bins begin and end, float64, `(bins + 1,)`, 0 to 1.
        weight: Pixels in each bin, or the sum of their weights; float64, `(bins,)`.
        confidence: Mean probability of each bin, float64, `(bins,)`; NaN where it is empty.
        frequency: Share of each bin's pixels that are of the class, float64, `(bins,)`; NaN where it is empty.
    """

    edges: np.ndarray
    weight: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, Σₘ |Bₘ| / n · |frequencyₘ − confidenceₘ|; NaN without pixels.

        References:
            Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3, https://arxiv.org/abs/1706.04599.
            There, probability and correctness are those of the most probable class; here, of one class at a time.
        """
        if not self.weight.sum():
            return float("nan")
        gaps = np.abs(np.nan_to_num(self.frequency - self.confidence))
        return float((self.weight * gaps).sum() / self.weight.sum())


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """How many pixels got which probability, inside and outside each class: counts that add over windows and machines.

    Attributes:
        legend: The classes.
        pixels: Pixels of each class and bin, or the sum of their weights; float64, `(classes, 2, BINS)`, first those
            outside the class, then those of it.
        mass: Probabilities of these pixels added up, times their weights; float64, `(classes, BINS)`.

    Raises:
        SettingError: If the arrays don't have these shapes.

    Examples:
        >>> from satmask.legend import Legend
        >>> probabilities, truth = np.array([[0.9], [0.6], [0.2]]), np.array([[True], [False], [False]])
        >>> counts = count_thresholds(probabilities, truth, Legend.of(["house"]))
        >>> curve = (counts + counts).curve(0)
        >>> [float(round(value[700], 3)) for value in (curve.thresholds, curve.precision, curve.recall)]
        [0.7, 1.0, 1.0]
    """

    legend: Legend
    pixels: np.ndarray
    mass: np.ndarray

    def __post_init__(self) -> None:
        """Hold the rule of the docstring."""
        wanted = ((len(self.legend), 2, BINS), (len(self.legend), BINS))
        if (self.pixels.shape, self.mass.shape) != wanted:
            msg = f"Threshold counts must have the shapes {wanted}, got {self.pixels.shape} and {self.mass.shape}."
            raise SettingError(msg)

    @classmethod
    def empty(cls, legend: Legend) -> ThresholdCounts:
        """No pixels yet: what sums start from."""
        return cls(legend, np.zeros((len(legend), 2, BINS)), np.zeros((len(legend), BINS)))

    def __add__(self, other: ThresholdCounts) -> ThresholdCounts:
        """Count both.

        Raises:
            SettingError: If their legends differ.
        """
        if self.legend != other.legend:
            msg = f"Scores must share a legend to be added, got {self.legend.names} and {other.legend.names}."
            raise SettingError(msg)
        return ThresholdCounts(self.legend, self.pixels + other.pixels, self.mass + other.mass)

    def curve(self, channel: int) -> ThresholdCurve:
        """Precision, recall and F1 of a class at each of 1,000 thresholds."""
        outside, inside = self.pixels[channel]
        false, true = (np.cumsum(counts[::-1])[::-1] for counts in (outside, inside))
        said, there = false + true, inside.sum()
        return ThresholdCurve(
            np.arange(BINS) / BINS,
            np.divide(true, said, out=np.full(BINS, np.nan), where=said > 0),
            true / there if there else np.full(BINS, np.nan),
            2 * true / (said + there) if there else np.full(BINS, np.nan),
        )

    def reliability(self, channel: int, *, bins: int = 10) -> Reliability:
        """How often a class is there when the network says so with a probability.

        Args:
            channel: Position of the class in the legend.
            bins: How many, of equal width; 1,000 must be a multiple of it.

        Raises:
            SettingError: If 1,000 isn't a multiple of `bins`.
        """
        if bins < 1 or BINS % bins:
            msg = f"Bins must divide {BINS}, got {bins}. Use 10 or 20."
            raise SettingError(msg)
        weight, true = (
            counts.reshape(bins, -1).sum(axis=1)
            for counts in (self.pixels[channel].sum(axis=0), self.pixels[channel, 1])
        )
        mass, some = self.mass[channel].reshape(bins, -1).sum(axis=1), weight > 0
        nothing = np.full(bins, np.nan)
        confidence, frequency = (np.divide(part, weight, out=nothing.copy(), where=some) for part in (mass, true))
        return Reliability(np.linspace(0, 1, bins + 1), weight, confidence, frequency)

    def to_dict(self, *, bins: int = 10) -> dict[str, Any]:
        """What follows from the counts as plain values for JSON, None in place of NaN: of each class, and their means."""
        classes: list[dict[str, Any]] = [
            {"id": entry.id, "name": entry.name} | _told(self.curve(channel), self.reliability(channel, bins=bins))
            for channel, entry in enumerate(self.legend)
        ]
        return {
            "mean": {
                key: _mean([entry[key] for entry in classes]) for key in ("average_precision", "calibration_error")
            },
            "classes": classes,
        }


def count_thresholds(
    probabilities: np.ndarray,
    truth: np.ndarray,
    legend: Legend,
    *,
    valid: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> ThresholdCounts:
    """Count how many pixels got which probability, inside and outside each class.

    Args:
        probabilities: What a network says, float, 0 to 1, `(…, classes)`; pixels with a NaN aren't counted.
        truth: One mask a class, bool or 0 and 1, `(…, classes)`.
        legend: The classes.
        valid: False where a pixel doesn't count, `(…,)`; all count by default.
        weights: What a pixel counts, at least 0, `(…,)`; 1 by default.

    Returns:
        The counts.

    Raises:
        DataError: If shapes differ, or a probability lies outside 0 to 1.
    """
    shape = (*probabilities.shape[:-1], len(legend))
    masks = [array for array in (valid, weights) if array is not None]
    if not probabilities.shape == truth.shape == shape or any(mask.shape != shape[:-1] for mask in masks):
        shapes = ", ".join(str(array.shape) for array in (probabilities, truth, *masks))
        msg = f"Probabilities, truth and masks must share a shape with {len(legend)} classes, got {shapes}."
        raise DataError(msg)
    counted = np.isfinite(probabilities).all(axis=-1)
    counted &= True if valid is None else np.asarray(valid) != 0
    values, there = probabilities[counted], np.asarray(truth)[counted] != 0
    if values.size and not 0 <= values.min() <= values.max() <= 1:
        msg = f"Probabilities must lie in 0 to 1, got {values.min():g} to {values.max():g}."
        raise DataError(msg)
    heavy = None if weights is None else np.asarray(weights, np.float64)[counted]
    pixels, mass = np.zeros((len(legend), 2, BINS)), np.zeros((len(legend), BINS))
    for channel in range(len(legend)):
        column = values[:, channel]
        bins = _bins(column)
        pixels[channel] = np.bincount(bins + BINS * there[:, channel], heavy, 2 * BINS).reshape(2, BINS)
        mass[channel] = np.bincount(bins, column if heavy is None else column * heavy, BINS)
    return ThresholdCounts(legend, pixels, mass)


def _bins(values: np.ndarray) -> np.ndarray:
    """The last bin whose lower edge a probability reaches; a product may be off by one, so it is compared."""
    values = values.astype(np.float32, copy=False)
    bins = np.minimum((values * np.float32(BINS)).astype(np.int64), BINS - 1)
    bins -= values < EDGES[bins]
    bins += values >= EDGES[bins + 1]
    # Only 1.0 reaches the upper edge of the last bin, and belongs to it.
    return np.minimum(bins, BINS - 1)


def _told(curve: ThresholdCurve, reliability: Reliability) -> dict[str, Any]:
    at = [round(step * BINS) for step in STEPS]
    best = curve.best
    return {
        "average_precision": _plain(curve.average_precision),
        "calibration_error": _plain(reliability.calibration_error),
        "best": {
            "threshold": float(curve.thresholds[best]),
            **{key: _plain(getattr(curve, key)[best]) for key in ("precision", "recall", "f1")},
        },
        "thresholds": [
            {"threshold": step} | {key: _plain(getattr(curve, key)[row]) for key in ("precision", "recall", "f1")}
            for step, row in zip(STEPS, at, strict=True)
        ],
        "reliability": [
            {"from": float(low), "to": float(high), "pixels": float(weight)}
            | {"confidence": _plain(said), "frequency": _plain(found)}
            for low, high, weight, said, found in zip(
                reliability.edges, reliability.edges[1:], reliability.weight, reliability.confidence,
                reliability.frequency, strict=False,
            )
        ],
    }  # fmt: skip


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
