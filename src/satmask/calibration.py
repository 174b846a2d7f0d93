"""Calibration: temperatures, and biases where they help, with which a network says 80 % where it is right in 80 % of cases.

They are chosen on images with labels that the network wasn't trained on, and judged on places that they weren't chosen on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.evidence import Evidence, PixelSample, draw, gather
from satmask.fitting import open_for
from satmask.prediction import walk
from satmask.scaling import Scaling
from satmask.tuning import assign

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_info import ModelInfo
    from satmask.scoring.thresholds import ThresholdCounts

# Less than this share of the log-loss isn't worth a change.
WORTH = 0.01
# Pixels of exclusive classes that are kept over all images, and those of an image whose windows are worked on by several
# threads.
KEPT, LARGE = 1 << 21, 1280
ALL = "most probable class"

T = TypeVar("T")
Parts: TypeAlias = "dict[tuple[int, str], Evidence]"  # by fold and place


@dataclass(frozen=True)
class Grade:
    """How far a class's probabilities can be believed.

    Attributes:
        name: The class; `ALL` for the most probable one of classes that exclude each other.
        temperature: The temperature that is best on all images.
        bias: The bias that goes with it.
        before: Expected calibration error as it was, 0 to 1; NaN without pixels.
        estimate: The same where each image is scaled by what was chosen without its place; NaN without a second place.
        after: The same on the images on which the scaling was chosen, which flatters.
        loss_before: Mean log-loss of a pixel as it was, in nats; NaN where only all classes together have one.
        loss_estimate: The same with what was chosen without its place.
        better: Whether the scaling is to be used: it lowers the estimated log-loss by `WORTH` or more.
    """

    name: str
    temperature: float
    bias: float
    before: float
    estimate: float
    after: float
    loss_before: float
    loss_estimate: float
    better: bool


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was chosen for a network.

    Attributes:
        scaling: To be applied to what the network says now; of classes that aren't better, nothing.
        grades: One a class, in the legend's order, and one for the most probable class where they exclude each other.
        places: Expected calibration error of each class by place, before and as estimated, NaN where there is none.
        before: Probabilities against truth as they were.
        estimate: The same where each image is scaled by what was chosen without its place; as before without a second one.
        images: Images used.
        folds: Parts in which they were judged; 1 where no gain could be told.
    """

    scaling: Scaling
    grades: tuple[Grade, ...]
    places: dict[str, dict[str, tuple[float, float]]]
    before: ThresholdCounts
    estimate: ThresholdCounts
    images: int
    folds: int

    @property
    def better(self) -> tuple[str, ...]:
        """Names of the classes that are better."""
        return tuple(grade.name for grade in self.grades if grade.better)

    def apply(self, info: ModelInfo) -> ModelInfo:
        """What a model file says with this scaling on top of its own; its thresholds go along, so that masks stay."""
        whole = info.scaling.then(self.scaling)
        told = {key: value for key, value in self.to_dict().items() if key != "places"}
        changes = {
            "temperatures": whole.temperatures,
            "biases": whole.biases,
            "thresholds": self.scaling.thresholds(info.thresholds),
            "training": {**info.training, "calibration": told},
        }
        return info.model_copy(update=changes)

    def to_dict(self) -> dict[str, Any]:
        """The choices as plain values for JSON, None in place of NaN."""
        classes = [
            {key: _plain(value) if isinstance(value, float) else value for key, value in vars(grade).items()}
            for grade in self.grades
        ]
        places = {
            place: {name: {"before": _plain(was), "estimate": _plain(now)} for name, (was, now) in found.items()}
            for place, found in self.places.items()
        }
        return {"images": self.images, "folds": self.folds, "classes": classes, "places": places}


def calibrate(
    engine: Engine, samples: Sequence[Sample], *, folds: int = 5, progress: Callable[[int], None] = lambda _: None
) -> Calibration:
    """Choose temperatures and biases on images with labels that the network wasn't trained on.

    Images are judged in parts that keep places together: of each part, with what was chosen on the others. Where classes
    overlap, each gets a temperature, and a bias where that is worth it. Where they exclude each other, there is one
    temperature for all, which leaves the decision as it is.

    Args:
        engine: The network.
        samples: The images.
        folds: Parts at most, 2 or more.
        progress: Called with 1 after each image.

    Returns:
        The choices; none is better where there is but one image.

    Raises:
        SettingError: If there are less than 2 folds.
        DataError: If there are no images.
    """
    if folds < 2:
        msg = f"Calibration must have 2 folds or more, got {folds}."
        raise SettingError(msg)
    if not samples:
        msg = "Calibration must have images with labels, got none."
        raise DataError(msg)
    parts: Parts = {}
    for sample, fold, found in zip(samples, assign(samples, folds), _gather_all(engine, samples), strict=True):
        key = fold, sample.place
        parts[key] = parts[key] + found if key in parts else found  # type: ignore[operator]  # both are of one kind
        progress(1)
    return choose(parts, images=len(samples))


