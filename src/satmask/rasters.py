"""Rasters written window by window, which end as cloud-optimised GeoTIFFs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError

from satmask.addresses import Remote
from satmask.errors import SceneError
from satmask.legend import Legend
from satmask.overviews import add_class_overviews
from satmask.scene import Imagery, Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BLOCK = 512  # side of the blocks in the file, in pixels
# Drafts have flat blocks: where a wide scene is read strip by strip, no block is read twice.
DRAFT_ROWS = 64


@dataclass(frozen=True)
class RasterKind:
    """What a raster to be written holds.

    Attributes:
        dtype: Data type, one for all bands.
        bands: Names of the bands.
        nodata: Value of unknown pixels.
        colours: Red, green, blue and alpha of each value, for one 8-bit band.
        resampling: How overviews are made: "mode" for classes, "average" for amounts.
        tags: What the file says of itself.
    """

    dtype: np.dtype[Any]
    bands: Sequence[str]
    nodata: float
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    resampling: str = "average"
    tags: Mapping[str, str] = field(default_factory=dict)


def legend_tags(legend: Legend, thresholds: Sequence[float] = ()) -> dict[str, str]:
    """What a raster says of its classes.

    `CLASS_<id>` is a name, `THRESHOLD_<id>` the probability from which the class was seen (for classes that overlap), and
    `CLASSES_EXCLUSIVE` is YES or NO.

    Examples:
        >>> legend_tags(Legend.of({100: "building"}), [0.5])
        {'CLASS_100': 'building', 'THRESHOLD_100': '0.5', 'CLASSES_EXCLUSIVE': 'NO'}
    """
    names = {f"CLASS_{entry.id}": entry.name for entry in legend}
    pairs = () if legend.exclusive else zip(legend.ids, thresholds, strict=False)
    limits = {f"THRESHOLD_{id_}": repr(float(limit)) for id_, limit in pairs}
    return {**names, **limits, "CLASSES_EXCLUSIVE": "YES" if legend.exclusive else "NO"}


def read_legend_tags(path: str | Path | Remote) -> Legend | None:
    """Read the legend that `legend_tags` put into a raster, in order of id; None where there is none.

    Raises:
        SceneError: If the raster can't be opened.
    """
    with Scene(path) as scene:
        tags, palette = scene.tags, scene.palette
    names = {int(key[6:]): name for key, name in tags.items() if key.startswith("CLASS_") and key[6:].isdecimal()}
    exclusive = tags.get("CLASSES_EXCLUSIVE") == "YES" and len(names) > 1
    if not names:
        return None
    painted = {} if palette is None else {id_: "#{:02X}{:02X}{:02X}".format(*palette[id_]) for id_ in names}
    return Legend.of(dict(sorted(names.items())), colours=painted, exclusive=exclusive or 0 in names)


class RasterWriter:
    """Write a raster on the grid of a scene, window by window; it appears under its name whole or not at all.

    What is being written lies beside it under a hidden name, uncompressed, so that windows can come in any order and at
    any place. `finish` turns that into a cloud-optimised GeoTIFF with overviews. Leaving the `with` block without
    `finish` leaves nothing behind. Safe to write and read in several threads.

    Args:
        path: The GeoTIFF to write.
        scene: Gives the grid, or the control points.
        kind: What it holds.
        verify: Read the finished file and compare it with what was written, before it gets its name: GDAL doesn't always
            say that a disk was full. Each pixel must then be written exactly once.

    Raises:
        SceneError: If the file can't be written.
    """

    def __init__(self, path: Path, scene: Imagery, kind: RasterKind, *, verify: bool = False) -> None:
        self.path, self.kind, self._lock = path, kind, threading.Lock()
        self._verify, self._sum, self._shape = verify, 0, scene.shape
        self.draft = path.with_name(f".{path.name}.draft.tif")
        self._whole = path.with_name(f".{path.name}.part.tif")
        self._overviews = self.draft.with_name(f"{self.draft.name}.ovr")
        grid = scene.grid
        placed = grid.crs is not None or not grid.transform.is_identity
        try:
            self._file = rasterio.open(
                self.draft,
                "w+",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=len(kind.bands),
                dtype=kind.dtype,
                nodata=kind.nodata,
                crs=grid.crs.to_wkt() if grid.crs else None,
                transform=grid.transform if placed else None,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=DRAFT_ROWS,
                interleave="band",
                bigtiff="IF_SAFER",
                sparse_ok=True,
            )
            self._describe(scene)
        except RasterioError as error:
            raise self._failure(error) from error

    def _describe(self, scene: Imagery) -> None:
        """Say what the bands are; colours and control points can only be set on an open file."""
        for index, name in enumerate(self.kind.bands, start=1):
            self._file.set_band_description(index, name)
        self._file.update_tags(**scene.notes, **self.kind.tags)
        if self.kind.colours:
            self._file.write_colormap(1, dict(self.kind.colours))
        elif len(self.kind.bands) > 1:
            self._file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (len(self.kind.bands) - 1)]
        points, crs = scene.control_points
        if points:
            self._file.gcps = (points, crs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        for left in (self.draft, self._whole, self._overviews):
            left.unlink(missing_ok=True)

    def write(self, values: np.ndarray, window: Window) -> None:
        """Write a window of `(height, width)` or `(height, width, bands)`."""
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None]
        values = values.astype(self.kind.dtype, copy=False)
        if self._verify:
            self._sum += _sum_bits(values)
        try:
            with self._lock:
                self._file.write(values, window=_place(window))
        except RasterioError as error:
            raise self._failure(error) from error

    def read(self, window: Window, bands: Sequence[int] | None = None) -> np.ndarray:
        """Read back what was written, `(height, width, bands)`: all bands, or those numbered from 1."""
        try:
            with self._lock:
                return np.moveaxis(self._file.read(bands, window=_place(window)), 0, -1)
        except RasterioError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        """Write what waits in memory, so that `finish` needn't."""
        try:
            with self._lock:
                self._file.close()
                self._file = rasterio.open(self.draft, "r+")
        except RasterioError as error:
            raise self._failure(error) from error

    def finish(self) -> Path:
        """Compress, add overviews, and give the file its name."""
        # Beyond level 1, probabilities get at most 3 % smaller, for up to twice the time. Classes get smaller as they are
        # than as differences, and beyond level 4 at most 12 %, for three times the time.
        real = self.kind.dtype.kind == "f"
        packing = {"PREDICTOR": "FLOATING_POINT", "LEVEL": 1} if real else {"PREDICTOR": "NO", "LEVEL": 4}
        try:
            self._settle()
            self._add_overviews()
            rasterio.shutil.copy(
                self.draft,
                self._whole,
                driver="COG",
                BLOCKSIZE=BLOCK,
                COMPRESS="DEFLATE",
                **packing,
                OVERVIEWS="FORCE_USE_EXISTING",
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
            )
            same = not self._verify or self._read_sum() == self._sum % (1 << 64)
        except (RasterioError, OSError) as error:
            raise self._failure(error) from error
        if not same:
            raise self._failure(OSError("other pixels than were written"))
        self._whole.replace(self.path)
        return self.path

    def _settle(self) -> None:
        """Write what waits in memory; the draft can still be read meanwhile."""
        with self._lock:
            self._file.close()
            self._file = rasterio.open(self.draft)

    def _add_overviews(self) -> None:
        """Add to the draft the overviews that GDAL would make; it would compress them twice, which takes twice the time."""
        factors = [1 << level for level in range(1, 32) if max(self._shape) >> (level - 1) > BLOCK]
        if factors and self.kind.resampling == "mode":
            add_class_overviews(self.draft, factors)
        elif factors:
            with rasterio.open(self.draft, "r+") as file:
                file.build_overviews(factors, Resampling[self.kind.resampling])

    def _read_sum(self) -> int:
        """Read the finished file once, row of blocks by row of blocks."""
        total, (height, width) = 0, self._shape
        with rasterio.open(self._whole, num_threads="all_cpus") as file:
            for row in range(0, height, BLOCK):
                for column in range(0, width, 8 * BLOCK):
                    place = Window(row, column, min(BLOCK, height - row), min(8 * BLOCK, width - column))
                    total += _sum_bits(file.read(window=_place(place)))
        return total % (1 << 64)

    def _failure(self, error: BaseException) -> SceneError:
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        return SceneError(
            f"Raster must be written whole, got {reason!r:.200} for {self.path}. Is there room on the disk?"
        )


def _place(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.column, window.row, window.width, window.height)


def _sum_bits(values: np.ndarray) -> int:
    """Add up pixels as whole numbers, in any order; all NaN count alike."""
    values = np.ascontiguousarray(values)
    bits = values.view(f"u{values.dtype.itemsize}")
    if values.dtype.kind == "f" and (unknown := np.isnan(values)).any():
        bits = np.where(unknown, bits.dtype.type(0), bits)
    return int(bits.sum(dtype=np.uint64))
