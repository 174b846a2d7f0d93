"""Pointing: everything that is known about a pixel, and the polygons that a part of the map shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import rasterio
import shapely

from satmask.opening import GDAL_ERRORS, undecodable
from satmask.uncertainty import entropy
from satmask.viewing.files import ShelfFile
from satmask.viewing.handles import HANDLES
from satmask.viewing.layers import Layer
from satmask.viewing.outlines import Outlines, outlines_of
from satmask.viewing.shelf import Place
from satmask.windows import Window

Box = tuple[tuple[float, float], tuple[float, float]]
"""South and west, north and east, in map coordinates."""
MOST_POLYGONS = 20
"""Polygons over a pixel that are told of."""


def describe(place: Place, lng: float, lat: float) -> dict[str, Any]:
    """Say everything that is known about a point.

    Args:
        place: The place.
        lng: Its first map coordinate: degrees east, or to the right.
        lat: Its second one: degrees north, or up.

    Returns:
        Plain values for JSON: `column` and `row`; `x`, `y` and `crs`, `longitude` and `latitude`, None where there are none;
        `inside`, whether the scene has such a pixel, and if so `bands` (values by name, None where there are none),
        `class`, `probabilities` by class, `uncertainty`, `truth` (a list of classes, None where nothing is known) and
        `polygons` (their attributes), each where the place has it.
    """
    column, row = place.view.to_pixels(np.array([[lng, lat]]))[0].tolist()
    facts = _coordinates(place, column, row, (lng, lat))
    facts["inside"] = inside = 0 <= column < place.grid.width and 0 <= row < place.grid.height
    if not inside:
        return facts
    at = Window(math.floor(row), math.floor(column), 1, 1)
    facts |= _of_rasters(place, at)
    truth = place.first("truth")
    if truth is not None and truth.labels is not None:
        found = truth.labels.read(at)
        names = np.asarray(truth.labels.legend.names)[found.classes[0, 0] != 0]
        facts["truth"] = names.tolist() if found.labelled[0, 0] else None
    if layer := place.first("polygons"):
        outlines = outlines_of(place.view, layer)
        facts["polygons"] = [_row(outlines, int(number)) for number in outlines.over(column, row)[:MOST_POLYGONS]]
    return facts


def features(place: Place, layer: Layer, *, box: Box | None = None, most: int = 2000) -> dict[str, Any]:
    """List the polygons of a layer as GeoJSON in map coordinates.

    Args:
        place: The place.
        layer: One of its layers of polygons or truth.
        box: Only those that touch it.
        most: How many at most, the largest first.

    Returns:
        A FeatureCollection; each feature's `id` is its number, its properties are its attributes. `left_out` says how many
        more there are.

    Raises:
        NotFoundError: If the layer has no polygons.
    """
    outlines = outlines_of(place.view, layer)
    numbers = np.arange(len(outlines.shapes))
    if box is not None:
        (south, west), (north, east) = box
        numbers = numbers[shapely.intersects(outlines.on_map, shapely.box(west, south, east, north))]
    left_out = max(len(numbers) - most, 0)
    if left_out:
        numbers = np.sort(numbers[np.argsort(-shapely.area(outlines.shapes[numbers]), kind="stable")[:most]])
    listed = [
        {
            "type": "Feature",
            "id": int(number),
            "geometry": shapely.geometry.mapping(outlines.on_map[number]),
            "properties": _row(outlines, int(number)) | {"class": _class(layer, int(outlines.channels[number]))},
        }
        for number in numbers
    ]
    return {"type": "FeatureCollection", "features": listed, "left_out": left_out}


def _coordinates(place: Place, column: float, row: float, point: tuple[float, float]) -> dict[str, Any]:
    grid = place.grid
    known = grid.crs is not None and math.isfinite(column) and math.isfinite(row)
    x, y = grid.transform @ (column, row) if known else (None, None)
    on_earth = place.view.projection == "mercator"
    code = grid.crs.to_authority() if grid.crs is not None else None
    return {
        "column": _plain(column),
        "row": _plain(row),
        "x": x,
        "y": y,
        "crs": ":".join(code) if code else grid.crs.name if grid.crs is not None else None,
        "longitude": point[0] if on_earth else None,
        "latitude": point[1] if on_earth else None,
    }


def _of_rasters(place: Place, at: Window) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for layer in place.layers:
        if layer.file is None or layer.kind not in ("image", "classes", "probabilities", "uncertainty"):
            continue
        values, known = _pixel(layer.file, at)
        named = {name: _plain(value) if known else None for name, value in zip(layer.bands, values, strict=True)}
        if layer.kind == "image":
            facts["bands"] = named
        elif layer.kind == "classes":
            facts["class"] = _class_of(layer, int(values[0])) if known else None
        elif layer.kind == "probabilities":
            facts["probabilities"] = {name.removesuffix(" probability"): value for name, value in named.items()}
            exclusive = layer.legend is not None and layer.legend.exclusive
            facts.setdefault("uncertainty", _plain(entropy(values[None], exclusive=exclusive)[0]) if known else None)
        else:
            facts["uncertainty"] = _plain(values[0]) if known else None
    return facts


def _pixel(file: ShelfFile, at: Window) -> tuple[np.ndarray, bool]:
    """Values of a pixel as they are in the file, and whether it has any."""
    window = rasterio.windows.Window(at.column, at.row, 1, 1)
    with HANDLES.use(file) as raster, rasterio.Env(**raster.options):
        try:
            values = raster.file.read(list(raster.indexes), window=window, masked=True)[:, 0, 0]
        except GDAL_ERRORS as error:
            raise undecodable(error, file.path) from error
    known = not np.ma.getmaskarray(values).all() and bool(np.isfinite(values.data).all())
    return np.asarray(values.data), known


def _class_of(layer: Layer, id_: int) -> str | None:
    legend = layer.legend
    return legend.names[legend.channel(id_)] if legend is not None and id_ in legend.ids else None


def _class(layer: Layer, channel: int) -> str | None:
    legend = layer.legend
    return legend.names[channel] if legend is not None and channel >= 0 else None


def _row(outlines: Outlines, number: int) -> dict[str, Any]:
    """What is known of a polygon, as plain values."""
    return {str(name): _plain(value) for name, value in outlines.rows.iloc[number].items()}


def _plain(value: Any) -> Any:
    """A number, a text or None, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
