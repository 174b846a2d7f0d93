"""One product of a stack, read on the grid of the reference."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from satmask.errors import SceneError
from satmask.windows import Window

if TYPE_CHECKING:
    from satmask.scene import Scene
    from satmask.stack.description import Product

RESIDENT = 64 * 2**20
"""Bytes up to which a product of another resolution is kept in memory; a larger one is read by window."""
SAME_PX = 2
"""Sides that differ by no more than this, and by no more than 2 %, have pixels of one size."""
STRIP = 512


@dataclass(frozen=True)
class Axis:
    """Where the pixels of the reference lie along one axis of a product.

    Attributes:
        side: Pixels of the product.
        scale: Its pixels for one of the reference.
        offset: Where the reference's outer corner lies, in its pixels.
        nearest: Whether the nearest pixel is taken.
        endless: Whether its edge is repeated beyond it.

    Examples:
        >>> Axis(side=2, scale=0.5, offset=0.0, nearest=False, endless=True).taps(0, 4)[0].tolist()
        [[0, 0, 0, 1], [1, 1, 1, 1]]
    """

    side: int
    scale: float
    offset: float
    nearest: bool
    endless: bool

    def taps(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Where to look for the values of some pixels of the reference.

        Args:
            first: The first of them.
            count: Their number.

        Returns:
            Positions in the product, `(1, count)` or `(2, count)`; the weight of the second, float32, `(count,)`, or
            None; and whether the product reaches there, bool, `(count,)`.
        """
        places = (np.arange(first, first + count) + 0.5) * self.scale + self.offset
        reached = np.full(count, True) if self.endless else (places >= 0) & (places < self.side)
        if self.nearest:
            return np.clip(np.floor(places), 0, self.side - 1).astype(np.int64)[None], None, reached
        places = np.clip(places - 0.5, 0, self.side - 1)
        base = np.floor(places).astype(np.int64)
        return np.stack([base, np.minimum(base + 1, self.side - 1)]), (places - base).astype(np.float32), reached


