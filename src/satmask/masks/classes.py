"""Masks class by class, and what can be read off them: areas and bounding boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.masks.runs import Runs


def class_masks(runs: Runs, labels: Sequence[int], legend: Legend) -> np.ndarray:
    """Draw one mask a class, from the runs of any number of masks and their class ids; classes may overlap.

    The way back is `Runs.of(masks)`: one mask, and so one code, a class.

    Args:
        runs: The masks, such as the objects of a tile.
        labels: Class id of each mask.
        legend: The classes.

    Returns:
        bool, `(height, width, classes)`, in the legend's channel order.

    Raises:
        SettingError: If a label isn't in the legend, or there isn't one a mask.

    Examples:
        >>> from satmask.masks import read_kaggle
        >>> runs = read_kaggle(["1 2", "2 2", "6 1"], shape=(2, 3))
        >>> masks = class_masks(runs, [5, 7, 5], Legend.of({5: "house", 7: "tree"}))
        >>> masks[..., 0].astype(int).tolist(), masks[..., 1].astype(int).tolist()
        ([[1, 1, 0], [0, 0, 1]], [[0, 1, 1], [0, 0, 0]])
    """
    groups = [legend.channel(int(label)) for label in labels]
    return runs.union(groups, len(legend)).masks().view(np.bool_)


def flatten(masks: np.ndarray, legend: Legend, *, order: Sequence[int] | None = None) -> np.ndarray:
    """Paint one mask a class into a single array of class ids; where classes overlap, the later one covers.

    Args:
        masks: Anything but 0 is inside, `(height, width, classes)`.
        legend: The classes, in channel order.
        order: Class ids in draw order, first to last; the legend's order by default.

    Returns:
        Class ids, `(height, width)` of `legend.dtype`. Where no class is: 0, or the legend's nodata value under an
        exclusive legend, which gives every labelled pixel a class.

    Raises:
        SettingError: If there isn't one mask a class, or the order isn't of the legend's ids.

    Examples:
        >>> masks = np.array([[[1, 0], [1, 1], [0, 0]]])
        >>> flatten(masks, Legend.of({5: "house", 7: "tree"})).tolist()
        [[5, 7, 0]]
    """
    if masks.ndim != 3 or masks.shape[2] != len(legend):
        msg = f"Masks must be one a class ({', '.join(legend.names)}), got shape {masks.shape}."
        raise SettingError(msg)
    classes = np.full(masks.shape[:2], legend.nodata if legend.exclusive else 0, legend.dtype)
    for channel in draw_order(legend, order):
        classes[masks[..., channel] != 0] = legend.ids[channel]
    return classes


def draw_order(legend: Legend, order: Sequence[int] | None = None) -> list[int]:
    """Channels in the order in which they are drawn.

    Args:
        legend: The classes.
        order: Class ids, first to last; those that it leaves out are drawn before, in the legend's order.

    Raises:
        SettingError: If an id isn't in the legend, or comes twice.

    Examples:
        >>> draw_order(Legend.of({5: "house", 7: "tree", 9: "road"}), [7, 5])
        [2, 1, 0]
    """
    chosen = [legend.channel(int(id_)) for id_ in order or ()]
    if len(set(chosen)) < len(chosen):
        msg = f"Draw order must name a class once, got {', '.join(map(str, order or ()))}."
        raise SettingError(msg)
    return [channel for channel in range(len(legend)) if channel not in chosen] + chosen


def areas(masks: np.ndarray) -> np.ndarray:
    """Count the pixels of masks; `Runs.areas` counts those of codes.

    Args:
        masks: Anything but 0 is inside, `(height, width)` or `(height, width, masks)`.

    Returns:
        int64, `()` or `(masks,)`.

    Examples:
        >>> int(areas(np.array([[0, 1], [2, 3]])))
        3
    """
    return np.asarray(np.count_nonzero(masks, axis=(0, 1)), np.int64)


def boxes(masks: np.ndarray) -> np.ndarray:
    """Find the bounding boxes of masks; `Runs.boxes` finds those of codes.

    A box is `(x, y, width, height)` as in COCO: the column and row of its upper left pixel, and how many columns and
    rows it spans. In the coordinates of polygons, it reaches from `x` to `x + width` along the pixels' edges.

    Args:
        masks: Anything but 0 is inside, `(height, width)` or `(height, width, masks)`.

    Returns:
        int64, `(4,)` or `(masks, 4)`; zeros for a mask without a pixel.

    Examples:
        >>> boxes(np.array([[0, 0, 0], [0, 1, 1]])).tolist()
        [1, 1, 2, 1]
    """
    inside = np.asarray(masks) != 0
    x, width = _extent(inside.any(axis=0))
    y, height = _extent(inside.any(axis=1))
    return np.stack([x, y, width, height], axis=-1)


def _extent(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First place that is filled, and how far it is to the last, along the first axis."""
    length = len(filled)
    if not length:
        return np.zeros(filled.shape[1:], np.int64), np.zeros(filled.shape[1:], np.int64)
    any_ = filled.any(axis=0)
    first, after = filled.argmax(axis=0), length - filled[::-1].argmax(axis=0)
    return np.where(any_, first, 0), np.where(any_, after - first, 0)
