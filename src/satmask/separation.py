"""Separation: objects that touch, cut apart where they are narrow or where the network doubts.

A surface is flooded from its tops down: the depth inside the mask, or the probability. Each top is an object of its own if
the surface has to fall far enough from it before it meets a higher one, which is what markers by h-maxima are; where the
floods of two objects meet, they are parted.
"""

from __future__ import annotations

import numpy as np

from satmask.errors import SettingError

# Levels at which the surface is looked at, at most: more would cost time and hardly move a border.
LEVELS = 64


def separate(
    mask: np.ndarray, *, depth: float, surface: np.ndarray | None = None, smallest_px: float = 0.0
) -> np.ndarray:
    """Number the objects of a mask; groups of pixels that are several objects grown together are cut.

    Every pixel of the mask belongs to an object, and no object reaches over two groups.

    Args:
        mask: bool, `(height, width)`.
        depth: How far the surface has to fall between two objects, in its own units, above 0. With distances, that is how
            much narrower the neck is than the narrower object, in pixels, halved.
        surface: What is high inside objects and low between them, such as probabilities, `(height, width)`; the distance
            from the group's edge in pixels by default.
        smallest_px: What has fewer pixels above the height at which it meets another isn't cut off.

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
        Vincent & Soille, "Watersheds in digital spaces", 1991, https://doi.org/10.1109/34.87344
    """
    import cv2

    mask = np.asarray(mask) != 0
    if not depth > 0:
        msg = f"Depth must be above 0, got {depth}."
        raise SettingError(msg)
    if surface is not None and surface.shape != mask.shape:
        msg = f"Surface must have the mask's shape {mask.shape}, got {surface.shape}."
        raise SettingError(msg)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    heights = None if surface is None else np.nan_to_num(surface).astype(np.float32)
    for group in (np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= max(2.0, 2 * smallest_px)) + 1).tolist():
        left, top, width, height = stats[group, :4].tolist()
        # A pixel more, so that distances know what lies outside; each group is parted as if there were no other.
        window = np.s_[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
        inside = labels[window] == group
        surface_here = _distances(inside) if heights is None else heights[window]
        parts = _flood(surface_here, inside, depth=depth, smallest_px=smallest_px)
        # The first part keeps the group's number.
        more = parts > 1
        labels[window][more] = parts[more] + (count - 2)
        count += max(int(parts.max()) - 1, 0)
    return np.asarray(labels, np.int32)


def _distances(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the nearest one outside, in pixels; the image's edge is no outside."""
    import cv2

    if mask.all():  # nothing is near to anything
        return np.zeros(mask.shape, np.float32)
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _flood(heights: np.ndarray, inside: np.ndarray, *, depth: float, smallest_px: float) -> np.ndarray:
    """Part one group of pixels: numbers from 1, 0 outside, int64."""
    import cv2

    low, high = float(heights[inside].min()), float(heights[inside].max())
    if high - low < depth:
        return inside.astype(np.int64)
    step = max((high - low) / LEVELS, depth / 8)
    parts, tops = np.zeros(heights.shape, np.float32), dict[int, tuple[int, int]]()
    undrawn: tuple[np.ndarray, list[list[int]]] | None = None
    for level in [*np.arange(high - step, low, -step).tolist(), low]:
        under = (heights >= level) & inside
        count, pools = cv2.connectedComponents(under.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        held = _held(pools, count, tops)
        if smallest_px:
            _draw(parts, undrawn)
            undrawn = None
        for pool, members in enumerate(held):
            if len(members) > 1:
                held[pool] = _true_objects(
                    parts, heights, members, tops, lowest=level + step + depth, smallest_px=smallest_px
                )
            elif pool and not members:
                held[pool] = [_begin(np.where(pools == pool, heights, -np.inf), tops)]
        tops = {part: tops[part] for members in held for part in members}
        # As long as every part has a pool to itself, none needs to be drawn.
        if max(map(len, held)) < 2:
            undrawn = pools, held
            continue
        _draw(parts, undrawn)
        undrawn = None
        _rise(parts, pools, held)
    _draw(parts, undrawn)
    return np.unique(np.where(inside, parts, 0), return_inverse=True)[1].reshape(inside.shape) + int(inside.all())


def _held(pools: np.ndarray, count: int, tops: dict[int, tuple[int, int]]) -> list[list[int]]:
    """The parts in each pool: a part lies where its top does."""
    held: list[list[int]] = [[] for _ in range(count)]
    for part, top in tops.items():
        held[pools[top]].append(part)
    return held


def _draw(parts: np.ndarray, undrawn: tuple[np.ndarray, list[list[int]]] | None) -> None:
    """Draw parts, in place, each of which has a pool to itself."""
    if undrawn:
        pools, held = undrawn
        np.take(np.array([members[0] if members else 0 for members in held], np.float32), pools, out=parts)


def _begin(heights: np.ndarray, tops: dict[int, tuple[int, int]]) -> int:
    """Begin a part at the highest pixel, and number it."""
    part = max(tops, default=0) + 1
    row, column = np.unravel_index(int(np.argmax(heights)), heights.shape)
    tops[part] = int(row), int(column)
    return part


def _true_objects(
    parts: np.ndarray,
    heights: np.ndarray,
    members: list[int],
    tops: dict[int, tuple[int, int]],
    *,
    lowest: float,
    smallest_px: float,
) -> list[int]:
    """Of parts that meet, choose those that are objects: the highest, and those that are high and large enough."""
    highest = max(members, key=lambda part: heights[tops[part]])
    return [
        part
        for part in members
        if part == highest or (heights[tops[part]] >= lowest and np.count_nonzero(parts == part) >= smallest_px)
    ]


def _rise(parts: np.ndarray, pools: np.ndarray, held: list[list[int]]) -> None:
    """Let parts grow, in place, over all pixels of their pools: a pixel at a time in four directions where they meet."""
    import cv2

    # A part that was taken back is water again, for those that it met to share.
    kept = np.zeros(int(parts.max()) + 1, bool)
    kept[[part for members in held for part in members if part < len(kept)]] = True
    parts *= kept[parts.astype(np.int32)]
    alone = np.array([members[0] if len(members) == 1 else 0 for members in held], np.float32)
    np.copyto(parts, alone[pools], where=alone[pools] > 0)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    free = (pools > 0) & (parts == 0)
    while free.any():
        grown = cv2.dilate(parts, cross)
        reached = free & (grown > 0)
        parts[reached] = grown[reached]
        free &= ~reached
