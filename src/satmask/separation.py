"""Separation: objects that touch, cut apart where they are narrow or where the network doubts.

A surface is looked at from its tops: the depth inside the mask, or the probability. Each top is an object of its own if the
surface has to fall far enough from it before a higher one can be reached: its dynamics, as h-maxima are chosen by. A pixel
belongs to the top that the steepest way up from it leads to, or to the one that this top was joined with.
"""

from __future__ import annotations

import numpy as np

from satmask.errors import SettingError


def separate(mask: np.ndarray, *, depth: float, surface: np.ndarray | None = None) -> np.ndarray:
    """Number the objects of a mask; groups of pixels that are several objects grown together are cut.

    Every pixel of the mask belongs to an object, objects are connected over the sides of their pixels, and none reaches over
    two groups.

    Args:
        mask: bool, `(height, width)`.
        depth: How far the surface has to fall between two objects, in its own units, above 0. With distances, that is how
            much narrower the neck is than the narrower object, in pixels, halved.
        surface: What is high inside objects and low between them, such as probabilities, `(height, width)`; the distance
            from the group's edge in pixels by default.

    Returns:
        Number of each pixel's object from 1, 0 outside; int32, `(height, width)`.

    Raises:
        SettingError: If the depth isn't above 0, or shapes differ.

    Examples:
        >>> two = np.pad(np.ones((9, 19), bool), 1)
        >>> two[:5, 10] = two[6:, 10] = False
        >>> int(separate(two, depth=2).max()), int(separate(two, depth=5).max())
        (2, 1)

    References:
        Grimaud, "New measure of contrast: the dynamics", 1992, https://doi.org/10.1117/12.60650; Vincent & Soille,
        "Watersheds in digital spaces", 1991, https://doi.org/10.1109/34.87344
    """
    mask = np.asarray(mask) != 0
    if not depth > 0:
        msg = f"Depth must be above 0, got {depth}."
        raise SettingError(msg)
    if surface is not None and surface.shape != mask.shape:
        msg = f"Surface must have the mask's shape {mask.shape}, got {surface.shape}."
        raise SettingError(msg)
    labels = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return labels
    heights = _distances(mask) if surface is None else np.nan_to_num(surface)
    values = heights[mask].astype(np.float32)
    beside = _beside(mask)
    tops = _climb(values, beside)
    labels[mask] = _join(values, tops, beside, depth)
    return labels


def _distances(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the nearest one outside, in pixels; the image's edge is no outside.

    Other groups are never nearer than the ground between: where two touch at a corner, its other two pixels lie outside.
    """
    import cv2

    if mask.all():  # nothing is near to anything
        return np.zeros(mask.shape, np.float32)
    distances = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV's last bit depends on where arrays lie in memory, and bits decide which of two pixels is higher; squares are whole.
    return np.asarray(np.sqrt(np.rint(distances * distances)), np.float32)


def _beside(mask: np.ndarray) -> list[np.ndarray]:
    """Numbers of the mask's pixels above, to the left, to the right and below each of them; -1 where there is none."""
    framed = np.pad(mask, 1)
    places = np.flatnonzero(framed)
    numbers = np.full(framed.size, -1, np.int32)
    numbers[places] = np.arange(len(places), dtype=np.int32)
    return [numbers[places + step] for step in (-framed.shape[1], -1, 1, framed.shape[1])]


def _climb(values: np.ndarray, beside: list[np.ndarray]) -> np.ndarray:
    """The top that the steepest way up leads to from each pixel; of two pixels that are as high, the later one is higher."""
    known = np.append(values, np.float32(-np.inf))  # where there is no pixel, -1, is the last one
    above, left, right, below = beside
    best = above
    for near in (left, np.arange(len(values), dtype=np.int32), right, below):
        best = np.where(known[near] >= known[best], near, best)
    return _follow(best)


def _follow(steps: np.ndarray) -> np.ndarray:
    """Where each ends that goes from number to number until one stands for itself."""
    while not np.array_equal(further := steps[steps], steps):
        steps = further
    return steps


def _join(values: np.ndarray, tops: np.ndarray, beside: list[np.ndarray], depth: float) -> np.ndarray:
    """Join tops with higher ones that the surface hardly falls before, and number what is left, from 1, for each pixel.

    A top's fate is told by the highest pass that leads away from it to any other. All whose highest pass leads to a higher one
    are told at once: who falls far enough first stays, whatever comes later.
    """
    peaks = np.flatnonzero(tops == np.arange(len(tops)))
    peaks = peaks[np.argsort(values[peaks], kind="stable")]
    numbers = np.empty(len(tops), np.int32)
    numbers[peaks] = np.arange(len(peaks), dtype=np.int32)  # the higher, the larger
    of = numbers[tops]
    low, high, passes = _passes(values, of, beside)
    owners, stays = np.arange(len(peaks), dtype=np.int32), np.zeros(len(peaks), bool)
    while len(low):
        first, order = np.full(len(peaks), len(low)), np.arange(len(low))
        for ends in (low, high):
            np.minimum.at(first, ends, order)
        told = first[low] == order
        falls = values[peaks[low[told]]] - passes[told] >= depth
        stays[low[told][falls]] = True
        owners[low[told][~falls]] = high[told][~falls]
        owners = _follow(owners)
        ends = np.sort(owners[np.stack([low, high])], axis=0)
        open_ = (ends[0] != ends[1]) & ~stays[ends[0]]
        low, high, passes = *ends[:, open_], passes[open_]
    return np.asarray(np.cumsum(owners == np.arange(len(owners)))[owners[of]], np.int32)


def _passes(values: np.ndarray, of: np.ndarray, beside: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where one goes over from one top's pixels to another's: the lower top, the higher one and the height, highest first."""
    found = []
    for near in beside[2:]:
        here = np.flatnonzero((near >= 0) & (of != of[near]))
        there = near[here]
        found.append((of[here], of[there], np.minimum(values[here], values[there])))
    one, other, heights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(-heights, kind="stable")
    ends = np.sort(np.stack([one, other])[:, order], axis=0)
    return ends[0], ends[1], heights[order]
