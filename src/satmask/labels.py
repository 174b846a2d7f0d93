"""Labels: the truth about a scene, from polygons or from a mask, read window by window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely

from satmask.masks import UNLABELLED, mask_codes, match, rasterise
from satmask.scene import open_scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

    from satmask.legend import Legend


NO_CLASS = UNLABELLED - 1
MANY = 64  # vertices from which a polygon is thinned out before it is drawn


@dataclass(frozen=True)
class Truth:
    """What a window's labels say.

    Attributes:
        classes: 1 where a pixel has the class, else 0, uint8, `(height, width, classes)`. Under an exclusive legend
            exactly one class is 1 wherever the pixel is labelled.
        labelled: False where nothing is known: outside the scene, unlabelled, or to be ignored. bool, `(height, width)`.
    """

    classes: np.ndarray
    labelled: np.ndarray


class Labels(Protocol):
    """Where truth comes from."""

    @property
    def legend(self) -> Legend:
        """The classes."""

    def read(self, window: Window) -> Truth:
        """Read the labels of a window; it may reach over the edge of the scene."""


@dataclass(frozen=True)
class PolygonLabels:
    """Labels drawn as polygons.

    A pixel belongs to the polygon that holds its centre. Under an exclusive legend a later polygon lies over an earlier
    one, and what no polygon covers has the class with id 0, or is unlabelled where the legend has none.

    Attributes:
        legend: The classes.
        shape: `(height, width)` of the scene, in pixels.
        geometries: Polygons in pixel coordinates (x is the column, y the row, of pixel corners), in draw order.
        channels: The channel of each polygon, or -1 for a region to be ignored.
    """

    legend: Legend
    shape: tuple[int, int]
    geometries: Sequence[BaseGeometry]
    channels: Sequence[int]

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(list(self.geometries))

    def read(self, window: Window) -> Truth:
        """Draw the polygons that touch a window."""
        inside = window.clip(*self.shape)
        classes = np.zeros((window.height, window.width, len(self.legend)), np.uint8)
        labelled = np.zeros((window.height, window.width), bool)
        here = inside.seen_from(window).slices
        labelled[here] = True
        if inside.height and inside.width:
            classes[here], ignored = self._draw(inside)
            labelled[here] = ~ignored
        if self.legend.exclusive:
            self._fill_background(classes, labelled)
        return Truth(classes, labelled)

    def _draw(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
        found = sorted(self._tree.query(box)) if len(self.geometries) else []
        classes = np.zeros((window.height, window.width, len(self.legend)), np.uint8)
        ignored = np.zeros((window.height, window.width), bool)
        for channel in sorted({self.channels[index] for index in found}):
            shapes = [self.geometries[index] for index in found if self.channels[index] == channel]
            if channel < 0:
                ignored |= draw(shapes, window) > 0
            else:
                classes[..., channel] = draw(shapes, window)
        if self.legend.exclusive and found:
            order = draw([self.geometries[index] for index in found], window, values=list(range(1, len(found) + 1)))
            top = np.asarray([-1, *(self.channels[index] for index in found)])[order]
            classes = (top[..., None] == np.arange(len(self.legend))).astype(np.uint8)
        return classes, ignored

    def _fill_background(self, classes: np.ndarray, labelled: np.ndarray) -> None:
        empty = ~classes.any(axis=-1)
        if 0 in self.legend.ids:
            classes[empty & labelled, self.legend.channel(0)] = 1
        else:
            labelled[empty] = False


def choose_classes(labels: Labels, legend: Legend) -> Labels:
    """The same labels with some of their classes only.

    Args:
        labels: The labels; their classes may overlap.
        legend: What `labels.legend.subset` gave.
    """
    if not isinstance(labels, PolygonLabels):
        return _SomeLabels(labels, legend)
    new = {labels.legend.channel(id_): channel for channel, id_ in enumerate(legend.ids)} | {-1: -1}
    kept = [place for place, channel in enumerate(labels.channels) if channel in new]
    geometries = [labels.geometries[place] for place in kept]
    return PolygonLabels(legend, labels.shape, geometries, [new[labels.channels[place]] for place in kept])


@dataclass(frozen=True)
class _SomeLabels:
    """Some classes of labels whose classes may overlap."""

    labels: Labels
    legend: Legend

    def read(self, window: Window) -> Truth:
        """Read the labels of a window."""
        truth = self.labels.read(window)
        channels = [self.labels.legend.channel(id_) for id_ in self.legend.ids]
        return Truth(truth.classes[..., channels], truth.labelled)


def draw(shapes: Sequence[BaseGeometry], window: Window, values: Sequence[int] | None = None) -> np.ndarray:
    """Rasterise polygons given in pixel coordinates of the scene over one window, see `masks.rasterise`."""
    shapes = [thin(shape, window) if shapely.get_num_coordinates(shape) > MANY else shape for shape in shapes]
    moved = shapely.transform(shapes, lambda points: points - (window.column, window.row))
    return rasterise(list(moved), window.height, window.width, values=values)


def thin(shape: BaseGeometry, window: Window) -> BaseGeometry:
    """Leave out vertices of a polygon that can't matter inside a window, so that drawing it takes less time.

    Of vertices in a row that all lie left of the window, or all right, above or below, the first and the last are kept:
    the edge that takes their place is as far outside, and closes with theirs an area that isn't seen. What crosses the
    window keeps its very coordinates, so the mask is the same to the pixel.

    Args:
        shape: A polygon or several, valid or not, in pixel coordinates of the scene.
        window: The window.

    Returns:
        A shape that looks the same inside the window.
    """
    parts = shapely.get_parts(shape)
    rings, owners = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    beyond = _beyond(points, window)
    # Rings end where they began, and are never joined.
    first, last = np.diff(ring, prepend=-1) > 0, np.diff(ring, append=ring[-1] + 1 if len(ring) else 0) > 0
    same_before = ~first & (beyond == np.roll(beyond, 1))
    same_after = ~last & (beyond == np.roll(beyond, -1))
    kept = ~((beyond > 0) & same_before & same_after)
    counts = np.bincount(ring[kept], minlength=len(rings))
    # Two points and the way back enclose nothing.
    whole = counts >= 4
    kept &= whole[ring]
    left = shapely.linearrings(points[kept], indices=(np.cumsum(whole) - 1)[ring[kept]]) if kept.any() else []
    belongs = owners[whole]
    return shapely.MultiPolygon(
        [
            shapely.Polygon(mine[0], mine[1:])
            for owner in np.unique(belongs)
            for mine in [np.asarray(left, object)[belongs == owner]]
        ]
    )


def _beyond(points: np.ndarray, window: Window) -> np.ndarray:
    """Where vertices lie outside a window, by a pixel and more: 1 left, 2 right, 3 above, 4 below; else 0."""
    x, y = points.T
    sides = [
        x < window.column - 1,
        x > window.column + window.width + 1,
        y < window.row - 1,
        y > window.row + window.height + 1,
    ]
    return np.select(sides, [1, 2, 3, 4], default=0)


@dataclass(frozen=True)
class MaskLabels:
    """Labels given as a raster of class ids or of colours, on the grid of the scene.

    Ids and colours that the legend doesn't know are unlabelled. Under a legend of overlapping classes id 0 (or black)
    means "labelled, no class".

    Attributes:
        legend: The classes.
        path: The raster: one band of class ids or palette indexes, or red, green and blue.
        colours: Whether classes are told by colour rather than by id.
        lookup: Class id of other values found in the file, such as `((255, 1),)`.
    """

    legend: Legend
    path: Path
    colours: bool = False
    lookup: tuple[tuple[int, int], ...] = ()

    def read(self, window: Window) -> Truth:
        """Read the labels of a window; it may reach over the edge of the mask."""
        channels = np.full((window.height, window.width), UNLABELLED, np.int32)
        mask = open_scene(self.path)
        inside = window.clip(*mask.shape)
        if inside.height and inside.width:
            channels[inside.seen_from(window).slices] = match(
                mask_codes(mask, inside, colours=self.colours), self.known
            )
        classes = (channels[..., None] == np.arange(len(self.legend))).astype(np.uint8)
        return Truth(classes, channels != UNLABELLED)

    @cached_property
    def known(self) -> dict[int, int]:
        """Channel of each value of the mask, or colour as 0xRRGGBB, or `NO_CLASS`; what isn't here is unlabelled."""
        codes = [int(entry.colour[1:], 16) for entry in self.legend] if self.colours else self.legend.ids
        known = dict(zip(codes, range(len(codes)), strict=True))
        if not self.legend.exclusive:
            known.setdefault(0, NO_CLASS)
        return known | {value: known[id_] for value, id_ in self.lookup if id_ in known}
