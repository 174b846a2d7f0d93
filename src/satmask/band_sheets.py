"""Bands to look at: each on its own with its own stretch, or any three as red, green and blue. Arrays in, figures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import CHECKERED, INK, SHEET, SMALL, TINY, at_most, blank, percent, plain, show, wrapped
from satmask.stretching import stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST = 20  # bands of a sheet
SHADES = {"red": "#E0433A", "green": "#3FA34D", "blue": "#3D7DD8"}


@dataclass(frozen=True)
class _Look:
    """What all bands of a sheet share: percentiles shown as black and white, and the letters that fit below one."""

    stretched: tuple[float, float]
    letters: int


def band_sheet(
    image: npt.NDArray[Any],
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    names: Sequence[str] | None = None,
    wavelengths_nm: Sequence[float | None] | None = None,
    stretched: tuple[float, float] = (2, 98),
    title: str = "",
) -> Figure:
    """Draw every band in grey, stretched between its own percentiles, with the values shown as black and white below.

    Nodata takes no part in the percentiles and is a checkerboard, its share is said; a flat band is mid-grey and said to
    be flat, so that a stretch never makes noise or a frame look like a picture.

    Args:
        image: Any real dtype, `(height, width)` or `(height, width, bands)`, 1 to 20 bands.
        valid: False at nodata, bool `(height, width)` or `(height, width, bands)`; NaN and infinity are nodata, band by
            band, in any case.
        names: Name of each band; numbers from 1 if None.
        wavelengths_nm: Middle of each band's spectral range in nanometres, None where unknown.
        stretched: Share of a band's pixels below black and below white, 0 to 100.
        title: Title of the sheet.

    Returns:
        A figure for `figures.save` or `png_bytes`.

    Raises:
        SettingError: If there are no bands or more than 20, or names or wavelengths aren't one a band.
    """
    image = image[..., None] if image.ndim == 2 else image
    height, width, count = image.shape
    if not 1 <= count <= LARGEST:
        msg = f"Band sheet must show 1 to {LARGEST} bands, got {count}. Choose some, or draw several sheets."
        raise SettingError(msg)
    names = _named(names, count)
    waves = _one_each("Wavelengths", wavelengths_nm, count) if wavelengths_nm is not None else [None] * count
    columns = 1 if count == 1 else 2 if count <= 4 else 3 if count <= 9 else 4
    rows = -(-count // columns)
    tall = np.clip(height / width, 0.2, 2.0) * SHEET / columns
    across = min(SHEET, SHEET * 8.5 / (tall * rows))
    masks = [_valid(image, valid, band) for band in range(count)]
    look = _Look(stretched, letters=int(across / columns * 72 / (TINY * 0.58)))
    key = [] if all(mask.all() for mask in masks) else [("nodata", CHECKERED)]
    figure = blank(max(across, 4.4), tall * rows * across / SHEET + 0.52 * rows, title=title, key=key)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_axis_off()
    for band in range(count):
        _draw_band(axes[band], image[..., band], masks[band], look)
        wave = "" if waves[band] is None else f" · {waves[band]:g} nm"
        axes[band].set_title(
            wrapped(names[band] + wave, int(look.letters * TINY / SMALL)), fontsize=SMALL, color=INK, pad=3
        )
    return figure


def composite(
    image: npt.NDArray[Any],
    bands: Sequence[int | str] = (1, 2, 3),
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    names: Sequence[str] | None = None,
    stretched: tuple[float, float] | None = None,
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """Draw any three bands as red, green and blue, and say which is which and between which values it is shown.

    Args:
        image: Any real dtype, `(height, width, bands)`.
        bands: Names of three bands, or their numbers from 1, for red, green and blue.
        valid: False at nodata, bool `(height, width)`; NaN and infinity in one of the three is nodata in any case.
        names: Name of each band of the image; `band 1`, `band 2` … if None.
        stretched: Share of pixels shown as black, and share below white, 0 to 100; 2 and 98 if None, but 8-bit values are
            shown as they are.
        limits: Values shown as black and as white, one or one a shown band, instead of percentiles.
        title: What the image is called; the bands' names follow.

    Returns:
        A figure for `figures.save` or `png_bytes`.

    Raises:
        SettingError: If there aren't three bands, or the image lacks one of them.
    """
    image = image[..., None] if image.ndim == 2 else image
    names = _named(names, image.shape[2])
    chosen = [_find(band, names) for band in bands]
    if len(chosen) != 3:
        msg = (
            f"Composite must have three bands, for red, green and blue, got {len(chosen)}. Name a band twice or thrice."
        )
        raise SettingError(msg)
    shown = image[..., chosen]
    known = _valid(shown, valid, 0) & _valid(shown, valid, 1) & _valid(shown, valid, 2)
    low, high = _range(shown, known, stretched, limits)
    rgb = stretch(shown, valid=known, limits=(low, high))
    key = [
        (f"{part}: {names[band]}, {_value(low[at])} to {_value(high[at])}", colour)
        for at, (band, (part, colour)) in enumerate(zip(chosen, SHADES.items(), strict=True))
    ]
    key += [] if known.all() else [("nodata", CHECKERED)]
    heading = " · ".join(names[band] for band in chosen)
    across = min(SHEET, 8.5 * image.shape[1] / image.shape[0])
    heading = f"{title}: {heading}" if title else heading
    figure = blank(max(across, 3.2), across * image.shape[0] / image.shape[1], title=heading, key=key)
    show(figure.subplots(), at_most(rgb, 1600))
    return figure


def _named(names: Sequence[str] | None, count: int) -> list[str]:
    return [f"band {band}" for band in range(1, count + 1)] if names is None else _one_each("Names", names, count)


def _one_each(what: str, values: Sequence[Any], count: int) -> list[Any]:
    if len(values) != count:
        msg = f"{what} must be one for each of {count} bands, got {len(values)}."
        raise SettingError(msg)
    return list(values)


def _find(band: int | str, names: Sequence[str]) -> int:
    """Position of a band in the image."""
    if band in names:
        return list(names).index(str(band))
    if isinstance(band, str) or not 1 <= band <= len(names):
        msg = f"Band must be one of 1 to {len(names)} ({', '.join(names)}), got {band!r}."
        raise SettingError(msg)
    return band - 1


def _valid(image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, band: int) -> npt.NDArray[np.bool_]:
    """True where a band has a value."""
    known = np.isfinite(image[..., band])
    if valid is None:
        return np.asarray(known, np.bool_)
    return np.asarray(known & (valid[..., band] if valid.ndim == 3 else valid), np.bool_)


def _range(
    shown: npt.NDArray[Any],
    known: npt.NDArray[np.bool_],
    stretched: tuple[float, float] | None,
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values of three bands shown as black and as white."""
    if limits is None and shown.dtype == np.uint8 and stretched is None:
        limits = (0, 255)
    if limits is not None:
        low, high = (np.broadcast_to(np.asarray(limit, np.float64), 3) for limit in limits)
        return low, high
    if not known.any():
        return np.zeros(3), np.ones(3)
    low, high = np.percentile(shown[known].astype(np.float64), stretched or (2, 98), axis=0)
    return low, high


