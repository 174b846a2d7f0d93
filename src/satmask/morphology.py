"""Morphology: masks narrowed and widened by discs of any radius, and their small holes filled; all in pixels."""

from __future__ import annotations

import numpy as np


def opened(mask: np.ndarray, radius_px: float) -> np.ndarray:
    """Take off what a disc doesn't fit into; the image's edge is no edge of objects.

    Args:
        mask: bool, `(height, width)`.
        radius_px: Radius of the disc, fractions of pixels included; 0 leaves the mask as it is.

    Returns:
        A mask, bool, `(height, width)`. A pixel depends on those within twice the radius.

    Examples:
        >>> mask = np.pad(np.ones((3, 3), bool), 2)
        >>> mask[3, 0] = True
        >>> int(mask.sum()), int(opened(mask, 1).sum())
        (10, 5)
    """
    return _grown(~_grown(~mask, radius_px), radius_px) if radius_px else mask


def closed(mask: np.ndarray, radius_px: float) -> np.ndarray:
    """Close gaps that a disc doesn't fit into; arguments as in `opened`."""
    return ~_grown(~_grown(mask, radius_px), radius_px) if radius_px else mask


def filled(mask: np.ndarray, smallest_px: float) -> np.ndarray:
    """Fill small holes: groups of pixels outside, sharing edges or corners, that don't touch the image's edge.

    Args:
        mask: bool, `(height, width)`.
        smallest_px: Pixels from which a hole stays.

    Returns:
        A mask, bool, `(height, width)`; itself where nothing can be filled.
    """
    import cv2

    if smallest_px <= 1 or mask.all():
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    left, top, width, height, pixels = stats.T
    inner = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    fill = inner & (pixels < smallest_px)
    fill[0] = False
    return np.asarray(mask | fill[labels])


def _grown(mask: np.ndarray, radius_px: float) -> np.ndarray:
    """Take in what lies within a distance of a mask: the same cost for any radius, fractions of pixels included."""
    import cv2

    if not mask.any():
        return mask
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(far <= radius_px + 1e-4)
