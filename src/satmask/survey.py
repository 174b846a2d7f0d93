"""A survey of the data before training: every image is read once, so nothing breaks in the tenth epoch."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from satmask.datasets.dataset import Problem, Sample
from satmask.errors import DataError, SatmaskError
from satmask.stack import open_imagery
from satmask.windows import ClassBlocks, Window, cover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from satmask.scene import Imagery

BLOCK = 64  # side of the blocks in which classes are counted, in pixels
READ = 1024  # side of the windows read, in pixels; a multiple of BLOCK
# Pixels kept for mean, deviation and percentiles, of each window and of all together; the extremes see every pixel.
SAMPLED, SAMPLED_IN_ALL = 4096, 2**20
SHOWN = 2**16  # pixels handed on, for histograms


@dataclass(frozen=True)
class Survey:
    """What the images and labels of a split hold.

    Attributes:
        samples: The samples that can be used.
        indexes: Numbers of the bands, from 1; of stacks, their names.
        bands: Their names.
        dtype: Data type of the pixel values.
        low: 1st percentile of each band, float64, `(bands,)`.
        high: 99th percentile of each band, float64, `(bands,)`.
        smallest: Smallest value of each band.
        largest: Largest value of each band.
        mean: Mean of each band.
        deviation: Standard deviation of each band.
        values: Values of up to 65,536 valid pixels, spread over all images, float32, `(pixels, bands)`.
        valid: Valid pixels of each image, int64, `(images,)`.
        labelled: Labelled valid pixels of each image, int64, `(images,)`.
        pixels: All pixels.
        gsds_m: Ground sampling distance of each image, float64, `(images,)`; NaN where the file doesn't tell it.
        blocks: Where the classes are.
        problems: Samples that can't be used, and why.
    """

    samples: tuple[Sample, ...]
    indexes: tuple[int | str, ...]
    bands: tuple[str, ...]
    dtype: np.dtype[np.generic]
    low: np.ndarray
    high: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    values: np.ndarray
    valid: np.ndarray
    labelled: np.ndarray
    pixels: int
    gsds_m: np.ndarray
    blocks: ClassBlocks
    problems: tuple[Problem, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """`(height, width)` of each usable sample."""
        return [sample.shape for sample in self.samples]

    @property
    def gsd_m(self) -> tuple[float, float] | None:
        """Smallest and largest ground sampling distance; None where no file tells it."""
        known = self.gsds_m[np.isfinite(self.gsds_m)]
        return (float(known.min()), float(known.max())) if len(known) else None

    @property
    def class_pixels(self) -> np.ndarray:
        """Labelled pixels of each class in each image, int64, `(images, classes)`."""
        counts = np.zeros((len(self.samples), self.blocks.pixels.shape[1]), np.int64)
        np.add.at(counts, self.blocks.image, self.blocks.pixels)
        return counts


@dataclass(frozen=True)
class _Part:
    """What one sample adds to the survey."""

    smallest: np.ndarray
    largest: np.ndarray
    values: np.ndarray
    blocks: list[tuple[int, int, np.ndarray]]
    valid: int
    labelled: int
    pixels: int
    gsd_m: float | None


def survey(
    samples: Sequence[Sample],
    *,
    bands: Sequence[int | str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Read every image and its labels once.

    Args:
        samples: What to read.
        bands: Bands by number from 1 or by name; by default all that most of the images have.
        progress: Called with 1 after each sample.

    Returns:
        What was found. Samples that don't decode, or differ in bands, data type or size, are left out and reported.

    Raises:
        DataError: If no sample can be used.
    """
    indexes, names, dtype = _common(samples, bands)
    windows = sum(-(-height // READ) * -(-width // READ) for height, width in (sample.shape for sample in samples))
    kept = min(SAMPLED, max(SAMPLED_IN_ALL // windows, 16))

    def read(sample: Sample) -> _Part | Problem:
        try:
            return _read(sample, indexes, dtype, kept)
        except SatmaskError as error:
            return Problem(sample.name, f"Image {sample.name!r} can't be used: {error}")
        finally:
            progress(1)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(read, samples))
    problems = tuple(part for part in found if isinstance(part, Problem))
    usable = [(sample, part) for sample, part in zip(samples, found, strict=True) if isinstance(part, _Part)]
    if not usable:
        first = f" {problems[0].what}" if problems else ""
        msg = f"Data set must hold at least one usable image, got none of {len(samples)}.{first}"
        raise DataError(msg)
    return _sum(usable, indexes, names, dtype, problems)


def _common(
    samples: Sequence[Sample], bands: Sequence[int | str] | None
) -> tuple[tuple[int | str, ...], tuple[str, ...], np.dtype[np.generic]]:
    """Bands and data type that most images have, so that one odd file can't set the rule for all."""
    votes: Counter[tuple[tuple[int | str, ...], tuple[str, ...], np.dtype[np.generic]]] = Counter()
    reason = ""
    for sample in samples[:: max(len(samples) // 100, 1)]:
        try:
            with open_imagery(sample.image, bands=bands) as scene:
                votes[tuple(scene.indexes), scene.bands, scene.dtype] += 1
        except SatmaskError as error:
            reason = reason or f" {error}"
    if not votes:
        msg = f"Data set must hold at least one image that can be opened, got none of {len(samples)}.{reason}"
        raise DataError(msg)
    return max(votes, key=lambda key: (votes[key], len(key[0])))


def _read(sample: Sample, indexes: tuple[int | str, ...], dtype: np.dtype[np.generic], kept: int) -> _Part:
    with open_imagery(sample.image, bands=indexes) as scene:
        if scene.grid.shape != sample.shape:
            (height, width), (want_height, want_width) = scene.grid.shape, sample.shape
            msg = (
                f"Image must be of the size that its labels say, {want_height} × {want_width}, got {height} × {width}."
            )
            raise DataError(msg)
        if scene.dtype != dtype:
            msg = f"Image must be {dtype} as the others, got {scene.dtype}."
            raise DataError(msg)
        height, width = scene.grid.shape
        tiles = cover(height, width, size=READ, halo=0, stride=BLOCK)
        parts = [_read_window(scene, sample, tile.core, kept) for tile in tiles]
        return _merge(parts, scene.grid.gsd_m or sample.gsd_m)


def _read_window(scene: Imagery, sample: Sample, window: Window, kept: int) -> _Part:
    pixels = scene.read(window)
    truth = sample.labels.read(window)
    whole = bool(pixels.valid.all())
    values = pixels.values.reshape(-1, pixels.values.shape[2]) if whole else pixels.values[pixels.valid]
    smallest, largest = _extremes(values, height=window.height if whole else 1)
    known = truth.labelled & pixels.valid
    top, left = window.row // BLOCK, window.column // BLOCK
    counts = _block_sums(truth.classes * known[..., None])
    blocks = [
        (top + row, left + column, counts[row, column]) for row, column in np.argwhere(counts.any(axis=-1)).tolist()
    ]
    return _Part(
        smallest=smallest,
        largest=largest,
        values=values[:: -(-len(values) // kept) or 1].astype(np.float64),
        blocks=blocks,
        valid=int(np.count_nonzero(pixels.valid)),
        labelled=int(np.count_nonzero(known)),
        pixels=pixels.valid.size,
        gsd_m=None,
    )


def _extremes(values: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each band of `(pixels, bands)`; NaN where there is no pixel."""
    bands = values.shape[1]
    if not len(values):
        return np.full(bands, np.nan), np.full(bands, np.nan)
    # Row upon row first: along pixels of few bands NumPy takes ten times as long.
    rows = values.reshape(height, -1)
    return rows.min(axis=0).reshape(-1, bands).min(axis=0), rows.max(axis=0).reshape(-1, bands).max(axis=0)


def _block_sums(known: np.ndarray) -> np.ndarray:
    """Pixels of each class in each block, int64, `(block rows, block columns, classes)`."""
    height, width, _ = known.shape
    rows = np.add.reduceat(known, np.arange(0, height, BLOCK), axis=0, dtype=np.int64)
    return np.asarray(np.add.reduceat(rows, np.arange(0, width, BLOCK), axis=1))


def _merge(parts: Sequence[_Part], gsd_m: float | None) -> _Part:
    return _Part(
        smallest=np.fmin.reduce([part.smallest for part in parts]),
        largest=np.fmax.reduce([part.largest for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        blocks=[block for part in parts for block in part.blocks],
        valid=sum(part.valid for part in parts),
        labelled=sum(part.labelled for part in parts),
        pixels=sum(part.pixels for part in parts),
        gsd_m=gsd_m,
    )


def _sum(
    usable: Sequence[tuple[Sample, _Part]],
    indexes: tuple[int | str, ...],
    names: tuple[str, ...],
    dtype: np.dtype[np.generic],
    problems: tuple[Problem, ...],
) -> Survey:
    whole = _merge([part for _, part in usable], None)
    if not len(whole.values):
        msg = f"Data set must hold at least one valid pixel, got only nodata in {len(usable)} images."
        raise DataError(msg)
    entries = [(index, *block) for index, (_, part) in enumerate(usable) for block in part.blocks]
    classes = len(usable[0][0].labels.legend)
    blocks = ClassBlocks(
        side=BLOCK,
        image=np.array([entry[0] for entry in entries], np.int32),
        row=np.array([entry[1] for entry in entries], np.int32),
        column=np.array([entry[2] for entry in entries], np.int32),
        pixels=np.array([entry[3] for entry in entries], np.int64).reshape(-1, classes),
    )
    low, high = np.percentile(whole.values, (1, 99), axis=0)
    return Survey(
        samples=tuple(sample for sample, _ in usable),
        indexes=indexes,
        bands=names,
        dtype=dtype,
        low=low,
        high=high,
        smallest=whole.smallest,
        largest=whole.largest,
        mean=whole.values.mean(axis=0),
        deviation=whole.values.std(axis=0),
        values=whole.values[:: -(-len(whole.values) // SHOWN)].astype(np.float32),
        valid=np.array([part.valid for _, part in usable]),
        labelled=np.array([part.labelled for _, part in usable]),
        pixels=whole.pixels,
        gsds_m=np.array([part.gsd_m or np.nan for _, part in usable]),
        blocks=blocks,
        problems=problems,
    )
