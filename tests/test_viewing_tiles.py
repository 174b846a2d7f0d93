"""Map tiles: what GDAL warps by itself, what labels are where their windows are read, and no more than is allowed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS
from rasterio.warp import Resampling, reproject

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.pictures import ERRORS
from satmask.polygons import find_polygons, write_polygons
from satmask.viewing.files import NotFoundError
from satmask.viewing.map_view import CIRCUMFERENCE, MapView
from satmask.viewing.shelf import open_shelf
from satmask.viewing.styles import TileStyle
from satmask.viewing.tile_server import TileCache, TileServer
from satmask.viewing.tiles import render_tile
from satmask.windows import Window
from viewed import LEGEND, UTM, blobs, pixels_of, tiles_of, write_mask, write_prediction, write_raster

pytest.importorskip("rio_tiler", reason="Map tiles need rio-tiler: pip install 'satmask[view]'.")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

TURNED = UTM @ Affine.rotation(25)
SOUTH_UP = Affine(10, 0, 500_000, 0, 10, 3_990_000)
MERCATOR = Affine(10, 0, 1_500_000, 0, -10, 5_000_000)
PLACES = {
    "UTM": ("EPSG:32633", UTM),
    "turned": ("EPSG:32633", TURNED),
    "south up": ("EPSG:32633", SOUTH_UP),
    "degrees": ("EPSG:4326", Affine(0.0001, 0, 15, 0, -0.0001, 36)),
    "mercator": ("EPSG:3857", MERCATOR),
    "mercator, south up": ("EPSG:3857", Affine(10, 0, 1_500_000, 0, 10, 5_000_000)),
    "polar": ("EPSG:3413", Affine(100, 0, -1_500_000, 0, -100, -1_500_000)),
}


def warped(path, tile, resampling=Resampling.nearest):
    """A tile as GDAL warps it by itself: values and where there are any."""
    zoom, column, row = tile
    side = CIRCUMFERENCE / 2**zoom
    here = Affine(side / 256, 0, column * side - CIRCUMFERENCE / 2, 0, -side / 256, CIRCUMFERENCE / 2 - row * side)
    with rasterio.open(path) as file:
        values = np.zeros((file.count, 256, 256), file.dtypes[0])
        known = np.zeros((256, 256), np.uint8)
        place = {"src_crs": file.crs, "src_transform": file.transform, "dst_crs": "EPSG:3857", "dst_transform": here}
        for index in file.indexes:
            reproject(file.read(index), values[index - 1], resampling=resampling, **place)
        reproject(np.full(file.shape, 255, np.uint8), known, resampling=Resampling.nearest, **place)
    return np.moveaxis(values, 0, -1), known > 0


@pytest.mark.parametrize("place", PLACES)
def test_tiles_are_what_gdal_warps(tmp_path, place):
    crs, transform = PLACES[place]
    values = np.random.default_rng(1).integers(1, 255, (200, 300, 3), dtype=np.uint8)
    path = write_raster(tmp_path / "town.tif", values, crs=crs, transform=transform)
    (shown,) = open_shelf(tmp_path).places
    assert shown.view.projection == "mercator"
    same = []
    for tile in tiles_of(shown.view, shown.view.max_zoom - 2)[:12]:
        found = pixels_of(render_tile(shown, shown.first("image"), tile))
        expected, known = warped(path, tile)
        # Where a pixel ends, GDAL's two ways differ by a rounding.
        same.append((found[..., :3] == expected).all(-1)[known & (found[..., 3] > 0)])
        assert ((found[..., 3] > 0) == known).mean() > 0.99
    assert np.concatenate(same).mean() > 0.98


def test_pixels_without_a_place_are_shown_as_they_are(tmp_path):
    values = np.random.default_rng(1).integers(0, 255, (300, 500, 3), dtype=np.uint8)
    write_raster(tmp_path / "photo.png", values, crs=None, driver="PNG")
    (shown,) = open_shelf(tmp_path).places
    assert (shown.view.projection, shown.view.native_zoom) == ("pixels", 1)
    picture = np.zeros((512, 512, 4), np.uint8)
    for zoom, column, row in tiles_of(shown.view, 1):
        here = np.s_[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
        picture[here] = pixels_of(render_tile(shown, shown.first("image"), (zoom, column, row)))
    np.testing.assert_array_equal(picture[:300, :500, :3], values)
    assert (picture[:300, :500, 3] == 255).all()
    assert not picture[300:].any()
    assert not picture[:, 500:].any()
    closer = pixels_of(render_tile(shown, shown.first("image"), (2, 0, 0)))
    np.testing.assert_array_equal(closer[..., :3], values[:128, :128].repeat(2, 0).repeat(2, 1))


def test_the_stretch_is_that_of_the_scene(tmp_path):
    values = np.arange(300 * 200, dtype=np.uint16).reshape(300, 200, 1)
    write_raster(tmp_path / "town.tif", np.repeat(values, 4, axis=2), crs=None)
    (shown,) = open_shelf(tmp_path).places
    style = TileStyle(bands=(3, 0, 1), percent=(0, 100))
    first, last = (pixels_of(render_tile(shown, shown.first("image"), (1, 0, row), style=style)) for row in (0, 1))
    expected = np.rint((values[..., 0] / (300 * 200 - 1)) * 255)
    np.testing.assert_allclose(first[:, :200, 0], expected[:256], atol=1)
    np.testing.assert_allclose(last[:44, :200, 0], expected[256:], atol=1)


def test_nodata_is_transparent(tmp_path):
    values = np.full((256, 256, 3), 90, np.uint16)
    values[:50] = 0
    values[60, :, 0] = 0  # of one band only: a value like others
    write_raster(tmp_path / "town.tif", values, crs=None, nodata=0)
    (shown,) = open_shelf(tmp_path).places
    alpha = pixels_of(render_tile(shown, shown.first("image"), (0, 0, 0)))[..., 3]
    assert not alpha[:50].any()
    assert (alpha[50:] == 255).all()


@pytest.fixture
def predicted(tmp_path):
    """A place of 256 × 256 pixels without a place on Earth, one tile, with all layers; probabilities, and truth."""
    said = blobs((256, 256))
    said[:20, :30] = np.nan
    classes = write_prediction(tmp_path, "town", said, crs=None)
    truth = np.roll(classes, 9, axis=1)
    truth[truth == LEGEND.nodata] = 0
    write_mask(tmp_path / "town_mask.tif", truth, crs=None)
    (shown,) = open_shelf(tmp_path).places
    return shown, said, classes, truth


def tile_of(shown, kind, **style):
    return pixels_of(render_tile(shown, shown.first(kind), (0, 0, 0), style=TileStyle(**style)))


def test_classes_have_their_colours_and_can_be_switched_off(predicted):
    shown, _, classes, _ = predicted
    for hidden in ((), (1,), (1, 2)):
        picture = tile_of(shown, "classes", hidden=hidden)
        for entry in LEGEND:
            here = classes == entry.id
            assert (picture[here][:, 3] == (0 if entry.id in hidden else 255)).all()
            assert entry.id in hidden or (picture[here][:, :3] == entry.rgb).all()
        assert not picture[(classes == 0) | (classes == LEGEND.nodata)].any()


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("class_id", [1, 2])
def test_a_threshold_shows_what_reaches_it(predicted, threshold, class_id):
    shown, said, *_ = predicted
    picture = tile_of(shown, "probabilities", class_id=class_id, threshold=threshold)
    reached = said[..., class_id - 1] >= np.float32(threshold)
    np.testing.assert_array_equal(picture[..., 3] > 0, reached)
    assert (picture[reached][:, :3] == LEGEND.classes[class_id - 1].rgb).all()


def test_grey_is_the_probability(predicted):
    shown, said, *_ = predicted
    picture = tile_of(shown, "probabilities", class_id=2, grey=True)
    known = np.isfinite(said).all(axis=-1)
    np.testing.assert_array_equal(picture[known][:, 0], np.rint(said[known][:, 1] * 255))
    np.testing.assert_array_equal(picture[..., 3] > 0, known)


def test_uncertainty_is_the_entropy_of_the_probabilities(predicted):
    from satmask.uncertainty import entropy

    shown, said, *_ = predicted
    picture = tile_of(shown, "uncertainty", grey=True)
    expected = entropy(said, exclusive=False)
    known = np.isfinite(expected)
    np.testing.assert_array_equal(picture[known][:, 0], np.rint(expected[known] * 255))


@pytest.mark.parametrize("class_id", [None, 1, 2])
def test_errors_are_what_truth_and_classes_differ_in(predicted, class_id):
    shown, _, classes, truth = predicted
    picture = tile_of(shown, "error", class_id=class_id)
    known = classes != LEGEND.nodata
    there, found = (truth > 0, classes > 0) if class_id is None else (truth == class_id, classes == class_id)
    right, wrong = there & found & (truth == classes), there & found & (truth != classes)
    kinds = dict(zip(ERRORS.values(), (right, found & ~there, there & ~found, wrong), strict=True))
    for colour, kind in kinds.items():
        rgb = tuple(bytes.fromhex(colour[1:]))
        np.testing.assert_array_equal((picture[..., :3] == rgb).all(-1) & (picture[..., 3] > 0), kind & known)
    np.testing.assert_array_equal(picture[..., 3] > 0, (there | found) & known)


@pytest.mark.parametrize("crs", [None, "EPSG:32633"])
def test_truth_from_polygons_is_drawn_as_from_their_mask(tmp_path, crs):
    ids = np.where(blobs((256, 256), side=32) > 0.6, (1, 2), 0).max(axis=-1).astype(np.uint8)
    for name in ("drawn", "masked"):
        write_raster(tmp_path / name / "town.tif", np.full((256, 256, 3), 90, np.uint8), crs=crs)
    grid = Grid(256, 256, UTM if crs else Affine.identity(), CRS(crs) if crs else None)
    write_polygons(find_polygons(ids, grid, LEGEND), tmp_path / "drawn" / "town.gpkg")
    write_mask(tmp_path / "masked" / "town_mask.tif", ids, crs=crs)
    drawn, masked = (open_shelf(tmp_path / name, legend=LEGEND).places[0] for name in ("drawn", "masked"))
    for tile in tiles_of(drawn.view, drawn.view.max_zoom - 2)[:6]:
        pictures = [pixels_of(render_tile(place, place.first("truth"), tile)) for place in (drawn, masked)]
        assert (pictures[0] == pictures[1]).all(-1).mean() > 0.995


def test_outlines_lie_where_polygons_end(predicted, tmp_path):
    _, _, classes, _ = predicted
    write_polygons(find_polygons(classes, Grid(256, 256), LEGEND), tmp_path / "town.gpkg")
    (shown,) = open_shelf(tmp_path).places
    picture = tile_of(shown, "polygons")
    padded = np.pad(np.where(classes == LEGEND.nodata, 0, classes), 2, mode="edge").astype(int)
    near = np.max([np.abs(padded[2:-2, 2:-2] - np.roll(padded, (y, x), (0, 1))[2:-2, 2:-2]) for y in (-2, -1, 1, 2) for x in (-2, -1, 0, 1, 2)], axis=0) > 0  # fmt: skip
    inner = np.s_[4:-4, 4:-4]
    assert picture[..., 3].any()
    assert near[inner][picture[inner][..., 3] > 0].mean() > 0.97
    assert not tile_of(shown, "polygons", hidden=(1, 2)).any()


# -- bounds ------------------------------------------------------------------------------------------------------------

ABUSE = [
    *[(zoom, 0, 0) for zoom in (-1, 26, 31, 64, 1000, -(10**9), 10**30)],
    *[(zoom, -1, 0) for zoom in range(4)],
    *[(zoom, 0, -1) for zoom in range(4)],
    *[(zoom, 2**zoom, 0) for zoom in range(4)],
    *[(zoom, 0, 2**zoom) for zoom in range(4)],
    *[(1, column, row) for column in (10**6, 10**12, 10**18, 10**40) for row in (0, -(10**18), 10**18, 10**40)],
    (0, 1, 0), (0, 0, 1), (3, 8, 7), (3, 7, 8),
]  # fmt: skip


@pytest.mark.parametrize("tile", ABUSE)
def test_tiles_that_arent_there_are_not_found(predicted, tile):
    shown, *_ = predicted
    server = TileServer()
    for kind in ("image", "classes", "error"):
        for ask in (render_tile, server.tile):
            with pytest.raises(NotFoundError) as refused:
                ask(shown, shown.first(kind), tile)
            assert str(refused.value) == str(NotFoundError())
    assert server.cache.bytes == 0


def test_styles_out_of_range_are_refused(predicted):
    shown, *_ = predicted
    for wrong in (
        {"threshold": 2},
        {"threshold": float("nan")},
        {"percent": (9, 1)},
        {"percent": (-1, 101)},
        {"bands": (0, -1, 0)},
    ):
        with pytest.raises(SettingError):
            TileStyle(**wrong)
    with pytest.raises(SettingError, match="Bands must lie in 0 to 2"):
        tile_of(shown, "image", bands=(0, 1, 3))
    with pytest.raises(SettingError, match="Class id"):
        tile_of(shown, "probabilities", class_id=77)


def test_a_huge_raster_without_overviews_has_no_coarse_tiles(tmp_path):
    side = 60_000
    settings = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8", "tiled": True}
    with rasterio.open(tmp_path / "a.tif", "w", sparse_ok=True, crs="EPSG:32633", transform=UTM, **settings):
        pass
    (shown,) = open_shelf(tmp_path).places
    assert shown.view.step(shown.view.min_zoom) <= 2**13 / 256 * 1.5
    assert shown.view.step(shown.view.min_zoom - 1) > 2**13 / 256 / 1.5
    with pytest.raises(NotFoundError):
        render_tile(shown, shown.first("image"), (0, 0, 0))


def test_a_raster_with_overviews_is_seen_whole(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.full((1000, 1200, 1), 70, np.uint8))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    (shown,) = open_shelf(tmp_path).places
    (tile, *_) = tiles_of(shown.view, shown.view.min_zoom)
    assert shown.view.step(shown.view.min_zoom) > 1000 / 512
    assert (pixels_of(render_tile(shown, shown.first("image"), tile))[..., 3] > 0).mean() > 0.02


def test_the_cache_is_bounded_and_keeps_what_was_asked_for_last():
    cache = TileCache(100)
    for number in range(10):
        cache.put(number, bytes(30))
        cache.get(0)
        assert cache.bytes <= 100
    assert cache.get(0) is not None
    assert cache.get(9) is not None
    assert cache.get(5) is None
    cache.put("large", bytes(101))
    assert cache.bytes == 0


def test_a_file_that_is_written_anew_is_drawn_anew(tmp_path):
    server = TileServer()
    for value in (50, 150):
        write_raster(tmp_path / "town.tif", np.full((256, 256, 3), value, np.uint8), crs=None)
        if value == 50:
            (shown,) = open_shelf(tmp_path).places
        assert (pixels_of(server.tile(shown, shown.first("image"), (0, 0, 0)))[..., 0] == value).all()


# -- the map -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [*PLACES, "nowhere", "across the antimeridian", "at the pole"])
def test_map_coordinates_lead_there_and_back(place):
    others = {
        "nowhere": (None, Affine.identity()),
        "across the antimeridian": ("EPSG:32660", Affine(1000, 0, 600_000, 0, -1000, 4_000_000)),
        "at the pole": ("EPSG:3413", Affine(1000, 0, -100_000, 0, -1000, 100_000)),
    }
    crs, transform = (PLACES | others)[place]
    view = MapView(Grid(200, 300, transform, CRS(crs) if crs else None))
    assert view.projection == ("pixels" if place in others else "mercator")
    points = np.array([(0, 0), (300, 0), (300, 200), (0, 200), (12.5, 77.25)])
    np.testing.assert_allclose(view.to_pixels(view.to_map(points)), points, atol=1e-4)
    (south, west), (north, east) = view.bounds
    inside = shapely.box(west, south, east, north).buffer((east - west) * 0.01)
    assert shapely.contains_xy(inside, *view.to_map(points).T).all()
    # A pixel of the native zoom is at least as fine as one of the scene.
    assert 0.4 < view.step(view.native_zoom) <= 1.2


# -- kinds of files ----------------------------------------------------------------------------------------------------


def test_strips_as_wide_as_the_scene_count_whole(tmp_path):
    settings = {"driver": "GTiff", "height": 40_000, "width": 40_000, "count": 1, "dtype": "uint8", "blockysize": 1}
    with rasterio.open(tmp_path / "a.tif", "w", sparse_ok=True, crs="EPSG:32633", transform=UTM, **settings):
        pass
    (shown,) = open_shelf(tmp_path).places
    coarsest = shown.view.step(shown.view.min_zoom)
    assert 256 * coarsest * 40_000 <= 2**26 * 1.5


def test_colours_of_a_palette_are_shown(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(16, 0).repeat(16, 1)
    path = write_raster(tmp_path / "town.tif", values, crs=None)
    colours = np.random.default_rng(0).integers(0, 255, (256, 3)).tolist()
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(colours)})
    (shown,) = open_shelf(tmp_path).places
    np.testing.assert_array_equal(tile_of(shown, "image")[..., :3], np.asarray(colours)[values])


def test_masks_of_colours_are_what_training_reads(data):
    names = ["building", "land", "road", "vegetation", "water"]
    codes = ["#3C1098", "#8429F6", "#6EC1E4", "#FEDD3A", "#E2A929"]
    legend = Legend.of(names, colours=dict(enumerate(codes)), exclusive=True)
    shown = open_shelf(data / "dubai", legend=legend).places[0]
    labels = shown.first("truth").labels
    for tile in tiles_of(shown.view, shown.view.native_zoom)[:4]:
        window = Window(tile[2] * 256, tile[1] * 256, 256, 256)
        truth, picture = labels.read(window), pixels_of(render_tile(shown, shown.first("truth"), tile))
        np.testing.assert_array_equal(picture[..., 3] > 0, truth.labelled)
        expected = np.asarray([entry.rgb for entry in legend])[truth.classes.argmax(-1)]
        np.testing.assert_array_equal(picture[truth.labelled][:, :3], expected[truth.labelled])


def test_a_mask_without_a_place_lies_where_its_scene_does(tmp_path):
    ids = (blobs((256, 256), side=32)[..., 0] > 0.5).astype(np.uint8)
    for name, crs in (("placed", "EPSG:32633"), ("not placed", None)):
        write_raster(tmp_path / name / "town.tif", np.full((256, 256, 3), 90, np.uint8))
        write_mask(tmp_path / name / "town_mask.tif", ids, crs=crs)
    one, other = (open_shelf(tmp_path / name).places[0] for name in ("placed", "not placed"))
    for tile in tiles_of(one.view, one.view.native_zoom):
        pictures = [pixels_of(render_tile(place, place.first("truth"), tile)) for place in (one, other)]
        assert (pictures[0] == pictures[1]).all(-1).mean() > 0.99
        assert pictures[0].any()


@pytest.mark.parametrize(
    "name",
    [
        "naip_4band_nodata",
        "worldview_vegas_uint16",
        "multispectral_float64",
        "cog_nodata_uint16",
        "gcps_only",
        "sentinel2_8band_uint16",
    ],
)
def test_real_files_are_shown(data, name):
    shown = next(place for place in open_shelf(data / "rasters").places if place.name == name)
    tiles = tiles_of(shown.view, shown.view.min_zoom)
    pictures = np.stack([pixels_of(render_tile(shown, shown.first("image"), tile)) for tile in tiles])
    seen = pictures[pictures[..., 3] > 0]
    assert len(seen) > 5000
    assert seen[:, :3].std() > 10


def test_threads_get_the_tiles_that_one_gets(predicted):
    shown, *_ = predicted
    asked = [
        (kind, TileStyle(threshold=number / 10)) for number in range(4) for kind in ("image", "probabilities", "error")
    ]
    expected = [render_tile(shown, shown.first(kind), (0, 0, 0), style=style) for kind, style in asked]
    server = TileServer()
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda one: server.tile(shown, shown.first(one[0]), (0, 0, 0), one[1]), asked * 3)
    assert list(found) == expected * 3


@pytest.mark.parametrize("place", [*PLACES, "nowhere"])
def test_near_infrared_that_is_called_alpha_hides_nothing(tmp_path, place):
    values = np.random.default_rng(1).integers(1, 255, (200, 250, 4), dtype=np.uint8)
    crs, transform = PLACES.get(place, (None, None))
    for name, called in (("plain", "unspecified"), ("alpha", "yes")):
        write_raster(tmp_path / f"{name}.tif", values, crs=crs, transform=transform, photometric="RGB", alpha=called)
    alpha, plain = open_shelf(tmp_path).places
    assert len(alpha.first("image").bands) == 4
    same, seen = [], []
    for zoom in (plain.view.native_zoom, plain.view.max_zoom - 2):
        for tile in tiles_of(plain.view, zoom)[:4]:
            style = TileStyle(bands=(3, 0, 1))
            found, expected = (
                pixels_of(render_tile(one, one.first("image"), tile, style=style)) for one in (alpha, plain)
            )
            both = (found[..., 3] > 0) & (expected[..., 3] > 0)
            seen.append((found[..., 3] > 0) == (expected[..., 3] > 0))
            same.append(np.abs(found.astype(int) - expected)[both].max(-1) == 0)
    assert np.mean(seen) > 0.99
    # Where pixels of the scene are blended the two ways differ.
    assert np.concatenate(same[-4:]).mean() > 0.97
