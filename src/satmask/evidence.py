"""Evidence: what tells how far a network's probabilities can be believed, small enough to be kept for each place.

Where classes overlap, logits are counted in fine bins, and every scaling can be judged by them. Where classes exclude
each other, a scaling turns all probabilities of a pixel together; there a sample of the pixels is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from satmask.errors import DataError
from satmask.legend import Legend
from satmask.scaling import HIGHEST, LOWEST, Scaling
from satmask.scoring.thresholds import BINS, ThresholdCounts, count_thresholds
from satmask.windows import Window

# Logits beyond lie in the outermost bins: 1 / (1 + e²⁴) is 4 · 10⁻¹¹.
REACH, STEPS = 24, 32
LOGIT_BINS = 2 * REACH * STEPS
# A temperature beyond tells that something else is wrong.
COLDEST, HOTTEST = 0.05, 20.0
ROUNDS = 60


@dataclass(frozen=True, eq=False)
class LogitCounts:
    """How many pixels got which logit, inside and outside each class: counts that add over images and machines.

    Attributes:
        legend: The classes, which may overlap.
        pixels: Pixels of each class and bin, float64, `(classes, 2, LOGIT_BINS)`, first those outside the class.
        sums: Their logits added up, float64, `(classes, LOGIT_BINS)`.
    """

    legend: Legend
    pixels: np.ndarray
    sums: np.ndarray

    def __add__(self, other: LogitCounts) -> LogitCounts:
        """Count both; they must be of the same classes."""
        return LogitCounts(self.legend, self.pixels + other.pixels, self.sums + other.sums)

    @property
    def logits(self) -> np.ndarray:
        """Mean logit of each bin, float64, `(classes, LOGIT_BINS)`; 0 where it is empty."""
        weight = self.pixels.sum(axis=1)
        return np.asarray(np.divide(self.sums, weight, out=np.zeros_like(self.sums), where=weight > 0))

    def fit(self, *, bias: bool = False) -> Scaling:
        """Find the scaling with the least log-loss, class by class; a class without pixels on both sides stays.

        Args:
            bias: Whether to look for biases, too.
        """
        found = [_fit_one(logits, *pixels, bias=bias) for logits, pixels in zip(self.logits, self.pixels, strict=True)]
        return Scaling(tuple(pair[0] for pair in found), tuple(pair[1] for pair in found))

    def losses(self, scaling: Scaling) -> np.ndarray:
        """Log-loss of all pixels added up, in nats, float64, `(classes,)`: −Σ log of what was said of what is so."""
        logits = self.logits / np.asarray(scaling.temperatures)[:, None] + np.asarray(scaling.biases)[:, None]
        outside, inside = self.pixels[:, 0], self.pixels[:, 1]
        return np.asarray((inside * np.logaddexp(0, -logits) + outside * np.logaddexp(0, logits)).sum(axis=1))

    def weights(self) -> np.ndarray:
        """Pixels of which `losses` are the sum, float64, `(classes,)`."""
        return np.asarray(self.pixels.sum(axis=(1, 2)))

    def counts(self, scaling: Scaling) -> ThresholdCounts:
        """Scaled probabilities against truth; all pixels of a bin of logits get that of their mean."""
        logits = self.logits / np.asarray(scaling.temperatures)[:, None] + np.asarray(scaling.biases)[:, None]
        said = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
        bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
        pixels, mass = np.zeros((len(self.legend), 2, BINS)), np.zeros((len(self.legend), BINS))
        for at, places in enumerate(bins):
            for side in (0, 1):
                pixels[at, side] = np.bincount(places, self.pixels[at, side], BINS)
            mass[at] = np.bincount(places, self.pixels[at].sum(axis=0) * said[at], BINS)
        return ThresholdCounts(self.legend, pixels, mass)


@dataclass(frozen=True, eq=False)
class PixelSample:
    """Pixels drawn from images whose classes exclude each other.

    Attributes:
        legend: The classes.
        said: Their probabilities, float32, `(pixels, classes)`.
        truth: Place of their class in the legend, int64, `(pixels,)`.
        weight: Pixels that each stands for, float64, `(pixels,)`.
    """

    legend: Legend
    said: np.ndarray
    truth: np.ndarray
    weight: np.ndarray

    def __add__(self, other: PixelSample) -> PixelSample:
        """Take the pixels of both."""
        pairs = ((self.said, other.said), (self.truth, other.truth), (self.weight, other.weight))
        return PixelSample(self.legend, *(np.concatenate(pair) for pair in pairs))

    def fit(self, *, bias: bool = False) -> Scaling:
        """Find the temperature with the least log-loss; `bias` changes nothing, for classes have none here."""
        del bias
        count = len(self.legend)
        if not len(self.truth):
            return Scaling.none(count, exclusive=True)
        logs = np.log(np.clip(self.said.astype(np.float64), LOWEST, 1))
        own = np.take_along_axis(logs, self.truth[:, None], axis=1)[:, 0]
        cold = 1.0
        for _ in range(ROUNDS):
            shares = _shares(cold * logs)
            mean = (shares * logs).sum(axis=1)
            slope = float(self.weight @ (mean - own))
            bend = float(self.weight @ ((shares * logs**2).sum(axis=1) - mean**2))
            if bend <= 0:
                break
            before, cold = cold, float(np.clip(cold - slope / bend, max(cold / 2, 1 / HOTTEST), 1 / COLDEST))
            if abs(cold - before) < 1e-9:
                break
        return Scaling((1 / cold,) * count, (0.0,) * count, exclusive=True)

    def losses(self, scaling: Scaling) -> np.ndarray:
        """Log-loss of all pixels added up, in nats: one number for all classes, float64, `(1,)`."""
        logs = np.log(np.clip(self.said.astype(np.float64), LOWEST, 1)) / scaling.temperatures[0]
        shares = np.take_along_axis(_shares(logs), self.truth[:, None], axis=1)[:, 0]
        return np.array([-(self.weight @ np.log(shares))])

    def weights(self) -> np.ndarray:
        """Pixels of which `losses` are the sum, float64, `(1,)`."""
        return np.array([self.weight.sum()])

    def counts(self, scaling: Scaling) -> ThresholdCounts:
        """Scaled probabilities against truth, each class by itself."""
        there = self.truth[:, None] == np.arange(len(self.legend))
        return count_thresholds(np.clip(scaling.apply(self.said), 0, 1), there, self.legend, weights=self.weight)

    def sureness(self, scaling: Scaling) -> ThresholdCounts:
        """How often the most probable class is right, as counts of a single class."""
        said = np.clip(scaling.apply(self.said), 0, 1)
        best = said.argmax(axis=1)
        right = (best == self.truth)[:, None]
        sure = np.take_along_axis(said, best[:, None], axis=1)
        return count_thresholds(sure, right, Legend.of(["right"]), weights=self.weight)


Evidence: TypeAlias = LogitCounts | PixelSample


def gather(said: np.ndarray, truth: np.ndarray, legend: Legend, *, weight: float = 1.0) -> Evidence:
    """Turn pixels into evidence.

    Args:
        said: What a network says of them, float32, `(pixels, classes)`.
        truth: One mask a class, bool or 0 and 1, `(pixels, classes)`; of exclusive classes each pixel has one.
        legend: The classes.
        weight: Pixels that each stands for.

    Returns:
        Logit counts, or a sample where classes exclude each other.

    Raises:
        DataError: If the shapes differ.

    Examples:
        >>> legend = Legend.of(["house"])
        >>> said, truth = np.full((4, 1), 0.9, np.float32), np.array([[1], [1], [1], [0]])
        >>> found = gather(said, truth, legend).fit()
        >>> found.apply(said)[0].round(3).tolist()
        [0.75]
    """
    if said.shape != truth.shape or said.shape[-1] != len(legend):
        msg = f"Evidence must have {len(legend)} probabilities and masks a pixel, got {said.shape} and {truth.shape}."
        raise DataError(msg)
    if legend.exclusive:
        return PixelSample(legend, said, np.asarray(truth).argmax(axis=1), np.full(len(said), weight))
    pixels, sums = np.zeros((len(legend), 2, LOGIT_BINS)), np.zeros((len(legend), LOGIT_BINS))
    for at in range(len(legend)):
        values = np.clip(said[:, at].astype(np.float64), LOWEST, HIGHEST)
        logits = np.clip(np.log(values / (1 - values)), -REACH, REACH)
        bins = np.minimum(((logits + REACH) * STEPS).astype(np.int64), LOGIT_BINS - 1)
        pixels[at] = np.bincount(bins + LOGIT_BINS * (truth[:, at] != 0), minlength=2 * LOGIT_BINS).reshape(2, -1)
        sums[at] = np.bincount(bins, logits, LOGIT_BINS)
    return LogitCounts(legend, weight * pixels, weight * sums)


def draw(window: Window, *, width: int, share: float, seed: int) -> np.ndarray:
    """Draw pixels of an image at random, each whatever the windows are that it is seen in.

    Args:
        window: The window.
        width: Of the image, in pixels.
        share: Of the pixels that is drawn, 0 to 1.
        seed: Other images have others.

    Returns:
        True where a pixel is drawn, bool, `(height, width)` of the window.

    References:
        Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014, https://doi.org/10.1145/2660193.2660195:
        the mixing function.
    """
    rows, columns = np.ogrid[window.row : window.row + window.height, window.column : window.column + window.width]
    mixed = (rows * width + columns + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) < np.float64(share) * 2.0**64)


def _fit_one(logits: np.ndarray, outside: np.ndarray, inside: np.ndarray, *, bias: bool) -> tuple[float, float]:
    """Temperature and bias of one class, by Newton's method: the log-loss is convex in 1 / T and the bias."""
    weight = outside + inside
    if not outside.any() or not inside.any():
        return 1.0, 0.0
    # Columns are what the slope is multiplied by, and 1; without a bias only the first counts.
    terms = np.stack([logits, np.ones_like(logits)])[: 1 + bias]
    found = np.array([1.0, 0.0])[: 1 + bias]

    def loss(values: np.ndarray) -> float:
        turned = values @ terms
        return float(inside @ np.logaddexp(0, -turned) + outside @ np.logaddexp(0, turned))

    here = loss(found)
    for _ in range(ROUNDS):
        said = 1 / (1 + np.exp(-np.clip(found @ terms, -700, 700)))
        slope = terms @ (weight * said - inside)
        bend = (terms * (weight * said * (1 - said))) @ terms.T
        step = np.linalg.lstsq(bend, slope, rcond=None)[0]
        while (there := loss(_bounded(found - step))) > here and np.abs(step).max() > 1e-12:
            step = step / 2
        found, gained, here = _bounded(found - step), here - there, there
        if gained <= 1e-12 * abs(here):
            break
    return 1 / float(found[0]), float(found[1]) if bias else 0.0


def _bounded(values: np.ndarray) -> np.ndarray:
    return np.asarray([np.clip(values[0], 1 / HOTTEST, 1 / COLDEST), *values[1:]])


def _shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
