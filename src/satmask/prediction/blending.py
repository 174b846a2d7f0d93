"""Blending: for networks that see a whole window at once, so that no halo makes windows exact.

Windows overlap by a quarter of their side, and what is said of a pixel is the mean over the windows that hold it, weighted
by a taper that falls towards a window's edge but never reaches zero, divided by the taper's sum. Each part of the scene is
computed from all windows that hold it, in row order, so that the order in which windows were run changes no byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from satmask.prediction.pieces import Piece
from satmask.windows import Tile, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from satmask.prediction.tiling import Tiling


def taper(size: int, ramp: int) -> np.ndarray:
    """Weight a window's pixels by how much to trust them.

    Networks see less context at the edge of a window.

    Args:
        size: Side of a window, in pixels.
        ramp: Pixels over which the weight climbs from each edge.

    Returns:
        Weights in (0, 1], float64, `(size,)`.

    Examples:
        >>> taper(6, 2).tolist()
        [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    places = np.arange(size)
    return np.minimum(np.minimum(places, size - 1 - places) + 1.0, max(ramp, 1)) / max(ramp, 1)


def cell_of(tiling: Tiling, number: int) -> Window:
    """The part of a scene that is known once a window and those before it in rows and columns are: up to the next windows."""
    row, column = divmod(number, tiling.columns)
    begin = tiling.steps[number].tile.core
    below = number + tiling.columns
    bottom = tiling.steps[below].tile.core.row if row + 1 < tiling.rows else tiling.shape[0]
    right = tiling.steps[number + 1].tile.core.column if column + 1 < tiling.columns else tiling.shape[1]
    return Window(begin.row, begin.column, bottom - begin.row, right - begin.column)


def blend(tiling: Tiling, number: int, said: Mapping[int, Piece]) -> Piece:
    """Blend what the network says of a cell.

    Args:
        tiling: The windows.
        number: The cell's, see `cell_of`.
        said: Pieces by number: those of `overlapping`.

    Returns:
        The cell's piece.
    """
    cell = cell_of(tiling, number)
    pieces = [said[other] for other in overlapping(tiling, number) if other in said]
    probabilities = np.empty((cell.height, cell.width, pieces[0].probabilities.shape[-1]), np.float32)
    weights = [_weights(tiling, piece, cell) for piece in pieces]
    for channel in range(probabilities.shape[-1]):
        total, sums = np.zeros(cell_shape(cell)), np.zeros(cell_shape(cell))
        for piece, (common, weight) in zip(pieces, weights, strict=True):
            here, there = common.seen_from(cell).slices, common.seen_from(piece.tile.core).slices
            sums[here] += piece.probabilities[there][..., channel] * weight
            total[here] += weight
        probabilities[..., channel] = sums / total
    return Piece(Tile(cell, cell), probabilities, ~np.isnan(probabilities[..., 0]))


def cell_shape(cell: Window) -> tuple[int, int]:
    """`(height, width)`."""
    return cell.height, cell.width


def overlapping(tiling: Tiling, number: int) -> list[int]:
    """Numbers of the windows that hold some of a cell, in row order; none comes after the cell's own."""
    row, column = divmod(number, tiling.columns)
    cell = cell_of(tiling, number)
    rows = [at for at in range(row + 1) if tiling.steps[at * tiling.columns + column].tile.core.shared_with(cell)]
    columns = [at for at in range(column + 1) if tiling.steps[row * tiling.columns + at].tile.core.shared_with(cell)]
    return [at * tiling.columns + beside for at in rows for beside in columns]


def _weights(tiling: Tiling, piece: Piece, cell: Window) -> tuple[Window, np.ndarray]:
    """What a window and a cell share, and the taper there."""
    common = piece.tile.core.shared_with(cell)
    assert common is not None  # noqa: S101  # only windows that hold some of the cell are asked
    inside = common.seen_from(piece.tile.read)
    tall, wide = tiling.side
    rows = taper(tall, tall // 4)[inside.slices[0]]
    columns = taper(wide, wide // 4)[inside.slices[1]]
    return common, np.outer(rows, columns)
