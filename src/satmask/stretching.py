"""Any image as 8-bit RGB: which values look black and white, and what nodata looks like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError


def value_range(
    images: Iterable[npt.NDArray[Any]],
    *,
    valid: Iterable[npt.NDArray[np.bool_] | None] | None = None,
    percent: tuple[float, float] = (2, 98),
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find the values of each band that a stretch should show as black and as white.

    Several images share one range, so that a brighter image stays brighter.

    Args:
        images: `(height, width, bands)` each; NaN and infinity count as nodata.
        valid: False at nodata, bool `(height, width)` each, or None.
        percent: Share of pixels below black and below white, 0 to 100.

    Returns:
        Black and white, float64, `(bands,)` each; 0 and 1 where no pixel is valid.
    """
    images = list(images)
    pixels = []
    for image, known in zip(images, valid or [None] * len(images), strict=True):
        kept = image[known_pixels(image, known)]
        # A hundred thousand pixels fix a percentile well enough; the whole of a scene would take seconds.
        pixels.append(kept[:: max(len(kept) * len(images) // 100_000, 1)])
    together = np.concatenate(pixels).astype(np.float64)
    if not len(together):
        return np.zeros(together.shape[1]), np.ones(together.shape[1])
    low, high = np.percentile(together, percent, axis=0)
    return low, high


def display(
    dtype: np.dtype[Any], low: npt.NDArray[Any], high: npt.NDArray[Any]
) -> tuple[tuple[int, int, int], tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Choose bands and limits with which `stretch` shows all images of a data set alike.

    Args:
        dtype: Data type of the images; 8-bit values are shown as they are.
        low: Value of each band to show as black, such as its 1st percentile, `(bands,)`.
        high: Value of each band to show as white, `(bands,)`.

    Returns:
        Positions of the bands shown as red, green and blue, and the values of these shown as black and as white.

    Examples:
        >>> display(np.dtype("uint16"), np.arange(8), 100 * np.arange(8))[0]  # WorldView's eight bands
        (4, 2, 1)
    """
    bands = (4, 2, 1) if len(low) == 8 else (0, 1, 2) if len(low) >= 3 else (0, 0, 0)
    if dtype == np.uint8:
        return bands, (np.zeros(3), np.full(3, 255.0))
    return bands, (np.asarray(low)[list(bands)], np.asarray(high)[list(bands)])


def stretch(
    image: npt.NDArray[Any],
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    bands: tuple[int, int, int] = (0, 1, 2),
    percent: tuple[float, float] | None = None,
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> npt.NDArray[np.uint8]:
    """Show any image as 8-bit RGB, without lying about nodata.

    Nodata pixels become a grey checkerboard and take no part in the percentiles: a black frame doesn't wash out the
    rest. 8-bit values are shown as they are unless `percent` or `limits` ask otherwise.

    Args:
        image: Any real dtype, `(height, width)` or `(height, width, bands)`; one or two bands are shown in grey.
        valid: False at nodata, bool `(height, width)`; NaN and infinity are nodata in any case.
        bands: Which bands are red, green and blue.
        percent: Share of pixels shown as black, and share below white, 0 to 100; 2 and 98 if None.
        limits: Values shown as black and as white, one or one a shown band, instead of percentiles.

    Returns:
        uint8, `(height, width, 3)`.

    Raises:
        SettingError: If the image lacks one of the bands.

    Examples:
        >>> stretch(np.array([[0.0, 5.0, 10.0, np.nan]]), percent=(0, 100))[0, :3, 0].tolist()
        [0, 128, 255]
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] < 3 and tuple(bands) == (0, 1, 2):
        bands = (0, 0, 0)
    if not all(0 <= band < image.shape[2] for band in bands):
        msg = f"Bands must lie in 0 to {image.shape[2] - 1}, got {tuple(bands)}. Choose from the image's own."
        raise SettingError(msg)
    shown = image[..., list(bands)]
    known = known_pixels(shown, valid)
    if image.dtype == np.uint8 and percent is None and limits is None:
        picture = shown.copy()
    else:
        low, high = limits or value_range([shown], valid=[known], percent=percent or (2, 98))
        picture = _scale(shown, np.asarray(low, np.float64), np.asarray(high, np.float64))
    picture[~known] = checker(*known.shape)[~known]
    return picture


def known_pixels(image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """True where a pixel has a value in all bands."""
    known: npt.NDArray[np.bool_] = np.ones(image.shape[:2], np.bool_) if valid is None else np.asarray(valid, np.bool_)
    if image.dtype.kind == "f":
        known = known & np.isfinite(image).all(axis=-1)
    return known


def _scale(image: npt.NDArray[Any], low: npt.NDArray[Any], high: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring low … high to 0 … 255; a band that is flat comes out mid-grey."""
    flat = high <= low
    scaled = (np.nan_to_num(image.astype(np.float64)) - low) / np.where(flat, 1, high - low)
    shown: npt.NDArray[np.uint8] = np.rint(np.clip(np.where(flat, 0.5, scaled), 0, 1) * 255).astype(np.uint8)
    return shown


def checker(height: int, width: int) -> npt.NDArray[np.uint8]:
    """The light checkerboard that stands for nothing, uint8 `(height, width, 3)`."""
    side = max(max(height, width) // 48, 2)
    rows, columns = np.ogrid[:height, :width]
    grey: npt.NDArray[np.uint8] = np.where((rows // side + columns // side) % 2, 204, 232).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
