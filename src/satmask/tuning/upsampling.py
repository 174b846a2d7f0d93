"""From which size of pixels on a network is better off seeing each pixel as four, see `satmask.upsampling`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.fitting import SAME_GSD, open_for
from satmask.prediction import decide_pixels, walk
from satmask.scoring.pixels import Confusion, confusion
from satmask.tuning import LEAST_GAIN, assign

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_info import ModelInfo


@dataclass(frozen=True)
class Distance:
    """What a network reaches on images of one ground sampling distance.

    Attributes:
        gsd_m: The distance in metres.
        images: How many there are.
        plain: Mean IoU of the classes where pixels are seen as they are.
        upsampled: The same where each is seen as four.
    """

    gsd_m: float
    images: int
    plain: float
    upsampled: float


@dataclass(frozen=True)
class UpsamplingChoice:
    """What was chosen.

    Attributes:
        above_m: Ground sampling distance in metres from which on pixels are seen as four; None where they never are.
        distances: What was measured, finest first.
        before: Mean IoU of the classes over the ground of all images with what the model file says.
        estimate: The same where each image is seen as was chosen without its part; NaN without a second part.
        after: The same on the images on which it was chosen, which flatters.
        folds: Parts in which images were judged.
        better: Whether the choice is another than the model file's, and its estimate better by the least gain.
    """

    above_m: float | None
    distances: tuple[Distance, ...]
    before: float
    estimate: float
    after: float
    folds: int
    better: bool

    def apply(self, info: ModelInfo) -> ModelInfo:
        """What a model file says with this choice, and how it was found."""
        told = {key: value for key, value in self.to_dict().items() if key != "above_m"}
        return info.model_copy(
            update={"upsample_above_m": self.above_m, "training": {**info.training, "upsampling": told}}
        )

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain values for JSON, None in place of NaN."""
        found = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in vars(self).items()
        }
        return found | {"distances": [vars(distance) for distance in self.distances]}


@dataclass(frozen=True)
class _Seen:
    """One image: its distance, its part, and what is right and wrong on its ground, not upsampled and upsampled."""

    gsd_m: float
    part: int
    areas: tuple[np.ndarray, np.ndarray]  # `(classes, 3)` each: square metres found, invented and missed

    def at(self, above_m: float | None) -> np.ndarray:
        return self.areas[above_m is not None and self.gsd_m >= above_m]


def choose_upsampling(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    folds: int = 5,
    least_gain: float = LEAST_GAIN,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> UpsamplingChoice:
    """Choose from which size of pixels on a network sees each as four, on images that it wasn't trained on.

    Each image is seen both ways. The limit lies between two distances that occur, or below the finest; ground counts, so that
    one place at several distances counts for each alike. It is judged as `satmask.tuning.tune` judges what it chooses.

    Args:
        engine: The network; classes are decided by the thresholds of its file.
        samples: The images.
        folds: Parts at most, 2 or more.
        least_gain: By how much the mean IoU of images judged by what was chosen without them must get better.
        progress: Called with 1 and its name after each image.

    Returns:
        The choice.

    Raises:
        SettingError: If there are fewer than 2 folds.
        DataError: If there are no images, or one doesn't say how large its pixels are.
    """
    if folds < 2:
        msg = f"Tuning must have 2 folds or more, got {folds}."
        raise SettingError(msg)
    if not samples:
        msg = "Tuning must have images with labels, got none."
        raise DataError(msg)
    seen = []
    for sample, part in zip(samples, assign(samples, folds), strict=True):
        seen.append(_see(engine, sample, part))
        progress(1, sample.name)
    groups = _group(seen)
    # Below the finest, then halfway between two distances.
    limits = [None, groups[0][0].gsd_m / math.sqrt(2)]
    limits += [math.sqrt(fine[-1].gsd_m * coarse[0].gsd_m) for fine, coarse in pairwise(groups)]
    own, above_m = engine.info.upsample_above_m, _best(seen, limits)
    parts = sorted({image.part for image in seen})
    estimate = float("nan")
    if len(parts) > 1:
        chosen = {left: _best([image for image in seen if image.part != left], limits) for left in parts}
        estimate = _iou(image.at(chosen[image.part]) for image in seen)
    before = _iou(image.at(own) for image in seen)
    changed = any(image.at(own) is not image.at(above_m) for image in seen)
    return UpsamplingChoice(
        None if above_m is None else float(f"{above_m:.3g}"),
        tuple(
            Distance(
                round(group[0].gsd_m, 4),
                len(group),
                _iou(image.areas[0] for image in group),
                _iou(image.areas[1] for image in group),
            )
            for group in groups
        ),
        before,
        estimate,
        _iou(image.at(above_m) for image in seen),
        len(parts),
        better=changed and estimate - before >= least_gain,
    )


def _see(engine: Engine, sample: Sample, part: int) -> _Seen:
    info = engine.info
    with open_for(info, sample.image) as scene:
        gsd_m = scene.grid.gsd_m
        if gsd_m is None:
            msg = (
                f"Images must say how large their pixels are, got no CRS in {sample.name}. Tune on georeferenced ones."
            )
            raise DataError(msg)
        areas = []
        for upsampling in (1, 2):
            counts = Confusion.empty(info.legend)
            for piece in walk(engine, scene, upsampling=upsampling):
                truth = sample.labels.read(piece.tile.core)
                said = decide_pixels(piece.probabilities, info)
                counts += confusion(truth.classes, said, info.legend, valid=truth.labelled & piece.valid)
            told = np.stack([counts.true_positives, counts.false_positives, counts.false_negatives], axis=-1)
            areas.append(told * gsd_m**2)
    return _Seen(gsd_m, part, (areas[0], areas[1]))


def _group(seen: Sequence[_Seen]) -> list[list[_Seen]]:
    """Images by distance, finest first; those that hardly differ go together."""
    groups: list[list[_Seen]] = []
    for image in sorted(seen, key=lambda image: image.gsd_m):
        if groups and image.gsd_m < groups[-1][-1].gsd_m * SAME_GSD:
            groups[-1].append(image)
        else:
            groups.append([image])
    return groups


def _best(seen: Sequence[_Seen], limits: Sequence[float | None]) -> float | None:
    """The limit that is best on images; of equals the one that upsamples least."""
    rising = sorted(limits, key=lambda limit: math.inf if limit is None else limit, reverse=True)
    return max(rising, key=lambda limit: _iou(image.at(limit) for image in seen))


def _iou(areas: Iterable[np.ndarray]) -> float:
    """Mean IoU over the classes that occur."""
    found, invented, missed = np.sum(list(areas), axis=0).T
    either = found + invented + missed
    return float(np.mean(found[either > 0] / either[either > 0])) if (either > 0).any() else 0.0
