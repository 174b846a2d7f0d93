"""Cleaning: noise taken out of masks by sizes on the ground: narrow bits, narrow gaps, specks and pinholes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.morphology import closed, filled, opened
from satmask.shapes import choose_objects


@dataclass(frozen=True)
class Cleaning:
    """What is too small to be true, in metres and square metres on the ground; the steps come in this order.

    Attributes:
        opening_m: Radius of the disc that has to fit into what stays.
        closing_m: Radius of the disc that has to fit into gaps that stay.
        min_hole_m2: Holes that are smaller are filled.
        min_area_m2: Groups of pixels that are smaller are dropped.

    Raises:
        SettingError: If one is below 0 or isn't a number.

    Examples:
        >>> Cleaning(opening_m=0.5).any, Cleaning().any
        (True, False)
    """

    opening_m: float = 0.0
    closing_m: float = 0.0
    min_hole_m2: float = 0.0
    min_area_m2: float = 0.0

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < np.inf:
                msg = f"Cleaning must have {field.name} of 0 or more, got {value}."
                raise SettingError(msg)

    @property
    def any(self) -> bool:
        """Whether it does anything."""
        return self != Cleaning()


def clean(mask: np.ndarray, cleaning: Cleaning, *, gsd_m: float) -> np.ndarray:
    """Clean one mask. Nothing is known beyond the image's edge: what touches it is neither narrowed nor widened there.

    Args:
        mask: bool, `(height, width)`.
        cleaning: What is too small.
        gsd_m: Side of a pixel in metres.

    Returns:
        A mask, bool, `(height, width)`.

    Raises:
        SettingError: If the side of a pixel isn't above 0.

    Examples:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[2:7, 2:7] = mask[0, 8] = True
        >>> mask[4, 4] = False
        >>> int(clean(mask, Cleaning(min_area_m2=2, min_hole_m2=2), gsd_m=1).sum())
        25
    """
    if not 0 < gsd_m < np.inf:
        msg = f"Side of a pixel must be above 0 m, got {gsd_m}."
        raise SettingError(msg)
    mask = np.asarray(mask) != 0
    mask = closed(opened(mask, cleaning.opening_m / gsd_m), cleaning.closing_m / gsd_m)
    mask = filled(mask, cleaning.min_hole_m2 / gsd_m**2)
    return choose_objects(mask, cleaning.min_area_m2 / gsd_m**2)


def clean_classes(
    classes: np.ndarray, legend: Legend, cleaning: Cleaning | Mapping[int, Cleaning], *, gsd_m: float
) -> np.ndarray:
    """Clean classes, each by its own rules.

    Where classes overlap or may be absent, each mask is cleaned by itself; in a raster of ids, a class that grows takes
    pixels of classes earlier in the legend and of none, never of a later one. Where classes exclude each other, what is
    taken from a class goes to the nearest pixel's class instead of to none. What isn't a class, such as nodata, stays.

    Args:
        classes: Class ids, `(height, width)`; or one mask a class, bool, `(height, width, classes)`.
        legend: The classes.
        cleaning: For all classes, or for some by id.
        gsd_m: Side of a pixel in metres.

    Returns:
        A new array of the same kind.

    Raises:
        SettingError: If a class isn't in the legend, or the side of a pixel isn't above 0.
    """
    rules = dict.fromkeys(legend.ids, cleaning) if isinstance(cleaning, Cleaning) else dict(cleaning)
    for id_ in rules:
        legend.channel(id_)
    result = np.array(classes)
    if classes.ndim == 3:
        for id_, rule in rules.items():
            at = legend.channel(id_)
            result[..., at] = clean(classes[..., at], rule, gsd_m=gsd_m)
        return result
    kept = [clean(classes == id_, rules.get(id_, Cleaning()), gsd_m=gsd_m) for id_ in legend.ids]
    return compose(classes, np.stack(kept, axis=-1), legend)


def compose(classes: np.ndarray, kept: np.ndarray, legend: Legend) -> np.ndarray:
    """Make class ids of cleaned masks, see `clean_classes`.

    Args:
        classes: Class ids as they were, `(height, width)`.
        kept: What cleaning made of each class's mask, bool, `(height, width, classes)`.
        legend: The classes.

    Returns:
        A new array of ids. But for classes that exclude each other, a pixel depends on nothing else.
    """
    result, lost = np.array(classes), np.zeros(classes.shape, bool)
    earlier = classes == 0
    for channel, id_ in enumerate(legend.ids):
        mask = classes == id_
        lost |= mask & ~kept[..., channel]
        gained = kept[..., channel] & ~mask & earlier
        result[gained], lost[gained] = id_, False
        earlier |= mask
    result[lost] = 0
    return _nearest(result, lost & (result == 0)) if legend.exclusive else result


def _nearest(classes: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Give lost pixels the class of the nearest other pixel."""
    import cv2

    if not lost.any() or lost.all():
        return classes
    _, nearest = cv2.distanceTransformWithLabels(
        lost.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, classes.dtype)
    table[nearest[~lost]] = classes[~lost]
    return np.asarray(np.where(lost, table[nearest], classes))
