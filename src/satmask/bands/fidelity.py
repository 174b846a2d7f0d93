"""How close a sharpened product comes to a true one, by the measures that the literature reports."""

from __future__ import annotations

import math

import cv2
import numpy as np


def ergas(result: np.ndarray, truth: np.ndarray, *, ratio: float) -> float:
    """Error relative to each band's mean, pooled: 0 is perfect, below 3 is called good.

    `100 / ratio · sqrt(mean over bands of (RMSE / mean)²)`.

    Args:
        result: `(height, width, bands)`.
        truth: Same shape, band means above 0.
        ratio: How many times finer the result is than the bands it was made from.

    References:
        Wald 2000, "Quality of high resolution synthesised images: is there a simple criterion?", pp. 99–103
    """
    errors = np.square(result.astype(np.float64) - truth).mean(axis=(0, 1))
    return float(100 / ratio * math.sqrt((errors / np.square(truth.mean(axis=(0, 1), dtype=np.float64))).mean()))


def spectral_angle(result: np.ndarray, truth: np.ndarray) -> float:
    """SAM: the angle between the spectra of result and truth, in degrees, averaged over the pixels: 0 is perfect.

    Args:
        result: `(height, width, bands)`.
        truth: Same shape. Pixels where either is all zero don't count.

    References:
        Yuhas, Goetz & Boardman 1992, https://hdl.handle.net/2014/38293
    """
    first, second = result.astype(np.float64), truth.astype(np.float64)
    length = np.sqrt(np.square(first).sum(axis=-1) * np.square(second).sum(axis=-1))
    cosine = (first * second).sum(axis=-1)[length > 0] / length[length > 0]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()) if cosine.size else 0.0


def universal_quality(result: np.ndarray, truth: np.ndarray, *, side: int = 32) -> float:
    """Q: correlation, brightness and contrast in one number, averaged over windows and bands: 1 is perfect.

    `4 · cov(x, y) · x̄ · ȳ / ((var x + var y) · (x̄² + ȳ²))` in every window of `side` pixels.

    Args:
        result: `(height, width, bands)`, sides larger than `side`.
        truth: Same shape.
        side: Side of the windows.

    References:
        Wang & Bovik 2002, https://doi.org/10.1109/97.995823
    """
    half = side // 2

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.boxFilter(values, -1, (side, side)))[half:-half, half:-half]

    scores = []
    for band in range(truth.shape[2]):
        x, y = result[..., band].astype(np.float64), truth[..., band].astype(np.float64)
        mean_x, mean_y = average(x), average(y)
        spread = average(x * x) - mean_x**2 + average(y * y) - mean_y**2
        below = spread * (mean_x**2 + mean_y**2)
        above = 4 * (average(x * y) - mean_x * mean_y) * mean_x * mean_y
        # Where both are flat and equal there is nothing to tell apart.
        scores.append(np.divide(above, below, out=np.ones_like(above), where=below > 1e-9).mean())
    return float(np.mean(scores))
