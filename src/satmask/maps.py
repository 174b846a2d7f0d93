"""Polygons over their image, as a map: which class, how many, how much ground. Geometry in, figures out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import SHEET, SMALL, at_most, blank, percent, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from shapely import MultiPolygon, Polygon

    from satmask.legend import Legend


def polygons_over(
    rgb: npt.NDArray[np.uint8],
    polygons: Sequence[Polygon | MultiPolygon],
    ids: Sequence[int],
    legend: Legend,
    *,
    areas_m2: Sequence[float] | None = None,
    gsd_m: float | None = None,
    order: Sequence[int] | None = None,
    alpha: float = 0.25,
    title: str = "",
) -> Figure:
    """Draw polygons over their image, with how many there are and how much ground they cover.

    Fills let the image and each other through, and all outlines lie above all fills, so that no class hides another.

    Args:
        rgb: uint8, `(height, width, 3)`.
        polygons: In pixels `(column, row)` counted from the outer corner of the first pixel; holes stay open.
        ids: Class id of each polygon.
        legend: The classes.
        areas_m2: Area of each polygon in square metres; from `gsd_m` if None, and not shown without both.
        gsd_m: Side of a pixel in metres, which also gives a scale bar.
        order: Class ids from the lowest to the uppermost; those left out lie below. Where None, classes of large
            polygons lie below those of small ones, so that a car isn't lost under a field.
        alpha: Strength of the fills, 0 to 1; 0 draws outlines alone.
        title: Title of the picture.

    Returns:
        A figure for `figures.save` or `png_bytes`. Its key counts the polygons of each class, adds up their areas, and
        says their share of the image, where what two polygons cover counts twice.

    Raises:
        SettingError: If there isn't one id a polygon, the legend lacks an id, or `alpha` isn't between 0 and 1.
    """
    _check(polygons, ids, legend, order=order or (), alpha=alpha)
    height, width = rgb.shape[:2]
    if areas_m2 is None and gsd_m is not None:
        areas_m2 = [polygon.area * gsd_m**2 for polygon in polygons]
    sizes = np.array([polygon.area for polygon in polygons], np.float64)
    chosen = {entry.id: np.flatnonzero(np.asarray(ids) == entry.id).tolist() for entry in legend}
    key = []
    for entry in legend:
        drawn = chosen[entry.id]
        area = "" if areas_m2 is None else f" · {_area(sum(areas_m2[at] for at in drawn))}"
        key.append(
            (f"{entry.name}: {len(drawn):,}{area} · {percent(sizes[drawn].sum() / (height * width))}", entry.colour)
        )
    across = min(SHEET, 8.5 * width / height)
    figure = blank(max(across, 3.2), across * height / width, title=title, key=key)
    axis = figure.subplots()
    show(axis, at_most(rgb, 1600), extent=(0, width, height, 0))
    outlines = {id_: _outlines([polygons[at] for at in chosen[id_]]) for id_ in _stacked(chosen, sizes, order or ())}
    colours = {entry.id: entry.colour for entry in legend}
    for id_, shapes in outlines.items():
        _draw(axis, shapes, fill=colours[id_], alpha=alpha)
    for id_, shapes in outlines.items():
        _draw(axis, shapes, edge=colours[id_])
    axis.set(xlim=(0, width), ylim=(height, 0))
    if gsd_m is not None:
        _scale_bar(axis, width, height, gsd_m)
    return figure


def _check(polygons: Sequence[Any], ids: Sequence[int], legend: Legend, *, order: Sequence[int], alpha: float) -> None:
    if len(polygons) != len(ids):
        msg = f"Polygons must have a class id each, got {len(ids)} ids for {len(polygons)} polygons."
        raise SettingError(msg)
    if unknown := sorted({*ids, *order} - set(legend.ids)):
        msg = f"Class id must be one of {', '.join(map(str, legend.ids))}, got {unknown[0]}. Add it to the legend."
        raise SettingError(msg)
    if not 0 <= alpha <= 1:
        msg = f"Alpha must lie in 0 to 1, got {alpha}."
        raise SettingError(msg)


def _stacked(chosen: dict[int, list[int]], sizes: npt.NDArray[np.float64], order: Sequence[int]) -> list[int]:
    """Class ids from the lowest to the uppermost."""
    mean = {id_: float(sizes[drawn].mean()) for id_, drawn in chosen.items() if len(drawn)}
    by_size = sorted(mean, key=lambda id_: -mean[id_])
    return [id_ for id_ in by_size if id_ not in order] + [id_ for id_ in order if id_ in mean]


def _area(square_metres: float) -> str:
    if square_metres < 10_000:
        return f"{square_metres:,.0f} m²"
    return f"{square_metres / 1e4:,.2f} ha" if square_metres < 1e6 else f"{square_metres / 1e6:,.2f} km²"


def _outlines(polygons: Sequence[Any]) -> list[Any]:
    """Polygons as matplotlib's paths, holes left open."""
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
    return outlines


def _draw(axis: Axes, outlines: list[Any], *, fill: str = "none", edge: str = "none", alpha: float = 1) -> None:
    """Draw all polygons of a class as one collection."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba

    wide = 1.1 if len(outlines) < 400 else 0.7
    faces = [to_rgba(fill, 0 if fill == "none" else alpha)]
    axis.add_collection(PathCollection(outlines, facecolors=faces, edgecolors=[edge], linewidths=wide))


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
