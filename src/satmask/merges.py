"""Merging rules: where one class is, others aren't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satmask.legend import Legend


@dataclass(frozen=True)
class Merge:
    """A rule between classes: where one is, others aren't.

    Attributes:
        where: The class that stays.
        clears: The classes that it clears.
    """

    where: str
    clears: tuple[str, ...]


def merge(masks: np.ndarray, legend: Legend, rules: Sequence[Merge]) -> np.ndarray:
    """Apply merging rules to masks, one after the other.

    Args:
        masks: One a class, bool, `(height, width, classes)`.
        legend: The classes.
        rules: The rules; each sees what the ones before it left.

    Returns:
        New masks of the same shape.
    """
    merged = masks.copy() if rules else masks
    for rule in rules:
        there = merged[..., legend.names.index(rule.where)]
        for name in rule.clears:
            merged[..., legend.names.index(name)] &= ~there
    return merged
