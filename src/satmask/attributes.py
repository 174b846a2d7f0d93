"""Attributes: what a feature's row says of it, in true metres whatever the CRS."""

from __future__ import annotations

import numpy as np
import shapely
from pyproj import CRS, Geod, Transformer

from satmask.grid import Grid


def ground_plane(grid: Grid) -> np.ndarray:
    """Find the way from pixels to metres east and north, as it is in the middle of a grid.

    Shapes are worked on in this plane: right angles on the ground are right angles in it, which they aren't in degrees.

    Args:
        grid: Where the pixels lie.

    Returns:
        `(x, y)` of a step of one column and of one row, in metres: float64, `(2, 2)`, to be multiplied by from the right.
        Without a CRS that is tied to the earth, a pixel counts as a metre.

    Examples:
        >>> ground_plane(Grid(10, 10)).tolist()
        [[1.0, 0.0], [0.0, -1.0]]
    """
    geod = grid.crs.get_geod() if grid.crs is not None else None
    if geod is None or grid.crs is None or grid.gsd_m is None:
        return np.array([[1.0, 0.0], [0.0, -1.0]])
    column, row = grid.width / 2, grid.height / 2
    points = np.array([grid.transform @ (column + dx, row + dy) for dx, dy in ((0, 0), (1, 0), (0, 1))])
    to_degrees = Transformer.from_crs(grid.crs, grid.crs.geodetic_crs, always_xy=True)
    longitudes, latitudes = to_degrees.transform(points[:, 0], points[:, 1])
    azimuths, _, lengths = geod.inv([longitudes[0]] * 2, [latitudes[0]] * 2, longitudes[1:], latitudes[1:])
    angles = np.radians(azimuths)
    return np.asarray(np.column_stack([np.sin(angles), np.cos(angles)]) * np.asarray(lengths)[:, None])


def true_perimeters(polygons: np.ndarray, crs: CRS | None) -> np.ndarray:
    """Measure the outlines of polygons on the ellipsoid, holes included.

    Args:
        polygons: shapely polygons or multipolygons.
        crs: The CRS of their coordinates.

    Returns:
        Metres, float64, `(polygons,)`; NaN without a CRS that is tied to the earth.

    Examples:
        >>> kilometre = shapely.box(500_000, 4_000_000, 501_000, 4_001_000)
        >>> float(true_perimeters(np.array([kilometre]), CRS("EPSG:32633"))[0].round(-1))
        4000.0

    References:
        Karney, "Algorithms for geodesics", 2013, https://doi.org/10.1007/s00190-012-0578-z
    """
    geod: Geod | None = crs.get_geod() if crs is not None else None
    if geod is None or crs is None or crs.geodetic_crs is None:
        return np.full(len(polygons), np.nan)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    if not len(points):
        return np.zeros(len(polygons))
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    longitudes, latitudes = to_degrees.transform(points[:, 0], points[:, 1])
    _, _, lengths = geod.inv(longitudes[:-1], latitudes[:-1], longitudes[1:], latitudes[1:])
    mine = ring[1:] == ring[:-1]
    return np.bincount(owner[ring[1:][mine]], np.asarray(lengths)[mine], len(polygons))


def orientations(polygons: np.ndarray) -> np.ndarray:
    """Find which way polygons are long: the bearing of the longer side of the smallest rectangle around each.

    Args:
        polygons: shapely polygons in metres east and north, none empty.

    Returns:
        Degrees from north by east, 0 to below 180, float64; of a square, that of either side.

    Examples:
        >>> orientations(np.array([shapely.box(0, 0, 9, 1), shapely.box(0, 0, 1, 9)])).tolist()
        [90.0, 0.0]
    """
    if not len(polygons):
        return np.zeros(0)
    boxes = shapely.oriented_envelope(polygons)
    sides = np.array([shapely.get_coordinates(box)[1:3] - shapely.get_coordinates(box)[:2] for box in boxes])
    lengths = (sides**2).sum(-1)
    longer = np.where((lengths[:, 0] >= lengths[:, 1])[:, None], sides[:, 0], sides[:, 1])
    degrees = np.degrees(np.arctan2(longer[:, 0], longer[:, 1])) % 180
    return np.where(np.isclose(degrees, 180), 0.0, degrees)


def measure_regions(labels: np.ndarray, probabilities: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Measure the regions of an image by their pixels.

    Args:
        labels: Number of each pixel's region from 1, 0 outside; int32, `(height, width)`.
        probabilities: What the network said of the regions' class, `(height, width)`: 0 to 1 as floats, or 0 to the type's
            largest value as unsigned integers.

    Returns:
        `area_px` (int64), `mean_probability` and `min_probability` (float64, NaN without probabilities) and `touches_edge`
        (bool: a pixel lies at the image's edge, which may cut the region off), each with one entry a region.

    Examples:
        >>> table = measure_regions(np.array([[1, 0], [0, 0], [0, 0]], np.int32), np.full((3, 2), 0.75))
        >>> table["mean_probability"].tolist(), table["touches_edge"].tolist()
        ([0.75], [True])
    """
    count = int(labels.max(initial=0)) + 1
    edge = np.zeros(count, bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        edge[side] = True
    inside = labels > 0
    numbers = labels[inside]
    pixels = np.bincount(numbers, minlength=count)
    mean, least = np.full(count, np.nan), np.full(count, np.nan)
    if probabilities is not None:
        said = probabilities[inside].astype(np.float64)
        said /= np.iinfo(probabilities.dtype).max if probabilities.dtype.kind == "u" else 1
        least = np.full(count, np.inf)
        np.minimum.at(least, numbers, said)
        sums = np.bincount(numbers, said, count)
        mean = np.divide(sums, pixels, out=mean, where=pixels > 0)
    columns = {"area_px": pixels, "mean_probability": mean, "min_probability": least, "touches_edge": edge}
    return {name: values[1:] for name, values in columns.items()}
