"""Sheets of pictures: comparisons, training windows, polygons over their image. Arrays in, figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import INK, SHEET, SMALL, TEXT, blank, show, wrapped
from satmask.pictures import (
    Example,
    enlargement,
    hatch,
    overlay,
    panel_key,
    panels,
    repeat,
    smooth,
)
from satmask.stretching import stretch, value_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from satmask.legend import Legend


def comparison(
    rgb: npt.NDArray[np.uint8],
    truth: npt.NDArray[Any],
    prediction: npt.NDArray[Any],
    legend: Legend,
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    title: str = "",
) -> Figure:
    """Draw image, truth, prediction and error side by side; the arguments are those of `Example`."""
    return comparison_sheet([Example(rgb, truth, prediction, valid, title)], legend)


def comparison_sheet(examples: Sequence[Example], legend: Legend, *, title: str = "") -> Figure:
    """Draw image, truth, prediction and error of several examples, one a row, as wide as an A4 page.

    Args:
        examples: The rows, of any sizes.
        legend: The classes.
        title: Title of the sheet.

    Returns:
        A figure for `save` or `png_bytes`.

    Raises:
        SettingError: If there is no example.
    """
    if not examples:
        msg = "Comparison must show at least one example, got none."
        raise SettingError(msg)
    ratios = [max(example.rgb.shape[0] / example.rgb.shape[1], 0.2) for example in examples]
    # Titles stand upright beside their rows, about 14 letters an inch, so a low row breaks its title more often.
    titles = [
        wrapped(example.title, max(int(24 * min(ratio, 2)), 8)) for example, ratio in zip(examples, ratios, strict=True)
    ]
    lines = max(len(title.splitlines()) for title in titles)
    panel = (SHEET - 0.1 - 0.15 * lines) / 4 - 0.06
    figure = blank(SHEET, panel * sum(ratios) + 0.06 * len(ratios) + 0.26, title=title, key=panel_key(legend))
    axes = figure.subplots(len(examples), 4, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for index, example in enumerate(examples):
        for axis, (name, picture) in zip(axes[index], panels(example, legend).items(), strict=True):
            show(axis, picture)
            axis.set_title(name.capitalize() if index == 0 else "", fontsize=TEXT, color=INK, pad=4)
        axes[index, 0].set_ylabel(titles[index], fontsize=SMALL, color=INK)
    return figure


def window_sheet(
    images: Sequence[npt.NDArray[Any]],
    truths: Sequence[npt.NDArray[Any]],
    weights: Sequence[npt.NDArray[Any]],
    legend: Legend,
    *,
    columns: int = 4,
    bands: tuple[int, int, int] = (0, 1, 2),
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """Draw training windows as a network gets them, with their masks; what has weight 0 is hatched.

    All windows are stretched alike, by their pixels that count, so that a change of brightness is seen.

    Args:
        images: `(height, width, bands)` each.
        truths: Class ids or masks each, as `layers` takes them.
        weights: Weight of each pixel in the loss, at least 0, `(height, width)` or `(height, width, 1)` each.
        legend: The classes.
        columns: Windows side by side.
        bands: Which bands are red, green and blue.
        limits: Values shown as black and white; percentiles over all windows if None, and 8-bit values as they are.
        title: Title of the sheet.

    Returns:
        A figure for `save` or `png_bytes`.

    Raises:
        SettingError: If there is no window.
    """
    if not len(images):
        msg = "Sheet must show at least one window, got none."
        raise SettingError(msg)
    if limits is None and images[0].dtype != np.uint8:
        chosen = list(bands) if images[0].shape[2] >= 3 else [0, 0, 0]
        counted = [np.asarray(weight).reshape(np.shape(weight)[:2]) > 0 for weight in weights]
        limits = value_range([np.asarray(image)[..., chosen] for image in images], valid=counted)
    tiles = []
    for image, truth, weight in zip(images, truths, weights, strict=True):
        rgb = stretch(np.asarray(image), bands=bands, limits=limits)
        factor = enlargement(rgb, 1600 // columns)
        drawn = overlay(smooth(rgb, factor), repeat(np.asarray(truth), factor), legend, alpha=0.15)
        tiles.append(hatch(drawn, repeat(np.asarray(weight).reshape(rgb.shape[:2]) <= 0, factor)))
    mosaic = _mosaic(tiles, min(columns, len(tiles)))
    key = [(entry.name, entry.colour) for entry in legend]
    figure = blank(SHEET, SHEET * mosaic.shape[0] / mosaic.shape[1], title=title, key=key)
    show(figure.subplots(), mosaic, frame=False)
    return figure


def _mosaic(tiles: Sequence[npt.NDArray[np.uint8]], columns: int) -> npt.NDArray[np.uint8]:
    """Set tiles side by side on white, with a gap."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    gap = max(width // 32, 2)
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet
