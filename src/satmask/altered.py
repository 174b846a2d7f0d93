"""Images seen otherwise: at another resolution, or with other values. What isn't changed is passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint

from satmask.errors import SceneError, SettingError
from satmask.grid import Grid
from satmask.imagery import Imagery, Pixels
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STRIP_PIXELS = 2**22
"""Pixels of the image beneath that are read at once, at least a row of what is made of them."""


class Altered:
    """An image as it is; subclasses change something of it.

    Args:
        base: The image beneath, open; it is closed with this one.
    """

    def __init__(self, base: Imagery) -> None:
        self.base = base

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.base.name

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, in pixels."""
        return self.base.shape

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands read."""
        return self.base.bands

    @property
    def indexes(self) -> Sequence[int | str]:
        """Their numbers in the file, from 1; of a stack, their names."""
        return self.base.indexes

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Names of all bands there are, but for computed ones."""
        return self.base.all_bands

    @property
    def wavelengths_nm(self) -> tuple[float | None, ...]:
        """Middle of each band's spectral range in nanometres, None where unknown."""
        return self.base.wavelengths_nm

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""
        return self.base.dtype

    @property
    def scaling(self) -> Sequence[tuple[float, float]]:
        """Scale and offset of each band by its file's tags, which weren't applied."""
        return self.base.scaling

    @property
    def grid(self) -> Grid:
        """The pixels' place on the ground."""
        return self.base.grid

    @property
    def control_points(self) -> tuple[list[GroundControlPoint], Any]:
        """Ground control points and their CRS, of a scene that is placed by them."""
        return self.base.control_points

    @property
    def doubts(self) -> Sequence[str]:
        """Those of the image beneath."""
        return self.base.doubts

    @property
    def notes(self) -> Mapping[str, str]:
        """What was done to its pixels on the way."""
        return self.base.notes

    def sample(self) -> np.ndarray:
        """Some valid pixels from all over the scene, `(pixels, bands)`."""
        return self.base.sample()

    def shrunk(self, side: int) -> Pixels:
        """The whole scene at a fraction of its size, no side longer than `side` pixels; averaged."""
        return self.base.shrunk(side)

    def read(self, window: Window) -> Pixels:
        """Read a window; it may reach over the edge of the scene. Safe to call from several threads."""
        return self.base.read(window)

    def close(self) -> None:
        """Close all files."""
        self.base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Noted(Altered):
    """An image as it is, with more to say in the tags of what is made from it.

    Args:
        base: The image beneath.
        notes: What is said.
    """

    def __init__(self, base: Imagery, notes: Mapping[str, str]) -> None:
        super().__init__(base)
        self._notes = dict(notes)

    @property
    def notes(self) -> Mapping[str, str]:
        """What was done to its pixels on the way, and what is said besides."""
        return {**self.base.notes, **self._notes}


