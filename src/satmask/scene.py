"""Scenes: rasters read window by window, with what is known about every pixel."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import rasterio
from pyproj import CRS
from rasterio._err import CPLE_BaseError  # GDAL's errors that rasterio lets through; it has no public name for them
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satmask.errors import SceneError
from satmask.grid import Grid
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rasterio.control import GroundControlPoint
    from rasterio.io import DatasetReader

# A tile without a place is nothing to warn about here. Not inside a `with`: warning filters aren't safe in threads.
warnings.simplefilter("ignore", NotGeoreferencedWarning)

# Files are opened by the driver that their name promises: a VRT that points elsewhere but is named .tif is refused.
DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".jp2": "JP2OpenJPEG",
    ".webp": "WEBP",
    ".img": "HFA",
    ".vrt": "VRT",
}
# A truncated JPEG is an error, not grey pixels, and so is a truncated PNG: GDAL's fast way of reading PNG at once hides
# errors and leaves wrong pixels. Sidecar files are not looked for in folders of many tiles.
GDAL_OPTIONS = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": False,
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
}


@dataclass(frozen=True)
class Pixels:
    """What a window of a scene holds.

    Attributes:
        values: Raw pixel values in the scene's data type, `(height, width, bands)`; 0 where not valid.
        valid: False for nodata and for pixels outside the scene, bool, `(height, width)`.
    """

    values: np.ndarray
    valid: np.ndarray

    def filled(self, fill: Sequence[float]) -> np.ndarray:
        """Values as float32 with `fill`, one number a band, where not valid.

        Training and prediction fill by this one rule, so pixels under nodata change nothing elsewhere.
        """
        values = self.values.astype(np.float32)
        if not self.valid.all():
            values[~self.valid] = np.asarray(fill, np.float32)
        return values


class Imagery(Protocol):
    """What can be read as a scene: one raster, or a stack of several (`satmask.stack`)."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, in pixels."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands read."""

    @property
    def indexes(self) -> Sequence[int | str]:
        """Their numbers in the file, from 1; of a stack, their names."""

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Names of all bands there are, but for computed ones."""

    @property
    def wavelengths_nm(self) -> tuple[float | None, ...]:
        """Middle of each band's spectral range in nanometres, None where unknown."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""

    @property
    def grid(self) -> Grid:
        """The pixels' place on the ground."""

    @property
    def control_points(self) -> tuple[list[GroundControlPoint], Any]:
        """Ground control points and their CRS, of a scene that is placed by them."""

    def sample(self) -> np.ndarray:
        """Some valid pixels from all over the scene, `(pixels, bands)`."""

    def shrunk(self, side: int) -> Pixels:
        """The whole scene at a fraction of its size, no side longer than `side` pixels; averaged."""

    def read(self, window: Window) -> Pixels:
        """Read a window; it may reach over the edge of the scene. Safe to call from several threads."""

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Scene:
    """One raster on its grid, open for reading.

    A pixel is not valid where a mask or alpha band says so, where all chosen bands hold the nodata value, or where one
    of them is NaN or infinite. A band that is only called alpha, such as the near infrared of many 4-band files, counts
    as an ordinary band (see `bands`).

    Args:
        path: A GeoTIFF, or a file that ends as one of `DRIVERS` does.
        bands: Bands to read, by number from 1 or by name, in the order wanted; all by default, without an alpha band.

    Attributes:
        path: Where the scene came from.
        shape: `(height, width)`, in pixels.
        bands: Names of the bands read.
        indexes: Their numbers in the file, from 1.
        dtype: Data type of the values.

    Raises:
        SceneError: If the file can't be opened as a raster or has no such band.

    Example:
        >>> with Scene("scene.tif") as scene:  # doctest: +SKIP
        ...     pixels = scene.read(Window(0, 0, 256, 256))
    """

    def __init__(self, path: str | Path, *, bands: Sequence[int | str] | None = None) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._file = _open(self.path)
        try:
            self._alpha = alpha_band(self._file)
            self.indexes = self._choose(bands)
            self.bands = tuple(band_names(self._file)[index - 1] for index in self.indexes)
            self.dtype = _real_dtype(self._file, self.indexes)
            self._place = self._file.transform, self._file.crs
            self.shape = self._file.height, self._file.width
            self._flags = self._file.mask_flag_enums[self.indexes[0] - 1]
        except BaseException as error:
            self._file.close()
            if isinstance(error, RasterioError | CPLE_BaseError):
                raise _undecodable(error, self.path) from error
            raise

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

    def sample(self) -> np.ndarray:
        """Valid pixels of the scene read at no more than 256 × 256, `(pixels, bands)`; from overviews where there are."""
        shape = (min(self.shape[0], 256), min(self.shape[1], 256))
        values, known = self._decode(Window(0, 0, *self.shape), shape)
        return np.asarray(values[known])

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
        values = np.zeros((window.height, window.width, len(self.indexes)), self.dtype)
        valid = np.zeros((window.height, window.width), bool)
        if inside.height and inside.width:
            here = inside.seen_from(window).slices
            values[here], valid[here] = self._decode(inside)
        values[~valid] = 0
        return Pixels(values, valid)

    def raw(self, window: Window) -> np.ndarray:
        """Read a window inside the scene as it is in the file, `(height, width, bands)`, nodata and all.

        Raises:
            SceneError: If the file's pixels can't be decoded.
        """
        return self._stack(window, (window.height, window.width))

    def _stack(self, window: Window, shape: tuple[int, int], resampling: Resampling = Resampling.nearest) -> np.ndarray:
        options = {"out_shape": (len(self.indexes), *shape), "resampling": resampling}
        values = self._access(window, lambda place: self._file.read(self.indexes, window=place, **options))
        return np.moveaxis(np.asarray(values), 0, -1)

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
            with self._lock, rasterio.Env(**GDAL_OPTIONS):
                return read(place)
        except (RasterioError, CPLE_BaseError, MemoryError) as error:
            raise _undecodable(error, self.path, f" at row {window.row}") from error

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
        nodata = [self._file.nodatavals[index - 1] for index in self.indexes]
        if all(value is not None for value in nodata):
            # A nodata of 0.1 is stored as the nearest 32-bit number by the pixels, but not by the file's header.
            fits = values.dtype.kind == "f"
            known &= (values != np.asarray(nodata, values.dtype if fits else np.float64)).any(axis=-1)
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
def open_scene(path: Path, bands: tuple[int | str, ...] | None = None) -> Scene:
    """Open a scene and keep it open for the next caller: opening a file once a window costs 3.5 times as much.

    The 64 used last stay open; one that is dropped closes when nobody holds it any more.
    """
    return Scene(path, bands=bands)


