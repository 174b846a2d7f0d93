"""Contact sheets: many labelled tiles at a glance, of any size, dtype and number of bands. Arrays in, figures out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import CHECKERED, HATCHED, INK, SHEET, TINY, at_most, blank, plain, show
from satmask.pictures import enlargement, hatch, overlay, repeat, smooth
from satmask.stretching import display, known_pixels, stretch, value_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from satmask.legend import Legend

SIDE = 480  # pixels of a tile's longer side on the sheet
TALLEST = 9.6  # inches of a page's body: what A4 leaves for it


@dataclass(frozen=True)
class Tile:
    """A tile of a contact sheet.

    Attributes:
        image: Any real dtype, `(height, width)` or `(height, width, bands)`.
        labels: Class ids or masks, as `layers` takes them; None where there are none.
        labelled: False where the truth is unknown, bool `(height, width)`; None where all is known.
        valid: False at nodata, bool `(height, width)`; None where all is valid but NaN and infinity.
        title: What it is called; too long a name loses its middle.
    """

    image: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None = None
    labelled: npt.NDArray[np.bool_] | None = None
    valid: npt.NDArray[np.bool_] | None = None
    title: str = ""


@dataclass(frozen=True)
class _Look:
    """How the images of one dtype and number of bands are shown: bands, and values shown as black and white."""

    bands: tuple[int, int, int]
    limits: tuple[npt.ArrayLike, npt.ArrayLike] = field(repr=False)


def contact_sheets(
    tiles: Sequence[Tile],
    legend: Legend,
    *,
    columns: int = 4,
    per_page: int = 20,
    bands: tuple[int, int, int] | None = None,
    title: str = "",
) -> list[Figure]:
    """Draw tiles with the outlines of their labels, several pages of them where there are many.

    Each tile fills its cell and keeps its shape. What has no label is hatched, nodata is a checkerboard. Tiles of one
    dtype and number of bands are stretched alike, so that a darker tile looks darker; 8-bit values are shown as they are.

    Args:
        tiles: The tiles, of any sizes.
        legend: The classes.
        columns: Tiles side by side, 1 to 6.
        per_page: Tiles on a page, at least 1; fewer where a page would be longer than A4.
        bands: Which bands are red, green and blue; chosen by `display` if None.
        title: Title of each page; with several, their number follows.

    Returns:
        Figures for `figures.save` or `png_bytes`, one a page.

    Raises:
        SettingError: If there is no tile, or `columns` or `per_page` is out of range.
    """
    if not tiles:
        msg = "Contact sheet must show at least one tile, got none."
        raise SettingError(msg)
    if not 1 <= columns <= 6 or per_page < 1:
        msg = f"Contact sheet must have 1 to 6 columns and at least 1 tile a page, got {columns} and {per_page}."
        raise SettingError(msg)
    columns = min(columns, len(tiles))
    looks = _looks(tiles, bands)
    pages = _pages(tiles, columns, per_page)
    figures = []
    for number, page in enumerate(pages, start=1):
        name = f"{title} ({number} of {len(pages)})".strip() if len(pages) > 1 else title
        figures.append(_draw_page(page, legend, looks, columns=columns, title=name))
    return figures


def _kind(image: npt.NDArray[Any]) -> tuple[str, int]:
    return image.dtype.str, np.atleast_3d(image).shape[2]


def _looks(tiles: Sequence[Tile], bands: tuple[int, int, int] | None) -> dict[tuple[str, int], _Look]:
    """One look for each kind of image, from all of its tiles."""
    looks = {}
    for kind in dict.fromkeys(_kind(tile.image) for tile in tiles):
        alike = [tile for tile in tiles if _kind(tile.image) == kind]
        low, high = value_range([np.atleast_3d(tile.image) for tile in alike], valid=[tile.valid for tile in alike])
        chosen, limits = display(alike[0].image.dtype, low, high)
        if bands is not None and kind[1] >= 3:
            chosen = bands
            limits = limits if kind[0] == "|u1" else (low[list(bands)], high[list(bands)])
        looks[kind] = _Look(chosen, limits)
    return looks


def _pages(tiles: Sequence[Tile], columns: int, per_page: int) -> list[list[Tile]]:
    """Cut the tiles into pages that are no longer than A4."""
    pages: list[list[Tile]] = [[]]
    height = 0.0
    for start in range(0, len(tiles), columns):
        row = list(tiles[start : start + columns])
        tall = _row_height(row, columns)
        if pages[-1] and (len(pages[-1]) + len(row) > max(per_page, columns) or height + tall > TALLEST):
            pages.append([])
            height = 0.0
        pages[-1] += row
        height += tall
    return pages


def _ratio(tile: Tile) -> float:
    """Height by width, as far as it is shown: what is longer is letterboxed."""
    return float(np.clip(tile.image.shape[0] / tile.image.shape[1], 0.25, 1.5))


def _row_height(row: Sequence[Tile], columns: int) -> float:
    return max(_ratio(tile) for tile in row) * SHEET / columns + 0.3


def _draw_page(
    tiles: Sequence[Tile], legend: Legend, looks: dict[tuple[str, int], _Look], *, columns: int, title: str
) -> Figure:
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [_row_height(row, columns) for row in rows]
    figure = blank(SHEET, sum(heights), title=title, key=_key(tiles, legend))
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axis in axes.ravel()[len(tiles) :]:
        axis.set_axis_off()
    for axis, tile in zip(axes.ravel(), tiles, strict=False):
        show(axis, draw_tile(tile, legend, looks[_kind(tile.image)]))
        _name(axis, tile, letters=int(SHEET / columns * 72 / (TINY * 0.7)))
    return figure


def draw_tile(tile: Tile, legend: Legend, look: _Look) -> npt.NDArray[np.uint8]:
    """Draw one tile: the image, outlines above it, hatching where there is no truth, a checkerboard at nodata.

    Returns:
        uint8, `(height, width, 3)`; small tiles are enlarged by a whole number, large ones shrunk after drawing, so that
        outlines stay visible.
    """
    rgb = stretch(tile.image, valid=tile.valid, bands=look.bands, limits=look.limits)
    factor = enlargement(rgb, SIDE)
    drawn = smooth(rgb, factor)
    if tile.labels is not None:
        drawn = overlay(drawn, repeat(tile.labels, factor), legend, alpha=0.3 if legend.exclusive else 0.12)
    unknown = _unknown(tile)
    if unknown.any():
        # Half and half: what lies below the hatching is worth seeing, too.
        hatched = hatch(drawn, repeat(unknown, factor))
        drawn = cv2.addWeighted(drawn, 0.5, hatched, 0.5, 0)
    nodata = repeat(~known_pixels(np.atleast_3d(tile.image), tile.valid), factor)
    drawn[nodata] = smooth(rgb, factor)[nodata]
    return at_most(drawn, SIDE)


def _unknown(tile: Tile) -> npt.NDArray[np.bool_]:
    """True where there is no truth."""
    shape = tile.image.shape[:2]
    if tile.labels is None:
        return np.ones(shape, np.bool_)
    return np.zeros(shape, np.bool_) if tile.labelled is None else ~tile.labelled


def _key(tiles: Sequence[Tile], legend: Legend) -> list[tuple[str, str]]:
    """Classes, and the patterns that are on the page."""
    key = [(entry.name, entry.colour) for entry in legend]
    if any(_unknown(tile).any() for tile in tiles):
        key.append(("unlabelled", HATCHED))
    if any(not known_pixels(np.atleast_3d(tile.image), tile.valid).all() for tile in tiles):
        key.append(("nodata", CHECKERED))
    return key


def _name(axis: Axes, tile: Tile, *, letters: int) -> None:
    height, width = tile.image.shape[:2]
    lines = [*([shortened(tile.title, letters)] if tile.title else []), f"{width} × {height} px"]
    axis.set_title(plain("\n".join(lines)), fontsize=TINY, color=INK, pad=2, linespacing=1.15)


def shortened(text: str, letters: int) -> str:
    """Take out the middle of a long name: its ends tell it from its neighbours.

    Examples:
        >>> shortened("zanzibar_tz-OAM-1277168-1083840-21", 20)
        'zanzibar_…1083840-21'
    """
    if len(text) <= letters:
        return text
    front = (letters - 1) // 2
    return f"{text[:front]}…{text[len(text) - (letters - 1 - front) :]}"
