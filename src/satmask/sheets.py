"""Sheets of pictures: comparisons, training windows, polygons over their image. Arrays in, figures out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from satmask.charts import BEST, INK, SMALL, TEXT, blank, wrapped
from satmask.errors import SettingError
from satmask.pictures import (
    Example,
    enlargement,
    hatch,
    overlay,
    panel_key,
    panels,
    repeat,
    smooth,
    stretch,
    value_range,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from shapely import MultiPolygon, Polygon

    from satmask.legend import Legend

SHEET = 7.5  # width of a sheet in inches: that of an A4 page between its margins


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
            _show(axis, picture)
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
    _show(figure.subplots(), mosaic, frame=False)
    return figure


def polygons_over(
    rgb: npt.NDArray[np.uint8],
    polygons: Sequence[Polygon | MultiPolygon],
    ids: Sequence[int],
    legend: Legend,
    *,
    areas_m2: Sequence[float] | None = None,
    gsd_m: float | None = None,
    title: str = "",
) -> Figure:
    """Draw polygons over their image, with how many there are and how much ground they cover.

    Args:
        rgb: uint8, `(height, width, 3)`.
        polygons: In pixels `(column, row)` counted from the outer corner of the first pixel; holes stay open.
        ids: Class id of each polygon.
        legend: The classes.
        areas_m2: Area of each polygon in square metres; from `gsd_m` if None, and not shown without both.
        gsd_m: Side of a pixel in metres, which also gives a scale bar.
        title: Title of the picture.

    Returns:
        A figure for `save` or `png_bytes`.
    """
    height, width = rgb.shape[:2]
    if areas_m2 is None and gsd_m is not None:
        areas_m2 = [polygon.area * gsd_m**2 for polygon in polygons]
    chosen = [[at for at, id_ in enumerate(ids) if id_ == entry.id] for entry in legend]
    key = []
    for entry, drawn in zip(legend, chosen, strict=True):
        area = "" if areas_m2 is None else f" · {_area(sum(areas_m2[at] for at in drawn))}"
        key.append((f"{entry.name}: {len(drawn):,}{area}", entry.colour))
    across = min(SHEET, 8.5 * width / height)
    figure = blank(max(across, 3.2), across * height / width, title=title, key=key)
    axis = figure.subplots()
    _show(axis, _at_most(rgb, 1600), extent=(0, width, height, 0))
    for entry, drawn in zip(legend, chosen, strict=True):
        _draw_polygons(axis, [polygons[at] for at in drawn], entry.colour)
    axis.set(xlim=(0, width), ylim=(height, 0))
    if gsd_m is not None:
        _scale_bar(axis, width, height, gsd_m)
    return figure


def _at_most(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Shrink what is larger than can be seen."""
    factor = side / max(rgb.shape[:2])
    if factor >= 1:
        return rgb
    shrunk: npt.NDArray[np.uint8] = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return shrunk


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


def _show(axis: Axes, rgb: npt.NDArray[np.uint8], *, frame: bool = True, **settings: Any) -> None:
    axis.imshow(rgb, **settings)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=frame, color=BEST, linewidth=0.5)


def _area(square_metres: float) -> str:
    if square_metres < 10_000:
        return f"{square_metres:,.0f} m²"
    return f"{square_metres / 1e4:,.2f} ha" if square_metres < 1e6 else f"{square_metres / 1e6:,.2f} km²"


def _draw_polygons(axis: Axes, polygons: Sequence[Any], colour: str) -> None:
    """Draw all polygons of a class as one collection, holes left open."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba
    from matplotlib.path import Path as Outline

    outlines = []
    for polygon in polygons:
        rings = [
            np.asarray(ring.coords)[:, :2]
            for part in getattr(polygon, "geoms", [polygon])
            for ring in (part.exterior, *part.interiors)
            if len(ring.coords)
        ]
        if rings:
            outlines.append(Outline.make_compound_path(*(Outline(ring, closed=True) for ring in rings)))
    wide = 1.1 if len(outlines) < 400 else 0.7
    faces = to_rgba(colour, 0.2)
    axis.add_collection(PathCollection(outlines, facecolors=[faces], edgecolors=[colour], linewidths=wide))


def _scale_bar(axis: Axes, width: int, height: int, gsd_m: float) -> None:
    """Draw a bar of a round length, about a fifth of the width, in the lower left corner."""
    from matplotlib.patheffects import withStroke

    target = width * gsd_m / 5
    unit = 10.0 ** math.floor(math.log10(target))
    metres = unit * max(step for step in (1, 2, 5) if step * unit <= target)
    left, bottom, across = width * 0.03, height - width * 0.03, metres / gsd_m
    casing = [withStroke(linewidth=4, foreground="#00000099")]
    axis.plot(
        [left, left + across], [bottom] * 2, color="white", linewidth=2, path_effects=casing, solid_capstyle="butt"
    )
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    axis.text(
        left + across / 2, bottom - width * 0.012, text, color="white", ha="center", va="bottom", fontsize=SMALL,
        path_effects=[withStroke(linewidth=2, foreground="#000000AA")],
    )  # fmt: skip