def choose(parts: Parts, *, images: int) -> Calibration:
    """Choose a scaling, and judge it part by part.

    Args:
        parts: Evidence by fold and place.
        images: Images that it is from.
    """
    every = _sum(parts.values())
    legend, folds = every.legend, {fold for fold, _ in parts}
    offers, apart = _offers(every), {fold: _offers(_without(parts, fold)) for fold in folds if len(folds) > 1}
    same, apart = offers[0], apart or dict.fromkeys(folds, [offers[0]] * 3)
    losses = np.array([_added(part.losses(apart[fold][at]) for (fold, _), part in parts.items()) for at in range(3)])
    losses /= np.maximum(every.weights(), 1)
    kept = [_worth(column) for column in losses.T] * (len(legend) if legend.exclusive else 1)
    # What isn't worth it is told, too, but not used.
    shown = [max(which, 1) for which in kept]
    here, there = _mixed(offers, shown), {fold: _mixed(found, shown) for fold, found in apart.items()}
    before = every.counts(same)
    estimate = _added(part.counts(there[fold]) for (fold, _), part in parts.items())
    unknown = [math.nan] * len(legend)
    columns = {
        "temperature": here.temperatures,
        "bias": here.biases,
        "before": _errors(before),
        "estimate": _errors(estimate) if len(folds) > 1 else unknown,
        "after": _errors(every.counts(here)),
        "loss_before": unknown if legend.exclusive else losses[0],
        "loss_estimate": unknown if legend.exclusive or len(folds) == 1 else _at(losses, shown),
    }
    grades = [
        Grade(name=name, better=kept[at] > 0, **{key: float(values[at]) for key, values in columns.items()})
        for at, name in enumerate(legend.names)
    ]
    if legend.exclusive:
        grades.append(_grade_all(parts, here, there, losses[:2, 0]))
    places = {place: _of_place(parts, place, there) for place in sorted({place for _, place in parts})}
    return Calibration(_mixed(offers, kept), tuple(grades), places, before, estimate, images, len(folds))


def _gather_all(engine: Engine, samples: Sequence[Sample]) -> Iterator[Evidence]:
    """Evidence of each image, in order; small images are predicted side by side."""
    most = -(-KEPT // len(samples))
    small = max(max(sample.shape) for sample in samples) <= LARGE
    with ThreadPoolExecutor(engine.workers if small else 1, thread_name_prefix="satmask-calibrate") as pool:
        yield from pool.map(lambda pair: _gather(engine, pair[1], most=most, seed=pair[0]), enumerate(samples))


def _gather(engine: Engine, sample: Sample, *, most: int, seed: int) -> Evidence:
    legend, found = engine.info.legend, []
    with open_for(engine.info, sample.image) as scene:
        height, width = scene.shape
        share = min(most / (height * width), 1.0) if legend.exclusive else 1.0
        for piece in walk(engine, scene):
            core = piece.tile.core
            truth = sample.labels.read(core)
            counted = truth.labelled & piece.valid
            if legend.exclusive:
                counted &= truth.classes.sum(axis=-1) == 1
            if share < 1:
                counted &= draw(core, width=width, share=share, seed=seed)
            found.append(gather(piece.probabilities[counted], truth.classes[counted], legend, weight=1 / share))
    return _sum(found)


def _offers(found: Evidence) -> list[Scaling]:
    """No change, a temperature, a temperature with a bias."""
    same = Scaling.none(len(found.legend), exclusive=found.legend.exclusive)
    return [same, found.fit(), found.fit(bias=True)]


def _worth(losses: np.ndarray) -> int:
    """Which offer to take: the next one only where it lowers the log-loss by a share worth it."""
    best = 0
    for at in (1, 2):
        if losses[at] < (1 - WORTH) * losses[best]:
            best = at
    return best


def _mixed(offers: Sequence[Scaling], which: Sequence[int]) -> Scaling:
    """Of each class the offer that was chosen for it."""
    temperatures = tuple(offers[offer].temperatures[at] for at, offer in enumerate(which))
    biases = tuple(offers[offer].biases[at] for at, offer in enumerate(which))
    return Scaling(temperatures, biases, offers[0].exclusive)


def _grade_all(parts: Parts, here: Scaling, there: dict[int, Scaling], losses: np.ndarray) -> Grade:
    """The grade of the most probable class: what is known as the calibration error of a network."""
    same = Scaling.none(len(here.temperatures), exclusive=True)
    pixels = [(fold, part) for (fold, _), part in parts.items() if isinstance(part, PixelSample)]
    before, estimate, after = (
        _added(part.sureness(scaling(fold)) for fold, part in pixels)
        for scaling in (lambda _: same, there.__getitem__, lambda _: here)
    )
    was, estimated, flattered = (_errors(counts)[0] for counts in (before, estimate, after))
    known = len(there) > 1
    return Grade(
        ALL,
        here.temperatures[0],
        0.0,
        was,
        estimated if known else math.nan,
        flattered,
        float(losses[0]),
        float(losses[1]) if known else math.nan,
        better=_worth(np.append(losses, math.inf)) > 0,
    )


def _of_place(parts: Parts, place: str, there: dict[int, Scaling]) -> dict[str, tuple[float, float]]:
    """Calibration error of each class in one place, before and as estimated."""
    mine = [(fold, part) for (fold, name), part in parts.items() if name == place]
    legend = mine[0][1].legend
    same = Scaling.none(len(legend), exclusive=legend.exclusive)
    before = _errors(_added(part.counts(same) for _, part in mine))
    estimate = _errors(_added(part.counts(there[fold]) for fold, part in mine))
    known = len(there) > 1
    return {
        name: (float(before[at]), float(estimate[at]) if known else math.nan) for at, name in enumerate(legend.names)
    }


def _errors(counts: ThresholdCounts) -> list[float]:
    return [counts.reliability(channel).calibration_error for channel in range(len(counts.legend))]


def _at(losses: np.ndarray, which: Sequence[int]) -> np.ndarray:
    return np.asarray(losses[which, np.arange(losses.shape[1])])


def _sum(found: Iterable[Evidence]) -> Evidence:
    return _added(found)


def _without(parts: Parts, fold: int) -> Evidence:
    return _sum(part for (other, _), part in parts.items() if other != fold)


def _added(values: Iterable[T]) -> T:
    return reduce(add, values)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
