"""Mirrored edges: a scene continued beyond its edges, for networks that never learned what an edge looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from satmask.scene import Pixels
from satmask.windows import Tile, Window

if TYPE_CHECKING:
    from satmask.scene import Imagery


def read_mirrored(scene: Imagery, window: Window) -> Pixels:
    """Read a window that may reach over the scene's edges; what lies beyond them is the scene, mirrored at its last pixel.

    Args:
        scene: The scene.
        window: Any window, however far away.

    Returns:
        Its pixels: nodata is mirrored as nodata.

    Raises:
        SceneError: If the scene can't be decoded.

    Examples:
        >>> with Scene("scene.tif") as scene:  # doctest: +SKIP
        ...     pixels = read_mirrored(scene, Window(-16, -16, 256, 256))
    """
    height, width = scene.shape
    rows = _mirror(np.arange(window.row, window.row + window.height), height)
    columns = _mirror(np.arange(window.column, window.column + window.width), width)
    first, left = int(rows.min()), int(columns.min())
    held = scene.read(Window(first, left, int(rows.max()) + 1 - first, int(columns.max()) + 1 - left))
    place = np.ix_(rows - first, columns - left)
    return Pixels(held.values[place], held.valid[place])


def _mirror(places: np.ndarray, side: int) -> np.ndarray:
    """Places on an endless axis brought back into `side` pixels, without doubling the last one."""
    there = np.abs(places) % max(2 * side - 2, 1)
    return np.asarray(np.minimum(there, 2 * side - 2 - there))


def unframe(tile: Tile, margin: int, shape: tuple[int, int]) -> Tile:
    """Count a tile of the scene with `margin` mirrored pixels around it from the scene's own corner.

    Args:
        tile: A step of a cover of `(height + 2 · margin, width + 2 · margin)`.
        margin: Mirrored pixels on each side.
        shape: `(height, width)` of the scene.

    Returns:
        The tile; its core ends where the scene does, and may be empty.

    Examples:
        >>> unframe(Tile(Window(0, 0, 64, 64), Window(0, 0, 48, 48)), 16, (100, 100)).core
        Window(row=0, column=0, height=32, width=32)
    """
    return Tile(tile.read.moved(-margin, -margin), tile.core.moved(-margin, -margin).clip(*shape))
