"""Alignment: do labels lie where the image has edges, or would the whole layer fit better a few pixels away?

Labels drawn over other imagery are often off by several pixels, a whole tile in one direction. Where they are, the
direction of edges agrees with that of label boundaries better somewhere else than where the labels lie. What a tile says
about every shift is an `Alignment`, and alignments add: many weak tiles of one place make strong evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 16  # side of the blocks whose votes are compared, in pixels: smaller ones aren't independent of each other
MIN_SIGNIFICANCE = 4.0  # of a shift that is believed; see `Alignment.is_shifted`
MIN_SHIFT = 1.5  # shorter ones are within what drawing labels costs, in pixels
FAR, MIN_CONTRAST = (
    4.0,
    3.0,
)  # in pixels and standard errors: most shifts this far are this much worse if labels are aligned
MAX_RIVAL = 0.9  # of the best gain: where one as good lies elsewhere, such as a house further, nobody can tell

_BLUR = (7, 7), 1.0  # kernel and deviation of the smoothing of images before gradients are taken
_SOFTEN = (5, 5), 0.7  # the same of labels, so that boundaries that are stairs have a direction
_NEAR_NODATA = 4  # pixels whose gradient sees nodata: the reach of _BLUR and of a central difference
_NEAR_UNLABELLED = 3  # the same of labels
_SURROUNDINGS = 31  # side of the square in which edges are compared, in pixels
_AT_ONCE = 256  # blocks, to keep memory in bounds


@dataclass(frozen=True, eq=False)
class Alignment:
    """How well labels agree with the edges of their image, at every shift of the whole layer.

    The agreement of a boundary pixel is the strength of the edge there, 0 to 1, times `cos 2a`, where `a` is the angle
    between edge and boundary: 1 for a strong edge along the boundary, 0 where the image is flat or its edges run anyhow, -1
    for a strong edge across it. Whether the inside is brighter or darker doesn't matter.

    All attributes are sums, so two alignments of the same `max_shift` can be added.

    Attributes:
        surface: Sum of the agreement over the boundary for each shift, float64, `(2 * max_shift + 1,) * 2`: row
            `max_shift + dy`, column `max_shift + dx` holds the shift of the labels by `dx` columns and `dy` rows.
        spread: For each shift, the sum over blocks of 16 × 16 pixels of the squared difference between its agreement and
            that of no shift, float64, as large as the surface.
        boundary_px: Length of the boundary that could be compared, in pixels; what bounds two classes counts twice.
    """

    surface: np.ndarray
    spread: np.ndarray
    boundary_px: float

    def __post_init__(self) -> None:
        """Refuse surfaces that aren't odd squares."""
        side = self.surface.shape[0]
        if self.surface.shape != (side, side) or self.spread.shape != (side, side) or side % 2 == 0:
            msg = f"Surfaces must be squares of one odd side, got {self.surface.shape} and {self.spread.shape}."
            raise SettingError(msg)

    def __add__(self, other: Alignment) -> Alignment:
        """Put the evidence of two tiles together.

        Raises:
            SettingError: If they were measured with different `max_shift`.
        """
        if self.max_shift != other.max_shift:
            msg = f"Alignments must share max_shift to be added, got {self.max_shift} and {other.max_shift}."
            raise SettingError(msg)
        return Alignment(self.surface + other.surface, self.spread + other.spread, self.boundary_px + other.boundary_px)

    @property
    def max_shift(self) -> int:
        """The longest shift tried along an axis, in pixels."""
        return len(self.surface) // 2

    @cached_property
    def _gains(self) -> np.ndarray:
        return np.asarray(self.surface - self.surface[self.max_shift, self.max_shift])

    @cached_property
    def _peak(self) -> tuple[int, int]:
        """Row and column of the best shift; no shift where several are equally good."""
        if self._gains.max() <= 0:
            return self.max_shift, self.max_shift
        row, column = np.unravel_index(int(self._gains.argmax()), self._gains.shape)
        return int(row), int(column)

    @property
    def dx(self) -> float:
        """Columns by which the labels should be moved to the right, to a fraction of a pixel."""
        row, column = self._peak
        return column - self.max_shift + _vertex(self.surface[row], column)

    @property
    def dy(self) -> float:
        """Rows by which the labels should be moved down, to a fraction of a pixel."""
        row, column = self._peak
        return row - self.max_shift + _vertex(self.surface[:, column], row)

    @property
    def shift(self) -> float:
        """Length of the shift, in pixels."""
        return math.hypot(self.dx, self.dy)

    @property
    def gain(self) -> float:
        """What a boundary pixel gains in agreement by the best shift, on average; at least 0."""
        return float(self._gains[self._peak]) / self.boundary_px if self.boundary_px else 0.0

    @cached_property
    def _significances(self) -> np.ndarray:
        return self._gains / np.sqrt(np.where(self.spread > 0, self.spread, np.inf))

    @property
    def significance(self) -> float:
        """The best shift's gain in standard errors, estimated from how differently the blocks vote; at least 0.

        It can't exceed the root of the number of blocks, so a tile with one house is never significant.
        """
        return float(self._significances[self._peak])

    @property
    def rival(self) -> float:
        """The largest gain 4 pixels or more away from the best shift, as a share of the best; 1 if there is no best."""
        row, column = (place - self.max_shift for place in self._peak)
        away = self._gains[self._distances(row, column) >= FAR]
        return max(float(away.max(initial=0.0)) / best, 0.0) if (best := float(self._gains[self._peak])) > 0 else 1.0

    def _distances(self, row: int, column: int) -> np.ndarray:
        """Distance of each shift tried from another one, in pixels."""
        steps = np.arange(-self.max_shift, self.max_shift + 1)
        return np.asarray(np.hypot(steps[:, None] - row, steps - column))

    @property
    def is_shifted(self) -> bool:
        """Whether labels should be moved: the gain is 4 standard errors or more, the shift at least 1.5 pixels.

        A best shift at the rim of what was tried is no peak, and isn't believed; nor is one with a rival: 4 pixels or more
        away, and nearly as good.
        """
        rim = {0, 2 * self.max_shift}
        clear = self.significance >= MIN_SIGNIFICANCE and self.rival <= MAX_RIVAL
        return clear and self.shift >= MIN_SHIFT and not rim & {*self._peak}

    @property
    def verdict(self) -> Literal["shifted", "aligned", "can't tell"]:
        """`"shifted"` as `is_shifted` says; `"aligned"` if the best is near and most far shifts are clearly worse."""
        if self.is_shifted:
            return "shifted"
        far = self._significances[self._distances(0, 0) >= FAR]
        worse = self.shift < MIN_SHIFT and len(far) > 0 and float(np.median(far)) <= -MIN_CONTRAST
        return "aligned" if worse else "can't tell"


