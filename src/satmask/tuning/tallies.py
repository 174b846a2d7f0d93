"""Tallies: what a setting got right on some images, for every smallest area at once. They add over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol, Self, TypeVar

import numpy as np

from satmask.scoring.coco_matches import Category, CocoMatches


class Tally(Protocol):
    """What a setting got right."""

    def __add__(self, other: Self) -> Self:
        """Tally both."""

    def at(self, area: int) -> Self:
        """The tally with one smallest area only, by its place."""

    def scores(self) -> np.ndarray:
        """The score with each smallest area, float64, `(areas,)`; NaN without any truth to be found or missed."""


@dataclass(frozen=True, eq=False)
class PixelTally:
    """Pixels of a class.

    Attributes:
        truth: Those of the truth.
        kept: Those in groups of at least each size: first those that aren't of the class, then those that are; int64,
            `(areas, 2)`.
    """

    truth: int
    kept: np.ndarray

    def __add__(self, other: PixelTally) -> PixelTally:
        """Count both."""
        return PixelTally(self.truth + other.truth, self.kept + other.kept)

    def at(self, area: int) -> PixelTally:
        """The counts with one smallest area."""
        return PixelTally(self.truth, self.kept[area : area + 1])

    def scores(self) -> np.ndarray:
        """IoU; NaN where neither side has a pixel.

        Examples:
            >>> PixelTally(4, np.array([[2, 3], [0, 3]])).scores().tolist()
            [0.5, 0.75]
        """
        union = np.asarray(self.truth + self.kept[:, 0], np.float64)
        return np.asarray(np.divide(self.kept[:, 1], union, out=np.full(union.shape, np.nan), where=union > 0))


@dataclass(frozen=True, eq=False)
class ObjectTally:
    """Objects of a class.

    Attributes:
        truths: Objects of the truth.
        scores_: Score of each object found: the mean probability of its pixels, float64, `(objects,)`.
        found: Whether it is one of the truth, at IoU 0.5, bool.
        bins: Place of the largest smallest area with which its group is kept, int64.
        areas: How many smallest areas there are.
    """

    truths: int
    scores_: np.ndarray
    found: np.ndarray
    bins: np.ndarray
    areas: int

    def __add__(self, other: ObjectTally) -> ObjectTally:
        """List both."""
        scores, found, bins = (
            np.concatenate(pair)
            for pair in ((self.scores_, other.scores_), (self.found, other.found), (self.bins, other.bins))
        )
        return ObjectTally(self.truths + other.truths, scores, found, bins, self.areas)

    def at(self, area: int) -> ObjectTally:
        """The objects with one smallest area."""
        kept = self.bins >= area
        nothing = np.zeros(int(kept.sum()), np.int64)
        return ObjectTally(self.truths, self.scores_[kept], self.found[kept], nothing, 1)

    def scores(self) -> np.ndarray:
        """Average precision at IoU 0.5 as COCO counts, but for its limit of 100 objects an image.

        Whether an object is found depends on no other: objects that don't overlap reach an IoU above 0.5 with different
        ones. So those that are too small are simply left out.

        Examples:
            >>> found = ObjectTally(1, np.array([0.9, 0.8]), np.array([False, True]), np.array([0, 1]), 2)
            >>> found.scores().round(3).tolist()
            [0.5, 1.0]
        """
        if not self.truths:
            return np.full(self.areas, np.nan)
        order = np.argsort(-self.scores_, kind="stable")
        found, bins = self.found[order], self.bins[order]
        one = np.ones(1, np.int64)
        values = []
        for area in range(self.areas):
            kept = found[bins >= area]
            category = Category(np.zeros(len(kept), np.int64), kept, one * self.truths)
            values.append(CocoMatches((0,), (category,)).scores(one)[0])
        return np.asarray(values)


T = TypeVar("T", bound=Tally)


def total(tallies: Sequence[T]) -> T:
    """Add tallies up; there must be some."""
    return reduce(add, tallies)
