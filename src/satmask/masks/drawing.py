"""Masks and polygons drawn on an image: see-through fills, smooth lines, holes that stay holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.masks.classes import draw_order
from satmask.masks.tracing import outlines, rasterise
from satmask.pictures import layers, overlay

# Lines are placed to a sixteenth of a pixel.
SHIFT = 4


def contours(mask: np.ndarray) -> list[shapely.Polygon]:
    """Trace the outlines of a mask through the middles of its pixels' edges: no stairs along slanted sides.

    `polygonise` follows the edges themselves. Of both, `rasterise` gives the mask back exactly.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.

    Returns:
        One polygon, with its holes, for each group of pixels that share edges; an island in a hole is a polygon too.

    Examples:
        >>> contours(np.array([[0, 0], [0, 1]]))[0].area
        0.5
    """
    polygons, _ = outlines((np.asarray(mask) != 0).astype(np.int32))
    rings, owners = shapely.get_rings(polygons, return_index=True)
    points, ring_of = shapely.get_coordinates(shapely.segmentize(rings, 1.0), return_index=True)
    same = ring_of[1:] == ring_of[:-1]
    middles, ring_of = ((points[1:] + points[:-1]) / 2)[same], ring_of[1:][same]
    closed = shapely.linearrings(middles, indices=ring_of)
    return list(shapely.polygons(closed, indices=owners)) if len(owners) else []


def line_width(shape: Sequence[int]) -> int:
    """The width in pixels of lines that stay visible but fine when an image of this size is shown as a whole.

    Examples:
        >>> line_width((256, 256)), line_width((3392, 3348))
        (1, 6)
    """
    return max(round(max(shape[:2]) / 600), 1)


def draw_masks(
    rgb: np.ndarray,
    masks: np.ndarray,
    legend: Legend,
    *,
    alpha: float = 0.35,
    width: int | None = None,
    order: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw classes on an image in the legend's colours.

    The lines come above all fills, so that a covered class still shows.

    Args:
        rgb: uint8, `(height, width, 3)`; see `pictures.stretch`.
        masks: Class ids `(height, width)`, or a mask a class, `(height, width, classes)`.
        legend: The classes.
        alpha: Strength of the fills, 0 to 1.
        width: Width of the lines in pixels, 0 for none; what suits the image's size by default.
        order: Class ids in draw order, see `masks.draw_order`.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.

    Raises:
        SettingError: If masks and image differ in size, or a setting can't be used.
    """
    spread = layers(np.asarray(masks), legend)
    _check(rgb, spread, alpha, width)
    lines = [contours(spread[..., channel]) for channel in range(len(legend))] if width != 0 else []
    return _draw(rgb, spread, lines, legend, alpha=alpha, width=width, order=order)


def draw_polygons(
    rgb: np.ndarray,
    polygons: Sequence[BaseGeometry],
    labels: Sequence[int],
    legend: Legend,
    *,
    alpha: float = 0.35,
    width: int | None = None,
    order: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw polygons on an image in the colours of their classes; holes are left free.

    Args:
        rgb: uint8, `(height, width, 3)`.
        polygons: shapely polygons in pixel coordinates.
        labels: Class id of each polygon.
        legend: The classes.
        alpha: See `draw_masks`.
        width: See `draw_masks`.
        order: See `draw_masks`.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.

    Raises:
        SettingError: If a label isn't in the legend, or there isn't one a polygon.
        DataError: If a coordinate isn't finite.
    """
    if len(labels) != len(polygons):
        msg = f"Polygons must have one label each, got {len(labels)} labels for {len(polygons)} polygons."
        raise SettingError(msg)
    lines: list[list[BaseGeometry]] = [[] for _ in legend]
    for polygon, label in zip(polygons, labels, strict=True):
        lines[legend.channel(int(label))].append(polygon)
    spread = np.stack([rasterise(group, *rgb.shape[:2]) != 0 for group in lines], axis=-1)
    _check(rgb, spread, alpha, width)
    return _draw(rgb, spread, lines, legend, alpha=alpha, width=width, order=order)


def _check(rgb: np.ndarray, masks: np.ndarray, alpha: float, width: int | None) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        msg = f"Image must be uint8 of (height, width, 3), got {rgb.dtype} of {rgb.shape}. Use pictures.stretch."
        raise SettingError(msg)
    if masks.shape[:2] != rgb.shape[:2]:
        msg = f"Mask must have the size of its image, {rgb.shape[:2]}, got {masks.shape[:2]}."
        raise SettingError(msg)
    if not 0 <= alpha <= 1 or (width or 0) < 0:
        msg = f"Alpha must lie in 0 to 1 and the width be 0 or more, got {alpha} and {width}."
        raise SettingError(msg)


def _draw(
    rgb: np.ndarray,
    masks: np.ndarray,
    lines: Sequence[Sequence[BaseGeometry]],
    legend: Legend,
    *,
    alpha: float,
    width: int | None,
    order: Sequence[int] | None,
) -> np.ndarray:
    channels = draw_order(legend, order)
    ordered = Legend(tuple(legend.classes[channel] for channel in channels), exclusive=legend.exclusive)
    # What was read band by band is laid out so in memory, which OpenCV cannot draw on.
    picture = np.ascontiguousarray(overlay(rgb, masks[..., channels], ordered, alpha=alpha, outline=False))
    thick = line_width(rgb.shape) if width is None else width
    settings: dict[str, Any] = {"isClosed": True, "thickness": thick, "lineType": cv2.LINE_AA, "shift": SHIFT}
    for channel in channels if thick and lines else ():
        cv2.polylines(picture, _fixed(lines[channel]), color=legend.classes[channel].rgb, **settings)
    return picture


def _fixed(polygons: Sequence[BaseGeometry]) -> list[np.ndarray]:
    """Rings as OpenCV wants them: whole numbers of sixteenths, counted from the first pixel's centre."""
    rings = shapely.get_rings(shapely.get_parts(list(polygons)))
    points, ring_of = shapely.get_coordinates(rings, return_index=True)
    fixed = np.rint((points - 0.5) * (1 << SHIFT)).clip(-(2**30), 2**30).astype(np.int32)
    return np.split(fixed, np.flatnonzero(ring_of[1:] != ring_of[:-1]) + 1) if len(fixed) else []
