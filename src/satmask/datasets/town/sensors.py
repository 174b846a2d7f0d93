"""Four products of one place, as the satellite of DSTL delivers them: RGB, panchromatic, eight bands, eight in SWIR.

The place is painted once, on the pixels of RGB with a margin. Each product averages that light over its own pixels,
after a shift: its detectors looked a moment later, or from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from satmask.datasets.town.light import AMBIENT, HAZE
from satmask.datasets.town.materials import RGB, SPECTRA
from satmask.datasets.town.swir import SWIR_AMBIENT, SWIR_COUNTS, SWIR_SPECTRA

if TYPE_CHECKING:
    from satmask.datasets.town.painting import Maps

PAN_WEIGHTS = np.array([0.0, 0.12, 0.20, 0.17, 0.22, 0.18, 0.11, 0.0], np.float32)
"""What the panchromatic band (450–800 nm) sees of each band of `BANDS`."""
COUNTS, DARK = 2400.0, 40.0
"""Counts a unit of reflectance and counts without light, of the 11-bit sensors."""
TOP_11, TOP_14 = 2047, 16383


@dataclass(frozen=True)
class Product:
    """One of the files of an image.

    Attributes:
        height: Rows.
        width: Columns.
        shift: How far everything lies to the right and below of where RGB has it, in pixels of RGB; a spot at `(x, y)`
            in RGB is at `(x + dx, y + dy)` here, counted in pixels of RGB.
    """

    height: int
    width: int
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class _Look:
    """How a sensor looks at a piece of ground: what it covers, how sharp, how noisy."""

    product: Product
    view: tuple[int, int]
    margin: int
    blur: float
    noise: float

    def at(self, light: np.ndarray, random: np.random.Generator, haze: float) -> np.ndarray:
        """Average light over the product's pixels, add haze and noise; reflectance, float32."""
        seen = _shifted(light, self.view, self.margin, self.product.shift)
        target = self.product.height, self.product.width
        if target != self.view:
            shrinks = target[0] <= self.view[0] and target[1] <= self.view[1]
            way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            seen = np.asarray(cv2.resize(seen, target[::-1], interpolation=way)).reshape(target)
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)).reshape(target)
        seen += np.float32(haze)
        # Photon noise grows with the root of the light; reading noise doesn't.
        grain = random.standard_normal(target, dtype=np.float32)
        grain *= np.float32(self.noise) * (0.0022 + 0.006 * np.sqrt(np.maximum(seen, 0)))
        return np.asarray(seen + grain)


def _shifted(light: np.ndarray, view: tuple[int, int], margin: int, shift: tuple[float, float]) -> np.ndarray:
    """Cut the view out of light with a margin, moved by a fraction of a pixel linearly."""
    for axis, distance in ((0, shift[1]), (1, shift[0])):
        start = int(np.floor(margin - distance))
        share = float(margin - distance - start)
        first = np.take(light, range(start, start + view[axis]), axis=axis)
        if share > 0:
            second = np.take(light, range(start + 1, start + 1 + view[axis]), axis=axis)
            first = np.asarray(cv2.addWeighted(first, 1 - share, second, share, 0.0)).reshape(first.shape)
        light = first
    return light


def observe(maps: Maps, products: dict[str, Product], *, margin: int, seed: int) -> dict[str, np.ndarray]:
    """Take the four pictures of a place.

    Args:
        maps: The painted place: the pixels of RGB and a margin around them.
        products: Sizes and shifts of `RGB`, `P`, `M` and `A`; all cover the same ground.
        margin: Spots around the image, more than any shift.
        seed: Fixes haze, gain and noise.

    Returns:
        uint16, `(height, width, bands)`: of 11 bits `RGB` (red, green, blue), `P` and `M` (the order of `BANDS`), of
        14 bits `A`.
    """
    random = np.random.default_rng([seed, 6])
    haze, gain = float(random.uniform(0.3, 0.95)), float(random.uniform(0.82, 1.12))
    view = products["RGB"].height, products["RGB"].width
    looks = {
        name: _Look(products[name], view, margin, blur, noise)
        for name, blur, noise in (("RGB", 0.6, 1.0), ("P", 0.55, 0.8), ("M", 0.5, 0.6))
    }
    taken = {
        name: np.zeros((product.height, product.width, {"RGB": 3, "P": 1}.get(name, 8)), np.uint16)
        for name, product in products.items()
    }
    pan = np.zeros(maps.material.shape, np.float32)
    for band in range(len(HAZE)):
        light = _light(maps, SPECTRA[:, band], AMBIENT[band])
        pan += PAN_WEIGHTS[band] * light
        taken["M"][..., band] = _count_11(looks["M"].at(light, random, HAZE[band] * haze), gain)
        if band in RGB:
            taken["RGB"][..., RGB.index(band)] = _count_11(looks["RGB"].at(light, random, HAZE[band] * haze), gain)
    taken["P"][..., 0] = _count_11(looks["P"].at(pan, random, float(PAN_WEIGHTS @ HAZE) * haze), gain)
    del pan
    taken["A"][...] = _observe_swir(maps, _Look(products["A"], view, margin, 0.5, 0.4), random)
    return taken


def _observe_swir(maps: Maps, look: _Look, random: np.random.Generator) -> np.ndarray:
    """The product of eight bands in the short-wave infrared: hardly any haze, a gain of its own."""
    gain = float(random.uniform(0.75, 1.3))
    bands = [
        look.at(_light(maps, SWIR_SPECTRA[:, band], SWIR_AMBIENT[band]), random, 0.002) * SWIR_COUNTS[band] * gain
        for band in range(len(SWIR_COUNTS))
    ]
    return np.clip(np.rint(np.stack(bands, axis=-1) + DARK), 1, TOP_14)


def _light(maps: Maps, spectrum: np.ndarray, ambient: float) -> np.ndarray:
    """Light back from every spot in one band, as reflectance."""
    light = np.take(spectrum, maps.material)
    light *= maps.shade
    np.multiply(light, np.float32(ambient), out=light, where=maps.shadow)
    return light


def _count_11(reflectance: np.ndarray, gain: float) -> np.ndarray:
    return np.asarray(np.clip(np.rint(reflectance * np.float32(COUNTS * gain) + np.float32(DARK)), 1, TOP_11))
