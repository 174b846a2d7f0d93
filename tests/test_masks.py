"""Laws of masks and polygons: one rasterising rule, and exact outlines."""

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate

from satmask.errors import DataError, SettingError
from satmask.masks import polygonise, rasterise


def random_polygons(random, count=9, side=60):
    boxes = [shapely.box(x, y, x + w, y + h) for x, y, w, h in random.uniform(1, side, (count, 4)) * [1, 1, 0.4, 0.4]]
    yards = [box.difference(box.buffer(-(box.area**0.5) / 4)) for box in boxes]
    return [rotate(yard, angle) for yard, angle in zip(yards, random.uniform(0, 90, count), strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre(seed):
    polygons = random_polygons(np.random.default_rng(seed))
    rows, columns = np.mgrid[:50, :70] + 0.5
    expected = np.zeros((50, 70), int)
    for value, polygon in enumerate(polygons, start=1):
        expected[shapely.contains_xy(polygon, columns, rows)] = value
    drawn = rasterise(polygons, 50, 70, values=range(1, len(polygons) + 1))
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("seed", range(5))
def test_coco_rings_are_drawn_as_the_same_polygons_are(seed):
    polygons = [shapely.Polygon(yard.exterior) for yard in random_polygons(np.random.default_rng(seed))]
    rings = [shapely.get_coordinates(polygon).ravel().tolist() for polygon in polygons]
    expected = rasterise(polygons, 50, 70)
    np.testing.assert_array_equal(rasterise(rings, 50, 70), expected)
    np.testing.assert_array_equal(rasterise([[ring] for ring in rings], 50, 70), expected)
    np.testing.assert_array_equal(rasterise([ring[:-2] for ring in rings], 50, 70), expected)
    np.testing.assert_array_equal(rasterise([rings], 50, 70), expected)
    np.testing.assert_array_equal(rasterise([shapely.MultiPolygon(polygons)], 50, 70), expected)
    np.testing.assert_array_equal(rasterise([np.array(ring) for ring in rings], 50, 70), expected)
    mixed = [ring if index % 2 else polygon for index, (ring, polygon) in enumerate(zip(rings, polygons, strict=True))]
    order = range(1, len(mixed) + 1)
    np.testing.assert_array_equal(rasterise(mixed, 50, 70, values=order), rasterise(rings, 50, 70, values=order))


@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 17)])
def test_polygonising_and_rasterising_gives_the_mask_back(shape, density):
    for seed in range(20):
        mask = np.random.default_rng(seed).random(shape) < density
        polygons = polygonise(mask)
        assert all(polygon.is_valid for polygon in polygons)
        np.testing.assert_array_equal(rasterise(polygons, *shape), mask)
        np.testing.assert_array_equal(rasterise(polygonise(mask, connectivity=8), *shape), mask)


def test_connectivity_decides_whether_corners_join():
    mask = np.eye(3)
    assert [len(polygonise(mask)), len(polygonise(mask, connectivity=8))] == [3, 1]


def test_values_choose_a_type_that_holds_them():
    dtypes = [rasterise([[0, 0, 1, 0, 1, 1, 0, 1]], 1, 1, values=[value]).dtype for value in (255, 256, 70_000, -1)]
    assert dtypes == [np.uint8, np.uint16, np.int32, np.int32]


def test_what_covers_no_centre_leaves_no_trace():
    assert not rasterise([[1, 1, 5, 5], shapely.Polygon(), [[]], []], 8, 8).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 3e9])
def test_strange_coordinates_are_refused_by_name(value):
    with np.errstate(invalid="ignore"):
        polygon = shapely.Polygon([(0, 0), (value, 0), (5, 5)])
    for outline in ([0, 0, value, 0, 5, 5], polygon):
        with pytest.raises(DataError, match="in polygon 1"):
            rasterise([[0, 0, 1, 0, 1, 1], outline], 8, 8)
    for ring in ([0, 0, 1, 0, 1], [0, 0, 1, "0", 1, 1], [0.5, 0, 10**400, 0, 1, 1]):
        with pytest.raises(DataError, match="x and y in turn"):
            rasterise([ring], 8, 8)
    with pytest.raises(SettingError, match="one value each"):
        rasterise([[0, 0, 1, 0, 1, 1]], 8, 8, values=[1, 2])


@pytest.mark.parametrize("seed", range(5))
def test_masks_of_polygons_with_holes_come_back_from_their_outlines(seed):
    mask = rasterise(random_polygons(np.random.default_rng(seed), count=20), 50, 70)
    outlined = polygonise(mask)
    assert sum(len(polygon.interiors) for polygon in outlined) > 3
    np.testing.assert_array_equal(rasterise(outlined, 50, 70), mask)
