"""Reading stacks: products of several resolutions as one scene, window by window.

A pixel's value follows from the pixel alone, so that windows agree to the bit with the scene read whole.
"""

from __future__ import annotations

import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from satmask.addresses import Remote, as_address
from satmask.bands import INDICES, Sharpening, apply_sharpening, compute_index, fit_sharpening
from satmask.errors import SettingError
from satmask.scene import Imagery, Pixels, Scene, open_scene
from satmask.stack.description import SHARP, SUFFIX, Product, Stack, split_bands
from satmask.stack.sources import Source
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.grid import Grid

STRIP = 256
"""Rows that are put together at once: what is interpolated takes several times the memory of what comes out."""


def open_imagery(
    image: str | Path | Remote | Stack, *, bands: Sequence[int | str] | None = None, verify: bool = False
) -> Imagery:
    """Open an image, whatever it is made of.

    Args:
        image: A raster, an address such as `s3://bucket/scene.tif`, a `NAME.stack.json`, or a stack.
        bands: Bands by number from 1 or by name; also names of spectral indices, wherever their bands are there.
        verify: Whether to look at checksums, see `satmask.scene.Scene`.

    Returns:
        The open scene; close it, or use it in a `with` block.

    Raises:
        SceneError: If it can't be opened or has no such band.
        SettingError: If an index needs reflectance and nobody says how to get it.
    """
    if isinstance(image, Stack):
        return StackScene(image, bands=bands, verify=verify)
    path = as_address(image)
    if isinstance(path, Path) and path.name.endswith(SUFFIX):
        return StackScene(Stack.load(path), bands=bands, verify=verify)
    if any(band in INDICES for band in bands or ()):
        with Scene(path) as scene:
            stack = stack_of(scene)
            computed = not set(bands or ()) <= {*scene.all_bands, *range(1, len(scene.all_bands) + 1)}
        if computed:
            return StackScene(stack, bands=bands, verify=verify)
    return Scene(path, bands=bands, verify=verify)


@lru_cache(maxsize=32)
def _keep_open(image: Path | Stack, bands: tuple[int | str, ...] | None) -> Imagery:
    return open_imagery(image, bands=bands)


def keep_open(image: Path | Stack, bands: tuple[int | str, ...] | None = None) -> Imagery:
    """Open an image and keep it open for the next caller, as `satmask.scene.open_scene` does.

    The 32 stacks used last stay open with the products that they hold in memory: some 12 MB for one of DSTL.
    """
    plain = isinstance(image, Path) and not image.name.endswith(SUFFIX) and not any(b in INDICES for b in bands or ())
    return open_scene(image, bands) if isinstance(image, Path) and plain else _keep_open(image, bands)


def stack_of(scene: Scene) -> Stack:
    """See one raster as a stack, so that bands can be computed from its own.

    Raises:
        SettingError: If it lies on the network.
    """
    if isinstance(scene.path, Remote):
        msg = f"Computed bands must come from a file on this machine, got {scene.path}. Download it."
        raise SettingError(msg)
    largest = 255.0 if scene.dtype == np.uint8 else None
    product = Product(scene.path.stem, scene.path, scene.bands, numbers=tuple(scene.indexes), largest=largest)
    return Stack(scene.path.stem, (product,))


