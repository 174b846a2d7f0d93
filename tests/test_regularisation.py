"""Laws of regularisation: right angles, area and place kept, what has no right angles left alone, nothing done twice."""

import numpy as np
import pytest
import shapely
from shapely import affinity

from satmask.errors import SettingError
from satmask.masks import outlines, rasterise
from satmask.regularisation import iou_of, regularise
from satmask.squaring import find_corners, find_directions, flatten

RECTANGLE = shapely.box(0, 0, 48, 30)
ELL = shapely.Polygon([(0, 0), (60, 0), (60, 24), (26, 24), (26, 50), (0, 50)])
COURT = shapely.box(0, 0, 70, 60).difference(shapely.box(20, 18, 50, 42))


def traced(*shapes, size=110):
    """Polygons as a mask has them: drawn, and traced along pixels."""
    labels = rasterise(list(shapes), size, size, values=range(1, len(shapes) + 1)).astype(np.int32)
    polygons, values = outlines(labels)
    return polygons[np.argsort(values, kind="stable")]


def turned(shape, degrees):
    return affinity.translate(affinity.rotate(shape, degrees, origin="centroid"), 22.3, 24.8)


def turns(polygon):
    """Angles between the edges of all rings, in degrees from 0 to 90."""
    found = []
    for ring in shapely.get_rings(polygon):
        points = shapely.get_coordinates(ring)
        edges = np.diff(np.concatenate([points, points[1:2]]), axis=0) @ [1, 1j]
        found += (np.degrees(np.angle(edges[1:] / edges[:-1])) % 180).tolist()
    return np.array(found)


