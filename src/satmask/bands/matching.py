"""How alike two images of different bands are, and where they are most alike.

Bands of one scene differ in brightness, in contrast and, from place to place, even in its sign: leaves are dark in red and
bright in near infrared. What they share is where things change. So images are normalised around every pixel (mean 0,
deviation 1), and alike is what is correlated around a pixel, whatever the sign: the squared local correlation.

Every band is filtered by itself, so here a product is a tuple of planes, `(h, w)` float32, instead of one array.

References:
    Cachier & Pennec 2000, https://doi.org/10.1109/MMBIA.2000.852377 (local correlation as a measure of likeness)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from satmask.bands.resampling import reduce

Planes = tuple[np.ndarray, ...]
# Pixels around one that its correlation is taken from: wide enough to hold structure, narrow enough that two materials
# rarely reverse their contrast in it.
RADIUS = 4
# Fine pixels along a coarse one, once both products are on their work grids: enough to sample in between.
OVER = 2
# Blocks along each side, whose shifts are compared.
BLOCKS = 4


@dataclass(frozen=True)
class Pair:
    """Two products on grids that fit each other, ready to be shifted.

    Attributes:
        coarse: Bands of the coarser one.
        fine: Bands of the finer one on twice as many rows and columns, each the mean over a coarse pixel around it.
        known: False where either is nodata, bool, `(h, w)`.
    """

    coarse: Planes
    fine: Planes
    known: np.ndarray

    @classmethod
    def of(cls, coarse: np.ndarray, fine: np.ndarray, *, side: int) -> Pair:
        """Bring two products to a coarse grid of at most `side` pixels along its longer side.

        Args:
            coarse: The coarser product, `(h, w, bands)`; NaN is nodata.
            fine: The finer one, `(height, width, bands)`, of the same ground.
            side: The limit.
        """
        shape = _work_shape(coarse.shape[:2], fine.shape[:2], side)
        coarse_planes, coarse_known = _fill(coarse, shape)
        fine_planes, fine_known = _fill(fine, (shape[0] * OVER, shape[1] * OVER))
        # The footprint of a coarse pixel, wherever its centre falls; symmetric, or everything would be shifted.
        weights = np.array([0.25, 0.5, 0.25], np.float32)
        seen = tuple(cv2.sepFilter2D(plane, -1, weights, weights) for plane in fine_planes)
        return cls(coarse_planes, seen, coarse_known & (reduce(fine_known.astype(np.float32), shape) > 0.999))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the coarse grid."""
        return self.known.shape[0], self.known.shape[1]

    @cached_property
    def structure(self) -> Planes:
        """The coarse bands, normalised."""
        return tuple(normalise(plane) for plane in self.coarse)

    @cached_property
    def inside(self) -> np.ndarray:
        """1 where all that a pixel's likeness depends on is known and inside the scene, else 0; float32."""
        return interior(self.known)

    def sample(self, plane: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
        """A plane of the fine grid as the coarse product sees it if that is off by `(dx, dy)` coarse pixels."""
        tall = _sample_rows(plane, self.shape[0], -shift[1])
        return np.ascontiguousarray(_sample_rows(np.ascontiguousarray(tall.T), self.shape[1], -shift[0]).T)


def normalise(plane: np.ndarray) -> np.ndarray:
    """Take the mean around every pixel away and divide by the deviation around it.

    Where next to nothing changes there is noise, which must not be blown up: a third of the image's typical deviation is
    added to the divisor.

    Args:
        plane: `(h, w)`, float32, no NaN.

    Returns:
        The same shape, float32.
    """
    detail = _detail(plane)
    deviation = np.sqrt(np.maximum(_around(detail * detail), 0))
    # Every 16th pixel tells what is typical; rounding errors of large values aren't structure.
    typical = float(np.median(deviation[::4, ::4])) / 3 + 1e-6 * float(np.abs(plane).max()) + 1e-12
    return np.asarray(detail / (deviation + np.float32(typical)))


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared local correlation of two normalised images, 0 to 1, `(h, w)` float32."""
    return np.asarray(np.square(_around(first * second)))


def search(pair: Pair, reach: int) -> np.ndarray:
    """Try all whole shifts up to `reach` coarse pixels each way, for all pairs of bands.

    Returns:
        Mean likeness, float64, `(coarse bands, fine bands, 2·reach + 1, 2·reach + 1)`; the last axes are dy and dx.
    """
    still = [normalise(pair.sample(plane, (0.0, 0.0))) for plane in pair.fine]
    middle = (slice(reach, pair.shape[0] - reach), slice(reach, pair.shape[1] - reach))
    inner = interior(pair.known[middle])
    moving = [np.ascontiguousarray(plane[middle]) for plane in pair.structure]
    return np.array([[_slide(first, second, inner, reach) for second in still] for first in moving])


def mix(pair: Pair, shift: tuple[float, float], bands: tuple[int, ...]) -> Planes:
    """Mix the fine product's bands into what each of some coarse bands would see, fitted by least squares at a shift.

    One band never looks quite like another: at the lit side of a tree or a roof, the difference has a direction, which
    would be taken for a shift. The mixture that comes closest has less of it.

    Args:
        pair: The products.
        shift: `(dx, dy)` in coarse pixels.
        bands: Positions of the coarse bands to be imitated.

    Returns:
        The mixtures on the fine grid, one for each of `bands`.
    """
    inside = pair.inside > 0
    details = np.stack([_detail(pair.sample(plane, shift))[inside] for plane in pair.fine], axis=-1).astype(np.float64)
    targets = np.stack([_detail(pair.coarse[band])[inside] for band in bands], axis=-1)
    gram = details.T @ details
    # A little damping: bands that are copies of each other must not get huge weights of opposite sign.
    gram += (1e-4 * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    weights = np.linalg.solve(gram, details.T @ targets).astype(np.float32)
    return tuple(
        np.asarray(sum(weight * plane for weight, plane in zip(column, pair.fine, strict=True))) for column in weights.T
    )


def block_likeness(pair: Pair, mixed: Planes, shift: tuple[float, float], bands: tuple[int, ...]) -> np.ndarray:
    """Likeness of coarse bands and their imitations at a shift, apart for each block: `(BLOCKS, BLOCKS)`."""
    total = np.zeros(pair.shape, np.float32)
    for plane, band in zip(mixed, bands, strict=True):
        total += likeness(pair.structure[band], normalise(pair.sample(plane, shift)))
    return np.asarray(reduce(total * pair.inside, (BLOCKS, BLOCKS)), np.float64)


def interior(known: np.ndarray) -> np.ndarray:
    """1 where all of a pixel's surroundings, and all of theirs, are known and inside the scene, else 0; float32."""
    kernel = np.ones((4 * RADIUS + 1, 4 * RADIUS + 1), np.uint8)
    solid = cv2.erode(known.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(solid, np.float32)


def _slide(moving: np.ndarray, still: np.ndarray, inner: np.ndarray, reach: int) -> np.ndarray:
    """Mean likeness of a part to a larger image at all places: only pixels that no place leaves out, so that they compare."""
    size = 2 * reach + 1
    surface = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            top, left = 2 * reach - row, 2 * reach - column
            other = still[top : top + moving.shape[0], left : left + moving.shape[1]]
            surface[row, column] = cv2.mean(likeness(moving, other) * inner)[0]
    return np.asarray(surface / max(float(inner.mean()), 1e-9))


def _detail(plane: np.ndarray) -> np.ndarray:
    """What differs from its surroundings."""
    level = plane - np.float32(plane.mean())
    return np.asarray(level - _around(level))


def _around(values: np.ndarray) -> np.ndarray:
    side = 2 * RADIUS + 1
    return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101))


