"""Shapes: which groups of pixels of a class are kept, by how large they are and how they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """What groups of pixels of a class must look like: those to which none of the conditions applies are dropped.

    Attributes:
        name: The class.
        large_px: Kept from so many pixels.
        slender: Kept from this slenderness: (width² + height²) / pixels of the group's bounding box and pixels. It is 2 for
            a square, about the ratio of length to width for a strip, and grows for what winds.
        edge_px: Kept from so many pixels where it touches the edge of the image, which may cut it off.
    """

    name: str
    large_px: float | None = None
    slender: float | None = None
    edge_px: float | None = None


def choose_objects(mask: np.ndarray, smallest_px: float, shape: Shape | None = None) -> np.ndarray:
    """Keep groups of pixels that share edges where they are large enough and look right.

    Args:
        mask: bool, `(height, width)`.
        smallest_px: Pixels from which a group is kept.
        shape: What a group must look like.

    Returns:
        The mask without the others, bool; itself where nothing can be dropped.

    Examples:
        >>> choose_objects(np.array([[True, True, False, True]]), 2).tolist()
        [[True, True, False, False]]
    """
    if (smallest_px <= 1 and shape is None) or not mask.any():
        return mask
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    pixels = stats[:, cv2.CC_STAT_AREA]
    keep = pixels >= smallest_px
    if shape is not None:
        keep &= looks_right(pixels, stats[:, :4], shape, mask.shape)
    keep[0] = False
    return np.asarray(keep[labels])


def looks_right(pixels: np.ndarray, boxes: np.ndarray, shape: Shape, image: tuple[int, ...]) -> np.ndarray:
    """Tell which groups of pixels look as they must.

    Args:
        pixels: Pixels of each, integers, `(groups,)`.
        boxes: First column, first row, columns and rows of each, integers, `(groups, 4)`.
        shape: What they must look like.
        image: `(height, width)`.

    Returns:
        bool, `(groups,)`.
    """
    left, top, width, height = boxes.T.astype(np.int64)
    at_edge = (left == 0) | (top == 0) | (left + width == image[1]) | (top + height == image[0])
    looks = np.zeros(len(pixels), bool)
    looks |= False if shape.large_px is None else pixels >= shape.large_px
    looks |= False if shape.slender is None else width**2 + height**2 >= shape.slender * pixels
    looks |= False if shape.edge_px is None else at_edge & (pixels >= shape.edge_px)
    return looks