def combine(alignments: Iterable[Alignment]) -> Alignment:
    """Add alignments, such as those of all tiles of a place.

    Args:
        alignments: At least one, measured with the same `max_shift`.

    Returns:
        What they say together. A shift that all share is found even where single tiles can't tell.

    Raises:
        SettingError: If there is none, or they don't share `max_shift`.

    Examples:
        >>> flat = measure_shift(np.zeros((64, 64, 1)), np.zeros((64, 64, 1), np.uint8), np.ones((64, 64), bool))
        >>> combine([flat, flat]).verdict
        "can't tell"
    """
    found = list(alignments)
    if not found:
        msg = "Alignments must be at least one to be combined, got none."
        raise SettingError(msg)
    return reduce(Alignment.__add__, found)


def measure_shift(
    image: np.ndarray,
    classes: np.ndarray,
    labelled: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    max_shift: int = 12,
) -> Alignment:
    """Measure by how much the labels of a tile should be moved to lie on the edges of its image.

    Only boundaries between labelled pixels, `max_shift + 4` pixels or more from nodata and from the tile's edge, are
    compared, so that every shift is judged by the same boundary. Edges count by their direction, and by their strength
    relative to their surroundings: shadows are no stronger than roofs.

    Args:
        image: Pixel values of any number type, `(height, width, bands)`.
        classes: 1 where a pixel has the class, else 0, `(height, width, classes)`, as in `labels.Truth`.
        labelled: False where nothing is known of the classes, bool, `(height, width)`.
        valid: False for nodata, bool, `(height, width)`; values that aren't finite are nodata in any case.
        max_shift: The longest shift to try along each axis, in pixels, 2 to 64.

    Returns:
        How well each shift fits. `is_shifted` is rarely true by chance; `verdict` says when nothing can be told.

    Raises:
        SettingError: If the arrays don't fit together, or `max_shift` is out of range.

    Examples:
        >>> image = np.random.default_rng(0).normal(size=(128, 128, 1))
        >>> truth = np.zeros((128, 128, 1), np.uint8)
        >>> for at in (24, 56, 88):
        ...     truth[at : at + 18, 24:42] = truth[at + 3 : at + 17, 60:93] = 1
        >>> found = measure_shift(image + 20 * np.roll(truth, (3, -5), (0, 1)), truth, np.ones((128, 128), bool))
        >>> found.is_shifted, round(found.dx), round(found.dy)
        (True, -5, 3)

    References:
        Edge orientation as a double angle: Bigün & Granlund, "Optimal orientation detection of linear symmetry", 1987.
    """
    _check(image, classes, labelled, valid, max_shift)
    finite = np.isfinite(image).all(axis=-1)
    known = finite if valid is None else finite & valid
    usable = _eroded(known, max_shift + _NEAR_NODATA) & _eroded(labelled, _NEAR_UNLABELLED)
    boundary, length = _boundary(classes, usable)
    side = 2 * max_shift + 1
    surface, spread = np.zeros((side, side)), np.zeros((side, side))
    if length:
        for votes in _votes(boundary, _edges(image, known), max_shift):
            surface += votes.sum(axis=0, dtype=np.float64)
            gains = votes - votes[:, max_shift, max_shift, None, None]
            spread += np.square(gains).sum(axis=0, dtype=np.float64)
    return Alignment(surface, spread, length)