def _work_shape(coarse: tuple[int, ...], fine: tuple[int, ...], side: int) -> tuple[int, int]:
    """The coarse grid, or a coarser one: at most `side` long, and at most half as fine as the fine grid."""
    factor = max(1.0, max(coarse) / side, OVER * coarse[0] / fine[0], OVER * coarse[1] / fine[1])
    # Rounded down: twice as many fine pixels must be there.
    return max(int(coarse[0] / factor + 1e-9), 1), max(int(coarse[1] / factor + 1e-9), 1)


def _fill(product: np.ndarray, shape: tuple[int, int]) -> tuple[Planes, np.ndarray]:
    """Average a product on a coarser grid with nodata filled by the mean, and say where all of a pixel was known."""
    if product.dtype.kind == "f" and not np.isfinite(product).all():
        known = np.isfinite(product).all(axis=-1)
        means = product[known].mean(axis=0) if known.any() else np.zeros(product.shape[2])
        share = reduce(known.astype(np.float32), shape)
        return _fill(np.where(known[..., None], product, means), shape)[0], share > 0.999
    small = reduce(product, shape)
    return tuple(np.ascontiguousarray(plane) for plane in np.moveaxis(small, -1, 0)), np.ones(shape, bool)


def _sample_rows(plane: np.ndarray, count: int, shift: float) -> np.ndarray:
    """Rows of a plane, `OVER` apart, from the middle of the first step on, `shift` steps further.

    Lanczos' kernel of six rows: a cubic one blurs by an eighth between rows, nothing on them, and an image that is blurred
    anyway would be drawn to where it blurs most.
    """
    place = (0.5 + shift) * OVER - 0.5
    base = int(np.floor(place))
    away = np.arange(-2, 4) - (place - base)
    weights = np.sinc(away) * np.sinc(away / 3)
    weights = (weights / weights.sum()).astype(np.float32)
    rows = np.arange(count) * OVER + base - 2
    result = np.zeros((count, plane.shape[1]), np.float32)
    for number, weight in enumerate(weights):
        if abs(weight) > 1e-7:
            result += weight * plane[np.clip(rows + number, 0, plane.shape[0] - 1)]
    return result
