"""Vary a training window without changing what it shows: pure NumPy and OpenCV, fixed by a random generator.

Everything is a fraction of the value range, so 8-bit photographs, 11-bit satellites and reflectances fare alike, and
their number doesn't matter: every band is treated by itself, or as one of however many are mixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from satmask.compositing import add_pond
from satmask.errors import SettingError
from satmask.sensors import add_haze, coarsen_plane, compress, mix_bands


class Augmentation(BaseModel):
    """How much a training window is varied; 0 or False turns a variation off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flips: bool = Field(default=True, description="Mirror left-right and up-down, each in half the cases.")
    turns: bool = Field(default=True, description="Quarter turns; half turns only where the window isn't square.")
    brightness: float = Field(default=0.2, ge=0, le=1, description="Largest shift, as a fraction of the value range.")
    contrast: float = Field(default=0.2, ge=0, le=1, description="Largest change of the spread around the mean, ±.")
    channel: float = Field(default=0.0, ge=0, le=1, description="Largest change of each band's gain by itself, ±.")
    gamma: float = Field(default=0.0, ge=0, le=4, description="Exponents from 1 / (1 + gamma) to 1 + gamma.")
    noise: float = Field(default=0.0, ge=0, le=1, description="Largest deviation of noise, as a fraction of the range.")
    blur: float = Field(default=0.0, ge=0, le=10, description="Largest deviation of a Gaussian blur, in pixels.")
    zoom: float = Field(default=0.0, ge=0, le=3, description="Scales from 1 / (1 + zoom) to 1 + zoom.")
    gsd_m: tuple[float, float] | None = Field(
        default=None,
        description="Scales at which pixels are between these on the ground, where the image tells its own.",
    )
    haze: float = Field(default=0.0, ge=0, le=1, description="Largest share of a bright veil over the window.")
    mix: float = Field(default=0.0, ge=0, le=1, description="Largest part of a band that comes from a mixture of all.")
    coarsen: float = Field(default=0.0, ge=0, le=7, description="Detail of pixels up to 1 + coarsen times as large.")
    jpeg: float = Field(
        default=0.0,
        ge=0,
        le=0.95,
        description="JPEG of qualities from 100 down to 100 · (1 − jpeg); 8-bit images only.",
    )
    cutmix: float = Field(default=0.0, ge=0, le=1, description="Chance of a rectangle from another window.")
    paste: float = Field(default=0.0, ge=0, le=1, description="Chance of objects pasted from another window.")
    ponds: float = Field(default=0.0, ge=0, le=1, description="Chance of a pond drawn where the labels say nothing.")

    @field_validator("gsd_m")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] < float("inf"):
            msg = f"Must be two distances in metres, the finer one first, got {value[0]:g} and {value[1]:g}"
            raise ValueError(msg)
        return value


