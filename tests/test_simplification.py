"""Laws of simplification: shared borders stay shared, nothing is lost, all stays valid, vertices go."""

import cv2
import numpy as np
import pytest
import shapely

from satmask.errors import SettingError
from satmask.masks import outlines, rasterise
from satmask.simplification import match_borders, simplify


def land_cover(seed, size=120, classes=4):
    """Outlines of a map on which every pixel has a class."""
    random = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(random.normal(size=(size, size)).astype(np.float32), (0, 0), 9) for _ in range(classes)]
    return outlines(np.argmax(layers, axis=0).astype(np.int32) + 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [0, 1, 2, 6])
def test_shared_borders_have_neither_gaps_nor_overlaps(seed, tolerance):
    polygons, _ = land_cover(seed)
    simple = simplify(polygons, tolerance=tolerance)
    assert shapely.coverage_is_valid(simple)
    assert shapely.is_valid(simple).all()
    assert len(simple) == len(polygons)
    assert (shapely.area(simple) > 0).all()
    assert shapely.area(shapely.union_all(simple)) == pytest.approx(shapely.area(simple).sum(), rel=1e-9)


def test_vertices_go_and_the_map_stays():
    polygons, values = land_cover(5)
    mask = rasterise(list(polygons), 120, 120, values=values)
    counts, agreement = [], []
    for tolerance in (0, 1, 2, 4):
        simple = simplify(polygons, tolerance=tolerance)
        counts.append(shapely.get_num_coordinates(simple).sum())
        agreement.append((rasterise(list(simple), 120, 120, values=values) == mask).mean())
    assert counts == sorted(counts, reverse=True)
    assert counts[1] < counts[0] / 2
    assert agreement[0] == 1
    assert agreement[1] > 0.97
    assert agreement[3] > 0.93


def test_matching_changes_no_shape_and_makes_a_coverage():
    polygons, _ = land_cover(6)
    assert not shapely.coverage_is_valid(polygons)
    matched = match_borders(polygons, near=1e-6)
    assert shapely.coverage_is_valid(matched)
    assert shapely.equals(matched, polygons).all()
    again = match_borders(matched, near=1e-6)
    assert all(one is other for one, other in zip(matched, again, strict=True))


def test_borders_match_on_turned_grids_too():
    polygons, _ = land_cover(7, size=60)
    turned = shapely.transform(polygons, lambda points: points @ np.array([[0.26, 0.15], [0.15, -0.26]]) + [5e5, 4e6])
    simple = simplify(turned, tolerance=0.6)
    assert shapely.coverage_is_valid(simple)
    assert shapely.area(simple).sum() == pytest.approx(shapely.area(turned).sum(), rel=1e-6)


def test_tiny_and_lonely_objects_stay_as_they_are():
    tiny = shapely.box(1, 1, 3, 3)
    large, _ = outlines((np.hypot(*np.mgrid[-30:30, -30:30]) < 25).astype(np.int32))
    simple = simplify(np.array([tiny, *large]), tolerance=2)
    assert simple[0] is tiny
    assert shapely.get_num_coordinates(simple[1]) < shapely.get_num_coordinates(large[0]) / 3


def test_overlapping_polygons_and_strange_tolerances_are_refused():
    overlapping = np.array([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3)])
    with pytest.raises(SettingError, match="overlap"):
        simplify(overlapping, tolerance=1)
    with pytest.raises(SettingError, match="Tolerance"):
        simplify(overlapping[:1], tolerance=-1)
    assert len(simplify(np.array([], object), tolerance=1)) == 0
