"""Batches: windows of samples as the network wants them, images, truth and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from satmask.augment import Augmentation, augment
from satmask.compositing import cut_mix, paste_objects, weigh_edges
from satmask.stack import keep_open
from satmask.upsampling import double
from satmask.windows import Window, draw, draw_balanced, draw_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from satmask.datasets.dataset import Sample
    from satmask.survey import Survey

# Pixels enlarged further than this show no sensor's picture.
MOST_ENLARGED = 2.0
# What is this much coarser than wanted still counts as that fine.
ABOUT_AS_FINE = 1.1

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Reading:
    """How windows are read, the same in training and validation.

    Attributes:
        bands: Numbers of the bands, from 1; of stacks, their names.
        fill: Value of each band where a pixel isn't valid.
        low: Smallest usual value of each band, for augmentation.
        high: Largest usual value of each band.
        upsampling: 2 where the network sees each pixel as four, else 1.
    """

    bands: tuple[int | str, ...]
    fill: tuple[float, ...]
    low: np.ndarray
    high: np.ndarray
    upsampling: int = 1

    def read(
        self,
        sample: Sample,
        window: Window,
        *,
        settings: Augmentation | None = None,
        seed: Sequence[int] = (),
        scale: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read one window of a sample, varied if settings are given.

        Args:
            sample: Image and labels.
            window: What of them.
            settings: How much to vary.
            seed: Integers that fix the variation.
            scale: How many pixels the window has for each that the sample has along a side.

        Returns:
            Image, float32, `(height, width, bands)`; truth, uint8, `(height, width, classes)`; weight, float32,
            `(height, width)`, 0 where nothing may be learned; all as the network sees them.
        """
        place = window if settings is None else _scaled(window, sample.shape, settings, scale=scale, seed=seed)
        pixels = keep_open(sample.image, self.bands).read(place)
        truth = sample.labels.read(place)
        image = pixels.filled(self.fill)
        weight = (truth.labelled & pixels.valid).astype(np.float32)
        if settings is None:
            return self._seen(image, truth.classes, weight)
        varied = augment(
            image,
            truth.classes,
            weight,
            settings=settings,
            value_range=(self.low, self.high),
            random=np.random.default_rng(list(seed)),
            valid=pixels.valid,
            fill=np.asarray(self.fill, np.float32),
            size=(window.height, window.width) if settings.zoom or settings.gsd_m else None,
            eight_bit=pixels.values.dtype == np.uint8,
        )
        return self._seen(*varied)

    def _seen(
        self, image: np.ndarray, truth: np.ndarray, weight: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A window as the network sees it."""
        if self.upsampling == 1:
            return image, truth, weight
        larger_truth, larger_weight = (layer.repeat(2, axis=0).repeat(2, axis=1) for layer in (truth, weight))
        return double(image[None])[0], larger_truth, larger_weight


def _scaled(
    window: Window, shape: tuple[int, int], settings: Augmentation, *, scale: float = 1.0, seed: Sequence[int]
) -> Window:
    """What is read in order to be scaled to a window's size: less of it, or more of the ground around it.

    More ground stays within the image where that is large enough, so that it needn't be filled up.
    """
    random = np.random.default_rng([*seed, 1])
    factor, places = scale * (1 + settings.zoom) ** random.uniform(-1, 1), random.random(2)
    if factor == 1:
        return window
    starts, sides = [], []
    for begin, old, length, share in zip(
        (window.row, window.column), (window.height, window.width), shape, places, strict=True
    ):
        side = max(round(old / factor), 1)
        start = begin + int(share * (old - side + (1 if side <= old else -1)))
        starts.append(min(max(start, 0), max(length - side, 0)))
        sides.append(side)
    return Window(starts[0], starts[1], sides[0], sides[1])


def _draw(survey: Survey, *, sampling: str, **settled: Any) -> Iterator[tuple[int, Window]]:
    """Images and windows, as the recipe wants them drawn."""
    if sampling == "random":
        return draw(survey.shapes, **settled)
    chosen = draw_balanced if sampling == "balanced" else draw_mixed
    return chosen(survey.blocks, survey.shapes, **settled)


def _draw_at_distances(
    survey: Survey, gsd_m: tuple[float, float], *, count: int, seed: Sequence[int], **look: Any
) -> Iterator[tuple[int, Window, float]]:
    """Images, windows and scales: distances evenly over the logarithms, each from images that show that much detail.

    Enlarged, an image doesn't show what a finer sensor would have seen, so only the finest may have to be. Where one
    place is there at several distances, as in web maps, the fine windows would otherwise come mostly from coarse images.
    Among the images of a distance ground counts, and not how finely it was seen.
    """
    finest, coarsest = gsd_m
    random = np.random.default_rng([*seed, 3])
    known = np.where(np.isfinite(survey.gsds_m), survey.gsds_m, math.sqrt(finest * coarsest))
    wanted = finest * (coarsest / finest) ** ((np.arange(count) + random.random()) / count)
    levels = np.unique(known)
    # Web maps of one zoom differ by latitude.
    fit = np.searchsorted(levels, np.maximum(wanted, levels[0]) * ABOUT_AS_FINE, side="right")
    drawn: list[tuple[int, Window, float]] = []
    for number, distances in enumerate(np.split(wanted, np.flatnonzero(np.diff(fit)) + 1)):
        weights = np.where(known <= levels[fit[len(drawn)] - 1], known**2, 0.0)
        settled: dict[str, Any] = {"count": len(distances), "seed": (*seed, number), "weights": weights}
        for (index, window), distance in zip(_draw(survey, **look, **settled), distances, strict=True):
            told = math.isfinite(survey.gsds_m[index])
            drawn.append((index, window, min(known[index] / distance, MOST_ENLARGED) if told else 1.0))
    yield from (drawn[place] for place in random.permutation(count))


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """The batches of one epoch, straight from the files.

    Everything about epoch `e` follows from the seed and `e`, so a run that goes on after a kill sees the same pixels.

    Args:
        survey: The samples and where their classes are.
        reading: How windows are read.
        settings: How much they are varied.
        size: Side of a window, in pixels of the samples.
        count: Windows in the epoch; rounded up to whole batches.
        batch: Windows in a batch.
        sampling: How windows are drawn: "random", "balanced" (each class is met equally often) or "boundaries".
        edges: What pixels at edges of classes weigh more, and how wide an edge is in pixels; 0 weighs them alike.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        workers: Threads that read ahead.
    """

    def __init__(
        self,
        survey: Survey,
        reading: Reading,
        settings: Augmentation,
        *,
        size: int,
        count: int,
        batch: int,
        sampling: str = "random",
        edges: tuple[float, float] = (0.0, 5.0),
        seed: int,
        epoch: int,
        workers: int = 2,
    ) -> None:
        super().__init__(workers=workers, max_queue_size=8)
        self.reading, self.settings, self.samples = reading, settings, survey.samples
        self.batch, self.seeds, self.edges = batch, (seed, epoch), edges
        whole = math.ceil(count / batch) * batch
        look: dict[str, Any] = {"size": size, "sampling": sampling}
        if settings.gsd_m:
            self.draws = list(_draw_at_distances(survey, settings.gsd_m, count=whole, seed=self.seeds, **look))
        else:
            drawn = _draw(survey, count=whole, seed=self.seeds, **look)
            self.draws = [(index, window, 1.0) for index, window in drawn]

    def __len__(self) -> int:
        """Batches in the epoch."""
        return len(self.draws) // self.batch

    def __getitem__(self, step: int) -> Batch:
        """Images, truth and weights of one batch."""
        places = range(step * self.batch, (step + 1) * self.batch)
        return stack([self._read(place) for place in places])

    def _read(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        window = self._vary(place, (*self.seeds, place))
        if self.settings.cutmix or self.settings.paste:
            window = self._compose(window, place)
        image, truth, weight = window
        if self.edges[0]:
            weight = weigh_edges(truth, weight, most=self.edges[0], width_px=self.edges[1])
        return image, truth, weight

    def _vary(self, place: int, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index, window, scale = self.draws[place]
        return self.reading.read(self.samples[index], window, settings=self.settings, seed=seed, scale=scale)

    def _compose(self, window: tuple[np.ndarray, np.ndarray, np.ndarray], place: int) -> Any:
        """Put parts of other windows of the epoch into one, as often as the settings ask."""
        random = np.random.default_rng([*self.seeds, place, 2])
        exclusive = self.samples[self.draws[place][0]].labels.legend.exclusive
        for number, chance in enumerate((self.settings.cutmix, self.settings.paste)):
            taken, partner = random.random() < chance, int(random.integers(len(self.draws)))
            if not taken:
                continue
            other = self._vary(partner, (*self.seeds, place, 3 + number))
            if number == 0:
                window = cut_mix(window, other, random)
            else:
                window = paste_objects(window, other, random, first=int(exclusive))
        return window


class ValidationBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Every pixel of the samples once, in windows of one size; what hangs over an edge has weight 0.

    Args:
        samples: The validation samples.
        reading: How windows are read.
        size: Side of a window, in pixels of the samples.
        batch: Windows in a batch; the last one is filled up with windows of weight 0, so that shapes never change.
    """

    def __init__(self, samples: Sequence[Sample], reading: Reading, *, size: int, batch: int) -> None:
        super().__init__(workers=1, max_queue_size=8)
        self.reading, self.batch, self.size = reading, batch, size
        self.places = [
            (sample, Window(row, column, size, size))
            for sample in samples
            for row in range(0, sample.shape[0], size)
            for column in range(0, sample.shape[1], size)
        ]

    def __len__(self) -> int:
        """Batches over all samples."""
        return math.ceil(len(self.places) / self.batch)

    def __getitem__(self, step: int) -> Batch:
        """Images, truth and weights of one batch."""
        chosen = self.places[step * self.batch : (step + 1) * self.batch]
        windows = [self.reading.read(sample, window) for sample, window in chosen]
        image, truth, weight = windows[0]
        empty = (np.broadcast_to(np.asarray(self.reading.fill, np.float32), image.shape), truth * 0, weight * 0)
        return stack(windows + [empty] * (self.batch - len(windows)))


def stack(windows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    """Stack windows into a batch: images `(batch, height, width, bands)`, truth and weights likewise."""
    images, truths, weights = zip(*windows, strict=True)
    return np.stack(images), np.stack(truths), np.stack(weights)
