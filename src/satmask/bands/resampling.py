"""Pixels of one product on the grid of another that shows the same ground at another resolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from satmask.errors import SettingError

if TYPE_CHECKING:
    from satmask.windows import Window


def resample(
    values: np.ndarray,
    shape: tuple[int, int],
    *,
    window: Window | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Interpolate a product on a finer grid of the same ground, window by window.

    Both grids have the same outer corners. Each row and column has its weights computed from its own place (cubic
    convolution with a = −½, which reproduces quadratic functions), in one fixed order of sums: a pixel's value is the
    same, bit for bit, whatever window it is asked for in. Edge pixels are repeated outwards.

    Args:
        values: What to interpolate, `(h, w)` or `(h, w, bands)`. NaN spreads over the 4 × 4 pixels that a result is
            made of, as far as their weight isn't zero.
        shape: `(height, width)` of the whole fine grid.
        window: The part of the fine grid that is wanted, which may reach over its edge; all of it by default.
        shift: `(dx, dy)` in pixels of the fine grid, as a `Registration` has them: what `values` show at
            `(x + dx, y + dy)` comes to lie at `(x, y)`.

    Returns:
        float32, `(height, width)` or `(height, width, bands)` of the window.

    Raises:
        SettingError: If `values` has another number of axes.

    Examples:
        >>> resample(np.array([[0.0, 4.0]]), (1, 4)).tolist()
        [[-0.28125, 0.8125, 3.1875, 4.28125]]

    References:
        Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711
    """
    values = np.asarray(values)
    if values.ndim not in (2, 3) or not values.size:
        msg = f"Product must be of shape (height, width) or (height, width, bands), got {values.shape}."
        raise SettingError(msg)
    row, column = (window.row, window.column) if window else (0, 0)
    height, width = (window.height, window.width) if window else shape
    rows, row_weights = _taps(row, height, shift[1], (values.shape[0], shape[0]))
    columns, column_weights = _taps(column, width, shift[0], (values.shape[1], shape[1]))
    if not height or not width:
        return np.zeros((height, width, *values.shape[2:]), np.float32)
    # Along rows first, only over the columns that are needed.
    left, right = int(columns.min()), int(columns.max()) + 1
    part = values[int(rows.min()) : int(rows.max()) + 1, left:right].astype(np.float32)
    tall = _blend(part, rows - rows.min(), row_weights, axis=0)
    return _blend(tall, columns - left, column_weights, axis=1)


def reduce(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Average a product over the pixels of a coarser grid of the same ground, as a coarser detector would see it.

    Args:
        values: What to average, `(height, width)` or `(height, width, bands)`.
        shape: `(h, w)` of the coarser grid; the ratio needn't be a whole number. A side that isn't shorter is kept.

    Returns:
        float32, `(h, w)` or `(h, w, bands)`.

    Examples:
        >>> reduce(np.array([[0, 1, 2, 3]], np.uint8), (1, 2))
        array([[0.5, 2.5]], dtype=float32)
    """
    height, width = min(shape[0], values.shape[0]), min(shape[1], values.shape[1])
    planes = values.reshape(*values.shape[:2], -1)
    # A band at a time: three bands of a large image as float32 would take more memory than the image.
    small = [
        cv2.resize(planes[..., band].astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for band in range(planes.shape[2])
    ]
    return np.stack(small, axis=-1).reshape(height, width, *values.shape[2:])


def _taps(first: int, count: int, shift: float, sides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Four source positions and their weights for each of `count` places from `first` on: `(4, count)` both."""
    coarse, fine = sides
    places = (np.arange(first, first + count) + 0.5 + shift) * (coarse / fine) - 0.5
    # Beyond the edge everything is the edge; without this, a far shift would overflow.
    places = np.clip(places, -2.0, coarse + 1.0)
    base = np.floor(places)
    t = places - base
    weights = np.stack(
        [
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )
    positions = base.astype(np.int64) + np.arange(-1, 3)[:, None]
    return np.clip(positions, 0, coarse - 1), weights.astype(np.float32)


def _blend(values: np.ndarray, positions: np.ndarray, weights: np.ndarray, *, axis: int) -> np.ndarray:
    """Sum four source rows (or columns) for each row (or column) of the result."""
    shape = [1] * values.ndim
    shape[axis] = positions.shape[1]
    result = None
    for place, weight in zip(positions, weights, strict=True):
        term = np.take(values, place, axis=axis)
        # NaN times zero is NaN: a row that doesn't count must not spread.
        factor = weight.reshape(shape)
        term = np.multiply(term, factor) if np.isfinite(term).all() else np.where(factor == 0, 0, term * factor)
        result = term if result is None else np.add(result, term, out=result)
    if result is None:  # there are always four
        raise AssertionError
    return np.asarray(result, np.float32)


def ratio(coarse: tuple[int, ...], fine: tuple[int, ...]) -> float:
    """How many pixels of the fine grid lie along one of the coarse grid: the geometric mean over both axes."""
    return math.sqrt((fine[0] / coarse[0]) * (fine[1] / coarse[1]))
