"""Judging: scores, curves that follow a slider, and lists of what to look at."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from satmask.datasets.dataset import place_of
from satmask.errors import SatmaskError, SettingError
from satmask.scoring.intervals import interval_of_sums
from satmask.scoring.pixels import MEASURES, Confusion
from satmask.scoring.thresholds import BINS, ThresholdCounts
from satmask.viewing.corrections import Label
from satmask.viewing.counting import Counts, comparison_of, count
from satmask.viewing.findings import Finding, Order, choose, find_unsure, find_windows, find_wrong
from satmask.viewing.labelling import Looks, describe_place, label_queue, labelled_windows
from satmask.viewing.shelf import Place

STEP = 10
"""Thresholds of a curve that are told: every tenth of 1,000."""


class Judge:
    """Judges a place. What it needs is counted when it is first asked for, then looked up. Safe in threads.

    Args:
        place: The place.

    Attributes:
        place: The place.
        done: Share of the counting that is done, 0 to 1.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.done = place, 0.0
        self._lock = threading.Lock()
        self._kept: Counts | None = None

    def counts(self) -> Counts:
        """What was counted, see `satmask.viewing.counting.count`.

        Raises:
            SettingError: If there is nothing to be judged.
        """
        with self._lock:
            if self._kept is None:
                self._kept = count(self.place, tell=self._tell)
            return self._kept

    @property
    def judged(self) -> bool:
        """Whether prediction can be compared with truth."""
        return comparison_of(self.place) is not None

    def scores(self) -> dict[str, Any]:
        """Scores of each class and their mean, as `Confusion.to_dict` has them.

        Raises:
            SettingError: If there is no truth.
        """
        return self._confusion.to_dict()

    def at(self, class_id: int, threshold: float) -> dict[str, float | None]:
        """Scores of a class at a threshold: looked up, so a slider can ask at every move.

        Args:
            class_id: The class.
            threshold: 0 to 1; rounded to a multiple of 1/1000, and at most 0.999.

        Returns:
            `threshold`, `precision`, `recall`, `f1` and `iou`, None where there is nothing to divide by.

        Raises:
            SettingError: If the place has no probabilities or no truth, or no such class.
        """
        if not 0 <= threshold <= 1:
            msg = f"Threshold must lie in 0 to 1, got {threshold}."
            raise SettingError(msg)
        curve = self._curve(class_id)
        at = min(round(threshold * BINS), BINS - 1)
        return {name: _plain(values[at]) for name, values in curve.items()}

    def curve(self, class_id: int) -> dict[str, Any]:
        """Scores of a class over thresholds.

        Args:
            class_id: The class.

        Returns:
            Lists `threshold`, `precision`, `recall`, `f1` and `iou`; `average_precision`; and `best`, the scores at the
            threshold of the highest IoU.

        Raises:
            SettingError: As `at` does.
        """
        curve = self._curve(class_id)
        told = {name: [_plain(value) for value in values[::STEP]] for name, values in curve.items()}
        best = int(np.argmax(np.nan_to_num(curve["iou"])))
        counts, channel = self._thresholds(judged=True), self._channel(class_id)
        return told | {
            "average_precision": _plain(counts.curve(channel).average_precision),
            "best": {name: _plain(values[best]) for name, values in curve.items()},
        }

    def histogram(self, class_id: int, *, bins: int = 50) -> dict[str, list[float]]:
        """How many pixels got which probability of a class.

        Args:
            class_id: The class.
            bins: How many, of equal width; 1,000 must be a multiple of it.

        Returns:
            `edges`, and pixels outside and inside the class as `outside` and `inside`; all are outside without truth.

        Raises:
            SettingError: If the place has no probabilities, or no such class.
        """
        if bins < 1 or BINS % bins:
            msg = f"Bins must divide {BINS}, got {bins}. Use 20 or 50."
            raise SettingError(msg)
        pixels = self._thresholds(judged=False).pixels[self._channel(class_id)].reshape(2, bins, -1).sum(axis=-1)
        return {
            "edges": np.linspace(0, 1, bins + 1).tolist(),
            "outside": pixels[0].tolist(),
            "inside": pixels[1].tolist(),
        }

    def worst(
        self,
        *,
        classes: Collection[str] = (),
        kinds: Collection[str] = (),
        min_area_px: float = 0,
        max_area_px: float | None = None,
        count: int = 100,
    ) -> list[Finding]:
        """List objects to look at: first what is wrong, the worst first, then what the network was least certain of.

        Args:
            classes: Names of classes; all by default.
            kinds: Kinds, see `Finding`; all by default.
            min_area_px: The smallest area.
            max_area_px: The largest area.
            count: How many at most.

        Raises:
            DataError: If the scene is too large for its objects to be known at once, or holds hardly more than specks.
        """
        every = (*self._wrong, *self._unsure)
        return choose(every, classes=classes, kinds=kinds, min_area_px=min_area_px, max_area_px=max_area_px)[:count]

    def windows(self, *, by: Order = "wrong", count: int = 100) -> list[Finding]:
        """List windows of 256 × 256 pixels: those with most that is missed, invented, wrong or uncertain first.

        Raises:
            SettingError: If there is nothing to be judged.
        """
        return find_windows(self.place, self.counts(), by)[:count]

    def to_label(self, labels: Iterable[Label], *, count: int = 50) -> list[Finding]:
        """List the windows of 256 × 256 pixels in which labels would help most: uncertain ones that look like none yet.

        Args:
            labels: What there is already, as `Corrections.labels` has it.
            count: How many at most.

        Raises:
            SettingError: If the place has no image or no probabilities.
        """
        return label_queue(
            self.place, self.counts(), self._looks, labelled_windows(self.place.grid, labels), count=count
        )

    @cached_property
    def _looks(self) -> Looks:
        return describe_place(self.place)

    @cached_property
    def _wrong(self) -> tuple[Finding, ...]:
        comparison = comparison_of(self.place)
        return tuple(find_wrong(self.place, comparison)) if comparison is not None else ()

    @cached_property
    def _unsure(self) -> tuple[Finding, ...]:
        return tuple(find_unsure(self.place))

    @property
    def _confusion(self) -> Confusion:
        found = self.counts().confusion
        if found is None:
            msg = f"Place must have classes and truth to be scored, got {self.place.name} without."
            raise SettingError(msg)
        return found

    def _thresholds(self, *, judged: bool) -> ThresholdCounts:
        counts = self.counts()
        if counts.thresholds is None or (judged and not counts.judged):
            what = "probabilities and truth" if judged else "probabilities"
            msg = f"Place must have {what} for scores at a threshold, got {self.place.name} without."
            raise SettingError(msg)
        return counts.thresholds

    def _curve(self, class_id: int) -> dict[str, np.ndarray]:
        found = self._thresholds(judged=True).curve(self._channel(class_id))
        # F1 is 2 TP / (2 TP + FP + FN), and IoU TP / (TP + FP + FN).
        named = {"threshold": found.thresholds, "precision": found.precision, "recall": found.recall, "f1": found.f1}
        return named | {"iou": found.f1 / (2 - found.f1)}

    def _channel(self, class_id: int) -> int:
        return self.counts().legend.channel(class_id)

    def _tell(self, share: float) -> None:
        self.done = share


