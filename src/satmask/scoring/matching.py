"""Which predicted object is which true one: overlaps, and one-to-one matches by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.errors import SettingError

Matching = Literal["greedy", "optimal"]
# Areas of intersections are rounded: an IoU of exactly 0.5 must reach 0.5.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How much objects of the truth and predicted ones share; only pairs that share some area are listed.

    Attributes:
        truth_areas: Area of each true object, float64, `(truths,)`, in square units of the coordinates.
        predicted_areas: Area of each predicted object, float64, `(predictions,)`.
        pairs: Place of the true and of the predicted object, int64, `(pairs, 2)`.
        shared: Area that the two share, float64, above 0, `(pairs,)`.
    """

    truth_areas: np.ndarray
    predicted_areas: np.ndarray
    pairs: np.ndarray
    shared: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each pair, float64, above 0 to 1, `(pairs,)`."""
        both = self.truth_areas[self.pairs[:, 0]] + self.predicted_areas[self.pairs[:, 1]]
        return np.asarray(self.shared / (both - self.shared))


def find_overlaps(
    truth: Sequence[BaseGeometry] | np.ndarray, predicted: Sequence[BaseGeometry] | np.ndarray
) -> Overlaps:
    """Find which objects share area, and how much.

    Args:
        truth: Valid polygons or multipolygons; they may overlap one another.
        predicted: The same of the prediction, in the same coordinates.

    Returns:
        The overlaps, sorted by place in the truth, then in the prediction.

    Examples:
        >>> found = find_overlaps([shapely.box(0, 0, 2, 1)], [shapely.box(1, 0, 3, 1), shapely.box(5, 5, 6, 6)])
        >>> found.pairs.tolist(), found.shared.tolist(), found.iou.round(4).tolist()
        ([[0, 0]], [1.0], [0.3333])
    """
    true, said = (np.asarray([*side, None], dtype=object)[:-1] for side in (truth, predicted))
    near = shapely.STRtree(said).query(true).T.astype(np.int64).reshape(-1, 2)
    shared = shapely.area(shapely.intersection(true[near[:, 0]], said[near[:, 1]]))
    some = shared > 0
    order = np.lexsort((near[some, 1], near[some, 0]))
    return Overlaps(shapely.area(true), shapely.area(said), near[some][order], np.asarray(shared[some][order]))


def match(overlaps: Overlaps, threshold: float = 0.5, *, matching: Matching = "greedy") -> np.ndarray:
    """Pair objects one to one where their IoU reaches a threshold.

    `greedy` takes pairs by falling IoU, each if both objects are still free; of equal ones the first in the truth, then in
    the prediction. `optimal` finds as many pairs as there can be, beginning with the greedy ones. Where neither the true
    objects nor the predicted ones overlap among themselves, an object reaches an IoU above 0.5 with one partner at most,
    and both are the same.

    Args:
        overlaps: Who shares what.
        threshold: Smallest IoU of a pair, above 0 to 1.
        matching: `greedy` or `optimal`.

    Returns:
        Places in `overlaps.pairs`, ascending, int64, `(matches,)`; those of the greedy way are those of lower thresholds
        whose IoU reaches this one.

    Raises:
        SettingError: If the threshold or the way to match can't be used.

    Examples:
        >>> boxes = [shapely.box(0, 0, 4, 1), shapely.box(5, 0, 9, 1)]
        >>> found = find_overlaps(boxes, [shapely.box(1, 0, 5, 1)])
        >>> found.pairs[match(found)].tolist(), match(found, 0.9).tolist()
        ([[0, 0]], [])
    """
    if not 0 < threshold <= 1:
        msg = f"IoU threshold must be above 0 and at most 1, got {threshold!r}. Use 0.5."
        raise SettingError(msg)
    if matching not in get_args(Matching):
        msg = f"Matching must be greedy or optimal, got {matching!r}."
        raise SettingError(msg)
    iou = overlaps.iou
    good = np.flatnonzero(iou + ROUNDING >= threshold)
    taken = _greedy(overlaps.pairs, good[np.argsort(-iou[good], kind="stable")])
    if matching == "optimal":
        taken = _augmented(overlaps.pairs, good, taken)
    return np.asarray(sorted(taken), np.int64)


def _greedy(pairs: np.ndarray, order: np.ndarray) -> list[int]:
    true_taken, said_taken, taken = set(), set(), []
    for place, (true, said) in zip(order.tolist(), pairs[order].tolist(), strict=True):
        if true not in true_taken and said not in said_taken:
            true_taken.add(true)
            said_taken.add(said)
            taken.append(place)
    return taken


def _augmented(pairs: np.ndarray, good: np.ndarray, taken: list[int]) -> list[int]:
    """Lengthen a matching along alternating paths until no path is left: it is then as large as can be.

    References:
        Berge, "Two theorems in graph theory", 1957, https://doi.org/10.1073/pnas.43.9.842
    """
    choices: dict[int, list[tuple[int, int]]] = {}
    for place, (true, said) in zip(good.tolist(), pairs[good].tolist(), strict=True):
        choices.setdefault(true, []).append((said, place))
    partner = {int(true): int(said) for true, said in pairs[taken].tolist()} if taken else {}
    for true in sorted(choices.keys() - partner.keys()):
        _give_partner(true, choices, partner)
    places = {(true, said): place for true, listed in choices.items() for said, place in listed}
    return [places[pair] for pair in partner.items()]


def _give_partner(start: int, choices: dict[int, list[tuple[int, int]]], partner: dict[int, int]) -> None:
    """Look breadth first for a free predicted object, and shift partners along the way that led to it."""
    holder = {said: true for true, said in partner.items()}
    reached: dict[int, int] = {}
    ahead = [start]
    for true in ahead:
        for said, _ in choices[true]:
            if said in reached:
                continue
            reached[said] = true
            if said in holder:
                ahead.append(holder[said])
                continue
            free: int | None = said
            while free is not None:
                taker = reached[free]
                partner[taker], free = free, partner.get(taker)
            return
