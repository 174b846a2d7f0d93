"""Tuning: thresholds, smallest areas and refinements of each class that score best on images with labels.

What the network says of each image is kept, and each setting is tallied part by part. Tallies add over images, so that a
choice made on some parts is judged on the others: that tells the gain honestly.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.fitting import open_for
from satmask.prediction import LARGEST
from satmask.tuning.cached import Cache, digest_info, digest_model
from satmask.tuning.measuring import Image
from satmask.tuning.search import Tables, search
from satmask.tuning.settings import PARTS, Choices, Setting, choices
from satmask.tuning.tallies import ObjectTally, Tally, total

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_info import ModelInfo

__all__ = ["METRICS", "Cache", "Choice", "Metric", "Tuning", "assign", "choose", "digest_model", "in_metric", "tune"]

Metric = Literal["iou", "f1", "dstl", "ap50"]
METRICS = ("iou", "f1", "dstl", "ap50")
# A class that is hardly ever found gains thousandths by being seen everywhere. Half a point is the least that counts.
LEAST_GAIN = 0.005
# Images up to this size are tallied several at a time; each takes some 60 bytes a pixel meanwhile.
COUNTED_PX = 2**24


@dataclass(frozen=True)
class Choice:
    """What was chosen for one class.

    Attributes:
        name: The class.
        threshold: Probability from which a pixel has it; None where classes exclude each other.
        smallest: Size from which a group is kept, in square pixels or square metres.
        separate: Depth at which objects are parted, in pixels or metres.
        opening: Radius of the opening.
        closing: Radius of the closing.
        hole: Size from which a hole stays, in square pixels or square metres.
        before: IoU, or AP, with the decision as it was; NaN where the class doesn't occur.
        estimate: The same where each image is decided by what was chosen without its part; NaN without a second part.
        after: The same on the images on which it was chosen, which flatters.
        better: Whether the choice is to be used: the estimate is above what was before by the least gain.
    """

    name: str
    threshold: float | None
    smallest: float
    separate: float
    opening: float
    closing: float
    hole: float
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
        folds: Parts in which they were judged; 1 where there was but one image, so that no gain could be told.
        by_place: Whether parts share no place; else they are of single images, and gains flatter.
        in_m2: Whether sizes are metres and square metres.
    """

    choices: tuple[Choice, ...]
    metric: Metric
    images: int
    folds: int
    by_place: bool
    in_m2: bool

    def mean(self, key: Literal["before", "estimate"]) -> float:
        """The mean over classes of the metric, before or as estimated; classes that keep what they had count as before."""
        values = [getattr(choice, key if choice.better else "before") for choice in self.choices]
        known = np.array([value for value in values if not np.isnan(value)])
        return float(in_metric(known, self.metric).mean()) if len(known) else float("nan")

    def apply(self, info: ModelInfo) -> ModelInfo:
        """What a model file says with the better choices in it, and how they were found."""
        decision = info.decision.updated({"class": [self._entry(choice) for choice in self.choices if choice.better]})
        keys = ("thresholds", "min_area_m2", "min_area_px", "refinements")
        told = self.to_dict()
        del told["classes"]
        changes = {key: getattr(decision, key) for key in keys} | {"training": {**info.training, "tuning": told}}
        return info.model_copy(update=changes)

    def _entry(self, choice: Choice) -> dict[str, Any]:
        side, area = ("m", "m2") if self.in_m2 else ("px", "px")
        limit = {} if choice.threshold is None else {"threshold": choice.threshold}
        return {
            "name": choice.name,
            **limit,
            f"min_area_{area}": choice.smallest,
            f"open_{side}": choice.opening,
            f"close_{side}": choice.closing,
            f"min_hole_{area}": choice.hole,
            f"separate_{side}": choice.separate,
        }

    def to_dict(self) -> dict[str, Any]:
        """The choices as plain values for JSON, None in place of NaN."""
        classes = [
            {key: _plain(value) if isinstance(value, float) else value for key, value in vars(choice).items()}
            for choice in self.choices
        ]
        told = {key: getattr(self, key) for key in ("metric", "images", "folds", "by_place", "in_m2")}
        means = {"before": _plain(self.mean("before")), "estimate": _plain(self.mean("estimate"))}
        return {**told, **means, "classes": classes}


