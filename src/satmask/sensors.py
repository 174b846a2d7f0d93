"""What stands between the ground and a file: haze, other spectral bands, coarser pixels, compression.

Each function imitates one of them on the pixels of a window, at a strength that it draws itself.
"""

from __future__ import annotations

import numpy as np


def mix_bands(shares: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    """Let every band see some of the others, as sensors with wider or shifted bands do.

    Rows of the mixing matrix add up to 1: what is grey stays grey.

    Args:
        shares: Values, 0 at the lowest and 1 at the highest usual one, float32, `(pixels, bands)`.
        most: Largest part of a band that comes from a random mixture of all, 0 to 1.
        random: Fixes the draw.

    Returns:
        Mixed values, float32, `(pixels, bands)`.

    Examples:
        >>> grey = np.full((1, 3), 0.25, np.float32)
        >>> mix_bands(grey, 1.0, np.random.default_rng(0)).round(6).tolist()
        [[0.25, 0.25, 0.25]]
    """
    count = shares.shape[1]
    part, recipe = random.random() * most, random.random((count, count))
    matrix = (1 - part) * np.eye(count) + part * recipe / recipe.sum(axis=1, keepdims=True)
    mixed: np.ndarray = shares @ matrix.T.astype(np.float32)
    return mixed


def add_haze(shares: np.ndarray, most: float, random: np.random.Generator) -> np.ndarray:
    """Draw a bright veil over a window: `(1 − t)·value + t·light`.

    The light is 0.6 to 1 of the value range, each band's up to 0.05 beside it.

    Args:
        shares: Values, 0 at the lowest and 1 at the highest usual one, float32, `(pixels, bands)`.
        most: Largest share `t` of the veil, 0 to 1.
        random: Fixes the draw.

    Returns:
        Veiled values, float32, `(pixels, bands)`.

    References:
        Koschmieder, 1924, "Theorie der horizontalen Sichtweite", for the formula
    """
    veil, light = random.random() * most, random.uniform(0.6, 1)
    lights = np.asarray(light + random.uniform(-0.05, 0.05, shares.shape[1]), np.float32)
    hazy: np.ndarray = shares * np.float32(1 - veil) + np.float32(veil) * lights
    return hazy


def coarsen_plane(plane: np.ndarray, factor: float) -> np.ndarray:
    """Average a band to pixels that are `factor` times as large, and bring it back to its size.

    Args:
        plane: float32, `(height, width)`.
        factor: 1 or more.

    Returns:
        float32, `(height, width)`; linear in the plane.
    """
    import cv2

    height, width = plane.shape
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    if size == (width, height):
        return plane
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def compress(image: np.ndarray, valid: np.ndarray, quality: int) -> np.ndarray:
    """Write an 8-bit window as JPEG and read it again.

    Three bands are compressed as colours, as files in the wild are; any other number band by band. Invalid pixels are
    replaced by the mean before, so that their value changes nothing.

    Args:
        image: 0 to 255, float32, `(height, width, bands)`.
        valid: bool, `(height, width)`, somewhere true.
        quality: 1 to 100.

    Returns:
        float32, `(height, width, bands)`; only valid pixels mean something.
    """
    import cv2

    mean = image[valid].mean(axis=0, dtype=np.float64)
    whole = np.where(valid[..., None], image, mean).round().clip(0, 255).astype(np.uint8)
    # OpenCV takes colours for blue, green, red.
    planes = [whole[..., ::-1]] if whole.shape[-1] == 3 else list(np.moveaxis(whole, -1, 0))
    found = []
    for plane in planes:
        _, code = cv2.imencode(".jpg", np.ascontiguousarray(plane), [cv2.IMWRITE_JPEG_QUALITY, quality])
        found.append(np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED)))
    read = found[0][..., ::-1] if whole.shape[-1] == 3 else np.stack(found, axis=-1)
    return read.astype(np.float32)
