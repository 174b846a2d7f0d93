"""Boundary IoU: how well masks agree close to their edges, where large objects hide errors from IoU.

Of each mask, only the pixels within a distance of its own contour count; boundary IoU is the IoU of what is left of both.
Distances are counted as steps to any of the eight neighbours, and the edge of an image is part of the contour, as in
the authors' own code. So is the edge of what isn't labelled, or not predicted.

The paper gives one number for two masks. The counts behind it add: summed over images first, they give one number a class,
as IoU does for pixels. Empty classes follow the rule of `satmask.scoring.pixels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.legend import Legend

RATIO = 0.02  # of the image's diagonal, as in the paper


@dataclass(frozen=True, eq=False)
class BoundaryScore:
    """Pixels near contours that were found, wrongly given and missed: counts that add over windows, images and machines.

    Attributes:
        legend: The classes.
        counts: TP, FP and FN of each class, int64, `(classes, 3)`.

    Raises:
        SettingError: If the array doesn't have that shape.

    Examples:
        >>> truth = np.zeros((9, 9, 1), bool)
        >>> truth[2:7, 2:7] = True
        >>> score = score_boundaries(truth, np.roll(truth, 1, axis=1), Legend.of(["house"]), distance_px=1)
        >>> (score + score).counts.tolist(), score.iou.round(4).tolist()
        ([[16, 16, 16]], [0.3333])

    References:
        Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021,
        https://arxiv.org/abs/2103.16562
    """

    legend: Legend
    counts: np.ndarray

    def __post_init__(self) -> None:
        """Hold the rule of the docstring."""
        if self.counts.shape != (len(self.legend), 3):
            msg = f"Counts of {len(self.legend)} classes must be ({len(self.legend)}, 3), got {self.counts.shape}."
            raise SettingError(msg)

    @classmethod
    def empty(cls, legend: Legend) -> BoundaryScore:
        """No pixels yet: what sums start from."""
        return cls(legend, np.zeros((len(legend), 3), np.int64))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BoundaryScore:
        """Read what `to_dict` wrote."""
        return cls(Legend.from_dict(content["legend"]), np.asarray(content["counts"], np.int64).reshape(-1, 3))

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        """Count both.

        Raises:
            SettingError: If their legends differ.
        """
        if self.legend != other.legend:
            msg = f"Scores must share a legend to be added, got {self.legend.names} and {other.legend.names}."
            raise SettingError(msg)
        return BoundaryScore(self.legend, self.counts + other.counts)

    @property
    def iou(self) -> np.ndarray:
        """Boundary IoU of each class, float64, `(classes,)`, 0 to 1; NaN for a class that nowhere occurs."""
        whole = self.counts.sum(axis=1)
        return np.where(whole > 0, self.counts[:, 0] / np.maximum(whole, 1), np.nan)

    @property
    def mean(self) -> float:
        """The mean over the classes that occur; NaN if none does."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if len(known) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Counts and scores as plain values for JSON, None in place of NaN."""
        return {
            "legend": self.legend.to_dict(),
            "counts": self.counts.tolist(),
            "mean": None if np.isnan(self.mean) else self.mean,
            "iou": [None if np.isnan(value) else float(value) for value in self.iou],
        }


def score_boundaries(
    truth: np.ndarray,
    predicted: np.ndarray,
    legend: Legend,
    *,
    distance_px: int,
    valid: np.ndarray | None = None,
    core: tuple[slice, slice] = (slice(None), slice(None)),
) -> BoundaryScore:
    """Count what two sets of masks share near their contours.

    Args:
        truth: One mask a class, bool or 0 and 1, `(height, width, classes)`.
        predicted: The same of the prediction.
        legend: The classes.
        distance_px: How far from its contour a mask counts, in pixels, at least 1; see `boundary_distance`.
        valid: False where a pixel doesn't count, `(height, width)`; all count by default.
        core: Rows and columns to count. Around those of a window, read as many pixels as the distance has: then windows
            add up to the whole image.

    Returns:
        The counts.

    Raises:
        DataError: If shapes differ.
        SettingError: If the distance isn't a whole number of at least 1.
    """
    shape = (*truth.shape[:2], len(legend))
    if not truth.shape == predicted.shape == shape or (valid is not None and valid.shape != shape[:2]):
        msg = (
            f"Truth and prediction must share a shape with {len(legend)} classes, got {truth.shape}, {predicted.shape}."
        )
        raise DataError(msg)
    known = np.ones(shape[:2], bool) if valid is None else np.asarray(valid) != 0
    counts = np.zeros((len(legend), 3), np.int64)
    for channel in range(len(legend)):
        true, said = (near_contour((side[..., channel] != 0) & known, distance_px)[core] for side in (truth, predicted))
        counts[channel] = [(true & said).sum(), (said & ~true).sum(), (true & ~said).sum()]
    return BoundaryScore(legend, counts)


def near_contour(mask: np.ndarray, distance_px: int) -> np.ndarray:
    """Keep the pixels of a mask within a distance of what is outside it; outside the image all is outside.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        distance_px: Steps to any of the eight neighbours, at least 1.

    Returns:
        The band along the contour, bool, `(height, width)`.

    Raises:
        SettingError: If the distance isn't a whole number of at least 1.

    Examples:
        >>> near_contour(np.ones((3, 3)), 1).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    import cv2

    if distance_px != int(distance_px) or distance_px < 1:
        msg = f"Distance must be a whole number of pixels, at least 1, got {distance_px!r}."
        raise SettingError(msg)
    inside = (np.asarray(mask) != 0).astype(np.uint8)
    side = 2 * min(int(distance_px), max(mask.shape)) + 1
    # OpenCV takes a square for a row and a column: time doesn't grow with its side.
    core = cv2.erode(inside, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside != core)


def boundary_distance(
    shape: tuple[int, int], *, ratio: float = RATIO, distance_m: float | None = None, gsd_m: float | None = None
) -> int:
    """Choose how far from its contour a mask counts.

    Args:
        shape: `(height, width)` of the image, in pixels.
        ratio: Share of the image's diagonal, above 0; 0.02 in the paper.
        distance_m: A distance on the ground instead, in metres, above 0.
        gsd_m: Side of a pixel on the ground, in metres, for that.

    Returns:
        Pixels, rounded, at least 1.

    Raises:
        SettingError: If a number isn't above 0, or metres are asked of an image without a place on the ground.

    Examples:
        >>> boundary_distance((300, 300)), boundary_distance((300, 300), distance_m=1.5, gsd_m=0.5)
        (8, 3)
    """
    wanted = ratio if distance_m is None else distance_m
    if not 0 < wanted < math.inf:
        msg = f"Boundary distance must be above 0, got {wanted!r}. Use 2%, 5px or 1m."
        raise SettingError(msg)
    if distance_m is None:
        return max(round(ratio * math.hypot(*shape)), 1)
    if gsd_m is None:
        msg = f"Boundary distance in metres must have an image with a CRS, got {distance_m:g} m for one without. Use pixels."
        raise SettingError(msg)
    return max(round(distance_m / gsd_m), 1)
