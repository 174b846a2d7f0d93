"""Scenes: rasters read window by window, with what is known about every pixel."""

from __future__ import annotations

import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling

from satmask.addresses import Remote, as_address
from satmask.checksums import DEFLATE, Checksums
from satmask.errors import SceneError
from satmask.grid import Grid
from satmask.imagery import Imagery, Pixels
from satmask.opening import DRIVERS, GDAL_ERRORS, Opened, undecodable
from satmask.raster_bands import alpha_band, band_names, nodata_of, real_dtype, scaling, spread
from satmask.soundness import unread_sidecars
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rasterio.control import GroundControlPoint

__all__ = ["DRIVERS", "Imagery", "Pixels", "Scene", "open_scene"]


class Scene:
    """One raster on its grid, open for reading.

    A pixel is not valid where a mask or alpha band says so, where all chosen bands hold the nodata value, or where one
    of them is NaN or infinite. A band that is only called alpha, such as the near infrared of many 4-band files, counts
    as an ordinary band (see `bands`).

    Values are read as they are stored: tags of scale and offset change nothing (see `scaling`).

    Args:
        path: A GeoTIFF, or a file that ends as one of `DRIVERS` does; or an address such as `s3://bucket/scene.tif`.
        bands: Bands to read, by number from 1 or by name, in the order wanted; all by default, without an alpha band.
        verify: Whether to look at the checksums of a GeoTIFF's blocks before they are used, where it has some: each
            once, for about the time that decoding takes.

    Attributes:
        path: Where the scene came from.
        shape: `(height, width)`, in pixels.
        bands: Names of the bands read.
        indexes: Their numbers in the file, from 1.
        dtype: Data type of the values.
        scaling: Scale and offset of each band by the file's tags, 1 and 0 where it has none.

    Raises:
        SceneError: If the file can't be opened as a raster, lacks a part, would take a lot of memory, or has no such
            band.

    Examples:
        >>> with Scene("scene.tif") as scene:  # doctest: +SKIP
        ...     pixels = scene.read(Window(0, 0, 256, 256))
    """

    def __init__(
        self, path: str | Path | Remote, *, bands: Sequence[int | str] | None = None, verify: bool = False
    ) -> None:
        self.path = as_address(path)
        self._lock = threading.Lock()
        self._checksums: Checksums | None = None
        self._opened = Opened(self.path)
        self._file = self._opened.file
        try:
            self._describe(bands)
            directory = self._opened.directory
            if verify and directory and directory.compression in DEFLATE and isinstance(self.path, Path):
                self._checksums = Checksums(self.path, directory)
        except GDAL_ERRORS as error:
            self.close()
            raise undecodable(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def _describe(self, bands: Sequence[int | str] | None) -> None:
        file = self._file
        self._alpha = alpha_band(file, self._opened.options)
        self.indexes = self._choose(bands)
        names = band_names(file)
        self.bands = tuple(names[index - 1] for index in self.indexes)
        self.dtype = real_dtype(file, self.indexes, self.name)
        self.scaling = scaling(file, self.indexes)
        self.shape = file.height, file.width
        self._nodata = nodata_of(file, self.indexes, self.dtype)
        self._flags = file.mask_flag_enums[self.indexes[0] - 1]
        self._place = file.transform, file.crs

    @cached_property
    def grid(self) -> Grid:
        """Its pixels' place on the ground.

        Found when asked for: reading windows needs none, and PROJ crashes in threads that Python didn't start, which
        are those in which TensorFlow asks for batches (pyproj 3.7, TensorFlow 2.21).
        """
        transform, crs = self._place
        return Grid(*self.shape, transform, CRS.from_user_input(crs) if crs else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._checksums:
            self._checksums.close()

    @property
    def name(self) -> str:
        """Name of its file, for messages."""
        return self.path.name

    @property
    def wavelengths_nm(self) -> tuple[float | None, ...]:
        """None for each band read: files don't say."""
        return (None,) * len(self.bands)

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Names of all bands of the file, an alpha band among them."""
        return band_names(self._file)

    @property
    def control_points(self) -> tuple[list[GroundControlPoint], Any]:
        """Ground control points and their CRS, of a scene that is placed by them."""
        points, crs = self._file.gcps
        return list(points), crs

    @property
    def doubts(self) -> tuple[str, ...]:
        """What was found in the file, or beside it, that makes its values doubtful."""
        beside = unread_sidecars(self.path) if isinstance(self.path, Path) else []
        unread = [f"{name} beside {self.name} isn't read: what it says must be in the file itself." for name in beside]
        return (*self._opened.doubts, *unread)

    @property
    def notes(self) -> Mapping[str, str]:
        """Nothing was done to the pixels."""
        return {}

    def sample(self) -> np.ndarray:
        """Some valid pixels from all over the scene, `(pixels, bands)`: see `satmask.raster_bands.spread`.

        Raises:
            SceneError: If the file's pixels can't be decoded.
        """
        found = np.empty((0, len(self.indexes)), self.dtype)
        # Where the first windows hold nodata only, more and smaller ones are tried.
        for count in (4, 16):
            parts = spread(self._file, count)
            pieces = [self._decode(_window(place), shape) for place, shape in parts]
            found = np.concatenate([values[known] for values, known in pieces])
            if len(found) or len(parts) == 1:
                break
        return found

    def shrunk(self, side: int) -> Pixels:
        """Read the whole scene at a fraction of its size, no side longer than `side` pixels; averaged, from overviews where there are.

        Raises:
            SceneError: If the file's pixels can't be decoded.
        """
        factor = -(-max(self.shape) // side)
        shape = -(-self.shape[0] // factor), -(-self.shape[1] // factor)
        values, valid = self._decode(Window(0, 0, *self.shape), shape, Resampling.average)
        values[~valid] = 0
        return Pixels(values, valid)

    @property
    def profile(self) -> dict[str, Any]:
        """What else the file says of itself: driver, size, nodata, tiling, as rasterio names it."""
        return dict(self._file.profile)

    @property
    def tags(self) -> dict[str, str]:
        """What the file says of itself in tags of its writer."""
        return dict(self._file.tags())

    def read(self, window: Window) -> Pixels:
        """Read a window; it may reach over the edge of the scene. Safe to call from several threads.

        Raises:
            SceneError: If the file's pixels can't be decoded.
        """
        inside = window.clip(*self.shape)
        if inside == window and window.height and window.width:
            return self._checked(window)
        values = np.zeros((window.height, window.width, len(self.indexes)), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        if inside.height and inside.width:
            here, pixels = inside.seen_from(window).slices, self._checked(inside)
            values[here], valid[here] = pixels.values, pixels.valid
        return Pixels(values, valid)

    def _checked(self, window: Window) -> Pixels:
        """Read a window inside the scene, once its checksums fit."""
        if self._checksums:
            self._checksums.check(window, self.indexes, self._bands_of)
        values, valid = self._decode(window)
        values[~valid] = 0
        return Pixels(values, valid)

    def raw(self, window: Window) -> np.ndarray:
        """Read a window inside the scene as it is in the file, `(height, width, bands)`, nodata and all.

        Raises:
            SceneError: If the file's pixels can't be decoded.
        """
        return self._stack(window, (window.height, window.width))

    def _stack(self, window: Window, shape: tuple[int, int], resampling: Resampling = Resampling.nearest) -> np.ndarray:
        return self._bands_of(window, self.indexes, shape, resampling)

    def _bands_of(
        self,
        window: Window,
        bands: Sequence[int],
        shape: tuple[int, int] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> np.ndarray:
        """Read bands by number, `(height, width, bands)`, where GDAL puts them: to turn axes later takes longer."""
        values = np.empty((*(shape or (window.height, window.width)), len(bands)), self.dtype)
        options = {"out": np.moveaxis(values, -1, 0), "resampling": resampling}
        self._access(window, lambda place: self._file.read(list(bands), window=place, **options))
        return values

    @property
    def palette(self) -> np.ndarray | None:
        """Colours of an 8-bit raster with a colour table, uint8, `(256, 3)`; None where it has none."""
        if self._file.colorinterp[0] != ColorInterp.palette:
            return None
        colours = np.zeros((256, 3), np.uint8)
        for value, colour in self._file.colormap(1).items():
            colours[value] = colour[:3]
        return colours

    def _access(self, window: Window, read: Callable[[rasterio.windows.Window], Any]) -> Any:
        place = rasterio.windows.Window(window.column, window.row, window.width, window.height)
        try:
            with self._lock, rasterio.Env(**self._opened.options):
                return read(place)
        except GDAL_ERRORS as error:
            raise undecodable(error, self.path, f" at row {window.row}") from error

    def _decode(
        self, window: Window, shape: tuple[int, int] | None = None, resampling: Resampling = Resampling.nearest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read values and what is known of a window, at its own resolution or at a coarser shape."""
        shape = shape or (window.height, window.width)
        known = self._known(values := self._stack(window, shape, resampling))
        band = self._mask_band()
        if band is None:
            return values, known
        read = self._file.read if band == self._alpha else self._file.read_masks
        return values, known & (self._access(window, lambda place: read(band, window=place, out_shape=shape)) > 0)

    def _known(self, values: np.ndarray) -> np.ndarray:
        """False where all bands hold the nodata value or one isn't finite."""
        known = np.ones(values.shape[:2], bool)
        if self._nodata is not None:
            known &= (values != self._nodata).any(axis=-1)
        if values.dtype.kind == "f":
            known &= np.isfinite(values).all(axis=-1)
        return known

    def _mask_band(self) -> int | None:
        """The band that is alpha and isn't among the bands read, or the one that has a mask; None without either."""
        if self._alpha and self._alpha not in self.indexes:
            return self._alpha
        masked = MaskFlags.per_dataset in self._flags and MaskFlags.alpha not in self._flags
        return self.indexes[0] if masked else None

    def _choose(self, bands: Sequence[int | str] | None) -> list[int]:
        names = band_names(self._file)
        if bands is None:
            return [index for index in range(1, len(names) + 1) if index != self._alpha]
        chosen = [names.index(band) + 1 if band in names else band for band in bands]
        for band in chosen:
            if not isinstance(band, int) or not 1 <= band <= len(names):
                msg = f"Band must be one of 1 to {len(names)} ({', '.join(names)}), got {band!r} in {self.path.name}."
                raise SceneError(msg)
        if not chosen:
            msg = f"Bands must name at least one of {', '.join(names)}, got none for {self.path.name}."
            raise SceneError(msg)
        return [int(band) for band in chosen]


@lru_cache(maxsize=64)
def open_scene(path: Path | Remote, bands: tuple[int | str, ...] | None = None) -> Scene:
    """Open a scene and keep it open for the next caller: opening a file once a window costs 3.5 times as much.

    The 64 used last stay open; one that is dropped closes when nobody holds it any more.
    """
    return Scene(path, bands=bands)


def _window(place: rasterio.windows.Window) -> Window:
    return Window(place.row_off, place.col_off, place.height, place.width)
