"""Map tiles: any layer of a place as PNG pictures of 256 × 256 pixels, transparent where there is nothing.

What a tile costs is bounded whatever the file: it is read from overviews, and there are no tiles for which too many pixels
would have to be decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.errors import SettingError
from satmask.labels import NO_CLASS, MaskLabels, PolygonLabels
from satmask.masks import match
from satmask.scene import Scene
from satmask.stretching import display, stretch, value_range
from satmask.uncertainty import entropy
from satmask.viewing.files import NotFoundError
from satmask.viewing.layers import FileLabels, Layer
from satmask.viewing.map_view import TILE, MapView, Tile
from satmask.viewing.outlines import draw_labels, inside, outlines_of
from satmask.viewing.reading import read_tile
from satmask.viewing.shelf import Place
from satmask.viewing.styles import (
    NOTHING,
    UNKNOWN,
    TileStyle,
    paint_classes,
    paint_errors,
    paint_grey,
    paint_ramp,
    paint_reached,
)

__all__ = ["PLAIN", "TileStyle", "render_tile", "tile_channels"]

PROBABILITY, UNCERTAINTY = "viridis", "magma"
"""Colour maps of the two, by matplotlib's names."""
PLAIN = TileStyle()
LINE_PX = 2


def render_tile(place: Place, layer: Layer, tile: Tile, *, style: TileStyle = PLAIN) -> bytes:
    """Draw a map tile of a layer.

    Args:
        place: The place.
        layer: One of its layers.
        tile: Zoom, column and row.
        style: How to paint it.

    Returns:
        A PNG picture of 256 × 256 pixels with transparency.

    Raises:
        NotFoundError: If there is no such tile.
        SettingError: If the style names a band or a class that the layer hasn't.
        SceneError: If a file can't be read.
    """
    place.view.check(tile)
    picture = _PAINTERS[layer.kind](place.view, layer, tile, style)
    # Level 1 is nearly as small as the usual level 6, in a third of the time.
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()


def tile_channels(view: MapView, layer: Layer, tile: Tile) -> np.ndarray:
    """Which class a tile's pixels have, of a layer of classes or truth.

    Returns:
        Place of each pixel's class in the layer's legend, `NOTHING` or `UNKNOWN`, int, `(256, 256)`.
    """
    labels = layer.labels
    if isinstance(labels, PolygonLabels):
        return draw_labels(view, layer, labels, tile)
    if isinstance(labels, FileLabels) and isinstance(labels.labels, MaskLabels):
        return _mask_channels(view, layer, labels.labels, tile)
    if layer.file is None or layer.legend is None:
        raise NotFoundError
    legend = layer.legend
    values, valid = read_tile(view, layer.file, tile)
    found = match(values[..., 0].astype(np.int64), {id_: channel for channel, id_ in enumerate(legend.ids)})
    return np.where(valid & (values[..., 0] != legend.nodata), np.where(found >= 0, found, NOTHING), UNKNOWN)


def _mask_channels(view: MapView, layer: Layer, labels: MaskLabels, tile: Tile) -> np.ndarray:
    """Classes of a mask, whose nodata tag is left aside: it often names a class."""
    if layer.file is None:
        raise NotFoundError
    values, _ = read_tile(view, layer.file, tile)
    palette = _palette(layer, layer.stamp())
    if labels.colours and palette is not None:
        values = palette[values[..., 0]]
    codes = values.astype(np.int64)
    codes = codes[..., :3] @ np.array([1 << 16, 1 << 8, 1]) if labels.colours else codes[..., 0]
    found = match(codes, labels.known)
    seen = np.where(found >= 0, found, np.where(found == NO_CLASS, NOTHING, UNKNOWN))
    return np.where(inside(view, tile), seen, UNKNOWN)


