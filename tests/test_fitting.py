"""Scenes as models want them: resampled, stretched, scaled, refused or doubted."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.engines import open_engine
from satmask.errors import ModelError, SceneError, SettingError
from satmask.fitting import Reading, doubts, open_for
from satmask.model_file import read_info
from satmask.prediction import predict_array, predict_scene
from satmask.scene import Scene
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def write(path, values, *, gsd_m=0.5, scales=None, offsets=None, **options):
    height, width, count = values.shape
    options = {"driver": "GTiff", "dtype": values.dtype, "crs": "EPSG:32633"} | options
    place = Affine(gsd_m, 0, 5e5, 0, -gsd_m, 4e6)
    with rasterio.open(path, "w", height=height, width=width, count=count, transform=place, **options) as file:
        file.write(np.moveaxis(values, -1, 0))
        if scales:
            file.scales, file.offsets = scales, offsets
    return path


def noise(shape=(90, 120, 3), low=1, high=250, dtype=np.uint8):
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


@pytest.fixture
def info(write_model, tmp_path):
    return read_info(write_model(tmp_path / "m" / "m.onnx", ["r", "g", "b"], ["x"], gsd_m=(0.9, 1.1)))


def read(scene):
    return scene.read(Window(0, 0, *scene.shape))


def test_scenes_are_resampled_to_what_the_model_knows(info, tmp_path):
    path = write(tmp_path / "a.tif", noise())
    with open_for(info, path) as scene:
        assert scene.shape == (90, 120)
        assert any("--resample-to-gsd" in doubt for doubt in doubts(info, scene))
    # The nearest size that the model knows; on the ellipsoid, a metre of the projection is 1.0004 m here.
    with open_for(info, path, resample_to_gsd="model") as scene:
        assert scene.shape == (50, 67)
        assert scene.grid.gsd_m == pytest.approx(0.9, rel=0.01)
        assert scene.grid.bounds == pytest.approx((5e5, 4e6 - 45, 5e5 + 60, 4e6))
        assert not doubts(info, scene)
    with open_for(info, path, resample_to_gsd=2) as scene:
        assert scene.shape == (23, 30)


def test_pixels_of_nearly_the_size_asked_for_are_left_alone(info, tmp_path):
    path = write(tmp_path / "a.tif", noise(), gsd_m=1.0)
    for gsd in ("model", 1.0, 1.02):
        with open_for(info, path, resample_to_gsd=gsd) as scene:
            assert isinstance(scene, Scene)


def test_resampling_needs_to_know_sizes(info, tmp_path):
    path = write(tmp_path / "a.tif", noise(), crs=None)
    with pytest.raises(SceneError, match=r"must have a CRS.*a\.tif"):
        open_for(info, path, resample_to_gsd="model")
    placed = write(tmp_path / "b.tif", noise())
    with pytest.raises(SettingError, match="Give it in metres"):
        open_for(info.model_copy(update={"gsd_m": None}), placed, resample_to_gsd="model")
    for gsd in (0.0, -1.0, float("nan"), float("inf"), 1e-9):
        with pytest.raises(SettingError, match="Pixel size must be"):
            open_for(info, placed, resample_to_gsd=gsd)


def test_sixteen_bits_are_refused_with_the_way_out(info, tmp_path):
    path = write(tmp_path / "a.tif", noise(low=300, high=4000, dtype=np.uint16))
    with pytest.raises(ModelError, match="--stretch 2,98"):
        open_for(info, path)
    with open_for(info, path, stretch=(2, 98)) as scene:
        assert scene.dtype == np.uint8
        values = read(scene).values
        assert values.min() == 0
        assert values.max() == 255
        assert not [doubt for doubt in doubts(info, scene) if "reaches" in doubt or "dark" in doubt]


def test_a_model_of_other_types_has_values_stretched_to_its_range(info, tmp_path):
    wide = info.model_copy(update={"dtype": "uint16", "value_range": ((100, 2000), (0, 1000), (50, 60))})
    path = write(tmp_path / "a.tif", noise(low=3000, high=60000, dtype=np.uint16))
    with open_for(wide, path, stretch=(1, 99)) as scene:
        values = read(scene).values
        assert values.min(axis=(0, 1)).tolist() == [100, 0, 50]
        assert values.max(axis=(0, 1)).tolist() == [2000, 1000, 60]


def test_tags_of_scale_change_nothing_unless_asked_for(info, tmp_path):
    real = info.model_copy(update={"dtype": "float32", "value_range": ((0, 1),) * 3, "gsd_m": None})
    stored = noise(low=1000, high=9000, dtype=np.uint16)
    path = write(tmp_path / "a.tif", stored, scales=(1e-4,) * 3, offsets=(-0.1,) * 3)
    with open_for(real, path) as scene:
        assert (read(scene).values == stored).all()
        said = doubts(real, scene)
        assert len(said) == 3
        assert all("--scaled applies them" in doubt for doubt in said)
    with open_for(real, path, scaled=True) as scene:
        assert np.abs(read(scene).values - (stored * 1e-4 - 0.1)).max() < 1e-6
        assert not doubts(real, scene)
        assert scene.notes == {"SCALED_BY_TAGS": "YES"}


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_integers_that_lose_bits_are_doubted_once(info, tmp_path, dtype):
    plain = info.model_copy(update={"dtype": dtype, "value_range": ((0, 2**25),) * 3, "gsd_m": None})
    for high, told in ((2**24, 0), (2**25, 1)):
        path = write(tmp_path / f"{high}.tif", noise(low=high // 2, high=high, dtype=np.int64).astype(dtype))
        with open_for(plain, path) as scene:
            assert len([doubt for doubt in doubts(plain, scene) if "32-bit floats" in doubt]) == told


def test_what_was_done_to_pixels_is_in_the_outputs(write_model, tmp_path):
    engine = open_engine(write_model(tmp_path / "m" / "m.onnx", ["r", "g", "b"], ["x"], gsd_m=(1, 1)), threads=1)
    path = write(tmp_path / "a.tif", noise(low=300, high=4000, dtype=np.uint16))
    settings = {"resample_to_gsd": "model", "stretch": (2.0, 98.0)}
    outputs = predict_scene(engine, path, tmp_path / "out", **settings)
    with rasterio.open(outputs.classes) as file, open_for(engine.info, path, **settings) as scene:
        assert file.shape == scene.shape == (45, 60)
        assert file.transform == Affine(1, 0, 5e5, 0, -1, 4e6)
        assert file.crs == rasterio.crs.CRS.from_epsg(32633)
        assert file.tags()["RESAMPLED_FROM_PIXELS"] == "90 x 120"
        assert file.tags()["STRETCH_PERCENTILES"] == "2,98"
        want, _ = predict_array(engine, scene)
    with rasterio.open(outputs.probabilities) as file:
        np.testing.assert_array_equal(file.read(1), want[..., 0])


def test_windows_of_resampled_scenes_give_what_the_whole_gives(write_model, tmp_path):
    engine = open_engine(write_model(tmp_path / "m" / "m.onnx", ["r", "g", "b"], ["x"], gsd_m=(0.3, 0.3)), threads=1)
    path = write(tmp_path / "a.tif", noise(low=300, high=4000, dtype=np.uint16))
    with open_for(engine.info, path, resample_to_gsd="model", stretch=(2, 98)) as scene:
        want, _ = predict_array(engine, scene, size=256)
        found, _ = predict_array(engine, scene, size=37)
    np.testing.assert_array_equal(found, want)


def test_a_reading_opens_scenes_with_its_settings(info, tmp_path):
    path = write(tmp_path / "a.tif", noise(shape=(20, 20, 4)))
    reading = Reading(bands=(4, 1, 2), resample_to_gsd=1.0, stretch=(5, 95))
    with reading.open(info, path) as scene:
        assert scene.indexes == [4, 1, 2]
        assert scene.shape == (10, 10)
        assert scene.notes["STRETCH_PERCENTILES"] == "5,95"


def test_checksums_are_looked_at_before_a_network_sees_the_pixels(info, tmp_path):
    path = write(tmp_path / "a.tif", noise(), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the sum at the end of the last block
    path.write_bytes(content)
    with Scene(path) as scene:
        read(scene)
    with open_for(info, path) as scene, pytest.raises(SceneError, match=r"damaged block.*a\.tif at row 64"):
        read(scene)
