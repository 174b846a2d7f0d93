"""What correcting labels begins with: the truth there is, else what the network proposes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import numpy as np
from shapely.geometry.base import BaseGeometry

from satmask.labels import Labels, PolygonLabels, Truth
from satmask.legend import Legend
from satmask.polygon_writer import stream_polygons
from satmask.polygons import place as to_ground
from satmask.viewing.outlines import outlines_of
from satmask.viewing.shelf import Place
from satmask.windows import Window

Status: TypeAlias = Literal["truth", "proposed", "accepted", "reshaped", "drawn", "ignored"]
Start: TypeAlias = tuple[BaseGeometry, int | None, Status]
"""A polygon in the scene's CRS, its class, and where it comes from."""


def starting_labels(place: Place, legend: Legend) -> list[Start]:
    """The labels of a place that nobody has corrected yet.

    Args:
        place: The place.
        legend: The classes.

    Returns:
        Its truth, masks being traced along their pixels; without truth what was predicted, as proposals; else none.
    """
    truth, predicted = place.first("truth"), place.first("polygons")
    if truth is not None and truth.labels is not None:
        labels = truth.labels
        found = _from_polygons(place, labels) if isinstance(labels, PolygonLabels) else _from_mask(place, labels)
        return [one for one in found if one[1] is None or one[1] in legend.ids]
    if predicted is None:
        return []
    outlines = outlines_of(place.view, predicted)
    shapes = to_ground(outlines.shapes, place.grid)
    return [
        (shape, legend.ids[channel], "proposed")
        for shape, channel in zip(shapes, outlines.channels.tolist(), strict=True)
        if channel >= 0
    ]


def _from_polygons(place: Place, labels: PolygonLabels) -> Iterator[Start]:
    shapes = to_ground(np.asarray([*labels.geometries, None], object)[:-1], place.grid)
    for shape, channel in zip(shapes, labels.channels, strict=True):
        yield (shape, None, "ignored") if channel < 0 else (shape, labels.legend.ids[channel], "truth")


def _from_mask(place: Place, labels: Labels) -> Iterator[Start]:
    """Trace each class by itself, for classes may overlap, and what isn't labelled."""
    for channel, entry in enumerate(labels.legend):
        if entry.id:
            for shape in _traced(place, labels, lambda truth, at=channel: truth.classes[..., at]):  # type: ignore[misc]
                yield shape, entry.id, "truth"
    for shape in _traced(place, labels, lambda truth: ~truth.labelled):
        yield shape, None, "ignored"


def _traced(place: Place, labels: Labels, mask: Callable[[Truth], np.ndarray]) -> Iterator[BaseGeometry]:
    def read(window: Window) -> tuple[np.ndarray, None]:
        return (mask(labels.read(window)) != 0).astype(np.uint8), None

    for frame in stream_polygons(read, place.grid, Legend.of({1: "here"})):
        yield from frame.geometry
