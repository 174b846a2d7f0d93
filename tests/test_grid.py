"""Laws of grids, with rasterio and pyproj as oracles."""

import math

import pytest
from affine import Affine
from pyproj import CRS, Geod, Transformer
from rasterio import windows
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.windows import Window

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

UTM = CRS("EPSG:32633")
TRANSFORMS = {
    "north-up": Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000),
    "south-up": Affine(0.5, 0, 500_000, 0, 0.5, 4_000_000),
    "rotated": Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    "oblong": Affine(2, 0, 500_000, 0, -0.125, 4_000_000),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("window", [Window(10, 20, 30, 40), Window(-5, -7, 9, 300), Window(99, 199, 1, 1)])
def test_part_is_where_rasterio_says(name, window):
    grid = Grid(100, 200, TRANSFORMS[name], UTM)
    part = grid.part(window)
    place = windows.Window(window.column, window.row, window.width, window.height)
    assert part.transform.almost_equals(windows.transform(place, grid.transform), 1e-6)
    assert (part.shape, part.crs) == ((window.height, window.width), UTM)
    # The same ground point, whether counted from the part or from the whole.
    assert part.transform @ (3, 4) == pytest.approx(grid.transform @ (window.column + 3, window.row + 4))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_bounds_are_those_of_rasterio(name):
    west, south, east, north = array_bounds(100, 200, TRANSFORMS[name])
    want = (min(west, east), min(south, north), max(west, east), max(south, north))
    assert Grid(100, 200, TRANSFORMS[name], UTM).bounds == pytest.approx(want)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_ground_sampling_distance_of_projected_metres(name):
    # At the central meridian UTM shrinks distances by 0.9996.
    assert Grid(100, 200, TRANSFORMS[name], UTM).gsd_m == pytest.approx(0.5 / 0.9996, rel=1e-5)


@pytest.mark.parametrize("latitude", [0, 27.6, 60, -60])
def test_a_web_mercator_pixel_is_measured_on_the_ground(latitude):
    mercator = CRS("EPSG:3857")
    x, y = Transformer.from_crs("EPSG:4326", mercator, always_xy=True).transform(12, latitude)
    gsd_m = Grid(10, 10, Affine(1, 0, x - 5, 0, -1, y + 5), mercator).gsd_m
    assert gsd_m == pytest.approx(math.cos(math.radians(latitude)), rel=4e-3)


def test_a_degree_is_as_wide_as_the_geodesic_says():
    side = 1e-5
    grid = Grid(8, 8, Affine(side, 0, 10 - 4 * side, 0, -side, 45 + 4 * side), CRS("EPSG:4326"))
    geod = Geod(ellps="WGS84")
    east, north = geod.inv(10, 45, 10 + side, 45)[2], geod.inv(10, 45, 10, 45 + side)[2]
    assert grid.gsd_m == pytest.approx(math.sqrt(east * north), rel=1e-4)


def test_feet_are_turned_into_metres():
    assert Grid(9, 9, Affine(1, 0, 6e6, 0, -1, 2e6), CRS("EPSG:2229")).gsd_m == pytest.approx(0.3048, rel=1e-3)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_degrees_are_those_of_rasterio(name):
    grid = Grid(100, 200, TRANSFORMS[name], UTM)
    assert grid.degrees == pytest.approx(transform_bounds("EPSG:32633", "EPSG:4326", *grid.bounds), abs=1e-7)


@pytest.mark.parametrize("crs", [None, CRS('LOCAL_CS["plan", UNIT["metre", 1]]')], ids=["none", "local"])
def test_without_a_place_nothing_is_claimed(crs):
    grid = Grid(5, 5, Affine.identity(), crs)
    assert (grid.gsd_m, grid.degrees) == (None, None)


def test_off_the_earth_nothing_is_claimed():
    grid = Grid(5, 5, Affine(1, 0, 1e30, 0, -1, 1e30), UTM)
    assert (grid.gsd_m, grid.degrees) == (None, None)


@pytest.mark.parametrize("setting", [(0, 5, Affine.identity()), (5, 0, Affine.identity()), (5, 5, Affine.scale(0, 1))])
def test_what_is_no_grid_is_refused(setting):
    with pytest.raises(SettingError, match="got"):
        Grid(*setting)