def overall(judges: Sequence[Judge]) -> dict[str, Any]:
    """Scores of several places together, with intervals over them, as `satmask score` draws them.

    Images of one place by their names are drawn together. Places without truth, or with other classes than the first, are
    left out, and so are those that can't be read.

    Args:
        judges: The places' judges.

    Returns:
        `classes`, each with `id`, `name` and for every measure `value`, `low` and `high`, None where unknown; `level`, the
        share of draws between the two; `places`, how many were counted; `left_out`, their names.

    Raises:
        SettingError: If none is left.
    """
    parts: list[tuple[str, Confusion]] = []
    left_out = []
    for judge in judges:
        try:
            part = judge.counts().confusion
        except SatmaskError:
            part = None
        if part is None or (parts and part.legend != parts[0][1].legend):
            left_out.append(judge.place.name)
        else:
            parts.append((judge.place.files.stem, part))
    if not parts:
        msg = f"Places must have classes and truth to be scored, got none among {len(judges)}."
        raise SettingError(msg)
    groups = [place_of(name) for name, _ in parts]
    found = interval_of_sums([part for _, part in parts], _measures, groups=groups)
    legend = parts[0][1].legend
    classes = [
        {"id": entry.id, "name": entry.name}
        | {
            name: {key: _plain(getattr(found, key)[row, channel]) for key in ("value", "low", "high")}
            for row, name in enumerate(MEASURES)
        }
        for channel, entry in enumerate(legend)
    ]
    return {"classes": classes, "level": found.level, "places": found.drawn, "left_out": left_out}


def _measures(score: Confusion) -> np.ndarray:
    return np.stack([getattr(score, name) for name in MEASURES])


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
