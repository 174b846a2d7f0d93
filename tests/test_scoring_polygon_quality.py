"""Laws of polygon quality: plain loops over the published formulas say the same, and known shapes have known values."""

import itertools
import math

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, scale, translate

from satmask.errors import SettingError
from satmask.scoring.polygon_quality import c_iou, max_tangent_angle, polis


def house(random, corners=8):
    """A star-shaped polygon, with a hole in every second one."""
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(10, 20, corners)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1) + 30
    whole = shapely.Polygon(points).union(shapely.box(26, 26, 34, 34))
    return whole.difference(shapely.box(29, 29, 32, 32)) if random.random() < 0.5 else whole


def to_segment(point, start, end):
    """The point of a segment nearest to a point."""
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2
    share = ((point[0] - start[0]) * along[0] + (point[1] - start[1]) * along[1]) / length
    share = min(max(share, 0), 1)
    return start[0] + share * along[0], start[1] + share * along[1]


def rings(polygon):
    return [list(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]


def nearest(point, polygon):
    sides = [side for ring in rings(polygon) for side in itertools.pairwise(ring)]
    return min((to_segment(point, *side) for side in sides), key=lambda place: math.dist(point, place))


def plain_polis(one, other):
    total = 0
    for here, there in ((one, other), (other, one)):
        vertices = [point for ring in rings(here) for point in ring[:-1]]
        total += sum(math.dist(point, nearest(point, there)) for point in vertices) / (2 * len(vertices))
    return total


def plain_angle(truth, predicted):
    worst = float("nan")
    for ring in rings(predicted):
        points = []
        for start, end in itertools.pairwise(ring):
            count = max(1, round(math.dist(start, end) / 2))
            points += [
                (start[0] + k / count * (end[0] - start[0]), start[1] + k / count * (end[1] - start[1]))
                for k in range(count)
            ]
        points.append(ring[-1])
        for start, end in itertools.pairwise(points):
            from_, to = nearest(start, truth), nearest(end, truth)
            length, moved = math.dist(start, end), math.dist(from_, to)
            if length / 2 < moved < length * 2:
                product = (end[0] - start[0]) * (to[0] - from_[0]) + (end[1] - start[1]) * (to[1] - from_[1])
                angle = math.degrees(math.acos(min(abs(product) / length / moved, 1)))
                worst = angle if math.isnan(worst) else max(worst, angle)
    return worst


@pytest.mark.parametrize("seed", range(10))
def test_polis_and_angle_are_those_of_plain_loops(seed):
    random = np.random.default_rng(seed)
    truth = house(random)
    predicted = rotate(translate(truth, *random.normal(0, 1, 2)), random.normal(0, 4)).simplify(0.5)
    assert polis(truth, predicted) == pytest.approx(plain_polis(truth, predicted), abs=1e-9)
    assert max_tangent_angle(truth, predicted) == pytest.approx(plain_angle(truth, predicted), abs=1e-5)
    assert polis(truth, predicted) == polis(predicted, truth) > 0


def test_a_polygon_is_like_itself():
    shape = house(np.random.default_rng(1))
    assert c_iou(shape, shape) == pytest.approx(1)
    assert polis(shape, shape) == pytest.approx(0, abs=1e-9)
    assert max_tangent_angle(shape, shape) == pytest.approx(0, abs=1e-4)


def test_a_turned_house_is_turned_by_that_angle():
    truth = shapely.box(0, 0, 60, 30)
    turned = rotate(truth, 12)
    assert max_tangent_angle(truth, turned) >= 12 - 1e-9
    stairs = shapely.Polygon([(0, 0), (60, 0), (60, 20), (50, 20), (50, 30), (0, 30)])
    assert max_tangent_angle(stairs, stairs) == pytest.approx(0, abs=1e-6)


def test_steps_that_jump_to_the_other_side_do_not_count():
    """Along the middle of a house the nearest side changes from one step to the next, and nothing is said of its angle."""
    predicted = shapely.Polygon([(10, 9), (50, 11), (50, 20), (10, 20)])
    slope = math.degrees(math.atan2(2, 40))
    assert max_tangent_angle(shapely.box(0, 0, 60, 20), predicted) == pytest.approx(slope)


def test_vertices_cost_c_iou_but_not_polis():
    square = shapely.box(0, 0, 8, 8)
    more = shapely.segmentize(square, 4)
    assert c_iou(square, more) == pytest.approx(1 - 4 / 12)
    assert polis(square, more) == 0
    half = shapely.box(0, 0, 8, 4)
    assert c_iou(square, half) == pytest.approx(0.5)
    assert c_iou(square, translate(square, 9)) == 0


def test_units_are_those_of_the_coordinates():
    truth, predicted = shapely.box(0, 0, 9, 7), shapely.box(1, 0, 9, 8)
    larger = [scale(side, 3, 3, origin=(0, 0)) for side in (truth, predicted)]
    assert polis(*larger) == pytest.approx(3 * polis(truth, predicted))
    assert c_iou(*larger) == pytest.approx(c_iou(truth, predicted))
    assert max_tangent_angle(*larger, spacing=6) == pytest.approx(max_tangent_angle(truth, predicted))


def test_an_angle_that_nothing_tells_is_not_a_number():
    far = shapely.box(0, 0, 1, 1)
    assert math.isnan(max_tangent_angle(far, shapely.box(100, 100, 120, 120)))
    with pytest.raises(SettingError, match="Spacing must be above 0, got 0"):
        max_tangent_angle(far, far, spacing=0)
