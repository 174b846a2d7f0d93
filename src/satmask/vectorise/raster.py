"""Whole rasters to polygons: an array in memory, or one that is read window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from satmask.errors import SettingError
from satmask.vectorise.tracer import Traced, Tracer
from satmask.windows import Window

# Pixels that are worked on at a time where the caller doesn't say.
STRIP_PX = 1 << 21

# Labels of a window, or labels and values.
Read: TypeAlias = Callable[[Window], "np.ndarray | tuple[np.ndarray, np.ndarray]"]


def trace(labels: np.ndarray, values: np.ndarray | None = None, *, outside: int = 0) -> Traced:
    """Trace the outline of every group of pixels that share edges and a label, along the pixels' edges.

    Drawn again by the rule that a pixel belongs to the polygon that holds its centre, the polygons are the labels. They
    are valid: where two pixels of a region touch in just a corner, rings touch there but don't pass twice.

    Args:
        labels: Integers or bool, `(height, width)`.
        values: A value for each pixel, see `Tracer.add`.
        outside: Label of pixels that belong to no region.

    Returns:
        All regions.

    Raises:
        SettingError: If shapes or types aren't as they must be.

    Examples:
        >>> traced = trace(np.array([[4, 4, 0], [0, 4, 9]]))
        >>> traced.labels.tolist(), traced.areas_px.tolist(), traced.polygons[1].wkt
        ([4, 9], [3, 1], 'POLYGON ((2 1, 2 2, 3 2, 3 1, 2 1))')
    """
    if labels.ndim != 2:
        msg = f"Labels must have the shape (height, width), got {labels.shape}."
        raise SettingError(msg)
    height, width = labels.shape
    tracer = Tracer(max(width, 1), outside=outside)
    if not labels.size:
        return tracer.finish()
    rows = max(STRIP_PX // width, 1)
    parts = [
        tracer.add(labels[at : at + rows], None if values is None else values[at : at + rows])
        for at in range(0, height, rows)
    ]
    return Traced.join([*parts, tracer.finish()])


def trace_raster(
    read: Read, height: int, width: int, *, block: tuple[int, int] | None = None, outside: int = 0
) -> Iterator[Traced]:
    """Trace a raster of any size, block by block in row order.

    Memory is bounded by a row of blocks, and by the outlines of what isn't complete yet.

    Args:
        read: Gives a window's labels, or its labels and values as `Tracer.add` takes them.
        height: Rows of the raster.
        width: Columns of the raster.
        block: Rows and columns to read at a time; whole rows, some 2 megapixels, by default.
        outside: Label of pixels that belong to no region.

    Yields:
        Regions, those that are complete after each row of blocks. Joined, they are those of `trace`, whatever the blocks.

    Raises:
        SettingError: If blocks have no size, or shapes or types aren't as they must be.

    Examples:
        >>> labels = np.eye(3, dtype=np.uint8)
        >>> [len(part) for part in trace_raster(lambda window: labels[window.slices], 3, 3, block=(1, 2))]
        [0, 1, 1, 1]
    """
    rows, columns = block or (max(STRIP_PX // max(width, 1), 1), width)
    if min(rows, columns, height, width) < 1:
        msg = f"Blocks and rasters must have at least one pixel, got {rows} × {columns} of {height} × {width}."
        raise SettingError(msg)
    tracer = Tracer(width, outside=outside)
    for row in range(0, height, rows):
        tall = min(rows, height - row)
        windows = [Window(row, at, tall, min(columns, width - at)) for at in range(0, width, columns)]
        yield tracer.add(*_beside([read(window) for window in windows]))
    yield tracer.finish()


def _beside(parts: list[np.ndarray | tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Join what blocks of a row hold, labels and values."""
    layers = [part if isinstance(part, tuple) else (part,) for part in parts]
    return [np.concatenate(layer, axis=1) for layer in zip(*layers, strict=True)]