def tune(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    metric: Metric = "iou",
    folds: int = 5,
    least_gain: float = LEAST_GAIN,
    only: Collection[str] = PARTS,
    cache: Cache | None = None,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> Tuning:
    """Choose how classes are decided, on images with labels that the network wasn't trained on.

    Images are judged in parts that keep places together: of each part, what was chosen on the others. IoU, F1 and the
    Jaccard index of DSTL rise and fall together class by class, so that the same choice is best for all three; they
    differ in the numbers told. AP at IoU 0.5 is of objects: groups of pixels that share edges, or parts of them. Merging
    rules are left aside.

    Args:
        engine: The network.
        samples: The images.
        metric: "iou", "f1", "dstl" or "ap50".
        folds: Parts at most, 2 or more.
        least_gain: By how much images judged by what was chosen without them must get better; less than 0 takes the choice even
            where they get a little worse.
        only: What is chosen, of "threshold", "area", "separate", "opening", "closing" and "hole"; the rest stays as it is.
        cache: Where to keep what the network says; a folder that is gone afterwards by default.
        progress: Called with 1 and its name after each image, and with 0 and what is sought after that.

    Returns:
        The choices; none is better where there is only one image.

    Raises:
        SettingError: If a setting is out of range.
        DataError: If there are no images.

    References:
        Grimaud, "New measure of contrast: the dynamics", 1992, https://doi.org/10.1117/12.60650, for what parts objects.
    """
    if metric not in METRICS or folds < 2:
        msg = f"Tuning must be for {', '.join(METRICS)}, with 2 folds or more, got {metric!r} and {folds} folds."
        raise SettingError(msg)
    if not only or not set(only) <= set(PARTS):
        msg = f"Tuning must choose some of {', '.join(PARTS)}, got {', '.join(only) or 'nothing'}."
        raise SettingError(msg)
    if set(only) == {"separate"} and metric != "ap50":
        msg = f"Tuning of separation alone must be for ap50, got {metric}: parting objects changes no pixel."
        raise SettingError(msg)
    if not samples:
        msg = "Tuning must have images with labels, got none."
        raise DataError(msg)
    with contextlib.ExitStack() as stack:
        if cache is None:
            cache = Cache(Path(stack.enter_context(tempfile.TemporaryDirectory())), digest_info(engine.info))
        # Large images are run with all threads each.
        workers = engine.workers if all(max(sample.shape) <= LARGEST for sample in samples) else 1
        with ThreadPoolExecutor(workers, thread_name_prefix="satmask-tune") as loading:
            for sample, _ in zip(samples, loading.map(partial(cache.load, engine), samples), strict=True):
                progress(1, sample.name)
        workers = engine.workers if all(math.prod(sample.shape) <= COUNTED_PX for sample in samples) else 1
        pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="satmask-tune"))
        pixels = _pixel_sizes(engine.info, samples)
        parts = assign(samples, folds)
        found = []
        for at, name in enumerate(engine.info.legend.names):
            progress(0, f"choosing for {name}")
            images = [
                Image(
                    partial(cache.load, engine, sample),
                    sample.labels,
                    engine.info,
                    at,
                    shape=sample.shape,
                    gsd_m=pixels.get(sample.name),
                )
                for sample in samples
            ]
            tried = choices(engine.info, at, in_m2=bool(pixels), objects=metric == "ap50")
            tried = tried.only(only)
            tables = Tables(partial(_measure, images, parts, tried, pool, objects=metric == "ap50"))
            found.append(choose(tables, tried, len(set(parts)), least_gain=least_gain))
    named = len({sample.place for sample in samples}) > 1
    return Tuning(tuple(found), metric, len(samples), len(set(parts)), named, bool(pixels))


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


def choose(tables: Tables, tried: Choices, parts: int, *, least_gain: float = LEAST_GAIN) -> Choice:
    """Choose for one class, and judge the choice part by part.

    Args:
        tables: Tallies of settings by part.
        tried: What is tried.
        parts: How many parts there are; they share no place.
        least_gain: What the estimate must gain for the choice to be better.

    Returns:
        The choice.
    """
    every = list(range(parts))
    best = search(tables, every, tried)
    own = total(tables.of([tried.own])[0]).scores()[tried.own_area]
    # Of each part, what the others would choose.
    others = [search(tables, [part for part in every if part != left], tried) for left in every] if parts > 1 else []
    estimate = float("nan")
    if others:
        decided = [tables.of([found.setting])[0][left].at(found.area) for left, found in enumerate(others)]
        estimate = float(total(decided).scores()[0])
    setting, better = best.setting, bool(estimate - own >= least_gain) and _true(tables, tried)
    return Choice(
        tried.name,
        setting.threshold,
        tried.areas[best.area],
        setting.separate,
        setting.opening,
        setting.closing,
        setting.hole,
        float(own),
        estimate,
        best.score,
        better,
    )


def in_metric(value: np.ndarray, metric: Metric) -> np.ndarray:
    """An IoU, or an AP, in the words of a metric: F1 is 2 IoU / (1 + IoU)."""
    return 2 * value / (1 + value) if metric == "f1" else value


def _true(tables: Tables, tried: Choices) -> bool:
    """Whether the class occurs in the truth at all."""
    tallies = tables.of([tried.own])[0]
    return any(tally.truths if isinstance(tally, ObjectTally) else tally.truth for tally in tallies)  # type: ignore[attr-defined]  # the other kind


def _measure(
    images: Sequence[Image],
    parts: Sequence[int],
    tried: Choices,
    pool: ThreadPoolExecutor,
    settings: Sequence[Setting],
    *,
    objects: bool,
) -> list[list[Tally]]:
    """Tally settings on all images, part by part."""

    def of(image: Image) -> Sequence[Tally]:
        return image.object_tallies(settings, tried) if objects else image.pixel_tallies(settings, tried)

    mine: list[list[Tally]] = [[] for _ in set(parts)]
    for part, tallies in zip(parts, pool.map(of, images), strict=True):
        mine[part].append(tallies)  # type: ignore[arg-type]  # lists of tallies, turned below
    return [[total([tallies[at] for tallies in part]) for part in mine] for at in range(len(settings))]  # type: ignore[index]


def _pixel_sizes(info: ModelInfo, samples: Sequence[Sample]) -> dict[str, float]:
    """Side of a pixel of each image in metres; empty unless all are known, or where sizes are in pixels already."""
    in_pixels = any(info.min_area_px) or any(key.endswith("px") for rule in info.refinements for key in rule.to_dict())
    found = dict[str, float]()
    if info.gsd_m is None or in_pixels:
        return found
    for sample in samples:
        with open_for(info, sample.image) as scene:
            if scene.grid.gsd_m is None:
                return {}
            found[sample.name] = scene.grid.gsd_m
    return found


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
