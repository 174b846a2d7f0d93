"""Small pictures of places on the map: a part of one tile each, which the server has or draws anyway."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from satmask.viewing.map_view import TILE

if TYPE_CHECKING:
    from satmask.viewing.findings import Finding
    from satmask.viewing.map_view import MapView

SIDE = 72
"""Of a thumbnail, in pixels."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A part of a tile.

    Attributes:
        tile: Zoom, column and row.
        left: Where it begins in the tile, from 0 to 256 - 72.
        top: The same from above.
    """

    tile: tuple[int, int, int]
    left: int
    top: int

    @property
    def style(self) -> str:
        """CSS that shows just that part of a tile's picture."""
        return f"object-fit: none; object-position: {-self.left}px {-self.top}px; width: {SIDE}px; height: {SIDE}px"


def thumbnail_of(view: MapView, finding: Finding) -> Thumbnail:
    """Choose the tile that shows a finding best: as large as it fits.

    Args:
        view: Where the place lies.
        finding: What is to be seen.
    """
    (south, west), (north, east) = finding.box
    corners = view.to_world(np.array([(west, north), (east, south), finding.point]))
    extent = max(float(np.ptp(corners[:2], axis=0).max()), 1e-12)
    zoom = min(max(math.floor(math.log2(SIDE * 0.7 / extent)), view.min_zoom), view.max_zoom)
    x, y = corners[2] * 2.0**zoom
    column, row = int(x // TILE), int(y // TILE)
    left, top = (int(min(max(value - SIDE / 2, 0), TILE - SIDE)) for value in (x - column * TILE, y - row * TILE))
    return Thumbnail((zoom, column, row), left, top)
