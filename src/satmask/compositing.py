"""Composites: training windows put together from two, with their labels and weights."""

from __future__ import annotations

import numpy as np

Part = tuple[np.ndarray, np.ndarray, np.ndarray]
RING = 2  # pixels around a pasted object that come along, fading out


def cut_mix(window: Part, other: Part, random: np.random.Generator) -> Part:
    """Put a rectangle of another window in the same place of this one.

    Args:
        window: Image `(height, width, bands)`, truth `(height, width, classes)` and weight `(height, width)`.
        other: Another one of the same shapes.
        random: Fixes the rectangle: its share of the window is drawn evenly from 0 to 1, its middle anywhere.

    Returns:
        Image, truth and weight, new arrays.

    References:
        Yun et al., 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        https://arxiv.org/abs/1905.04899, with α = 1; labels are cut here, not mixed, since they are pixels, too
    """
    height, width = window[2].shape
    side, middle = np.sqrt(random.random()), random.random(2)
    rows, columns = (
        slice(max(round(at * length - side * length / 2), 0), max(round(at * length + side * length / 2), 0))
        for at, length in zip(middle, (height, width), strict=True)
    )
    parts = [part.copy() for part in window]
    for part, source in zip(parts, other, strict=True):
        part[rows, columns] = source[rows, columns]
    return parts[0], parts[1], parts[2]


def paste_objects(window: Part, other: Part, random: np.random.Generator, *, first: int = 0) -> Part:
    """Paste objects of another window into this one, where nothing stands in their way.

    An object is a connected group of pixels of any class. Each is taken in half the cases, if it lies whole in its
    window and all of its place, with a ring of 2 pixels, is labelled here and holds no object. In the ring the image
    fades from one window to the other; truth changes under the object only.

    Args:
        window: Image `(height, width, bands)`, truth `(height, width, classes)` and weight `(height, width)`.
        other: Another one of the same shapes.
        random: Fixes which objects are taken.
        first: First channel that counts as an object: 1 where the first class is the background.

    Returns:
        Image, truth and weight; the same arrays where nothing was pasted.

    References:
        Ghiasi et al., 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
        https://arxiv.org/abs/2012.07177
    """
    import cv2

    image, truth, weight = window
    things = (other[1][..., first:].any(axis=-1) & (other[2] > 0)).astype(np.uint8)
    count, numbers = cv2.connectedComponents(things, connectivity=8)
    wanted = random.random(count) < 0.5
    wanted[0] = False
    taken = truth[..., first:].any(axis=-1) | (weight <= 0) | (other[2] <= 0)
    # What lies behind the frame is in the way, too: an object that touches it isn't whole.
    edge = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 1}
    near = cv2.dilate(taken.astype(np.uint8), np.ones((2 * RING + 1, 2 * RING + 1), np.uint8), **edge)
    wanted[np.unique(numbers[near > 0])] = False
    mask = wanted[numbers]
    if not mask.any():
        return window
    fading = cv2.GaussianBlur(cv2.dilate(mask.astype(np.float32), np.ones((3, 3), np.uint8)), (3, 3), 0)
    blended = image + np.where(taken, np.float32(0), fading)[..., None] * (other[0] - image)
    blended = np.where(mask[..., None], other[0], blended)
    return blended.astype(image.dtype), np.where(mask[..., None], other[1], truth), np.where(mask, other[2], weight)


def add_pond(
    image: np.ndarray, free: np.ndarray, *, value_range: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Lay a smooth, dark patch with a round outline on free ground, much as a pond lies there.

    Where training has seen no water, a roof's even surface is all that a network asks for, and ponds have it. No label
    changes, as nothing is covered that has one.

    Args:
        image: float32, `(height, width, bands)`.
        free: Where there may be a pond, bool, `(height, width)`.
        value_range: Lowest and highest usual value of each band, `(bands,)` each.
        random: Fixes place, size (6 pixels to half of the window), outline, colour, shine and ripples.

    Returns:
        float32, a new array.
    """
    import cv2

    height, width = free.shape
    middle, radius = random.random(2) * (width, height), 6 * (max(height, width) / 12) ** random.random()
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = [random.random() * 0.5 / k * np.sin(k * angles + random.random() * 2 * np.pi) for k in (1, 2, 3, 4)]
    outline = (
        radius * np.maximum(1 + sum(waves), 0.2) * np.array([np.cos(angles), np.sin(angles) * random.uniform(0.4, 1)])
    )
    slant = random.random() * np.pi
    turned = outline.T @ np.array([[np.cos(slant), np.sin(slant)], [-np.sin(slant), np.cos(slant)]]) + middle
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.round(turned).astype(np.int32)], 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 2)) * free
    shine = (np.indices((height, width)) - middle[::-1, None, None]) / radius * random.uniform(-0.2, 0.2, (2, 1, 1))
    grain = random.standard_normal((height // 4 + 1, width // 4 + 1), np.float32) * random.random() * 0.1
    light = 1 + shine.sum(axis=0) + cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)
    colour = random.uniform(0.03, 0.45) * (1 + random.uniform(-0.25, 0.25, image.shape[2]))
    lowest, highest = value_range
    water = lowest + np.clip(light[..., None] * colour, 0, 1) * (highest - lowest)
    laid: np.ndarray = image + mask[..., None] * (water - image)
    return laid.astype(np.float32)


def weigh_edges(truth: np.ndarray, weight: np.ndarray, *, most: float, width_px: float) -> np.ndarray:
    """Weigh pixels near the edges of classes more: `w·(1 + w₀·exp(−d² / 2σ²))`, with `d` the distance to the nearest.

    Edges of all classes count, the window's own border doesn't. The U-Net paper adds the distances to the two nearest
    cells instead, which weighs gaps between touching ones; labels of buildings often have no such gaps.

    Args:
        truth: 0 or 1, uint8, `(height, width, classes)`.
        weight: float32, `(height, width)`.
        most: `w₀`, 0 or more.
        width_px: `σ`, in pixels, above 0.

    Returns:
        float32, `(height, width)`.

    Examples:
        >>> truth = np.array([[[0], [0], [0], [1], [1], [1]]], np.uint8)
        >>> weigh_edges(truth, np.ones((1, 6), np.float32), most=9, width_px=1).astype(int).tolist()
        [[2, 6, 10, 10, 6, 2]]

    References:
        Ronneberger, Fischer & Brox, 2015, https://arxiv.org/abs/1505.04597, equation 2, with w₀ = 10 and σ = 5
    """
    import cv2

    edge = np.zeros(weight.shape, bool)
    down, across = (truth[1:] != truth[:-1]).any(axis=-1), (truth[:, 1:] != truth[:, :-1]).any(axis=-1)
    for places, found in ((np.s_[1:], down), (np.s_[:-1], down), (np.s_[:, 1:], across), (np.s_[:, :-1], across)):
        edge[places] |= found
    if not edge.any():
        return weight
    distance = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    weighed: np.ndarray = weight * (1 + most * np.exp(-(distance**2) / (2 * width_px**2)))
    return weighed.astype(np.float32)