class Mapped(Altered):
    """An image whose values are mapped band by band: `value × gain + shift`.

    Args:
        base: The image beneath.
        lines: Gain and shift of each band.
        dtype: Data type of the values; whole numbers are rounded.
        limits: Lowest and highest value of each band, which values beyond become; None for no limits.
        notes: What is said of it in tags.

    Examples:
        Reflectances of a scene that stores ten-thousandths:

        >>> from satmask import Scene
        >>> scene = Mapped(Scene("scene.tif"), [(0.0001, 0.0)] * 4, np.float32)  # doctest: +SKIP
    """

    def __init__(
        self,
        base: Imagery,
        lines: Sequence[tuple[float, float]],
        dtype: Any,
        *,
        limits: Sequence[tuple[float, float]] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(base)
        self._gains, self._shifts = (np.asarray(part, np.float64) for part in zip(*lines, strict=True))
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._notes = dict(notes or {})
        self._limits = None if limits is None else np.asarray(limits, np.float64).T

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the mapped values."""
        return self._dtype

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """Nothing more is to be done to the values."""
        return ((1.0, 0.0),) * len(self.bands)

    @property
    def notes(self) -> Mapping[str, str]:
        """What was done to the values."""
        return {**self.base.notes, **self._notes}

    def sample(self) -> np.ndarray:
        """Some valid pixels from all over the scene, mapped, `(pixels, bands)`."""
        return self._map(self.base.sample())

    def shrunk(self, side: int) -> Pixels:
        """The whole scene at a fraction of its size, mapped."""
        return self._mapped(self.base.shrunk(side))

    def read(self, window: Window) -> Pixels:
        """Read a window and map its values."""
        return self._mapped(self.base.read(window))

    def _mapped(self, pixels: Pixels) -> Pixels:
        values = self._map(pixels.values)
        values[~pixels.valid] = 0
        return Pixels(values, pixels.valid)

    def _map(self, values: np.ndarray) -> np.ndarray:
        # In 64 bits: 32 wouldn't hold large integers, and mapped values are to be the nearest there are.
        mapped = values.astype(np.float64) * self._gains + self._shifts
        if self._limits is not None:
            np.clip(mapped, *self._limits, out=mapped)
        if self._dtype.kind in "iu":
            kind = np.iinfo(self._dtype)
            np.clip(np.rint(mapped, out=mapped), kind.min, kind.max, out=mapped)
        return mapped.astype(self._dtype)


def stretched(
    base: Imagery, percentiles: tuple[float, float], targets: Sequence[tuple[float, float]], dtype: Any
) -> Mapped:
    """Map each band so that two of its percentiles come to lie on two values; what lies beyond is cut off.

    The percentiles are those of `base.sample()`, taken once: every window is mapped alike.

    Args:
        base: The image beneath.
        percentiles: The lower and the upper one, 0 to 100.
        targets: What they become, for each band.
        dtype: Data type of the values.

    Returns:
        The image, whose `notes` name the limits.

    Raises:
        SettingError: If the percentiles aren't in order.
        SceneError: If the scene holds no valid pixel.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        msg = f"Percentiles must be two numbers from 0 to 100 in order, got {low:g},{high:g}. Take 2,98."
        raise SettingError(msg)
    values = base.sample()
    if not len(values):
        msg = f"Scene must hold valid pixels to be stretched, got none in {base.name}."
        raise SceneError(msg)
    limits = np.percentile(values.astype(np.float64), (low, high), axis=0).T
    lines = []
    for (least, most), (first, last) in zip(limits, targets, strict=True):
        gain = (last - first) / (most - least) if most > least else 0.0
        lines.append((gain, first - least * gain))
    said = "; ".join(
        f"{name} {least:.9g} to {most:.9g}" for name, (least, most) in zip(base.bands, limits, strict=True)
    )
    notes = {"STRETCH_PERCENTILES": f"{low:g},{high:g}", "STRETCH_LIMITS": said}
    return Mapped(base, lines, dtype, limits=[(min(pair), max(pair)) for pair in targets], notes=notes)


class Resampled(Altered):
    """An image with pixels of another size; its outer corners stay where they are.

    Larger pixels are means of what they cover, each pixel beneath counting by the share of it that is covered; smaller
    ones are interpolated linearly between the pixels' centres. A pixel's value follows from its own place, in one fixed
    order of sums: it is the same, bit for bit, whatever window it is read with. Pixels that aren't valid don't count; a
    pixel that is made of them by half or more isn't valid.

    Args:
        base: The image beneath.
        shape: `(height, width)` of the new one.

    Raises:
        SettingError: If a side is shorter than one pixel.
    """

    def __init__(self, base: Imagery, shape: tuple[int, int]) -> None:
        super().__init__(base)
        if min(shape) < 1:
            msg = f"Resampled scene must have at least one row and one column, got {shape[0]} × {shape[1]}."
            raise SettingError(msg)
        self._shape = shape

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, in its own pixels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the image beneath; of floats always float32."""
        return np.dtype(np.float32) if self.base.dtype.kind == "f" else self.base.dtype

    @property
    def factors(self) -> tuple[float, float]:
        """Rows and columns beneath for one of its own."""
        return self.base.shape[0] / self._shape[0], self.base.shape[1] / self._shape[1]

    @property
    def grid(self) -> Grid:
        """Its pixels' place on the ground."""
        rows, columns = self.factors
        beneath = self.base.grid
        placed = beneath.crs is not None or not beneath.transform.is_identity
        moved = beneath.transform @ Affine.scale(columns, rows) if placed else beneath.transform
        return Grid(*self._shape, moved, beneath.crs)

    @property
    def control_points(self) -> tuple[list[GroundControlPoint], Any]:
        """Ground control points at its own rows and columns, and their CRS."""
        points, crs = self.base.control_points
        rows, columns = self.factors
        moved = [
            GroundControlPoint(point.row / rows, point.col / columns, point.x, point.y, point.z, point.id, point.info)
            for point in points
        ]
        return moved, crs

    @property
    def notes(self) -> Mapping[str, str]:
        """From which size it was resampled."""
        height, width = self.base.shape
        return {**self.base.notes, "RESAMPLED_FROM_PIXELS": f"{height} x {width}"}

    def read(self, window: Window) -> Pixels:
        """Read a window of the new pixels, strip by strip; it may reach over the edge of the scene."""
        values = np.zeros((window.height, window.width, len(self.bands)), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        inside = window.clip(*self._shape)
        if not (inside.height and inside.width):
            return Pixels(values, valid)
        rows, columns = self.factors
        step = max(1, int(STRIP_PIXELS / (rows * columns * inside.width)))
        for row in range(inside.row, inside.row + inside.height, step):
            strip = Window(row, inside.column, min(step, inside.row + inside.height - row), inside.width)
            here = strip.seen_from(window).slices
            values[here], valid[here] = self._strip(strip)
        values[~valid] = 0
        return Pixels(values, valid)

    def _strip(self, strip: Window) -> tuple[np.ndarray, np.ndarray]:
        rows, tall = taps(strip.row, strip.height, self.base.shape[0], self._shape[0])
        columns, wide = taps(strip.column, strip.width, self.base.shape[1], self._shape[1])
        top, left = int(rows.min()), int(columns.min())
        part = Window(top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left)
        pixels = self.base.read(part)

        def blend(values: np.ndarray) -> np.ndarray:
            return _sum(_sum(values, rows - top, tall, axis=0), columns - left, wide, axis=1)

        values, valid = blend(pixels.values.astype(np.float32)), np.ones((strip.height, strip.width), bool)
        if not pixels.valid.all():
            missing = blend((~pixels.valid).astype(np.float32))
            valid = missing < 0.5
            # Only where something is missing: elsewhere the weights' sum, which isn't quite 1, would change last bits.
            partly = valid & (missing > 0)
            values[partly] /= (1 - missing[partly])[:, None]
        if self.dtype.kind in "iu":
            kind = np.iinfo(self.dtype)
            return np.clip(np.rint(values.astype(np.float64)), kind.min, kind.max).astype(self.dtype), valid
        return values, valid


def taps(first: int, count: int, old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels beneath the pixels of a new axis are made of, and by which weights.

    Args:
        first: The first new pixel wanted.
        count: Their number.
        old: Pixels of the axis beneath.
        new: Pixels of the new axis, from end to end the same.

    Returns:
        Places, int64, and weights, float32, both `(taps, count)`; the weights of a pixel sum up to 1.

    Examples:
        >>> taps(0, 1, old=4, new=2)[1].ravel().tolist()
        [0.5, 0.5, 0.0]
    """
    factor = old / new
    numbers = np.arange(first, first + count)
    if old <= new:
        places = np.clip((numbers + 0.5) * factor - 0.5, 0, old - 1)
        base = np.floor(places)
        weights = np.stack([1 - (places - base), places - base])
    else:
        begins, ends = numbers * factor, (numbers + 1) * factor
        base = np.floor(begins)
        edges = base + np.arange(int(np.ceil(factor)) + 1)[:, None]
        weights = np.clip(np.minimum(edges + 1, ends) - np.maximum(edges, begins), 0, None) / factor
    positions = base.astype(np.int64) + np.arange(len(weights))[:, None]
    return np.clip(positions, 0, old - 1), weights.astype(np.float32)


def _sum(values: np.ndarray, positions: np.ndarray, weights: np.ndarray, *, axis: int) -> np.ndarray:
    """Add up rows (or columns) by weight, tap after tap."""
    form = [1] * values.ndim
    form[axis] = positions.shape[1]
    shape = list(values.shape)
    shape[axis] = positions.shape[1]
    result = np.zeros(shape, np.float32)
    for place, weight in zip(positions, weights, strict=True):
        result += np.take(values, place, axis=axis) * weight.reshape(form)
    return result
