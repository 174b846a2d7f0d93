"""What is known about regions while they grow: label, pixels, and sums that come out the same whatever the order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Values are added as integers, in steps of 2⁻³²: a sum of floats would depend on the order, so on the strips.
FRACTION_BITS = 32
CHUNK_PX = 1 << 20


@dataclass(frozen=True)
class Runs:
    """Pixels of one region side by side in a row, in raster order.

    Attributes:
        rows: Row in the strip, int64, `(runs,)`.
        columns: First column.
        lengths: Pixels.
        regions: Region that each belongs to.
    """

    rows: np.ndarray
    columns: np.ndarray
    lengths: np.ndarray
    regions: np.ndarray


@dataclass(frozen=True)
class Regions:
    """Regions, one entry each.

    Attributes:
        labels: int64, `(regions,)`.
        areas: Pixels, int64.
        wholes: Sums of values, the part in front of the point, int64.
        fractions: The part behind it, in steps of 2⁻³², int64, never 2³² or more.
        minima: Smallest value, float64; infinite where there are no values.
    """

    labels: np.ndarray
    areas: np.ndarray
    wholes: np.ndarray
    fractions: np.ndarray
    minima: np.ndarray

    @classmethod
    def none(cls, count: int = 0) -> Regions:
        """Regions without a pixel."""
        labels, areas, wholes, fractions = np.zeros((4, count), np.int64)
        return cls(labels, areas, wholes, fractions, np.full(count, np.inf))

    def take(self, regions: np.ndarray) -> Regions:
        """Some of the regions."""
        columns = (self.labels, self.areas, self.wholes, self.fractions, self.minima)
        return Regions(*(column[regions] for column in columns))

    @property
    def means(self) -> np.ndarray:
        """Mean value, float64; NaN where a value was."""
        means = (self.wholes + self.fractions * 2.0**-FRACTION_BITS) / self.areas
        return np.where(np.isnan(self.minima), np.nan, means)


def merge(known: Regions, become: np.ndarray, count: int) -> Regions:
    """Number regions anew; some turned out to be one.

    Args:
        known: Regions so far.
        become: The new number of each, int64, `(regions,)`.
        count: How many there are now; those that nothing became have no pixels yet.
    """
    merged = Regions.none(count)
    merged.labels[become] = known.labels
    np.add.at(merged.areas, become, known.areas)
    _add(merged, become, known.wholes, known.fractions)
    with np.errstate(invalid="ignore"):  # NaN is passed on
        np.minimum.at(merged.minima, become, known.minima)
    return merged


def grow(regions: Regions, runs: Runs, strip: np.ndarray, values: np.ndarray | None, *, outside: int) -> None:
    """Add a strip's pixels to regions, in place.

    Args:
        regions: Numbered as in `runs`.
        runs: All runs of the strip that belong to a region.
        strip: Labels, `(height, width)`.
        values: See `Tracer.add`.
        outside: The label of what belongs to no region.
    """
    regions.labels[runs.regions] = strip[runs.rows, runs.columns]
    regions.areas[:] += np.bincount(runs.regions, runs.lengths, minlength=len(regions.areas)).astype(np.int64)
    if values is None:
        return
    height, width = strip.shape
    rows = max(CHUNK_PX // max(width, 1), 1)
    ends = np.searchsorted(runs.rows, np.arange(rows, height + rows, rows))
    for begin, end, at in zip([0, *ends[:-1]], ends, range(0, height, rows), strict=True):
        if end > begin:
            inside = values[at : at + rows][strip[at : at + rows] != outside]
            _measure(regions, runs.regions[begin:end], runs.lengths[begin:end], inside)


def _measure(regions: Regions, numbers: np.ndarray, lengths: np.ndarray, inside: np.ndarray) -> None:
    """Add values of runs, which lie one after another in `inside`."""
    starts = np.cumsum(lengths) - lengths
    minima = np.minimum.reduceat(inside, starts)
    if inside.dtype.kind == "u":
        sums = np.add.reduceat(inside, starts, dtype=np.int64)
        _add(regions, numbers, sums, np.zeros_like(sums))
    else:
        steps = np.rint(np.nan_to_num(inside).astype(np.float64) * 2.0**FRACTION_BITS).astype(np.int64)
        sums = np.add.reduceat(steps, starts)
        _add(regions, numbers, sums >> FRACTION_BITS, sums & ((1 << FRACTION_BITS) - 1))
    with np.errstate(invalid="ignore"):  # NaN is passed on
        np.minimum.at(regions.minima, numbers, minima.astype(np.float64))


def _add(regions: Regions, numbers: np.ndarray, wholes: np.ndarray, fractions: np.ndarray) -> None:
    np.add.at(regions.wholes, numbers, wholes)
    np.add.at(regions.fractions, numbers, fractions)
    regions.wholes[:] += regions.fractions >> FRACTION_BITS
    regions.fractions[:] &= (1 << FRACTION_BITS) - 1
