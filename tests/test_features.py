"""Laws of features and their attributes: measured on the ground, every object accounted for, every step told."""

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Geod
from shapely import affinity

from satmask.attributes import ground_plane, measure_regions, orientations, true_perimeters
from satmask.cleaning import Cleaning
from satmask.errors import SettingError
from satmask.features import Shaping, find_features
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.masks import rasterise
from satmask.polygons import find_polygons, read_polygons, write_polygons

HOUSES = Legend.of(["house"])
UTM = Grid(200, 240, Affine(0.25, 0, 500_000, 0, -0.25, 4_000_000), CRS("EPSG:32633"))
GRIDS = [
    UTM,
    Grid(200, 240, Affine(0.5, 0, 1_100_000, 0, -0.5, 8_400_000), CRS("EPSG:3857")),
    Grid(200, 240, Affine(4e-6, 0, 10, 0, -2e-6, 60), CRS("EPSG:4326")),
    Grid(200, 240, UTM.transform @ Affine.rotation(33), CRS("EPSG:32633")),
]


def town(seed=1):
    """A mask of turned houses, a disc, and a speck; the houses' pixels."""
    random = np.random.default_rng(seed)
    shapes = []
    for place in range(8):
        house = affinity.rotate(shapely.box(0, 0, *random.uniform(24, 40, 2)), random.uniform(0, 90), origin="centroid")
        x, y = house.centroid.coords[0]
        shapes.append(affinity.translate(house, 35 + 55 * (place % 4) - x, 35 + 60 * (place // 4) - y))
    shapes += [shapely.Point(120, 165).buffer(20), shapely.box(2, 190, 4, 192)]
    return rasterise(shapes, 200, 240)


@pytest.mark.parametrize("grid", GRIDS)
def test_right_angles_are_right_angles_on_the_ground(grid):
    frame = find_features(town(), grid, HOUSES, shaping=Shaping(square=True)).frame
    geod = Geod(ellps="WGS84")
    assert frame["right_angles"].sum() >= 8
    for polygon in frame[frame["right_angles"]].to_crs("EPSG:4326").geometry:
        points = shapely.get_coordinates(polygon.exterior)
        azimuths = geod.inv(*points[:-1].T, *points[1:].T)[0]
        np.testing.assert_allclose(np.diff(azimuths) % 90 - 45, [45] * (len(azimuths) - 1), atol=90.1)
        turned = np.abs((np.diff(azimuths) + 45) % 90 - 45)
        assert turned.max() < 0.2


@pytest.mark.parametrize("grid", GRIDS)
def test_without_shaping_features_are_the_polygons(grid):
    mask = town(2)
    features = find_features(mask, grid, HOUSES)
    expected = find_polygons(mask, grid, HOUSES)
    np.testing.assert_array_equal(np.sort(features.frame["area_px"]), np.sort(expected["area_px"]))
    assert features.frame["area_m2"].sum() == pytest.approx(expected["area_m2"].sum(), rel=1e-9)
    assert features.frame.crs == grid.crs
    assert [step.name for step in features.steps] == ["traced"]
    assert features.steps[0].iou == 1


def test_every_step_accounts_for_its_objects_and_vertices_fall():
    mask = town(3)
    mask[32:39, 35:90] = 1  # grows two houses together
    shaping = Shaping(Cleaning(min_area_m2=2), separate_depth=0.5, simplify_m=0.4, square=True)
    features = find_features(mask, UTM, HOUSES, shaping=shaping)
    counts = {step.name: step.polygons for step in features.steps}
    vertices = [step.vertices for step in features.steps]
    assert list(counts) == ["traced", "cleaned", "separated", "simplified", "squared"]
    assert counts["cleaned"] == counts["traced"] - 1
    assert counts["separated"] > counts["cleaned"]
    assert counts["separated"] == counts["simplified"] == counts["squared"] == len(features.frame)
    assert vertices[4] < vertices[3] < vertices[2] / 2
    assert all(0.9 < step.iou <= 1 for step in features.steps)
    assert features.frame["area_px"].sum() == np.count_nonzero(mask) - 4
    assert features.frame.geometry.is_valid.all()


def test_overlapping_classes_are_shaped_apart():
    legend = Legend.of(["house", "garden"])
    masks = np.stack([town(4), np.ones((200, 240), np.uint8)], axis=-1).astype(bool)
    features = find_features(masks, UTM, legend, shaping=Shaping(simplify_m=0.3, square=True))
    assert (features.frame["class"] == "garden").sum() == 1
    assert features.frame["class_id"].is_monotonic_increasing
    assert features.steps[-1].iou > 0.95


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_probabilities_are_those_of_each_objects_pixels(dtype):
    mask = town(5)
    said = np.random.default_rng(5).random((200, 240, 1)).astype(np.float32)
    said = np.round(said * 255).astype(np.uint8) if dtype == np.uint8 else said
    frame = find_features(mask, UTM, HOUSES, probabilities=said).frame
    for row in frame.to_crs(UTM.crs).itertuples():
        pixels = shapely.affinity.affine_transform(row.geometry, [4, 0, 0, -4, -2_000_000, 16_000_000])
        inside = said[..., 0][rasterise([pixels], 200, 240) > 0] / (255 if dtype == np.uint8 else 1)
        assert row.mean_probability == pytest.approx(inside.mean(dtype=np.float64), rel=1e-6)
        assert row.min_probability == pytest.approx(inside.min(), rel=1e-6)


def test_lengths_are_those_of_the_ellipsoid():
    for grid in GRIDS:
        box = shapely.box(0, 0, 100, 60)
        a, b, c, d, e, f = tuple(grid.transform)[:6]
        placed = affinity.affine_transform(box, [a, b, d, e, c, f])
        plane = shapely.transform(box, lambda points, grid=grid: points @ ground_plane(grid))
        assert true_perimeters(np.array([placed]), grid.crs)[0] == pytest.approx(plane.length, rel=1e-3)
    assert np.isnan(true_perimeters(np.array([box]), None)).all()


@pytest.mark.parametrize("degrees", [0.0, 20.0, 75.0, 130.0, 179.0])
def test_orientation_is_the_bearing_of_the_longer_side(degrees):
    bar = affinity.rotate(shapely.box(-1, -9, 1, 9), -degrees, origin=(0, 0))
    assert orientations(np.array([bar]))[0] == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS)
def test_orientation_and_corners_are_those_on_the_ground(grid):
    ell = shapely.Polygon([(40, 20), (160, 20), (160, 40), (48, 40), (48, 60), (40, 60)])
    mask = rasterise([affinity.rotate(ell, 25, origin=(100, 40))], 200, 240)
    frame = find_features(mask, grid, HOUSES, shaping=Shaping(square=True)).frame
    points = shapely.get_coordinates(frame.to_crs("EPSG:4326").geometry.iloc[0])
    azimuths, _, lengths = Geod(ellps="WGS84").inv(*points[:-1].T, *points[1:].T)
    off = (frame["orientation_deg"].iloc[0] - azimuths[np.argmax(lengths)] + 90) % 180 - 90
    assert abs(off) < 0.2
    if grid.crs != CRS("EPSG:4326"):  # whose pixels are no squares on the ground
        assert len(points) == 7


def test_regions_know_whether_they_touch_the_edge():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 3], labels[4:6, 4:6], labels[8, 8], labels[3, 0] = 1, 2, 3, 4
    table = measure_regions(labels)
    assert table["touches_edge"].tolist() == [True, False, True, True]
    assert table["area_px"].tolist() == [1, 4, 1, 1]


def test_empty_images_have_no_features_and_types_survive_a_file(tmp_path):
    empty = find_features(
        np.zeros((20, 20), np.uint8), Grid(20, 20, UTM.transform, UTM.crs), HOUSES, shaping=Shaping(square=True)
    )
    assert len(empty.frame) == 0
    assert empty.steps[-1].iou == 1
    frame = find_features(town(), UTM, HOUSES).frame
    for suffix in (".shp", ".fgb"):
        assert set(read_polygons(write_polygons(frame, tmp_path / f"houses{suffix}"))) == set(frame)
    back = read_polygons(write_polygons(frame, tmp_path / "houses.gpkg"))
    assert back["touches_edge"].dtype.kind == "b"
    assert back["touches_edge"].tolist() == frame["touches_edge"].tolist()
    assert back.dtypes["class_id"] == np.int32


def test_settings_are_checked():
    with pytest.raises(SettingError, match="simplify_m"):
        Shaping(simplify_m=-1)
    with pytest.raises(SettingError, match="shape"):
        find_features(np.zeros((3, 3), np.uint8), UTM, HOUSES)
    with pytest.raises(SettingError, match="probabilities"):
        find_features(town(), UTM, HOUSES, shaping=Shaping(separate_by="probability", separate_depth=0.1))
