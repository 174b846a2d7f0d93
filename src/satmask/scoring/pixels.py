"""Pixel scores: confusion counts that add, and what follows from them.

Empty classes follow one rule. A class that is in neither truth nor prediction has no score: NaN, and left out of means.
A class that is in only one of them scores 0 in everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.legend import Legend

Measure = Literal["iou", "precision", "recall", "f1"]
MEASURES: tuple[Measure, ...] = ("iou", "precision", "recall", "f1")
# What a pixel can be besides a channel.
NO_CLASS, UNCOUNTED, UNKNOWN = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each: counts of pixels, which add over windows, scenes and machines.

    Attributes:
        legend: The classes.
        matrix: Counts, int64. Truth down, prediction across, `(classes, classes)`, where classes exclude each other;
            else for every class on its own `[[TN, FP], [FN, TP]]`, `(classes, 2, 2)`.

    Raises:
        SettingError: If the matrix doesn't have that shape.

    Examples:
        >>> truth, prediction = np.array([[1, 1, 0]]), np.array([[1, 0, 0]])
        >>> score = confusion(truth, prediction, Legend.of(["house"]))
        >>> score.iou.tolist(), (score + score).iou.tolist()
        ([0.5], [0.5])
    """

    legend: Legend
    matrix: np.ndarray

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        if self.matrix.shape != _shape(self.legend):
            msg = f"Confusion of {len(self.legend)} classes must be {_shape(self.legend)}, got {self.matrix.shape}."
            raise SettingError(msg)

    @classmethod
    def empty(cls, legend: Legend) -> Confusion:
        """No pixels yet: what sums start from."""
        return cls(legend, np.zeros(_shape(legend), np.int64))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Confusion:
        """Read what `to_dict` wrote."""
        return cls(Legend.from_dict(content["legend"]), np.asarray(content["matrix"], np.int64))

    def __add__(self, other: Confusion) -> Confusion:
        """Count both.

        Raises:
            SettingError: If their legends differ.
        """
        if self.legend != other.legend:
            msg = f"Scores must share a legend to be added, got {self.legend.names} and {other.legend.names}."
            raise SettingError(msg)
        return Confusion(self.legend, self.matrix + other.matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Confusion):
            return NotImplemented
        return self.legend == other.legend and bool(np.array_equal(self.matrix, other.matrix))

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return int(self.matrix.sum() if self.legend.exclusive else self.matrix[0].sum())

    @property
    def true_positives(self) -> np.ndarray:
        """Pixels of each class that were found, int64, `(classes,)`."""
        return np.diagonal(self.matrix) if self.legend.exclusive else self.matrix[:, 1, 1]

    @property
    def false_positives(self) -> np.ndarray:
        """Pixels wrongly given to each class, int64, `(classes,)`."""
        if self.legend.exclusive:
            return np.asarray(self.matrix.sum(axis=0) - self.true_positives)
        return self.matrix[:, 0, 1]

    @property
    def false_negatives(self) -> np.ndarray:
        """Pixels of each class that were missed, int64, `(classes,)`."""
        if self.legend.exclusive:
            return np.asarray(self.matrix.sum(axis=1) - self.true_positives)
        return self.matrix[:, 1, 0]

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union, TP / (TP + FP + FN), of each class; float64, `(classes,)`, 0 to 1 or NaN."""
        return _measures(*self._counts)["iou"]

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) of each class; float64, `(classes,)`, 0 to 1 or NaN."""
        return _measures(*self._counts)["precision"]

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN) of each class; float64, `(classes,)`, 0 to 1 or NaN."""
        return _measures(*self._counts)["recall"]

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN) of each class; float64, `(classes,)`, 0 to 1 or NaN."""
        return _measures(*self._counts)["f1"]

    def mean(self, measure: Measure) -> float:
        """The plain mean over the classes that occur (macro); NaN if none does."""
        values = _measures(*self._counts)[measure]
        return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else float("nan")

    def pooled(self, measure: Measure) -> float:
        """The measure of all classes' counts added up (micro); NaN if no class occurs."""
        return float(_measures(*(counts.sum(keepdims=True) for counts in self._counts))[measure][0])

    @property
    def accuracy(self) -> float:
        """Share of right decisions: one a pixel, or one a pixel and class where classes overlap; NaN if no pixels."""
        right = self.true_positives.sum() if self.legend.exclusive else np.trace(self.matrix, axis1=1, axis2=2).sum()
        total = self.matrix.sum()
        return float(right / total) if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Counts and scores as plain values for JSON, None in place of NaN."""
        measures = _measures(*self._counts)
        found = self.true_positives + self.false_positives
        there = self.true_positives + self.false_negatives
        return {
            "legend": self.legend.to_dict(),
            "matrix": self.matrix.tolist(),
            "pixels": self.pixels,
            "accuracy": _plain(self.accuracy),
            "mean": {measure: _plain(self.mean(measure)) for measure in MEASURES},
            "pooled": {measure: _plain(self.pooled(measure)) for measure in MEASURES},
            "classes": [
                {"id": entry.id, "name": entry.name}
                | {measure: _plain(measures[measure][channel]) for measure in MEASURES}
                | {"truth_pixels": int(there[channel]), "predicted_pixels": int(found[channel])}
                for channel, entry in enumerate(self.legend)
            ],
        }

    def table(self) -> list[tuple[str, ...]]:
        """Rows for printing: a head, the classes, and where there are several their mean and pool."""
        measures = _measures(*self._counts)
        share = (self.true_positives + self.false_negatives) / max(self.pixels, 1)
        rows: list[tuple[str, ...]] = [("class", "IoU", "precision", "recall", "F1", "share of truth")]
        for channel, name in enumerate(self.legend.names):
            rows.append((name, *(_text(measures[key][channel]) for key in MEASURES), f"{share[channel]:.2%}"))
        if len(self.legend) > 1:
            rows.append(("mean", *(_text(self.mean(key)) for key in MEASURES), ""))
            rows.append(("pooled", *(_text(self.pooled(key)) for key in MEASURES), ""))
        return rows

    @property
    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.true_positives, self.false_positives, self.false_negatives


def confusion(truth: np.ndarray, prediction: np.ndarray, legend: Legend, valid: np.ndarray | None = None) -> Confusion:
    """Count how often each class was taken for each.

    Not counted are pixels that are not valid, hold the legend's nodata value in truth or prediction, or hold 0 in the
    truth of an exclusive legend without a class 0 (unlabelled). Under a legend of overlapping classes 0 is "no class".

    Args:
        truth: Class ids, integers or bool, `(height, width)`; or one mask a class, `(height, width, classes)`.
        prediction: The same of the prediction; it may be ids where truth is masks.
        legend: The classes.
        valid: False or 0 where a pixel doesn't count, `(height, width)`; all count by default.

    Returns:
        The counts.

    Raises:
        DataError: If an array holds an id that the legend doesn't, or shapes differ.
    """
    counted = np.ones(truth.shape[:2], bool) if valid is None else np.asarray(valid) != 0
    if not truth.shape[:2] == prediction.shape[:2] == counted.shape:
        msg = f"Truth, prediction and mask must have one shape, got {truth.shape}, {prediction.shape}, {counted.shape}."
        raise DataError(msg)
    true = _channels(truth, legend, counted, zero=UNCOUNTED if legend.exclusive else NO_CLASS, what="Truth")
    said = _channels(prediction, legend, counted, zero=UNKNOWN if legend.exclusive else NO_CLASS, what="Prediction")
    counted = counted & _known(true) & _known(said)
    count = len(legend)
    if legend.exclusive:
        pairs = true[counted].astype(np.int64) * count + said[counted]
        return Confusion(legend, np.bincount(pairs, minlength=count**2).reshape(count, count))
    matrix = np.zeros((count, 2, 2), np.int64)
    for channel in range(count):
        pairs = 2 * _has(true, channel)[counted].astype(np.int64) + _has(said, channel)[counted]
        matrix[channel] = np.bincount(pairs, minlength=4).reshape(2, 2)
    return Confusion(legend, matrix)


def _shape(legend: Legend) -> tuple[int, ...]:
    return (len(legend), len(legend)) if legend.exclusive else (len(legend), 2, 2)


def _measures(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[Measure, np.ndarray]:
    there = (tp + fp + fn) > 0

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(there, part / np.maximum(whole, 1), np.nan)

    return {
        "iou": ratio(tp, tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"


def _channels(values: np.ndarray, legend: Legend, counted: np.ndarray, *, zero: int, what: str) -> np.ndarray:
    """Bring ids or masks into one form: channels as int32, `(height, width)`, or bool masks where classes overlap."""
    if values.ndim == 3:
        if values.shape[2] != len(legend):
            msg = f"{what} must have a mask for each of {len(legend)} classes, got {values.shape[2]}."
            raise DataError(msg)
        masks = np.asarray(values != 0)
        if not legend.exclusive:
            return masks
        return np.asarray(np.where(masks.sum(axis=-1) == 1, masks.argmax(axis=-1), UNCOUNTED), np.int32)
    if values.dtype.kind not in "uib":
        msg = f"{what} must hold class ids as integers, got {values.dtype}."
        raise DataError(msg)
    table = np.full(1 << 16, UNKNOWN, np.int32)
    table[0] = zero
    table[list(legend.ids)] = np.arange(len(legend))
    table[legend.nodata] = UNCOUNTED
    channels: np.ndarray = table[values.astype(np.uint16)]
    if values.dtype.itemsize > 2 or values.dtype.kind == "i":
        channels[(values < 0) | (values >= len(table))] = UNKNOWN
    strange = (channels == UNKNOWN) & counted
    if strange.any():
        value = values[strange][0]
        msg = (
            f"{what} must hold class ids {', '.join(map(str, legend.ids))}, got {value} in {strange.sum()} pixels. "
            f"Name it in the legend, or map it to a class or to {legend.nodata} (nodata)."
        )
        raise DataError(msg)
    return channels


def _known(channels: np.ndarray) -> np.ndarray:
    return channels != UNCOUNTED if channels.ndim == 2 else np.ones(channels.shape[:2], bool)


def _has(channels: np.ndarray, channel: int) -> np.ndarray:
    return np.asarray(channels == channel if channels.ndim == 2 else channels[..., channel])
