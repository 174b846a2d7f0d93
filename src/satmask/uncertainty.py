"""Uncertainty: how little is known about a pixel, as the entropy of what a network says of it."""

from __future__ import annotations

import numpy as np


def entropy(probabilities: np.ndarray, *, exclusive: bool) -> np.ndarray:
    """Measure how unsure a network is, from 0, where it has no doubt, to 1, where it might as well guess.

    In bits, divided by the most that there can be. Of K classes that exclude each other: −Σ pₖ log₂ pₖ / log₂ K. Of K that
    may overlap, which the network judges one by one: the mean over them of −p log₂ p − (1 − p) log₂(1 − p). 0 · log₂ 0 is
    0. An honest measure only of probabilities that are so: see `satmask.calibration`.

    Args:
        probabilities: What the network says, float, `(…, classes)`, 0 to 1; those of exclusive classes add up to 1.
        exclusive: Whether classes exclude each other.

    Returns:
        float32, `(…,)`, 0 to 1; NaN where a probability is. 0 everywhere of a single class that excludes all others.

    Examples:
        >>> entropy(np.array([[0.5], [1.0], [0.11]]), exclusive=False).round(2).tolist()
        [1.0, 0.0, 0.5]
        >>> entropy(np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]]), exclusive=True).tolist()
        [1.0, 0.5]

    References:
        Shannon, "A mathematical theory of communication", 1948, section 6, https://doi.org/10.1002/j.1538-7305.1948.tb01338.x
    """
    classes = probabilities.shape[-1]
    bits = np.zeros(probabilities.shape[:-1], np.float64)
    for channel in range(classes):
        values = np.ascontiguousarray(probabilities[..., channel], np.float64)
        bits += _surprise(values)
        if not exclusive:
            bits += _surprise(1 - values)
    most = np.log2(classes) if exclusive else float(classes)
    # Shares that were rounded may add up to a little more than 1, and so may what follows from them.
    return np.asarray(np.clip(bits / most if most else bits, 0, 1), np.float32)


def _surprise(values: np.ndarray) -> np.ndarray:
    """−p log₂ p, 0 at 0; NaN stays."""
    return np.asarray(-values * np.log2(values, out=np.where(np.isnan(values), np.nan, 0.0), where=values > 0))
