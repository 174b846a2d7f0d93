"""Areas on the ellipsoid: geodesics' own where edges are long, and where they are short better than those."""

import numpy as np
import pytest
import shapely
from pyproj import CRS, Geod, Transformer

from satmask.areas import SHORT_RAD, ring_areas
from satmask.polygons import true_areas

GEODS = [Geod(ellps="WGS84"), Geod(a=6371000.0, f=0.0), Geod(ellps="bessel")]


def rings(corners, geod):
    """Areas of rings, given as closed lists of longitude and latitude."""
    points = np.concatenate(corners)
    return ring_areas(points[:, 0], points[:, 1], np.cumsum([len(ring) for ring in corners]), geod)


def polygon(random, *, size, at=(30.0, 50.0)):
    angles, radii = np.sort(random.uniform(0, 2 * np.pi, 12)), random.uniform(0.3, 1, 12) * size
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None] + at
    return np.concatenate([ring, ring[:1]])


@pytest.mark.parametrize("geod", GEODS, ids=str)
@pytest.mark.parametrize("latitude", [0.0, 47.0, -89.0])
def test_small_rings_have_the_area_of_a_projection_made_for_each(geod, latitude):
    random = np.random.default_rng(1)
    corners = [polygon(random, size=size, at=(8.0, latitude)) for size in (3e-4, 1e-4, 3e-5) for _ in range(20)]
    plane = f"+proj=laea +lat_0={latitude} +lon_0=8 +a={geod.a} +b={geod.b}"
    flat = Transformer.from_crs(f"+proj=longlat +a={geod.a} +b={geod.b}", plane, always_xy=True)
    shapes = [shapely.Polygon(np.column_stack(flat.transform(*ring.T))) for ring in corners]
    found = rings(corners, geod)
    np.testing.assert_allclose(found, shapely.area(shapes), rtol=2e-8, atol=5e-8)
    # Geodesics err by some 1e-5 m², however small the ring is.
    np.testing.assert_allclose(found, [abs(geod.polygon_area_perimeter(*ring.T)[0]) for ring in corners], atol=2e-4)


@pytest.mark.parametrize("size", [0.1, 10])
def test_rings_with_long_edges_are_measured_by_geodesics(size):
    random = np.random.default_rng(1)
    corners = [polygon(random, size=size), polygon(random, size=3e-5), polygon(random, size=size, at=(180.0, 0.0))]
    expected = [abs(GEODS[0].polygon_area_perimeter(*ring.T)[0]) for ring in corners]
    assert np.degrees(SHORT_RAD) < size
    found = rings(corners, GEODS[0])
    assert found[[0, 2]].tolist() == [expected[0], expected[2]]


def test_pixels_of_one_projection_are_alike():
    """Scales differ by 5e-7 within 100 m here; geodesics differ by 1e-5 for pixels of 0.3 m."""
    boxes = np.array([shapely.box(x, y, x + 0.3, y + 0.3) for x in range(0, 100, 7) for y in range(0, 100, 7)])
    moved = shapely.transform(boxes, lambda points: np.add(points, (400_000, 4_600_000)))
    areas = true_areas(moved, CRS("EPSG:32637"))
    assert areas.max() / areas.min() < 1 + 1e-6
    whole = true_areas(np.array([shapely.box(400_000, 4_600_000, 400_060, 4_600_060)]), CRS("EPSG:32637"))
    assert areas.mean() / 0.09 == pytest.approx(whole[0] / 3600, rel=1e-6)


def test_what_a_projection_does_not_reach_has_no_area():
    polygons = np.array([shapely.box(0, 0, 1, 1), shapely.box(1e30, 0, 2e30, 1), shapely.box(5, 5, 6, 6)])
    areas = true_areas(polygons, CRS("EPSG:3035"))
    assert np.isnan(areas).tolist() == [False, True, False]