def scattered(seed, count=12):
    """Random rectangles and L-shapes of a mask, apart from each other."""
    random = np.random.default_rng(seed)
    shapes = []
    for place in range(count):
        shape = affinity.scale(ELL if random.random() < 0.5 else RECTANGLE, *random.uniform(0.4, 0.8, 2))
        shape = affinity.rotate(shape, random.uniform(0, 90), origin="centroid")
        x, y = shape.centroid.coords[0]
        shapes.append(affinity.translate(shape, 50 + 80 * (place % 4) - x, 50 + 80 * (place // 4) - y))
    return traced(*shapes, size=400)


@pytest.mark.parametrize("degrees", [0, 7, 19, 31, 45, 58, 74, 90])
@pytest.mark.parametrize(("shape", "corners"), [(RECTANGLE, 4), (ELL, 6), (COURT, 8)])
def test_drawn_at_any_angle_a_shape_comes_back_with_its_corners_and_area(shape, corners, degrees):
    true = turned(shape, degrees)
    result, squared = regularise(traced(true), tolerance=1.5)
    assert squared.all()
    assert shapely.get_num_coordinates(result[0]) - shapely.get_num_interior_rings(result[0]) - 1 == corners
    np.testing.assert_allclose(turns(result[0]), 90, atol=1e-6)
    assert result[0].area == pytest.approx(true.area, rel=0.03)
    assert iou_of(result, np.array([true]))[0] > 0.94


@pytest.mark.parametrize("min_iou", [0.75, 0.85, 0.95])
def test_no_outline_falls_below_the_floor_and_all_are_valid(min_iou):
    random = np.random.default_rng(3)
    blobs = [
        shapely.Point(*random.uniform(30, 370, 2)).buffer(random.uniform(5, 22), random.integers(1, 9))
        for _ in range(60)
    ]
    outlined = traced(*blobs, size=400)
    result, squared = regularise(outlined, tolerance=1.5, min_iou=min_iou)
    assert 0 < squared.sum() < len(squared)
    assert iou_of(result, outlined).min() >= min_iou
    assert shapely.is_valid(result).all()
    assert all(np.allclose(turns(polygon), 90, atol=1e-5) for polygon in result[squared])


def test_the_floor_holds_for_the_pixels_too():
    outlined = scattered(5)
    result, _ = regularise(outlined, tolerance=1.5, min_iou=0.85)
    drawn, mask = (rasterise(list(shapes), 400, 400) > 0 for shapes in (result, outlined))
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.93


def test_a_second_run_changes_nothing():
    once, squared = regularise(scattered(7), tolerance=1.5)
    twice, again = regularise(once, tolerance=1.5)
    assert squared.sum() > 6
    np.testing.assert_array_equal(squared, again)
    assert all(first is second for first, second in zip(once, twice, strict=True))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_the_grid_turns_the_result(quarters):
    outlined = scattered(11)
    rotated = shapely.transform(outlined, lambda points: points @ np.linalg.matrix_power([[0, 1], [-1, 0]], quarters))
    result, squared = regularise(outlined, tolerance=1.5)
    other, other_squared = regularise(rotated, tolerance=1.5)
    back = shapely.transform(other, lambda points: points @ np.linalg.matrix_power([[0, -1], [1, 0]], quarters))
    np.testing.assert_array_equal(squared, other_squared)
    assert iou_of(result, back).min() > 1 - 1e-9


def test_moving_far_away_moves_the_result():
    outlined = scattered(13)
    far = shapely.transform(outlined, lambda points: points * 0.5 + [500_000, 4_000_000])
    result, _ = regularise(outlined, tolerance=1.5)
    other, _ = regularise(far, tolerance=0.75)
    back = shapely.transform(other, lambda points: (points - [500_000, 4_000_000]) * 2)
    assert iou_of(result, back).min() > 1 - 1e-6


def test_what_is_round_or_tiny_survives():
    disc, speck = shapely.Point(55, 55).buffer(30), shapely.box(2, 2, 3, 3)
    outlined = traced(disc, speck)
    simple = shapely.simplify(outlined, 1)
    result, squared = regularise(outlined, tolerance=1.5, otherwise=simple)
    assert result[0] is simple[0]
    assert squared.tolist() == [False, True]
    assert result[1].equals(speck)
    assert not regularise(outlined[:1], tolerance=1.5, min_iou=0.5)[1].any()


def test_touching_houses_share_a_direction_and_no_area():
    row = [turned(shapely.box(x, 0, x + 18, 26 + x % 7), 24) for x in (0, 18, 36)]
    outlined = traced(*row)
    result, squared = regularise(outlined, tolerance=1.5)
    assert squared.any()
    assert shapely.is_valid(result).all()
    assert all(one.intersection(other).area < 1e-6 for at, one in enumerate(result) for other in result[:at])
    assert iou_of(result, np.array(row)).min() > 0.85
    edges = np.concatenate([np.diff(shapely.get_coordinates(one), axis=0) @ [1, 1j] for one in result[squared]])
    assert np.abs(np.angle((edges / edges[0]) ** 4)).max() < 1e-6


def test_other_geometries_pass_and_settings_are_checked():
    others = np.array([shapely.MultiPolygon([RECTANGLE]), shapely.Polygon(), None], object)
    result, squared = regularise(others, tolerance=1)
    assert not squared.any()
    assert all(one is other for one, other in zip(result, others, strict=True))
    assert len(regularise(np.array([], object), tolerance=1)[0]) == 0
    for settings in ({"tolerance": 0}, {"tolerance": 1, "min_iou": 2}, {"tolerance": 1, "otherwise": others[:1]}):
        with pytest.raises(SettingError):
            regularise(others, **settings)


def test_where_the_image_cuts_a_house_off_its_own_walls_say_its_direction():
    rings = flatten(traced(affinity.translate(affinity.rotate(shapely.box(0, 0, 50, 44), 30), 30, -24)))
    frame = np.array([0, 110, 110 + 110j, 110j])
    corners = find_corners(rings, 1.5)
    angles, _ = find_directions(rings, corners, np.zeros(1, int), frame=frame)
    blind, _ = find_directions(rings, corners, np.zeros(1, int))
    assert np.degrees(angles[0]) == pytest.approx(30, abs=3)
    assert abs(np.degrees(blind[0]) - 30) > 5
