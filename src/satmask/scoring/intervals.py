"""How far a score may be trusted: bootstrap intervals over images, or over the places that they show.

The images scored are a sample of all that might have been. Drawing as many of them again and again, with replacement,
shows how much a score depends on which they happen to be. Images of one place are alike: then places should be drawn
rather than images, or intervals come out too narrow.

A score that is NaN in a draw, as that of a class that none of the images drawn has, is left out of its interval. Fewer than
two images or places say nothing about others: low and high are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from satmask.errors import SettingError

ROUNDS = 1000
LEVEL = 0.95
# Draws whose weights are held at a time.
BLOCK = 256
Sums = TypeVar("Sums")


@dataclass(frozen=True)
class Interval:
    """A score, or several, and where it lies in most draws.

    Attributes:
        value: The score of all images, float64, of the shape that the measure gives.
        low: The lower end, of the same shape; NaN where it isn't known.
        high: The upper end.
        level: Share of the draws between the two, above 0 and below 1.
        drawn: How many images, or places, were drawn from.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    drawn: int


def interval_of_sums(
    parts: Sequence[Sums],
    measure: Callable[[Sums], Any],
    *,
    groups: Sequence[Hashable] | None = None,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Find the interval of whatever follows from counts that add.

    Args:
        parts: Counts of each image: `Confusion`, `BoundaryScore`, `ObjectScore` or any dataclass whose arrays add.
        measure: The score, or an array of them, of such counts.
        groups: The place of each image, where places are to be drawn.
        rounds: How often to draw.
        level: Share of the draws that the interval holds.
        seed: Seed of the draws: the same gives the same.

    Returns:
        The interval, by the percentiles of the draws.

    Raises:
        SettingError: If there are no parts, or a setting can't be used.

    Examples:
        >>> from satmask.legend import Legend
        >>> from satmask.scoring.pixels import Confusion
        >>> legend = Legend.of(["house"])
        >>> matrices = np.array([[[[0, 1], [1, 8]]], [[[0, 1], [1, 2]]]])
        >>> found = interval_of_sums([Confusion(legend, matrix) for matrix in matrices], lambda score: score.iou[0])
        >>> float(found.low), round(float(found.value), 4), float(found.high)
        (0.5, 0.7143, 0.8)

    References:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals.
        Field & Welsh, "Bootstrapping clustered data", 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x
    """
    if not parts:
        msg = "Intervals must be of at least one image, got none."
        raise SettingError(msg)
    first: Any = parts[0]
    names = [entry.name for entry in fields(first) if isinstance(getattr(first, entry.name), np.ndarray)]
    # Products of floats are many times as fast as those of integers, and exact up to 2⁵³.
    stacks = {name: np.stack([getattr(part, name) for part in parts]).astype(np.float64) for name in names}

    def weighed(weights: np.ndarray) -> Any:
        sums = {name: np.tensordot(weights.astype(np.float64), stack, axes=1) for name, stack in stacks.items()}
        return measure(replace(first, **{name: _as(sums[name], getattr(first, name).dtype) for name in names}))

    return interval(weighed, len(parts), groups=groups, rounds=rounds, level=level, seed=seed)


def interval(
    measure: Callable[[np.ndarray], Any],
    images: int,
    *,
    groups: Sequence[Hashable] | None = None,
    rounds: int = ROUNDS,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Find the interval of any score that can be told how often each image counts.

    Args:
        measure: The score, or an array of them, when images count as often as an array says: int64, `(images,)`.
        images: How many there are.
        groups: See `interval_of_sums`.
        rounds: See `interval_of_sums`.
        level: See `interval_of_sums`.
        seed: See `interval_of_sums`.

    Returns:
        The interval, by the percentiles of the draws.

    Raises:
        SettingError: If a setting can't be used.

    Examples:
        >>> heights = np.array([3.0, 3.0, 3.0])
        >>> found = interval(lambda weights: weights @ heights / weights.sum(), 3)
        >>> float(found.low), float(found.value), float(found.high)
        (3.0, 3.0, 3.0)
    """
    _check(images, groups, rounds, level)
    value = np.asarray(measure(np.ones(images, np.int64)), np.float64)
    _, owner = np.unique([str(group) for group in groups], return_inverse=True) if groups else (0, np.arange(images))
    count = int(owner.max()) + 1
    unknown = np.full(value.shape, np.nan)
    if count < 2:
        return Interval(value, unknown, unknown, level, count)
    random = np.random.default_rng(seed)
    even = np.full(count, 1 / count)
    drawn: list[Any] = []
    for begin in range(0, rounds, BLOCK):
        weights = random.multinomial(count, even, size=min(BLOCK, rounds - begin)).astype(np.int64)
        drawn += [measure(row) for row in weights[:, owner]]
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = _quantiles(np.asarray(drawn, np.float64), tails)
    return Interval(value, low, high, level, count)


def _as(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.asarray(np.rint(values) if dtype.kind in "iu" else values, dtype)


def _quantiles(draws: np.ndarray, shares: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles over the first axis without what is NaN, and NaN where all is."""
    known = ~np.isnan(draws).all(axis=0)
    filled = np.where(known, draws, 0.0)
    low, high = (np.where(known, np.nanquantile(filled, share, axis=0), np.nan) for share in shares)
    return low, high


def _check(images: int, groups: Sequence[Hashable] | None, rounds: int, level: float) -> None:
    if images < 1 or rounds < 1 or not 0 < level < 1:
        msg = (
            "Intervals must have at least one image, at least one round and a level above 0 and below 1, "
            f"got {images}, {rounds} and {level}."
        )
        raise SettingError(msg)
    if groups is not None and len(groups) != images:
        msg = f"Images must have one group each, got {len(groups)} groups of {images} images."
        raise SettingError(msg)
