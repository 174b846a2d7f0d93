"""How alike two images of different bands are, and where they are most alike.

Bands of one scene differ in brightness, in contrast and, from place to place, even in its sign: leaves are dark in red and
bright in near infrared. What they share is where things change. So images are normalised around every pixel (mean 0,
deviation 1), and alike is what is correlated around a pixel, whatever the sign: the squared local correlation.

References:
    Cachier & Pennec 2000, https://doi.org/10.1109/MMBIA.2000.852377 (local correlation as a measure of likeness)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from satmask.bands.resampling import reduce

# Pixels around one that its correlation is taken from: wide enough to hold structure, narrow enough that two materials
# rarely reverse their contrast in it.
RADIUS = 4
# Blocks along each side, whose shifts are compared.
BLOCKS = 5


@dataclass(frozen=True)
class Pair:
    """Two products on grids that fit each other, ready to be shifted.

    Attributes:
        coarse: Locally normalised bands of the coarser one, `(h, w, bands)`, float32.
        fine: Bands of the finer one averaged over a coarse pixel around every fine one, `(h·over, w·over, bands)`.
        known: False where either is nodata, bool, `(h, w)`.
        over: Fine pixels along a coarse one: a whole number.
    """

    coarse: np.ndarray
    fine: np.ndarray
    known: np.ndarray
    over: int

    @classmethod
    def of(cls, coarse: np.ndarray, fine: np.ndarray, *, side: int) -> Pair:
        """Bring two products to a coarse grid of at most `side` pixels along its longer side.

        Args:
            coarse: The coarser product, `(h, w, bands)`; NaN is nodata.
            fine: The finer one, `(height, width, bands)`, of the same ground.
            side: The limit.
        """
        shape = _work_shape(coarse.shape[:2], fine.shape[:2], side)
        over = 3 if min(fine.shape[0] / shape[0], fine.shape[1] / shape[1]) >= 3 else 2
        coarse_values, coarse_known = _fill(coarse, shape)
        fine_values, fine_known = _fill(fine, (shape[0] * over, shape[1] * over))
        # The mean over the footprint of a coarse pixel, wherever its centre falls. The weights are symmetric for two
        # pixels, too: a plain mean of two would be off by half a pixel.
        weights = np.array([1, 1, 1] if over == 3 else [1, 2, 1], np.float32)
        weights /= weights.sum()
        footprint = np.stack(
            [cv2.sepFilter2D(fine_values[..., band], -1, weights, weights) for band in range(fine.shape[2])], axis=-1
        )
        known = coarse_known & (reduce(fine_known.astype(np.float32), shape) > 0.999)
        return cls(normalise(coarse_values), footprint, known, over)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the coarse grid."""
        return self.coarse.shape[0], self.coarse.shape[1]

    @cached_property
    def still(self) -> np.ndarray:
        """The fine product on the coarse grid without a shift, normalised, `(h, w, bands)`."""
        return self.shifted(0.0, 0.0)

    def shifted(self, dx: float, dy: float, bands: tuple[int, ...] | None = None) -> np.ndarray:
        """Sample the fine product where the coarse one saw it if it is off by `(dx, dy)` coarse pixels; normalised."""
        bands = tuple(range(self.fine.shape[2])) if bands is None else bands
        planes = [self._sample(self.fine[..., band], dx, dy) for band in bands]
        return normalise(np.stack(planes, axis=-1))

    def _sample(self, plane: np.ndarray, dx: float, dy: float) -> np.ndarray:
        tall = _sample_rows(plane, self.shape[0], self.over, -dy)
        return _sample_rows(tall.T, self.shape[1], self.over, -dx).T