class Source:
    """A product, open, and where it lies on the reference.

    Args:
        product: The description.
        scene: The file, opened with the bands that are needed.
        names: Their names in the stack.
    """

    def __init__(self, product: Product, scene: Scene, names: tuple[str, ...]) -> None:
        self.product, self.scene, self.names = product, scene, names
        self._lock = threading.Lock()
        self._whole: tuple[np.ndarray, np.ndarray | None] | None = None

    def place(self, reference: Scene, *, by: Literal["extent", "grid"]) -> None:
        """Find where the reference's pixels lie in the product.

        Raises:
            SceneError: If their grids can't be compared.
        """
        lines = self._by_extent(reference) if by == "extent" else self._by_grid(reference)
        nearest = all(
            abs(scale - 1) < 0.02
            and (abs(mine - theirs) <= SAME_PX if by == "extent" else abs(scale - 1) * theirs < 0.5)
            for mine, theirs, (scale, _) in zip(self.scene.shape, reference.shape, lines, strict=True)
        )
        self.rows, self.columns = (
            Axis(side, scale, offset, nearest, endless=by == "extent")
            for side, (scale, offset) in zip(self.scene.shape, lines, strict=True)
        )
        size = self.scene.shape[0] * self.scene.shape[1] * len(self.names) * self.scene.dtype.itemsize
        self._resident = not nearest and size <= RESIDENT

    def _by_extent(self, reference: Scene) -> list[tuple[float, float]]:
        """Scale and offset of rows and columns where outer corners coincide but for the shift."""
        dx, dy = self.product.shift
        scales = [mine / theirs for mine, theirs in zip(self.scene.shape, reference.shape, strict=True)]
        return [(scale, shift * scale) for scale, shift in zip(scales, (dy, dx), strict=True)]

    def _by_grid(self, reference: Scene) -> list[tuple[float, float]]:
        """Scale and offset of rows and columns from the transforms of both files."""
        mine, theirs = self.scene.grid, reference.grid
        if mine.crs != theirs.crs:
            one, other = (grid.crs.name if grid.crs else "none" for grid in (mine, theirs))
            msg = (
                f"Products of a stack must share a CRS, got {one} and {other} for {self.scene.name}. Warp one of them."
            )
            raise SceneError(msg)
        between = ~mine.transform @ theirs.transform
        a, b, c, d, e, f = tuple(between)[:6]
        if a <= 0 or e <= 0 or max(abs(b), abs(d)) * max(reference.shape) > 0.01:
            msg = f"Products of a stack must not be turned against each other, got {self.scene.name}. Warp it."
            raise SceneError(msg)
        dx, dy = self.product.shift
        return [(e, f + dy * e), (a, c + dx * a)]

    def shift_to(self, shape: tuple[int, int]) -> tuple[float, float]:
        """The shift against a reference whose outer corners coincide with the product's, in its pixels.

        Raises:
            SceneError: If they don't: sharpening works on the same ground.
        """
        for axis, side in ((self.rows, shape[0]), (self.columns, shape[1])):
            if abs(axis.scale * side - axis.side) > 0.5:
                msg = (
                    f"Product to be sharpened must show the ground of the reference, got {self.scene.name} with "
                    f"{axis.side} pixels for {axis.scale * side:.1f}. Cut both to one extent."
                )
                raise SceneError(msg)
        return self.columns.offset / self.columns.scale, self.rows.offset / self.rows.scale

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read a window of the reference, inside of it.

        Returns:
            Values, `(height, width, bands)`, float32 where they are interpolated, else as in the file; and what is valid.
        """
        rows, down, tall = self.rows.taps(window.row, window.height)
        columns, right, wide = self.columns.taps(window.column, window.width)
        top, left = int(rows.min()), int(columns.min())
        part = Window(top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left)
        values, valid = self._part(part)
        reached = tall[:, None] & wide[None]
        if down is None or right is None:
            at = (rows[0] - top)[:, None], (columns[0] - left)[None]
            return values[at], reached if valid is None else reached & valid[at]
        found = _blend(_blend(values.astype(np.float32), rows - top, down, axis=0), columns - left, right, axis=1)
        if valid is None:
            return found, reached
        known = _blend(_blend(valid.astype(np.float32), rows - top, down, axis=0), columns - left, right, axis=1)
        # A pixel that is made of something unknown, however little, is unknown.
        return found, reached & (known > 0.999999)

    def _part(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """A window of the product, from memory or from the file; validity is None where everything is valid."""
        if self._resident:
            values, valid = self._load()
            return values[window.slices], None if valid is None else valid[window.slices]
        pixels = self.scene.read(window)
        return pixels.values, None if pixels.valid.all() else pixels.valid

    def _load(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The whole product, read at first use."""
        with self._lock:
            if self._whole is None:
                pixels = self.scene.read(Window(0, 0, *self.scene.shape))
                self._whole = pixels.values, None if pixels.valid.all() else pixels.valid
            return self._whole

    def whole(self) -> np.ndarray:
        """The whole product in its own pixels; float32 with NaN where something isn't valid."""
        return _marked(*self._load())

    def plane(self, shape: tuple[int, int], band: int) -> np.ndarray:
        """One band on the whole of a reference of some shape, likewise."""
        planes = np.empty(shape, self.scene.dtype)
        known = np.empty(shape, bool)
        for row in range(0, shape[0], STRIP):
            strip = Window(row, 0, min(STRIP, shape[0] - row), shape[1])
            values, known[strip.slices] = self.read(strip)
            planes[strip.slices] = values[..., band]
        return _marked(planes, None if known.all() else known)


def _marked(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    if valid is None:
        return values
    marked = values.astype(np.float32)
    marked[~valid] = np.nan
    return marked


def _blend(values: np.ndarray, positions: np.ndarray, weight: np.ndarray, *, axis: int) -> np.ndarray:
    """Interpolate linearly along one axis, each place on its own."""
    shape = [1] * values.ndim
    shape[axis] = len(weight)
    share = weight.reshape(shape)
    first, second = (np.take(values, place, axis=axis) for place in positions)
    # In place: new arrays would take longer than the sums.
    second -= first
    second *= share
    first += second
    return np.asarray(first)
