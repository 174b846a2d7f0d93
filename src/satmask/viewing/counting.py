"""Counting once what sliders and lists ask for again and again: a pass over a place, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.scene import Scene
from satmask.scoring.comparisons import Comparison, Masks
from satmask.scoring.pixels import Confusion, confusion
from satmask.scoring.thresholds import ThresholdCounts, count_thresholds
from satmask.uncertainty import entropy
from satmask.viewing.layers import Layer
from satmask.viewing.shelf import Place
from satmask.windows import Window

CELL = 256
"""Side of the windows that are listed by what is wrong in them, in pixels."""
ROWS = 4 * CELL
"""Rows and columns that are read at a time."""


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted of a place.

    Attributes:
        legend: The classes.
        confusion: Classes against truth; None without truth.
        thresholds: Probabilities against truth, all outside their class without truth; None without probabilities.
        judged: Whether there is truth.
        missed: Pixels of each window that were missed, of any class, int64, `(rows, columns)`; None without truth.
        invented: The same of what was invented.
        uncertainty: Mean uncertainty of each window, float64, `(rows, columns)`, NaN where nothing is known; None without
            probabilities.
    """

    legend: Legend
    confusion: Confusion | None
    thresholds: ThresholdCounts | None
    judged: bool
    missed: np.ndarray | None
    invented: np.ndarray | None
    uncertainty: np.ndarray | None


def comparison_of(place: Place) -> Comparison | None:
    """Prediction and truth of a place, to be compared as `satmask score` does; None where one is missing."""
    truth, said = place.first("truth"), place.first("classes") or place.first("probabilities")
    polygons = place.first("polygons")
    if truth is None or truth.labels is None or said is None or said.file is None or place.legend is None:
        return None
    drawn = polygons.file.real() if polygons and polygons.file else None
    return Comparison(said.file.real(), truth.labels, place.legend, polygons=drawn)


def count(place: Place, *, tell: Callable[[float], None] = lambda _: None) -> Counts:
    """Count what scores, curves and lists of windows need; memory doesn't grow with the scene but for a few bytes a window.

    Args:
        place: The place.
        tell: Called with the share that is done, 0 to 1.

    Raises:
        SettingError: If it has neither probabilities nor classes and truth.
        SceneError: If a file can't be read.
    """
    comparison, layer = comparison_of(place), place.first("probabilities")
    legend = place.legend
    if legend is None or (comparison is None and layer is None):
        msg = f"Place must have probabilities, or classes and truth, to be judged, got neither for {place.name}."
        raise SettingError(msg)
    with _readers(comparison, layer) as (read_masks, read_said):
        total = _Sums(legend, place.grid, judged=comparison is not None, sure=layer is not None)
        windows = list(_windows(place.grid))
        for number, window in enumerate(windows, start=1):
            total.add(window, read_masks and read_masks(window), read_said and read_said(window))
            tell(number / len(windows))
    return total.counts()


def _windows(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, ROWS):
        for column in range(0, grid.width, ROWS):
            yield Window(row, column, min(ROWS, grid.height - row), min(ROWS, grid.width - column))


@contextmanager
def _readers(
    comparison: Comparison | None, layer: Layer | None
) -> Iterator[tuple[Callable[[Window], Masks] | None, Callable[[Window], np.ndarray] | None]]:
    """Functions that read masks and probabilities of a window, where there are any."""
    with ExitStack() as stack:
        read_said = None
        if layer is not None and layer.file is not None and layer.legend is not None:
            scene = layer.file.open(Scene, Scene.close)
            stack.callback(scene.close)
            bands = [layer.band_of(id_) for id_ in layer.legend.ids]

            def read_said(window: Window) -> np.ndarray:
                return scene.raw(window)[..., bands]

        yield stack.enter_context(comparison.reader())[1] if comparison else None, read_said


class _Sums:
    """What is added up window by window."""

    def __init__(self, legend: Legend, grid: Grid, *, judged: bool, sure: bool) -> None:
        cells = -(-grid.height // CELL), -(-grid.width // CELL)
        self.legend, self.judged, self.sure = legend, judged, sure
        self.confusion, self.thresholds = Confusion.empty(legend), ThresholdCounts.empty(legend)
        self.missed, self.invented = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
        self.bits, self.known = np.zeros(cells), np.zeros(cells, np.int64)

    def add(self, window: Window, masks: Masks | None, said: np.ndarray | None) -> None:
        """Count a window; its upper left corner is that of a cell."""
        here = _cells(window)
        if masks is not None:
            self.confusion += confusion(masks.truth, masks.predicted, self.legend, masks.counted)
            counted, things = masks.counted, [at for at, id_ in enumerate(self.legend.ids) if id_]
            there, found = masks.truth[..., things], masks.predicted[..., things]
            self.missed[here] += _by_cell((there & ~found).any(axis=-1) & counted)
            self.invented[here] += _by_cell((found & ~there).any(axis=-1) & counted)
        if said is not None:
            truth = np.zeros(said.shape, bool) if masks is None else masks.truth
            valid = None if masks is None else masks.counted
            self.thresholds += count_thresholds(said, truth, self.legend, valid=valid)
            unsure = entropy(said, exclusive=self.legend.exclusive)
            self.bits[here] += _by_cell(np.nan_to_num(unsure).astype(np.float64))
            self.known[here] += _by_cell(np.isfinite(unsure))

    def counts(self) -> Counts:
        """All that was counted."""
        unsure = np.divide(self.bits, self.known, out=np.full(self.bits.shape, np.nan), where=self.known > 0)
        return Counts(
            self.legend,
            self.confusion if self.judged else None,
            self.thresholds if self.sure else None,
            self.judged,
            self.missed if self.judged else None,
            self.invented if self.judged else None,
            unsure if self.sure else None,
        )


def _cells(window: Window) -> tuple[slice, slice]:
    top, left = window.row // CELL, window.column // CELL
    return slice(top, top - -window.height // CELL), slice(left, left - -window.width // CELL)


def _by_cell(values: np.ndarray) -> np.ndarray:
    """Sums over cells of `CELL` × `CELL` pixels; the last ones may be smaller."""
    numbers = values.astype(np.int64) if values.dtype == bool else values
    rows, columns = np.arange(0, values.shape[0], CELL), np.arange(0, values.shape[1], CELL)
    return np.asarray(np.add.reduceat(np.add.reduceat(numbers, rows, axis=0), columns, axis=1))
