"""Upsampling: a network sees coarse pixels as four each, and what it says of the four is one probability again.

A network finds best what is as large, in pixels, as most of what it learned. Where houses are a handful of pixels wide, it
finds them better in an image that was enlarged, although nothing was added to it. Windows stay exact: an enlarged pixel
depends on its neighbours alone, so the halo is that of the network, in fewer pixels, and one more.
"""

from __future__ import annotations

import numpy as np


def double(images: np.ndarray) -> np.ndarray:
    """Enlarge images twofold, linearly between the centres of pixels; edges are continued.

    Args:
        images: float32, `(batch, height, width, bands)`.

    Returns:
        float32, `(batch, 2 · height, 2 · width, bands)`; each number from the same operations wherever it lies, so that
        windows of a scene and the whole scene have the same bits.

    Examples:
        >>> double(np.array([0, 4, 8], np.float32).reshape(1, 1, 3, 1))[0, 0, :, 0].tolist()
        [0.0, 1.0, 3.0, 5.0, 7.0, 8.0]
    """
    for axis in (1, 2):
        length = images.shape[axis]
        places = np.arange(length)
        near = images * np.float32(0.75)
        shape = list(images.shape)
        shape[axis] *= 2
        larger = np.empty(shape, np.float32)
        for first, others in enumerate((np.maximum(places - 1, 0), np.minimum(places + 1, length - 1))):
            part = (slice(None),) * axis + (slice(first, None, 2),)
            np.add(near, images.take(others, axis=axis) * np.float32(0.25), out=larger[part])
        images = larger
    return images


def halve(probabilities: np.ndarray) -> np.ndarray:
    """Mean of each four pixels, float32, `(batch, height, width, classes)` of twice the sides.

    Examples:
        >>> halve(np.array([[1, 0], [0, 1]], np.float32).reshape(1, 2, 2, 1)).tolist()
        [[[[0.5]]]]
    """
    (top, bottom) = probabilities[:, ::2], probabilities[:, 1::2]
    total = (top[:, :, ::2] + bottom[:, :, 1::2]) + (top[:, :, 1::2] + bottom[:, :, ::2])
    return np.asarray(total * np.float32(0.25))