class StackScene:
    """A stack on the grid of its reference, open for reading; it is used as a `Scene` is.

    Products with pixels of the reference's size are read as they are, by the nearest pixel; others are interpolated
    linearly, and rounded where they hold integers. Where a product placed by extent ends before the reference does, for
    its shift, its edge is repeated; where one placed by its grid ends, pixels aren't valid. A pixel is valid where it is
    in all products that the bands are made of. Safe to read from several threads.

    Args:
        stack: The description.
        bands: Bands by number from 1 or by name, computed ones among them; by default those of all products.
        verify: Whether to look at checksums, see `satmask.scene.Scene`.

    Attributes:
        stack: The description.
        shape: `(height, width)` of the reference, in pixels.
        bands: Names of the bands read.
        indexes: The same: where a product is missing, numbers would mean other bands.
        dtype: Data type of the values: that of the products, or float32 with a computed band.

    Raises:
        SceneError: If a product can't be opened, or the stack has no such band.
        SettingError: If an index needs reflectance and a product doesn't say how to get it.
    """

    def __init__(self, stack: Stack, *, bands: Sequence[int | str] | None = None, verify: bool = False) -> None:
        self.stack, self._verify = stack, verify
        self.bands = tuple(split_bands(stack, bands))
        self.indexes: tuple[int | str, ...] = self.bands
        self._lock = threading.Lock()
        self._colours: tuple[Sharpening, np.ndarray] | None = None
        self._sources: dict[str, Source] = {}
        self._reference = Scene(stack.products[0].path)
        try:
            self.shape = self._reference.shape
            self._open_sources(needed_bands(stack, self.bands))
        except BaseException:
            self.close()
            raise
        kinds = [source.scene.dtype for source in self._sources.values()]
        computed = not set(self.bands) <= set(stack.bands)
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if computed else np.result_type(*kinds)
        self._columns = {name: place for place, name in enumerate(self.bands)}

    def _open_sources(self, needed: set[str]) -> None:
        for product in self.stack.products:
            places = tuple(place for place, name in enumerate(product.names) if name in needed)
            if places:
                chosen = tuple(product.numbers[place] for place in places)
                scene = Scene(product.path, bands=chosen, verify=self._verify)
                # Put away before it is placed, so that it is closed whatever happens.
                names = tuple(product.names[place] for place in places)
                self._sources[product.name] = source = Source(product, scene, names)
                source.place(self._reference, by=self.stack.placed)
        for name in set(self.bands) & set(INDICES) - set(self.stack.bands):
            self._check_reflectance(name)

    def _check_reflectance(self, index: str) -> None:
        """Refuse an index that needs reflectance where only raw numbers are known."""
        names = self.stack.ingredients(index)
        for source in self._sources.values():
            raw = source.product.largest is None and source.scene.dtype.kind in "ui"
            if INDICES[index].absolute and raw and set(names) & set(source.names):
                msg = (
                    f"Index {index!r} must be computed from reflectance, got {source.scene.dtype} without a scale in "
                    f"{source.scene.path.name}. Describe it in a NAME{SUFFIX} with `largest`, the value of reflectance 1."
                )
                raise SettingError(msg)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.stack.name

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Names of the bands of all products."""
        return self.stack.bands

    @property
    def wavelengths_nm(self) -> tuple[float | None, ...]:
        """Middle of each band's spectral range in nanometres; None where unknown, and for indices."""
        known = {
            name: wavelength
            for product in self.stack.products
            for name, wavelength in zip(product.names, product.wavelengths_nm, strict=True)
        }
        colour = self.stack.sharpened
        if colour:
            known |= {f"{SHARP}{band}": known[name] for band, name in zip(colour.bands, colour.names, strict=True)}
        return tuple(known.get(name) for name in self.bands)

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """Scale and offset of each band by its file's tags; 1 and 0 for what is computed."""
        known = {
            name: pair
            for source in self._sources.values()
            for name, pair in zip(source.names, source.scene.scaling, strict=True)
        }
        return tuple(known.get(name, (1.0, 0.0)) for name in self.bands)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Those of the files that are read."""
        return tuple(doubt for source in self._sources.values() for doubt in source.scene.doubts)

    @property
    def notes(self) -> dict[str, str]:
        """Nothing was done to the pixels but what the description says."""
        return {}

    @cached_property
    def grid(self) -> Grid:
        """The reference's place on the ground."""
        return self._reference.grid

    @property
    def control_points(self) -> tuple[list[Any], Any]:
        """Ground control points of the reference and their CRS."""
        return self._reference.control_points

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._reference.close()
        for source in self._sources.values():
            source.scene.close()

    def sample(self) -> np.ndarray:
        """Valid pixels of 16 windows spread over the scene, at most 65,536, `(pixels, bands)`."""
        height, width = self.shape
        side_y, side_x = min(height, 64), min(width, 64)
        rows = sorted({(height - side_y) * step // 3 for step in range(4)})
        columns = sorted({(width - side_x) * step // 3 for step in range(4)})
        parts = [self.read(Window(row, column, side_y, side_x)) for row in rows for column in columns]
        return np.concatenate([part.values[part.valid] for part in parts])

    def shrunk(self, side: int) -> Pixels:
        """Read the whole scene at a fraction of its size, no side longer than `side` pixels; averaged.

        Raises:
            SceneError: If a product can't be decoded.
        """
        factor = -(-max(self.shape) // side)
        shape = -(-self.shape[0] // factor), -(-self.shape[1] // factor)
        values = np.zeros((*shape, len(self.bands)), self.dtype)
        valid = np.zeros(shape, bool)
        columns = np.arange(0, self.shape[1], factor)
        for row in range(shape[0]):
            top = row * factor
            pixels = self.read(Window(top, 0, min(factor, self.shape[0] - top), self.shape[1]))
            known = np.add.reduceat(pixels.valid.sum(axis=0), columns)
            sums = np.add.reduceat(pixels.values.sum(axis=0, dtype=np.float64), columns, axis=0)
            means = sums / np.maximum(known, 1)[:, None]
            values[row] = means if self.dtype.kind == "f" else np.rint(means)
            valid[row] = known > 0
        return Pixels(values, valid)

    def read(self, window: Window) -> Pixels:
        """Read a window; it may reach over the edge of the scene.

        Raises:
            SceneError: If a product can't be decoded.
        """
        values = np.zeros((window.height, window.width, len(self.bands)), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        inside = window.clip(*self.shape)
        if inside.width:
            for row in range(inside.row, inside.row + inside.height, STRIP):
                strip = Window(row, inside.column, min(STRIP, inside.row + inside.height - row), inside.width)
                here = strip.seen_from(window).slices
                valid[here] = self._fill(values[here], strip)
        values[~valid] = 0
        return Pixels(values, valid)

    def _fill(self, values: np.ndarray, window: Window) -> np.ndarray:
        """Fill the values of a window inside the scene; returns what is valid."""
        valid = np.ones((window.height, window.width), bool)
        planes: dict[str, np.ndarray] = {}
        for source in self._sources.values():
            found, known = source.read(window)
            valid &= known
            wanted = [place for place, name in enumerate(source.names) if name in self._columns]
            columns = [self._columns[source.names[place]] for place in wanted]
            rounded = np.rint(found) if found.dtype.kind == "f" and self.dtype.kind in "ui" else found
            # Band by band: by a list of bands NumPy takes twice as long.
            for column, place in zip(columns, wanted, strict=True):
                values[..., column] = rounded[..., place]
            planes |= {name: found[..., place] for place, name in enumerate(source.names)}
        for name in self.bands:
            if name in INDICES and name not in self.stack.bands:
                values[..., self._columns[name]] = self._index(name, planes)
        if sharp := [name for name in self.bands if name.startswith(SHARP) and name not in self.stack.bands]:
            values[..., [self._columns[name] for name in sharp]] = self._sharpen(sharp, planes, window)
        return valid & np.isfinite(values).all(axis=-1) if self.dtype.kind == "f" else valid

    def _index(self, name: str, planes: dict[str, np.ndarray]) -> np.ndarray:
        """A spectral index of a window."""
        names = self.stack.ingredients(name)
        scales = {
            name: 1 / source.product.largest
            for source in self._sources.values()
            for name in source.names
            if source.product.largest
        }
        wanted = INDICES[name].bands
        bands = {band: planes[one].astype(np.float32) for band, one in zip(wanted, names, strict=True)}
        known = {band: scales.get(one, 1.0) for band, one in zip(wanted, names, strict=True)}
        return compute_index(name, bands, scale=known if INDICES[name].absolute else None)

    def _sharpen(self, names: Sequence[str], planes: dict[str, np.ndarray], window: Window) -> np.ndarray:
        """Sharpened bands of a window."""
        sharpening, coarse = self._fitted(names)
        colour, (pan, place) = self._sources[_need(self.stack.sharpened).name], _need(self.stack.pan)
        return apply_sharpening(
            sharpening,
            coarse,
            planes[pan.names[place]].astype(np.float32),
            shape=self.shape,
            window=window,
            shift=colour.shift_to(self.shape),
        )

    def _fitted(self, names: Sequence[str]) -> tuple[Sharpening, np.ndarray]:
        """What sharpening needs of the whole scene, found at first use; and the coarse bands to sharpen."""
        with self._lock:
            if self._colours is None:
                colour, (pan, place) = _need(self.stack.sharpened), _need(self.stack.pan)
                source, fine = self._sources[colour.name], self._sources[pan.name]
                shift = source.shift_to(self.shape)
                at = [source.names.index(colour.prefix + name.removeprefix(SHARP)) for name in names]
                coarse = np.ascontiguousarray(source.whole()[..., at])
                panchromatic = fine.plane(self.shape, fine.names.index(pan.names[place]))
                self._colours = fit_sharpening(coarse, panchromatic, shift=shift), coarse
            return self._colours


def needed_bands(stack: Stack, bands: Sequence[str]) -> set[str]:
    """Names of the products' bands that the bands asked for are made of."""
    needed = set(bands) & set(stack.bands)
    for name in set(bands) - needed:
        if name in INDICES:
            needed |= set(stack.ingredients(name))
        else:
            (pan, place), colour = _need(stack.pan), _need(stack.sharpened)
            needed |= {pan.names[place], colour.prefix + name.removeprefix(SHARP)}
    return needed


def _need(value: Any) -> Any:
    """What the check of the bands has made sure of."""
    if value is None:
        raise AssertionError
    return value