def normalise(image: np.ndarray) -> np.ndarray:
    """Take the mean around every pixel away and divide by the deviation around it.

    Where next to nothing changes there is noise, which must not be blown up: a third of the image's typical deviation is
    added to the divisor.

    Args:
        image: `(h, w, bands)`, float32, no NaN.

    Returns:
        The same shape, float32.
    """
    planes = []
    for band in range(image.shape[2]):
        plane = image[..., band] - image[..., band].mean()
        centred = plane - _around(plane)
        deviation = np.sqrt(np.maximum(_around(centred * centred), 0))
        typical = float(np.median(deviation))
        planes.append(centred / (deviation + typical / 3 + 1e-6 * max(float(np.abs(plane).max()), 1e-12)))
    return np.stack(planes, axis=-1)


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared local correlation of two normalised images, 0 to 1, `(h, w)` float32."""
    return np.asarray(np.square(_around(first * second)))


def search(pair: Pair, reach: int) -> np.ndarray:
    """Try all whole shifts up to `reach` coarse pixels each way, for all pairs of bands.

    Only pixels that every shift leaves inside count, so that shifts compare.

    Returns:
        Mean likeness, float64, `(coarse bands, fine bands, 2·reach + 1, 2·reach + 1)`; the last axes are dy and dx.
    """
    height, width = pair.shape
    size = 2 * reach + 1
    inner = pair.known[reach : height - reach, reach : width - reach].astype(np.float32)
    inner = _inside(inner)
    surface = np.zeros((pair.coarse.shape[2], pair.fine.shape[2], size, size))
    still = pair.still
    for i in range(surface.shape[0]):
        moving = np.ascontiguousarray(pair.coarse[reach : height - reach, reach : width - reach, i])
        for j in range(surface.shape[1]):
            for row in range(size):
                for column in range(size):
                    top, left = 2 * reach - row, 2 * reach - column
                    other = still[top : top + moving.shape[0], left : left + moving.shape[1], j]
                    alike = likeness(moving, other)
                    surface[i, j, row, column] = cv2.mean(alike * inner)[0]
    return np.asarray(surface / max(float(inner.mean()), 1e-9))


def block_likeness(pair: Pair, shift: tuple[float, float], bands: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Likeness at a shift, summed over pairs of bands, apart for each block of the scene: `(BLOCKS, BLOCKS)`."""
    fine_bands = tuple(sorted({fine for _, fine in bands}))
    fine = pair.shifted(*shift, fine_bands)
    total = np.zeros(pair.shape, np.float32)
    for coarse_band, fine_band in bands:
        total += likeness(pair.coarse[..., coarse_band], fine[..., fine_bands.index(fine_band)])
    weights = _inside(pair.known.astype(np.float32))
    return np.asarray(reduce(total * weights, (BLOCKS, BLOCKS)), np.float64)


def _inside(known: np.ndarray) -> np.ndarray:
    """1 where all of a pixel's surroundings are known and inside the scene, else 0."""
    side = 2 * (2 * RADIUS) + 1
    solid = cv2.erode(known, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(solid, np.float32)


def _around(values: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101))


def _work_shape(coarse: tuple[int, ...], fine: tuple[int, ...], side: int) -> tuple[int, int]:
    """The coarse grid, or a coarser one: at most `side` long, and at most half as fine as the fine grid."""
    factor = max(1.0, max(coarse) / side, 2 * coarse[0] / fine[0], 2 * coarse[1] / fine[1])
    return max(round(coarse[0] / factor), 1), max(round(coarse[1] / factor), 1)


def _fill(product: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Average a product on a coarser grid with nodata filled by the mean, and say where all of a pixel was known."""
    if product.dtype.kind != "f" or np.isfinite(product).all():
        return reduce(product, shape), np.ones(shape, bool)
    known = np.isfinite(product).all(axis=-1)
    means = product[known].mean(axis=0) if known.any() else np.zeros(product.shape[2])
    return reduce(np.where(known[..., None], product, means), shape), reduce(known.astype(np.float32), shape) > 0.999


def _sample_rows(plane: np.ndarray, count: int, step: int, shift: float) -> np.ndarray:
    """Every `step`-th row of a plane from the middle of the first step on, `shift` steps further; cubic convolution."""
    place = (0.5 + shift) * step - 0.5
    base = int(np.floor(place))
    t = place - base
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    rows = np.arange(count) * step + base
    result = np.zeros((count, plane.shape[1]), np.float32)
    for number, weight in enumerate(weights):
        if weight:
            result += np.float32(weight) * plane[np.clip(rows + number - 1, 0, plane.shape[0] - 1)]
    return result