def _draw_band(axis: Axes, band: npt.NDArray[Any], known: npt.NDArray[np.bool_], look: _Look) -> None:
    """One band in grey, and what it says about itself below."""
    low, high, words = _stretch_of(band[known], look.stretched)
    show(axis, at_most(stretch(band, valid=known, limits=(low, high)), 900))
    missing = 1 - known.mean()
    text = f"{words} · {percent(missing)} nodata" if missing else words
    text = text if len(text) <= look.letters else text.replace(" · ", "\n")
    axis.set_xlabel(plain(text), fontsize=TINY, color=INK, labelpad=2)


def _stretch_of(values: npt.NDArray[Any], stretched: tuple[float, float]) -> tuple[float, float, str]:
    """Values shown as black and as white, and the words that say so."""
    if not values.size:
        return 0, 1, "no value"
    smallest, largest = float(values.min()), float(values.max())
    if smallest == largest:
        return smallest, largest, f"flat: {_value(smallest)} everywhere"
    low, high = (float(value) for value in np.percentile(values.astype(np.float64), stretched))
    if low == high:
        return smallest, largest, f"nearly flat: black {_value(smallest)}, white {_value(largest)}"
    return low, high, f"black {_value(low)}, white {_value(high)}"


def _value(value: float) -> str:
    """A pixel value in at most four signs, but whole where it is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
