"""Coordinates as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from satmask.viewing.shelf import Place


def said_coordinates(place: Place, lng: float, lat: float) -> str:
    """Say where a point of the map lies: in degrees, in the scene's CRS, and in pixels.

    Args:
        place: The place that the map shows.
        lng: Degrees east, or x of Leaflet's `CRS.Simple`.
        lat: Degrees north, or y of Leaflet's `CRS.Simple`.
    """
    column, row = (float(value) for value in place.view.to_pixels(np.array([[lng, lat]]))[0])
    if not np.isfinite((column, row)).all():
        return ""
    pixel = f"column {np.floor(column):.0f}, row {np.floor(row):.0f}"
    crs = place.grid.crs
    if crs is None or place.view.projection == "pixels":
        return pixel
    x, y = place.grid.transform @ (column, row)
    digits = 6 if crs.is_geographic else 1
    name = crs.to_string()
    return f"{_degrees(lat, 'NS')} {_degrees(lng, 'EW')} · {name[:24]} {x:.{digits}f}, {y:.{digits}f} · {pixel}"


def _degrees(value: float, sides: str) -> str:
    return f"{abs(value):.5f}° {sides[value < 0]}"