def _image(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    if layer.file is None or layer.dtype is None:
        raise NotFoundError
    palette = _palette(layer, layer.stamp())
    if palette is not None:
        values, valid = read_tile(view, layer.file, tile, bands=[0])
        return _opaque(palette[values[..., 0]], valid)
    count = len(layer.bands)
    bands = style.bands or display(layer.dtype, np.zeros(count), np.zeros(count))[0]
    if max(bands) >= count:
        msg = f"Bands must lie in 0 to {count - 1}, got {bands}."
        raise SettingError(msg)
    # Each band is read once, in the file's order.
    wanted = sorted(set(bands))
    values, valid = read_tile(view, layer.file, tile, bands=wanted, smooth=True)
    shown: tuple[int, int, int] = tuple(wanted.index(band) for band in bands)  # type: ignore[assignment]
    if layer.dtype == np.uint8 and style.percent is None:
        return _opaque(values[..., shown], valid)
    low, high = _limits(layer, style.percent or (2, 98), layer.stamp())
    limits = low[list(bands)], high[list(bands)]
    return _opaque(stretch(values, valid=valid, bands=shown, limits=limits), valid)


@lru_cache(maxsize=256)
def _limits(layer: Layer, percent: tuple[float, float], stamp: object) -> tuple[np.ndarray, np.ndarray]:
    """Values shown as black and as white: of the scene, lest neighbouring tiles differ."""
    del stamp  # only tells old from new
    return value_range([_sample(layer)[None]], percent=percent)


def _sample(layer: Layer) -> np.ndarray:
    if layer.file is None:
        raise NotFoundError
    with layer.file.open(Scene, Scene.close) as scene:
        return scene.sample()


@lru_cache(maxsize=256)
def _palette(layer: Layer, stamp: object) -> np.ndarray | None:
    """Colours of a raster that has a table of them."""
    del stamp
    if layer.file is None:
        raise NotFoundError
    with layer.file.open(Scene, Scene.close) as scene:
        return scene.palette if scene.dtype == np.uint8 else None


def _classes(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    if layer.legend is None:
        return _image(view, layer, tile, style)
    return paint_classes(tile_channels(view, layer, tile), layer.legend, style.hidden)


def _probabilities(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    if layer.file is None:
        raise NotFoundError
    band = layer.band_of(style.class_id)
    values, valid = read_tile(view, layer.file, tile, bands=[band], smooth=True)
    if style.grey:
        return paint_grey(values[..., 0], valid)
    if style.threshold is not None:
        rgb = _rgb(layer, style.class_id)
        return paint_reached(values[..., 0], valid, style.threshold, rgb)
    return paint_ramp(values[..., 0], valid, PROBABILITY)


def _rgb(layer: Layer, class_id: int | None) -> tuple[int, int, int]:
    if layer.legend is None:
        return 0xD5, 0x5E, 0x00
    return layer.legend.classes[0 if class_id is None else layer.legend.channel(class_id)].rgb


def _uncertainty(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    source = layer if layer.file else layer.parts[0]
    if source.file is None:
        raise NotFoundError
    values, valid = read_tile(view, source.file, tile, smooth=True)
    exclusive = layer.legend is not None and layer.legend.exclusive
    shown = values[..., 0] if layer.file else entropy(values, exclusive=exclusive)
    return paint_grey(shown, valid) if style.grey else paint_ramp(shown, valid, UNCERTAINTY)


def _errors(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    said, true = layer.parts
    if said.legend is None or true.legend is None:
        raise NotFoundError
    # -1, the last, stands for nothing, and -2 for unknown.
    places = np.array([_place_of(id_, true) for id_ in said.legend.ids] + [UNKNOWN, NOTHING])
    there, found = tile_channels(view, true, tile), places[tile_channels(view, said, tile)]
    # What is drawn as "no class" needn't be told where it is seen and isn't.
    background = _place_of(0, true)
    if background >= 0:
        there, found = (np.where(side == background, NOTHING, side) for side in (there, found))
    channel = None if style.class_id is None else true.legend.channel(style.class_id)
    return paint_errors(there, found, channel)


def _place_of(id_: int, layer: Layer) -> int:
    return layer.legend.channel(id_) if layer.legend is not None and id_ in layer.legend.ids else NOTHING


def _polygons(view: MapView, layer: Layer, tile: Tile, style: TileStyle) -> np.ndarray:
    """Outlines in the colours of their classes; a dot where one is too small to have an outline."""
    outlines = outlines_of(view, layer)
    numbers, shapes = outlines.touching(tile, margin_px=LINE_PX)
    entries = [*(layer.legend or ()), None]  # the last one for polygons without a class
    picture = np.zeros((TILE, TILE, 4), np.uint8)
    corner = np.array([tile[1], tile[2]], np.float64) * TILE
    bounds = shapely.bounds(shapes).reshape(-1, 4) - np.tile(corner, 2)
    small = (bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0) < LINE_PX
    for channel in np.unique(outlines.channels[numbers]):
        entry = entries[channel]
        if entry is not None and entry.id in style.hidden:
            continue
        colour = (*(entry.rgb if entry else (255, 255, 255)), 255)
        mine = outlines.channels[numbers] == channel
        columns, rows = np.clip(np.rint(bounds[mine & small, :2]).astype(int), 0, TILE - 1).T
        picture[rows, columns] = colour
        rings = [_line(ring, corner) for shape in shapes[mine & ~small] for ring in _rings(shape)]
        cv2.polylines(picture, rings, isClosed=True, color=colour, thickness=LINE_PX, lineType=cv2.LINE_8, shift=4)
    return picture


def _rings(shape: BaseGeometry) -> list[BaseGeometry]:
    return [ring for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]


def _line(ring: BaseGeometry, corner: np.ndarray) -> np.ndarray:
    """A ring as OpenCV takes it, in sixteenths of a pixel; what lies far off is brought nearer, out of sight."""
    points = shapely.get_coordinates(ring) - corner
    return np.asarray(np.rint(np.clip(points, -1e6, 1e6) * 16), np.int32)


def _opaque(rgb: np.ndarray, valid: np.ndarray) -> np.ndarray:
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    return np.ascontiguousarray(
        np.concatenate([np.where(valid[..., None], rgb, 0).astype(np.uint8), alpha[..., None]], axis=-1)
    )


_PAINTERS: dict[str, Callable[[MapView, Layer, Tile, TileStyle], np.ndarray]] = {
    "image": _image,
    "classes": _classes,
    "truth": _classes,
    "probabilities": _probabilities,
    "uncertainty": _uncertainty,
    "error": _errors,
    "polygons": _polygons,
}
