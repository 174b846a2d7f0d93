"""Names of web-map tiles, which say where on Earth a tile lies."""

from __future__ import annotations

import math
import re

NAME = re.compile(r"(?:^|[-_. ])(\d+)([-_])(\d+)\2(\d+)$")


def tile_bounds(name: str) -> tuple[float, float, float, float] | None:
    """Read the place of a web-map tile from the end of its name, `…-x-y-zoom`.

    Numbers of another meaning, such as dates, seldom pass: zooms of 10 to 24, and no tile within 1.4° of the date line
    or beyond 84.5° north or south, where small numbers would point to.

    Args:
        name: Name of the image without suffix.

    Returns:
        West, south, east, north in degrees; None if the name isn't such a tile's.

    Examples:
        >>> [round(degrees, 4) for degrees in tile_bounds("zanzibar_tz-OAM-1277168-1083840-21")]
        [39.2404, -6.0424, 39.2406, -6.0422]
        >>> tile_bounds("scene-2019-10-12")

    References:
        Web-map tile numbering: https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames
    """
    found = NAME.search(name)
    if not found or len(found[4]) > 2 or not 10 <= int(found[4]) <= 24:
        return None
    x, y, tiles = int(found[1]), int(found[3]), 2 ** int(found[4])
    if not (tiles / 256 <= x < tiles * 255 / 256 and tiles / 64 <= y < tiles * 63 / 64):
        return None
    west, east = (360 * column / tiles - 180 for column in (x, x + 1))
    north, south = (math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / tiles)))) for row in (y, y + 1))
    return west, south, east, north
