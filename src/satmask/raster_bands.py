"""The bands of an open raster file: their names, and whether one of them is transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from satmask.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rasterio.io import DatasetReader

CHEAP = 2**24
"""Pixels that are decoded without a second thought to see some of them."""


def band_names(file: DatasetReader) -> tuple[str, ...]:
    """Names of an open raster's bands: their descriptions, else their colours, else `band 1`, `band 2` …."""
    names: list[str] = []
    for index, (description, colour) in enumerate(zip(file.descriptions, file.colorinterp, strict=True), start=1):
        name = description or colour.name
        plain = name in ("gray", "undefined", "palette", "alpha") or name in names
        names.append(f"band {index}" if plain else name)
    return tuple(names)


def alpha_band(file: DatasetReader, options: Mapping[str, Any]) -> int | None:
    """The number of an open raster's alpha band, or None.

    Many 4-band files carry near infrared in a band that their writer called alpha. A band is believed to be alpha only
    if nearly all of it is fully transparent or fully opaque, as far as `spread` shows.

    Args:
        file: The raster.
        options: GDAL's settings for reading it.
    """
    if file.count < 2 or ColorInterp.alpha not in file.colorinterp:
        return None
    index = int(file.colorinterp.index(ColorInterp.alpha)) + 1
    with rasterio.Env(**options):
        sample = np.concatenate(
            [file.read(index, window=part, out_shape=shape).ravel() for part, shape in spread(file)]
        )
    opaque = np.iinfo(sample.dtype).max if sample.dtype.kind in "ui" else sample.max()
    extreme = np.count_nonzero((sample == 0) | (sample == opaque)) / sample.size
    return index if extreme >= 0.9 else None


def spread(file: DatasetReader, count: int = 4) -> list[tuple[rasterio.windows.Window, tuple[int, int]]]:
    """Windows that show some of all parts of an open raster, and the shape to read each at; 65,536 pixels in all.

    The whole at no more than 256 × 256 where that is cheap, from overviews or because it is small. Of a large raster
    without overviews every block would be decoded for it: `count` × `count` windows show it then.
    """
    height, width = file.shape
    factors = file.overviews(1) or [1]
    if height * width <= CHEAP * max(factors) ** 2:
        return [(rasterio.windows.Window(0, 0, width, height), (min(height, 256), min(width, 256)))]
    side = 256 // count
    tall, wide = min(height, side), min(width, side)
    rows = sorted({(height - tall) * step // (count - 1) for step in range(count)})
    columns = sorted({(width - wide) * step // (count - 1) for step in range(count)})
    return [(rasterio.windows.Window(column, row, wide, tall), (tall, wide)) for row in rows for column in columns]


def scaling(file: DatasetReader, indexes: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Scale and offset that an open raster's tags give for each band: what is meant is `stored × scale + offset`."""
    return tuple((float(file.scales[index - 1]), float(file.offsets[index - 1])) for index in indexes)


def nodata_of(file: DatasetReader, indexes: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray | None:
    """The nodata value of each band as the pixels hold it; None unless all bands have one."""
    values = [file.nodatavals[index - 1] for index in indexes]
    if any(value is None for value in values):
        return None
    whole = dtype.kind in "iu" and all(float(value).is_integer() for value in values)
    # Beyond 2⁵³ neighbouring numbers are one as floats.
    if whole and all(np.iinfo(dtype).min <= int(value) <= np.iinfo(dtype).max for value in values):
        return np.asarray([int(value) for value in values], dtype)
    # A nodata of 0.1 is stored as the nearest 32-bit number by the pixels, but not by the file's header.
    return np.asarray(values, dtype if dtype.kind == "f" else np.float64)


def real_dtype(file: DatasetReader, indexes: Sequence[int], name: str) -> np.dtype[Any]:
    """The data type that holds all bands' values.

    Raises:
        SceneError: If it is none of real numbers.
    """
    names = [file.dtypes[index - 1] for index in indexes]
    dtype = np.result_type(*(np.complex64 if name.startswith("complex") else name for name in names))
    if dtype.kind not in "uif":
        msg = f"Scene must hold integers or real numbers, got {dtype} in {name}."
        raise SceneError(msg)
    return dtype