def _check(
    image: np.ndarray, classes: np.ndarray, labelled: np.ndarray, valid: np.ndarray | None, max_shift: int
) -> None:
    if not 2 <= max_shift <= 64:
        msg = f"Max_shift must lie in 2 to 64 pixels, got {max_shift}."
        raise SettingError(msg)
    shapes = [image.shape, classes.shape, labelled.shape] + ([] if valid is None else [valid.shape])
    if [len(shape) for shape in shapes] != [3, 3, 2, 2][: len(shapes)] or len({shape[:2] for shape in shapes}) > 1:
        named = ", ".join(map(str, shapes))
        msg = f"Image, classes and masks must share height and width, as (h, w, n), (h, w, n) and (h, w), got {named}."
        raise SettingError(msg)


def _eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    """Leave out what lies within a radius of False or of the array's edge."""
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(inside).astype(bool)


def _gradient(plane: np.ndarray, blur: tuple[tuple[int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by x and y of a smoothed plane, a pixel, float32."""
    smooth = cv2.GaussianBlur(plane, *blur)
    return (
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)),
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)),
    )


def _boundary(classes: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, float]:
    """Where labels change, as a vector of twice the angle of the change.

    Returns:
        Vectors, float32, `(2, height, width)`; and the length of the boundary.
    """
    vectors, length = np.zeros((2, *usable.shape), np.float32), 0.0
    for channel in range(classes.shape[-1]):
        plane = np.ascontiguousarray(classes[..., channel], np.float32)
        if plane.min(initial=1.0) == plane.max(initial=0.0):
            continue
        x, y = (part * usable for part in _gradient(plane, _SOFTEN))
        size = cv2.magnitude(x, y)
        length += float(size.sum(dtype=np.float64))
        divisor = np.maximum(size, 1e-9)
        vectors += np.stack([(x * x - y * y) / divisor, 2 * x * y / divisor])
    return vectors, length


def _edges(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Edges of the image, as vectors of twice the angle of its gradient and of lengths 0 to 1, `(2, height, width)`.

    Bands count alike, whatever their units. An edge as strong as the mean of its surroundings has length 0.5 (if all
    bands change in one direction), so that one shadow doesn't outvote a row of roofs. No edges are seen near nodata.
    """
    inner = _eroded(known, _NEAR_NODATA)
    energy, vectors = np.zeros(known.shape, np.float32), np.zeros((2, *known.shape), np.float32)
    for band in range(image.shape[-1]):
        x, y = (part * inner for part in _gradient(_levelled(image[..., band], known), _BLUR))
        power = x * x + y * y
        if (mean := float(power.sum(dtype=np.float64)) / max(int(inner.sum()), 1)) > 0:
            energy += power / mean
            vectors += np.stack([x * x - y * y, 2 * x * y]) / mean
    size = np.sqrt(energy)
    around = _mean_around(size, inner)
    return np.asarray(vectors / np.maximum(size * (size + around), 1e-12))


def _levelled(band: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A band as float32 of mean 0 and deviation 1; 0 where unknown, and everywhere if it is constant."""
    values = np.where(known, band, 0).astype(np.float64)
    count = max(int(known.sum()), 1)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    values /= largest  # squares of huge numbers would overflow
    values -= values.sum() / count
    values *= known
    deviation = math.sqrt(float(np.square(values).sum()) / count)
    # What is left of a constant band is the rounding of its mean.
    return np.asarray(values / deviation if deviation > 1e-12 else values * 0).astype(np.float32)


def _mean_around(values: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Mean of what is known in the surroundings of each pixel."""
    square = (_SURROUNDINGS, _SURROUNDINGS)
    total, count = (
        cv2.boxFilter(plane, cv2.CV_32F, square, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for plane in (values, inner.astype(np.float32))
    )
    return np.asarray(total / np.maximum(count, 1))


def _votes(boundary: np.ndarray, edges: np.ndarray, max_shift: int) -> Iterator[np.ndarray]:
    """Correlate each block of the boundary with the edges around it.

    Yields:
        Agreement of some blocks at each shift, float32, `(blocks, 2 * max_shift + 1, 2 * max_shift + 1)`.
    """
    height, width = boundary.shape[1:]
    down, right = -height % BLOCK, -width % BLOCK
    side = BLOCK + 2 * max_shift
    blocks = _windows(np.pad(boundary, ((0, 0), (0, down), (0, right))), BLOCK)
    margins = ((0, 0), (max_shift, max_shift + down), (max_shift, max_shift + right))
    around = _windows(np.pad(edges, margins), side)
    rows, columns = np.nonzero(_occupied(boundary, down, right))
    shape = (cv2.getOptimalDFTSize(side),) * 2
    for first in range(0, len(rows), _AT_ONCE):
        chosen = slice(None), rows[first : first + _AT_ONCE], columns[first : first + _AT_ONCE]
        spectra = np.fft.rfft2(blocks[chosen], s=shape).conj() * np.fft.rfft2(around[chosen], s=shape)
        # The inverse, column by column and then only of the rows that are wanted.
        strips = np.fft.ifft(spectra.sum(axis=0), axis=1)[:, : 2 * max_shift + 1]
        yield np.fft.irfft(strips, n=shape[1])[..., : 2 * max_shift + 1]


def _occupied(boundary: np.ndarray, down: int, right: int) -> np.ndarray:
    """Which blocks hold a boundary, `(rows, columns)`; strips are looked through first, which reads memory in order."""
    pixels = np.pad((boundary[0] != 0) | (boundary[1] != 0), ((0, down), (0, right)))
    strips = np.asarray(pixels.reshape(-1, BLOCK, pixels.shape[1]).any(axis=1))
    return np.asarray(strips.reshape(len(strips), -1, BLOCK).any(axis=2))


def _windows(planes: np.ndarray, side: int) -> np.ndarray:
    """Views of squares that begin at every multiple of the block, `(planes, rows, columns, side, side)`."""
    views = np.lib.stride_tricks.sliding_window_view(planes, (side, side), axis=(1, 2))
    return np.asarray(views[:, ::BLOCK, ::BLOCK])


def _vertex(line: np.ndarray, place: int) -> float:
    """How far from its largest sample a line's peak lies, by a parabola through three, -0.5 to 0.5."""
    if not 0 < place < len(line) - 1:
        return 0.0
    before, at, after = (float(value) for value in line[place - 1 : place + 2])
    bend = before - 2 * at + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0
