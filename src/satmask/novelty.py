"""Novelty: how unlike all that is labelled a window looks, and in which order windows are worth labelling.

A window is described by three numbers a band, over its own valid pixels alone, so that strips can be read one by one:

- mean: μ = Σ x / n
- spread: σ = √(Σ (x − μ)² / n)
- gradient energy: γ = √(Σ d² / m), d being the m differences of pixels beside or below one another inside the window

Each number is standardised over all windows, z = (f − mean f) / deviation of f, or 0 where all are the same. The distance of
two windows is the root mean square of their differences in z: d(i, j) = √(Σₖ (zᵢₖ − zⱼₖ)² / K).

References:
    Sener & Savarese, "Active learning for convolutional neural networks: a core-set approach", 2018 (greedy farthest-first),
    https://arxiv.org/abs/1708.00489
"""

from __future__ import annotations

import numpy as np


def describe_windows(values: np.ndarray, valid: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Describe windows that lie side by side.

    Args:
        values: Pixels, `(height, width, bands)`, of whole rows of windows.
        valid: Which of them are known, bool, `(height, width)`.
        side: Side of a window, in pixels; the last ones of rows and columns may be smaller.

    Returns:
        Mean, spread and gradient energy of each band, in this order, float64, `(rows, columns, 3 * bands)`, NaN where no
        pixel is valid; and the number of valid pixels, int64, `(rows, columns)`.

    Examples:
        >>> image = np.array([[0, 2], [0, 2]])[..., None]
        >>> found, pixels = describe_windows(image, np.ones((2, 2), bool), side=2)
        >>> found.round(3).tolist(), pixels.tolist()
        ([[[1.0, 1.0, 1.414]]], [[4]])
    """
    count = _sums(valid, side)
    numbers = np.where(valid[..., None], values, 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _sums(numbers, side) / count[..., None]
        away = np.where(valid[..., None], numbers - _spread_out(np.nan_to_num(mean), side, valid.shape), 0)
        spread = np.sqrt(_sums(away**2, side) / count[..., None])
        squares, pairs = _steps(numbers, valid, side, axis=0)
        across, more = _steps(numbers, valid, side, axis=1)
        energy = np.sqrt((squares + across) / np.maximum(pairs + more, 1)[..., None])
    energy[count == 0] = np.nan
    return np.concatenate([mean, spread, energy], axis=-1), count


def choose_windows(
    descriptors: np.ndarray, uncertainty: np.ndarray, labelled: np.ndarray, *, count: int
) -> list[tuple[int, float]]:
    """Choose the windows whose labels would help most, one after the other: the highest uncertainty × novelty first.

    Novelty is the distance to the nearest window that is labelled or was chosen before; 1 for all as long as there is none.
    So of windows that look alike only the first is chosen, and one that looks exactly like a labelled one never is.
    What is chosen doesn't depend on the order in which windows are given, but for which of equals is named.

    Args:
        descriptors: Of `describe_windows`, finite, `(windows, numbers)`.
        uncertainty: Mean uncertainty, 0 to 1, `(windows,)`.
        labelled: Which ones are labelled already, bool, `(windows,)`.
        count: How many at most.

    Returns:
        Numbers of the chosen windows and their novelty, in order.

    Examples:
        >>> look = np.array([[0.0], [0.0], [1.0], [5.0]])
        >>> [number for number, _ in choose_windows(look, np.array([0.9, 0.9, 0.8, 0.3]), np.zeros(4, bool), count=4)]
        [0, 3, 2]
    """
    # In an order of their own, in which sums and ties come out the same however windows are given.
    order = np.lexsort((*descriptors.T[::-1], labelled, -uncertainty))
    z, doubt = _standardised(descriptors[order]), uncertainty[order]
    novelty = np.full(len(z), np.inf)
    for number in np.flatnonzero(labelled[order]):
        novelty = np.minimum(novelty, _distances(z, int(number)))
    chosen: list[tuple[int, float]] = []
    free = ~labelled[order]
    while len(chosen) < count:
        here = np.where(np.isinf(novelty), 1.0, novelty)
        worth = np.where(free, doubt * here, 0)
        if not worth.any():
            break
        best = int(np.argmax(worth))
        chosen.append((int(order[best]), float(here[best])))
        free[best] = False
        novelty = np.minimum(novelty, _distances(z, best))
    return chosen


def _standardised(numbers: np.ndarray) -> np.ndarray:
    deviation = numbers.std(axis=0)
    return np.asarray((numbers - numbers.mean(axis=0)) / np.where(deviation > 0, deviation, 1))


def _distances(z: np.ndarray, to: int) -> np.ndarray:
    return np.asarray(np.sqrt(((z - z[to]) ** 2).mean(axis=1)))


def _steps(numbers: np.ndarray, valid: np.ndarray, side: int, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared differences of neighbours inside windows, and how many there are, a window."""
    inside = np.arange(1, numbers.shape[axis]) % side != 0
    shape = [1, 1]
    shape[axis] = -1
    first, second = [slice(None)] * 2, [slice(None)] * 2
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    both = np.zeros(valid.shape, bool)
    both[tuple(second)] = valid[tuple(first)] & valid[tuple(second)] & inside.reshape(shape)
    squares = np.zeros(numbers.shape)
    squares[tuple(second)] = np.diff(numbers, axis=axis) ** 2
    return _sums(np.where(both[..., None], squares, 0), side), _sums(both, side)


def _sums(values: np.ndarray, side: int) -> np.ndarray:
    numbers = values.astype(np.int64) if values.dtype == bool else values
    rows, columns = (np.arange(0, length, side) for length in values.shape[:2])
    return np.asarray(np.add.reduceat(np.add.reduceat(numbers, rows, axis=0), columns, axis=1))


def _spread_out(windows: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """A number a window as one a pixel."""
    return windows.repeat(side, axis=0)[: shape[0]].repeat(side, axis=1)[:, : shape[1]]
