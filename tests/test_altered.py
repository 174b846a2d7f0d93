"""Images seen otherwise: other pixels and other values, the same whatever window they are read with."""

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from satmask.altered import Mapped, Resampled, stretched, taps
from satmask.errors import SceneError, SettingError
from satmask.scene import Scene
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def write(path, values, **options):
    height, width, count = values.shape
    options = {"driver": "GTiff", "dtype": values.dtype, "crs": "EPSG:32633"} | options
    place = {} if "gcps" in options else {"transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}
    with rasterio.open(path, "w", height=height, width=width, count=count, **place, **options) as file:
        file.write(np.moveaxis(values, -1, 0))
    return path


def noise(shape=(97, 83, 3), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def whole(image):
    return image.read(Window(0, 0, *image.shape))


@pytest.mark.parametrize("shape", [(31, 20), (97, 83), (96, 84), (200, 311), (9, 300), (1, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_resampled_windows_are_parts_of_the_whole(tmp_path, shape, dtype):
    values = noise(dtype=dtype)
    values[20:33, 10:40] = 0
    values[50, 50] = 0
    with Resampled(Scene(write(tmp_path / "a.tif", values, nodata=0)), shape) as image:
        want, random = whole(image), np.random.default_rng(1)
        assert want.values.dtype == image.dtype == dtype
        for _ in range(12):
            row, column = (int(random.integers(-5, side)) for side in shape)
            window = Window(row, column, *(int(side) for side in random.integers(1, 60, 2)))
            found = image.read(window)
            inside = window.clip(*shape)
            here = inside.seen_from(window).slices
            assert (found.values[here] == want.values[inside.slices]).all()
            assert (found.valid[here] == want.valid[inside.slices]).all()
            assert found.valid.sum() == want.valid[inside.slices].sum()


def test_strips_change_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", noise(dtype=np.float32))
    with Resampled(Scene(path), (40, 31)) as image:
        want = whole(image).values
        monkeypatch.setattr("satmask.altered.STRIP_PIXELS", 500)
        assert (whole(image).values == want).all()


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_larger_pixels_are_means_as_of_opencv(tmp_path, factor):
    values = noise((60, 90, 3), np.float32)
    with Resampled(Scene(write(tmp_path / "a.tif", values)), (60 // factor, 90 // factor)) as image:
        want = cv2.resize(values, image.shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(whole(image).values - want).max() < 1e-3


def test_smaller_pixels_are_interpolated_as_by_opencv(tmp_path):
    values = noise((40, 50, 3), np.float32)
    with Resampled(Scene(write(tmp_path / "a.tif", values)), (160, 200)) as image:
        want = cv2.resize(values, (200, 160), interpolation=cv2.INTER_LINEAR)
        assert np.abs(whole(image).values - want).max() < 1e-3


@pytest.mark.parametrize(("old", "new"), [(100, 33), (100, 77), (10, 100), (7, 7), (1000, 3)])
def test_weights_sum_to_one_and_reach_everything(old, new):
    places, weights = taps(0, new, old, new)
    assert np.abs(weights.sum(axis=0) - 1).max() < 1e-5
    shares = np.zeros(old)
    np.add.at(shares, places.ravel(), weights.ravel())
    if new <= old:
        assert np.abs(shares - new / old).max() < 1e-5


def test_unknown_pixels_count_for_nothing(tmp_path):
    values = np.full((40, 40, 1), 100, np.uint8)
    values[:13] = 0
    with Resampled(Scene(write(tmp_path / "a.tif", values, nodata=0)), (10, 10)) as image:
        pixels = whole(image)
    # Row 3 covers rows 12 to 15, of which one is unknown.
    assert pixels.valid.all(axis=1).tolist() == [False] * 3 + [True] * 7
    assert (pixels.values[pixels.valid] == 100).all()
    assert (pixels.values[~pixels.valid] == 0).all()


def test_outer_corners_and_control_points_stay_where_they_are(tmp_path):
    with Scene(write(tmp_path / "a.tif", noise())) as scene, Resampled(Scene(tmp_path / "a.tif"), (31, 50)) as image:
        assert image.grid.bounds == pytest.approx(scene.grid.bounds, abs=1e-6)
        assert image.grid.crs == scene.grid.crs
        assert image.notes == {"RESAMPLED_FROM_PIXELS": "97 x 83"}
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 80), (90, 0), (90, 80))]
    path = write(tmp_path / "b.tif", noise(), gcps=points, crs="EPSG:4326")
    with Resampled(Scene(path), (194, 166)) as image:
        moved, _ = image.control_points
        assert [(point.row, point.col, point.x, point.y) for point in moved] == [
            (2 * point.row, 2 * point.col, point.x, point.y) for point in points
        ]
        assert image.grid.transform.is_identity


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_stretching_is_the_formula_whatever_the_window(tmp_path, dtype):
    values = np.random.default_rng(0).integers(100, 9000, (120, 110, 2)).astype(dtype)
    with stretched(Scene(write(tmp_path / "a.tif", values)), (2, 98), [(0, 255)] * 2, np.uint8) as image:
        low, high = np.percentile(values.reshape(-1, 2), (2, 98), axis=0)
        want = np.clip(np.rint((values - low) * (255 / (high - low))), 0, 255)
        found = whole(image).values
        assert found.dtype == np.uint8
        assert np.abs(found.astype(float) - want).max() <= 1
        assert (found != want).mean() < 1e-3
        part = Window(33, 17, 40, 50)
        assert (image.read(part).values == found[part.slices]).all()
        assert (found == 0).mean() == pytest.approx(0.02, abs=0.01)
        assert image.notes["STRETCH_PERCENTILES"] == "2,98"
        assert f"band 2 {low[1]:.9g} to {high[1]:.9g}" in image.notes["STRETCH_LIMITS"]


def test_stretching_needs_something_to_stretch(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((9, 9, 1), np.uint16), nodata=0)
    for limits in ((98, 2), (-1, 50), (0, 101), (5, 5)):
        with Scene(path) as scene, pytest.raises(SettingError, match="in order"):
            stretched(scene, limits, [(0, 255)], np.uint8)
    with Scene(path) as scene, pytest.raises(SceneError, match=r"valid pixels.*a\.tif"):
        stretched(scene, (2, 98), [(0, 255)], np.uint8)


def test_a_band_of_one_value_is_stretched_to_the_lowest(tmp_path):
    path = write(tmp_path / "a.tif", np.full((9, 9, 1), 700, np.uint16))
    with stretched(Scene(path), (2, 98), [(0, 255)], np.uint8) as image:
        assert (whole(image).values == 0).all()


def test_mapped_values_keep_what_is_not_valid(tmp_path):
    values = noise(dtype=np.uint16)
    values[5:9] = 0
    with Mapped(Scene(write(tmp_path / "a.tif", values, nodata=0)), [(0.5, 3)] * 3, np.float32) as image:
        pixels = whole(image)
        want = np.where(pixels.valid[..., None], values * 0.5 + 3, 0)
        assert (pixels.values == want).all()
        assert not pixels.valid[5:9].any()
        assert image.sample().min() >= 3.5
