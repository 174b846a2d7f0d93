"""Masks of a sample, kept until its objects can be listed: objects are known only when all of the sample is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satmask.grid import Grid
from satmask.scoring.comparisons import Comparison, Masks, find_objects
from satmask.scoring.object_list import Kinds, ListedObject, count_kinds, list_objects, worst

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.labels import Truth
    from satmask.legend import Legend
    from satmask.windows import Window

# Of the largest sample whose objects are listed: pixels times classes, two bytes each, and predicted groups of pixels. A
# network that says nothing but specks would take minutes, and nobody learns anything from them.
LARGEST, MOST = 1 << 28, 30_000
KEPT = 100  # worst objects of each ranking that are kept of a sample


@dataclass(frozen=True)
class Digest:
    """What became of the objects of a sample.

    Attributes:
        kinds: Objects by class and kind, true and predicted, see `count_kinds`.
        worst: The `KEPT` worst of each ranking, in no order.
    """

    kinds: Kinds
    worst: tuple[ListedObject, ...]


class SampleMasks:
    """What is true of a sample and what was predicted, window by window.

    Args:
        sample: The sample.
        legend: The classes.
    """

    def __init__(self, sample: Sample, legend: Legend) -> None:
        shape = (*sample.shape, len(legend))
        self.sample, self.legend = sample, legend
        self.fits = int(np.prod(shape)) <= LARGEST
        kept = shape if self.fits else (0, 0, len(legend))
        self._truth, self._said = np.zeros(kept, bool), np.zeros(kept, bool)
        self._known, self._counted = np.zeros(kept[:2], bool), np.zeros(kept[:2], bool)

    def keep(self, window: Window, truth: Truth, said: np.ndarray, valid: np.ndarray) -> None:
        """Keep a window.

        Args:
            window: Its place.
            truth: What is true there.
            said: What was predicted: class ids `(height, width)`, or bool masks `(height, width, classes)`.
            valid: Where something was predicted, bool, `(height, width)`.
        """
        if not self.fits:
            return
        here = window.slices
        self._truth[here] = truth.classes != 0
        self._said[here] = said if said.ndim == 3 else said[..., None] == np.asarray(self.legend.ids)
        self._known[here] = valid
        self._counted[here] = valid & truth.labelled

    def digest(self) -> Digest | None:
        """Say what became of the objects, as `satmask score --errors` does; None of a sample that is too large."""
        if not self.fits or self._groups() > MOST:
            return None

        def read(window: Window) -> Masks:
            here = window.slices
            return Masks(self._truth[here], self._said[here], self._known[here], self._counted[here])

        pair = Comparison(Path(self.sample.name), self.sample.labels, self.legend)  # the file itself isn't read
        listed = list_objects(*find_objects(Grid(*self.sample.shape), read, pair), self.legend)
        ranked = worst({"": listed}, count=KEPT)
        return Digest(count_kinds(listed, self.legend), tuple(one for pairs in ranked.values() for _, one in pairs))

    def _groups(self) -> int:
        """Groups of pixels that share edges, predicted and true."""
        import cv2

        layers = (mask[..., at] for mask in (self._said, self._truth) for at in range(len(self.legend)))
        return sum(cv2.connectedComponents(layer.astype(np.uint8), connectivity=4)[0] - 1 for layer in layers)