def band_names(file: DatasetReader) -> tuple[str, ...]:
    """Names of an open raster's bands: their descriptions, else their colours, else `band 1`, `band 2` …."""
    names: list[str] = []
    for index, (description, colour) in enumerate(zip(file.descriptions, file.colorinterp, strict=True), start=1):
        name = description or colour.name
        plain = name in ("gray", "undefined", "palette", "alpha") or name in names
        names.append(f"band {index}" if plain else name)
    return tuple(names)


def alpha_band(file: DatasetReader) -> int | None:
    """The number of an open raster's alpha band, or None.

    Many 4-band files carry near infrared in a band that their writer called alpha. A band is believed to be alpha only
    if nearly all of it is fully transparent or fully opaque, read at no more than 256 × 256.
    """
    if file.count < 2 or ColorInterp.alpha not in file.colorinterp:
        return None
    index = int(file.colorinterp.index(ColorInterp.alpha)) + 1
    with rasterio.Env(**GDAL_OPTIONS):
        sample = file.read(index, out_shape=(min(file.height, 256), min(file.width, 256)))
    opaque = np.iinfo(sample.dtype).max if sample.dtype.kind in "ui" else sample.max()
    extreme = np.count_nonzero((sample == 0) | (sample == opaque)) / sample.size
    return index if extreme >= 0.9 else None


def _open(path: Path) -> DatasetReader:
    if not path.is_file():
        msg = f"Scene must be a file, got {str(path)!r}."
        raise SceneError(msg)
    driver = DRIVERS.get(path.suffix.lower(), "GTiff")
    try:
        with rasterio.Env(**GDAL_OPTIONS):
            return rasterio.open(path, driver=driver)
    except (RasterioError, CPLE_BaseError) as error:
        msg = f"Scene must be a raster that can be opened, got {_reason(error)!r} for {path.name}."
        raise SceneError(msg) from error


def _real_dtype(file: DatasetReader, indexes: Sequence[int]) -> np.dtype[Any]:
    dtype = np.result_type(*(file.dtypes[index - 1] for index in indexes))
    if dtype.kind not in "uif":
        msg = f"Scene must hold integers or real numbers, got {dtype} in {Path(file.name).name}."
        raise SceneError(msg)
    return dtype


def _undecodable(error: BaseException, path: Path, where: str = "") -> SceneError:
    return SceneError(f"Scene must decode, got {_reason(error)!r} in {path.name}{where}.")


def _reason(error: BaseException) -> str:
    """The first line of what GDAL said, shortened: its messages carry whole paths and repeat themselves."""
    text = str(error.__cause__ or error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
