"""The synthetic town: the same every time, exact polygons, files that other libraries read."""

import hashlib
import json

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pycocotools import mask as coco_mask
from rasterio.features import rasterize

from satmask.datasets.town import BANDS, LEGEND, draw_town, write_scene, write_tiles
from satmask.datasets.town.light import Sun, shadows
from satmask.datasets.town.plan import plan_town
from satmask.errors import DataError, SettingError

SEEDS = (1, 2, 12)


@pytest.fixture(scope="module", params=SEEDS)
def town(request):
    return draw_town(360, 420, seed=request.param)


@pytest.fixture(scope="module")
def spectral():
    return draw_town(400, 400, seed=13, bands=8)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("tiles"), count=12, size=150, seed=3, classes=("building", "tree"))


def digest(town):
    shapes = b"".join(shapely.to_wkb(polygon) for _, polygon in town.features)
    return hashlib.sha256(town.image.tobytes() + shapes).hexdigest()


def test_same_arguments_same_bytes():
    assert digest(draw_town(90, 140, seed=5)) == digest(draw_town(90, 140, seed=5))
    assert digest(draw_town(90, 140, seed=5)) != digest(draw_town(90, 140, seed=6))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2), (33, 64)])
@pytest.mark.parametrize("bands", [3, 8])
def test_any_size(shape, bands):
    town = draw_town(*shape, seed=4, bands=bands)
    assert town.image.shape == (*shape, bands)
    assert town.image.dtype == (np.uint8 if bands == 3 else np.uint16)
    assert town.grid.shape == shape


@pytest.mark.parametrize("seed", range(12))
def test_small_towns_of_many_seeds_hold_the_rules(seed):
    town = draw_town(110, 140, seed=seed, gsd_m=2.0)
    for _, polygon in town.features:
        assert polygon.is_valid
        assert shapely.box(0, 0, 140, 110).covers(polygon)
    solid = town.polygons(1) + town.polygons(6)
    assert shapely.union_all(solid).area == pytest.approx(sum(polygon.area for polygon in solid), rel=1e-9)


@pytest.mark.parametrize(("seed", "what"), [(63, "cars"), (78, "crowns"), (82, "buildings")])
def test_what_is_absent_does_no_harm(seed, what):
    """Around a single spot of some seeds there is no car, no tree or no house."""
    assert not getattr(plan_town(0.5, 0.5, seed=seed), what)
    assert draw_town(1, 1, seed=seed).image.shape == (1, 1, 3)


def test_polygons_are_valid_and_inside(town):
    shapes = np.array([polygon for _, polygon in town.features])
    assert shapely.is_valid(shapes).all()
    assert (shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON).all()
    left, top, right, bottom = shapely.total_bounds(shapes)
    assert min(left, top) >= 0
    assert right <= 420
    assert bottom <= 360
    assert {id_ for id_, _ in town.features} <= set(LEGEND.ids)


def test_solid_things_do_not_overlap(town):
    solid = town.polygons(1) + town.polygons(6)
    together = shapely.union_all(solid).area
    assert together == pytest.approx(sum(polygon.area for polygon in solid), rel=1e-9)
    roads = shapely.union_all(town.polygons(2))
    assert shapely.union_all(town.polygons(1)).intersection(roads).area < 1e-6


def shrunk(town, class_id, distance):
    """Pixels well inside or, for a negative distance, close around a class's polygons."""
    shape = shapely.union_all(town.polygons(class_id)).buffer(-distance)
    return rasterize([shape], out_shape=town.grid.shape).astype(bool)


def test_outlines_lie_on_the_edges_of_roofs(town):
    """The image changes most where an outline is: moved by a pixel in any direction, the outline meets less change."""
    grey = cv2.GaussianBlur(town.image.mean(axis=2), (0, 0), 0.7)
    change = np.hypot(cv2.Sobel(grey, cv2.CV_64F, 1, 0), cv2.Sobel(grey, cv2.CV_64F, 0, 1)).astype(np.float32)
    rings = [shapely.segmentize(polygon.exterior, 0.5) for polygon in town.polygons(1)]
    x, y = shapely.get_coordinates(rings).T.astype(np.float32) - np.float32(0.5)
    inside = (x > 4) & (y > 4) & (x < 415) & (y < 355)

    def met(right, down):
        return cv2.remap(change, x[inside] + right, y[inside] + down, cv2.INTER_LINEAR).mean()

    assert all(met(*shift) < met(0, 0) for shift in [(1, 0), (-1, 0), (0, 1), (0, -1)])


def test_spectra_tell_materials_apart(spectral):
    image = spectral.image.astype(float)
    red, nir, green = image[..., BANDS.index("red")], image[..., BANDS.index("NIR1")], image[..., BANDS.index("green")]
    ndvi, ndwi = (nir - red) / (nir + red), (green - nir) / (green + nir)
    tree, roof, road = shrunk(spectral, 3, 1.0), shrunk(spectral, 1, 1.5), shrunk(spectral, 2, 1.5)
    assert np.median(ndvi[tree]) > 0.5
    assert np.median(ndvi[roof]) < 0.3
    assert np.median(ndvi[road & ~tree]) < 0.15
    water = shrunk(spectral, 5, 3.0) & ~spectral.truth(2) & ~spectral.truth(3)
    assert water.any()
    assert np.median(ndwi[water]) > 0.3
    assert np.median(ndwi[tree]) < 0


