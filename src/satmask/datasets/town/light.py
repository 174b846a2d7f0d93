"""Sun, shadows, noise, and what a sensor makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from satmask.datasets.town.materials import RGB, SPECTRA

if TYPE_CHECKING:
    from satmask.datasets.town.painting import Maps

AMBIENT = np.array([0.44, 0.40, 0.34, 0.31, 0.28, 0.25, 0.21, 0.18], np.float32)
"""Share of the light that comes from the sky, not the sun, a band: shadows are blue."""
HAZE = np.array([0.055, 0.042, 0.028, 0.022, 0.017, 0.012, 0.008, 0.006], np.float32)
"""Light scattered by the air under the sensor, as reflectance a band, on a day of middling haze."""


@dataclass(frozen=True)
class Sun:
    """Where the sun stands.

    Attributes:
        azimuth: Direction from the town to the sun, in radians clockwise from north.
        elevation: Height over the horizon, in radians.
    """

    azimuth: float
    elevation: float

    @classmethod
    def draw(cls, random: np.random.Generator) -> Sun:
        """Draw a sun in the southern sky, as satellites in the northern hemisphere meet it before or after noon."""
        azimuth, elevation = random.uniform(115, 225), random.uniform(36, 62)
        return cls(float(np.radians(azimuth)), float(np.radians(elevation)))

    @property
    def towards(self) -> tuple[float, float]:
        """Unit vector to the sun on the ground: x to the right, y downwards."""
        return float(np.sin(self.azimuth)), float(-np.cos(self.azimuth))

    def on_slope(self, slope_x: np.ndarray, slope_y: np.ndarray) -> np.ndarray:
        """Light on a slope relative to level ground, by Lambert's cosine law and a quarter of skylight.

        Args:
            slope_x: Rise a metre to the right, float, any shape.
            slope_y: Rise a metre downwards, same shape.

        Returns:
            Brightness, float32, same shape; 1 on level ground.
        """
        x, y = self.towards
        sine, cosine = np.sin(self.elevation), np.cos(self.elevation)
        facing = (sine - (slope_x * x + slope_y * y) * cosine) / np.sqrt(1 + slope_x**2 + slope_y**2)
        return np.asarray(0.25 + 0.75 * np.maximum(facing, 0) / sine, np.float32)


def noise(random: np.random.Generator, shape: tuple[int, ...], *, cell: float) -> np.ndarray:
    """Draw smooth noise of mean 0 and deviation about 1, float32, with lumps of `cell` pixels."""
    height, width = shape[0], shape[1]
    if cell <= 1:
        return random.standard_normal((height, width), dtype=np.float32)
    small = random.standard_normal((int(height / cell) + 4, int(width / cell) + 4), dtype=np.float32)
    # Interpolation averages deviation away; the factor gives it back.
    sides = int(small.shape[1] * cell), int(small.shape[0] * cell)
    large = cv2.resize(small * np.float32(1.25), sides, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large)[:height, :width]


def shadows(height_cm: np.ndarray, sun: Sun, *, step_m: float) -> np.ndarray:
    """Find what lies in shadow.

    A spot is dark where, on the way to the sun, something rises above its ray. The highest such obstacle is found in
    doubling steps: what is known about the first n spots on the way, looked up n spots further on, tells about 2n.

    Args:
        height_cm: Heights, uint16, `(height, width)`.
        sun: Where the light comes from.
        step_m: Side of a spot.

    Returns:
        True in shadow, bool, same shape.
    """
    highest = int(height_cm.max())
    reach, drop_cm = 1, 100 * step_m * np.tan(sun.elevation)
    seen = height_cm.copy()
    while reach * drop_cm < highest:
        dx, dy = (round(reach * part) for part in sun.towards)
        further = np.zeros_like(seen)
        rows, columns = _overlap(seen.shape[0], dy), _overlap(seen.shape[1], dx)
        if rows is not None and columns is not None:
            further[rows[0], columns[0]] = seen[rows[1], columns[1]]
        lower = np.uint16(min(round(float(np.hypot(dx, dy)) * drop_cm), 65535))
        seen = cv2.max(seen, cv2.subtract(further, np.full_like(further, lower)))
        reach *= 2
    return seen > height_cm + np.uint16(25)


def _overlap(size: int, shift: int) -> tuple[slice, slice] | None:
    """Where to write and where to read so that each spot gets what lies `shift` further on."""
    if abs(shift) >= size:
        return None
    if shift >= 0:
        return slice(0, size - shift), slice(shift, size)
    return slice(-shift, size), slice(0, size + shift)


def expose(maps: Maps, shape: tuple[int, int], *, bands: Literal[3, 8], seed: int) -> np.ndarray:
    """Take the picture: light back from the ground, through haze and optics, onto a noisy sensor.

    Args:
        maps: The painted town, a whole number of spots a pixel.
        shape: Rows and columns of the image.
        bands: 3 for red, green, blue; 8 for all of `BANDS`.
        seed: Fixes haze and noise.

    Returns:
        uint8, `(height, width, 3)`, or uint16 of 11 bits, `(height, width, 8)`.
    """
    random = np.random.default_rng([seed, 5])
    haze, blur = float(random.uniform(0.3, 0.95)), float(random.uniform(0.45, 0.7))
    warmth = random.normal(1.0, 0.03, len(AMBIENT))
    gain = float(random.normal(1.0, 0.06))
    image = np.empty((*shape, bands), np.uint8 if bands == 3 else np.uint16)
    for position, band in enumerate(RGB if bands == 3 else range(bands)):
        # Everything in place: these arrays are larger than the image.
        fine = np.take(SPECTRA[:, band], maps.material)
        fine *= maps.shade
        np.multiply(fine, AMBIENT[band], out=fine, where=maps.shadow)
        seen = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA)
        seen = cv2.GaussianBlur(seen, (0, 0), blur, borderType=cv2.BORDER_REFLECT_101)
        seen = np.asarray(seen).reshape(shape) * float(warmth[band] * gain) + HAZE[band] * haze
        grain = random.standard_normal(shape, dtype=np.float32)
        # Photon noise grows with the root of the light; reading noise doesn't.
        seen = seen + grain * (0.0022 + 0.006 * np.sqrt(np.maximum(seen, 0)))
        image[..., position] = _to_8_bits(seen) if bands == 3 else np.clip(np.rint(seen * 2400 + 40), 0, 2047)
    return image


def _to_8_bits(reflectance: np.ndarray) -> np.ndarray:
    """Stretch reflectance as people like to look at it: black point, gamma, a soft shoulder, 0 to 255."""
    bright = np.maximum(reflectance - 0.014, 0) / 0.38
    curve = 255 * np.tanh(1.1 * np.linspace(0, 2, 4096) ** (1 / 1.75)) / np.tanh(1.1)
    steps = np.minimum(bright * 2047.5, 4095).astype(np.uint16)
    return np.asarray(np.clip(np.rint(curve), 0, 255).astype(np.uint8)[steps])