def augment(
    image: np.ndarray,
    truth: np.ndarray,
    weight: np.ndarray,
    *,
    settings: Augmentation,
    value_range: tuple[np.ndarray | float, np.ndarray | float],
    random: np.random.Generator,
    valid: np.ndarray | None = None,
    fill: np.ndarray | float = 0.0,
    size: tuple[int, int] | None = None,
    eight_bit: bool | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vary one training window.

    Geometry moves image, truth and weight together. Radiometry then changes only valid pixels; the others keep the
    value they had, which is the fill that prediction gives them too, and none of it bleeds into their neighbours.
    Values stay within the value range, stretched to the window's own extremes where they lie outside it.

    Args:
        image: Pixel values, any dtype, `(height, width, bands)`.
        truth: 0 or 1, uint8, `(height, width, classes)`.
        weight: 0 or more, float32, `(height, width)`; 0 is nodata or unlabelled.
        settings: How much to vary.
        value_range: Lowest and highest usual value of each band, `(bands,)` or one number for all. Take the range that
            sensors fill, not a narrow percentile: what reaches the end saturates there.
        random: Fixes the draw: the same state gives the same bytes, on one version of NumPy and OpenCV.
        valid: Where the image holds data, bool, `(height, width)`; by default where the weight isn't 0. Pass it where
            unlabelled pixels still show ground.
        fill: Value of pixels that zooming out brings in from beyond the window, `(bands,)` or one number; their weight
            is 0.
        size: Height and width of what comes back, where the window was read larger or smaller in order to be scaled;
            the zoom is then done with. By default those of the window, zoomed as the settings say.
        eight_bit: Whether values are those of an 8-bit file, which may be compressed; by default what the dtype says.

    Returns:
        New image (float32), truth (its dtype) and weight (float32), of the same shapes or the size asked for.

    Raises:
        SettingError: If the shapes don't fit each other or the range is upside down.

    Examples:
        >>> window = np.full((8, 8, 3), 500, np.uint16), np.ones((8, 8, 1), np.uint8), np.ones((8, 8), np.float32)
        >>> image, truth, weight = augment(
        ...     *window, settings=Augmentation(), value_range=(0, 2047), random=np.random.default_rng([7, 1])
        ... )
        >>> image.shape, image.dtype, bool(abs(image - 500).max() <= 0.2 * 2047)
        ((8, 8, 3), dtype('float32'), True)
    """
    valid = weight > 0 if valid is None else valid.astype(bool)
    _check(image, truth, weight, valid)
    lowest, highest = _ends(value_range, bands=image.shape[-1])
    eight_bit = image.dtype == np.uint8 if eight_bit is None else eight_bit
    layers = [image.astype(np.float32), truth, weight.astype(np.float32), valid]
    layers = _turn(layers, settings=settings, random=random)
    layers = _resize(layers, size) if size else _zoom(layers, settings=settings, fill=fill, random=random)
    image, truth, weight, valid = (np.array(layer, order="C") for layer in layers)
    if valid.any():
        free = valid & (weight > 0) & ~truth.any(axis=-1)
        _vary(image, valid, free, settings=settings, lowest=lowest, highest=highest, random=random)
    if valid.any() and settings.jpeg and eight_bit:
        quality = round(100 * (1 - random.random() * settings.jpeg))
        image[valid] = compress(image, valid, quality)[valid]
    return image, truth, weight


def _check(image: np.ndarray, truth: np.ndarray, weight: np.ndarray, valid: np.ndarray) -> None:
    shapes = [layer.shape[:2] for layer in (image, truth, weight, valid)]
    if image.ndim != 3 or truth.ndim != 3 or weight.ndim != 2 or len(set(shapes)) > 1:
        shape = f"{image.shape}, {truth.shape}, {weight.shape} and {valid.shape}"
        msg = f"Image, truth, weight and valid must share height and width, got {shape}."
        raise SettingError(msg)


def _ends(value_range: tuple[np.ndarray | float, np.ndarray | float], *, bands: int) -> tuple[np.ndarray, np.ndarray]:
    lowest, highest = (np.atleast_1d(np.asarray(end, np.float32)) for end in value_range)
    if not {lowest.shape, highest.shape} <= {(1,), (bands,)} or not (lowest <= highest).all():
        msg = f"Value range must be one number or {bands}, the lowest first, got {value_range}."
        raise SettingError(msg)
    return np.broadcast_to(lowest, bands), np.broadcast_to(highest, bands)


def _turn(layers: list[np.ndarray], *, settings: Augmentation, random: np.random.Generator) -> list[np.ndarray]:
    """Flip and turn all layers alike, as views."""
    rows, columns, quarters = random.random() < 0.5, random.random() < 0.5, int(random.integers(4))
    height, width = layers[0].shape[:2]
    if settings.flips:
        layers = [layer[:: -1 if rows else 1, :: -1 if columns else 1] for layer in layers]
    if settings.turns:
        quarters = quarters if height == width else quarters // 2 * 2
        layers = [np.rot90(layer, quarters) for layer in layers]
    return layers


def _zoom(
    layers: list[np.ndarray], *, settings: Augmentation, fill: np.ndarray | float, random: np.random.Generator
) -> list[np.ndarray]:
    """Scale all layers by one factor and put them back into the window at a random place."""
    height, width = layers[0].shape[:2]
    factor, place = (1 + settings.zoom) ** random.uniform(-1, 1), random.random(2)
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    if size == (height, width):
        return layers
    near, image = _resize(layers, size), layers[0]
    fills: tuple[np.ndarray | float, ...] = (
        np.broadcast_to(np.asarray(fill, np.float32), image.shape[2:]),
        0,
        0,
        False,
    )
    return [_place(layer, (height, width), place, fill) for layer, fill in zip(near, fills, strict=True)]


def _resize(layers: list[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Scale all layers to one size: valid pixels smoothly, everything else to the nearest."""
    import cv2

    image, valid = layers[0], layers[3]
    if valid.shape == size:
        return layers
    near = [_nearest(layer, size) for layer in layers]
    method = cv2.INTER_AREA if size < valid.shape else cv2.INTER_LINEAR
    smooth = _masked(image, valid, lambda plane: cv2.resize(plane, size[::-1], interpolation=method))
    near[0] = np.where(near[3][..., None], smooth, near[0])
    return near


def _nearest(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Take for each new pixel the old one that holds its centre."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, layer.shape, strict=False))
    taken: np.ndarray = layer[rows][:, columns]
    return taken


def _place(layer: np.ndarray, sides: tuple[int, int], at: np.ndarray, fill: np.ndarray | float) -> np.ndarray:
    """Cut a larger layer to the window, or set a smaller one into it, `at` in [0, 1) of the room there is."""
    placed = np.empty((*sides, *layer.shape[2:]), layer.dtype)
    placed[...] = fill
    into, out = [], []
    for new, old, share in zip(sides, layer.shape, at, strict=False):
        shift, shared = int(share * (abs(new - old) + 1)), min(new, old)
        into.append(slice(shift, shift + shared) if new > old else slice(0, shared))
        out.append(slice(shift, shift + shared) if new < old else slice(0, shared))
    placed[tuple(into)] = layer[tuple(out)]
    return placed


def _vary(
    image: np.ndarray,
    valid: np.ndarray,
    free: np.ndarray,
    *,
    settings: Augmentation,
    lowest: np.ndarray,
    highest: np.ndarray,
    random: np.random.Generator,
) -> None:
    """Change the valid pixels' values in place, in the order of what is there, optics, scene, sensor."""
    import cv2

    bands, span = image.shape[-1], highest - lowest
    # All are drawn, needed or not: turning one variation off leaves the others as they were.
    shift, spread, exponent = random.uniform(-1, 1, 3)
    sigma, deviation = random.random(2)
    gains = np.asarray(random.uniform(-1, 1, bands), np.float32)
    extra = random.spawn(1)[0] if settings.coarsen or settings.mix or settings.haze or settings.ponds else None
    if extra is not None and settings.ponds:
        _wet(image, free, settings.ponds, value_range=(lowest, highest), random=extra.spawn(1)[0])
    if (width := sigma * settings.blur) > 0.05:
        image[valid] = _masked(image, valid, lambda plane: cv2.GaussianBlur(plane, (0, 0), width))[valid]
    if extra is not None and settings.coarsen:
        factor = 1 + extra.random() * settings.coarsen
        image[valid] = _masked(image, valid, lambda plane: coarsen_plane(plane, factor))[valid]
    values = image[valid]
    floor, ceiling = np.minimum(values.min(axis=0), lowest), np.maximum(values.max(axis=0), highest)
    if settings.gamma:
        share = (values - lowest) / np.where(span > 0, span, 1)
        power = np.float32((1 + settings.gamma) ** exponent)
        values = lowest + span * np.sign(share) * np.abs(share) ** power
    if settings.contrast:
        middle = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        values = middle + np.float32(1 + spread * settings.contrast) * (values - middle)
    if settings.brightness:
        values = values + np.float32(shift * settings.brightness) * span
    if settings.channel:
        values = lowest + (1 + np.float32(settings.channel) * gains) * (values - lowest)
    if extra is not None and (settings.mix or settings.haze):
        shares = (values - lowest) / np.where(span > 0, span, 1)
        shares = mix_bands(shares, settings.mix, extra)
        values = lowest + np.where(span > 0, span, 1) * add_haze(shares, settings.haze, extra)
    if settings.noise:
        grain = random.standard_normal(values.shape, dtype=np.float32)
        values = values + np.float32(deviation * settings.noise) * span * grain
    image[valid] = np.clip(values, floor, ceiling)


def _wet(
    image: np.ndarray,
    free: np.ndarray,
    chance: float,
    *,
    value_range: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
) -> None:
    """Lay a pond into the window in place, as often as the settings ask."""
    if random.random() < chance:
        image[free] = add_pond(image, free, value_range=value_range, random=random)[free]


def _masked(image: np.ndarray, valid: np.ndarray, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Run a linear filter band by band over the valid pixels only, so that nodata doesn't bleed into them."""
    bands = [work(np.where(valid, image[..., band], np.float32(0))) for band in range(image.shape[-1])]
    filtered = np.stack(bands, axis=-1)
    if valid.all():
        return filtered
    share = work(valid.astype(np.float32))[..., None]
    return filtered / np.where(share > 1e-6, share, 1)