def test_values_fill_their_type_without_clipping(town, spectral):
    assert spectral.image.max() <= 2047
    assert np.mean(spectral.image == 2047) < 1e-3
    assert np.mean(town.image == 255) < 0.02
    assert np.mean(town.image == 0) < 0.02
    assert town.image.std() > 25


def test_rgb_and_8_bands_show_the_same_town():
    few, many = draw_town(200, 200, seed=9), draw_town(200, 200, seed=9, bands=8)
    assert [polygon.wkb for _, polygon in few.features] == [polygon.wkb for _, polygon in many.features]
    for position, name in enumerate(("red", "green", "blue")):
        other = many.image[..., BANDS.index(name)].ravel()
        assert np.corrcoef(few.image[..., position].ravel(), other)[0, 1] > 0.9


def test_shadow_is_as_long_as_height_and_sun_say():
    """A wall of height h throws a shadow of h / tan(elevation), away from the sun."""
    sun, height = Sun(azimuth=np.radians(180), elevation=np.radians(45)), np.zeros((80, 40), np.uint16)
    height[60, :] = 1000
    dark = shadows(height, sun, step_m=0.5)[:, 20]
    assert np.flatnonzero(dark).max() == 59
    assert dark.sum() == pytest.approx(10 / 0.5, abs=1)


@pytest.mark.parametrize("bands", [3, 8])
def test_scene_files_read_back(tmp_path, bands):
    town = draw_town(130, 170, seed=2, bands=bands)
    path = write_scene(town, tmp_path, "town")
    with rasterio.open(path) as scene:
        assert np.array_equal(np.moveaxis(scene.read(), 0, -1), town.image)
        assert scene.transform == town.grid.transform
        assert scene.crs.to_epsg() == 32631
        assert scene.tags()["SATMASK_SYNTHETIC"] == "YES"
        assert scene.descriptions == (("red", "green", "blue") if bands == 3 else BANDS)
        table = geopandas.read_file(path.with_suffix(".gpkg"), layer="labels")
        buildings = table.geometry[table["class"] == "building"]
        burnt = rasterize(buildings, out_shape=scene.shape, transform=scene.transform).astype(bool)
    assert table.crs.to_epsg() == 32631
    assert table["class_id"].tolist() == [id_ for id_, _ in town.features]
    assert np.mean(burnt != town.truth(1)) < 1e-4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["town.gpkg", "town.tif"]


def test_grid_is_in_metres():
    grid = draw_town(20, 20, gsd_m=0.3).grid
    assert grid.crs.axis_info[0].unit_name == "metre"
    assert (grid.transform.a, grid.transform.e) == (0.3, -0.3)


def load(folder, split):
    return json.loads((folder / split / "annotation.json").read_text())


@pytest.mark.parametrize("split", ["train", "val"])
def test_tiles_follow_the_challenge(tiles, split):
    content = load(tiles, split)
    assert [category["id"] for category in content["categories"]] == [100, 103]
    assert len(content["images"]) == {"train": 10, "val": 2}[split]
    for image in content["images"]:
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert cv2.imread(str(tiles / split / "images" / image["file_name"])).shape == (150, 150, 3)
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert len(set(ids)) == len(ids) > 0
    assert 0 not in ids


@pytest.mark.parametrize("split", ["train", "val"])
def test_annotations_agree_with_pycocotools(tiles, split):
    for annotation in load(tiles, split)["annotations"]:
        (ring,) = annotation["segmentation"]
        assert ring[:2] == ring[-2:]
        assert ring == [round(value) for value in ring]
        codes = coco_mask.merge(coco_mask.frPyObjects([ring], 150, 150))
        edge = shapely.Polygon(np.reshape(ring, (-1, 2))).length
        assert abs(int(coco_mask.area(codes)) - annotation["area"]) <= 0.75 * edge + 2
        left, top, width, height = annotation["bbox"]
        x, y = np.reshape(ring, (-1, 2)).T
        assert (left, top, left + width, top + height) == (x.min(), y.min(), x.max(), y.max())


def test_tiles_hold_the_same_buildings_as_their_town(tiles):
    """The first train tile is the top left corner of its town."""
    town = draw_town(600, 600, seed=6000, gsd_m=0.3)
    truth = town.truth(1)[:150, :150]
    entries = [a for a in load(tiles, "train")["annotations"] if a["image_id"] == 0 and a["category_id"] == 100]
    shapes = [shapely.Polygon(np.reshape(a["segmentation"][0], (-1, 2))) for a in entries]
    burnt = rasterize(shapes, out_shape=(150, 150)).astype(bool) if shapes else np.zeros((150, 150), bool)
    assert truth.any()
    assert (burnt & truth).sum() / (burnt | truth).sum() > 0.9
    tile = cv2.imread(str(tiles / "train" / "images" / "000000000000.jpg"))[..., ::-1].astype(int)
    assert np.abs(tile - town.image[:150, :150]).mean() < 6


def test_refusals(tiles):
    with pytest.raises(SettingError, match="3 or 8, got 4"):
        draw_town(10, 10, bands=4)
    with pytest.raises(SettingError, match="got 0 × 10"):
        draw_town(0, 10)
    with pytest.raises(SettingError, match="got 9"):
        draw_town(10, 10, gsd_m=9)
    with pytest.raises(SettingError, match="got 'castle'"):
        write_tiles(tiles, count=4, classes=("castle",))
    with pytest.raises(DataError, match="empty"):
        write_tiles(tiles, count=4)
