"""Scenes against rasterio: the same pixels, and the truth about which of them are valid."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window as Place

from satmask.errors import SceneError
from satmask.scene import Scene, open_scene
from satmask.windows import Window

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

REAL = [
    "cog_nodata_uint16",
    "gcps_only",
    "multispectral_float64",
    "naip_4band_nodata",
    "panchromatic_uint16",
    "sentinel2_8band_uint16",
    "worldview_vegas_uint16",
    "worldview_vegas_buildings",
]


def write(path, values, *, colours=None, **options):
    """Write `(height, width, bands)` by rasterio."""
    height, width, count = values.shape
    options = {"driver": "GTiff", "dtype": values.dtype, "crs": "EPSG:32633"} | options
    place = Affine(1, 0, 5e5, 0, -1, 4e6)
    with rasterio.open(path, "w", height=height, width=width, count=count, transform=place, **options) as file:
        if colours:
            file.colorinterp = colours
        file.write(np.moveaxis(values, -1, 0))
    return path


def noise(height=40, width=50, bands=3, dtype=np.uint8, seed=1):
    return np.random.default_rng(seed).integers(1, 200, (height, width, bands)).astype(dtype)


@pytest.mark.parametrize("name", REAL)
def test_windows_are_those_of_rasterio(data, name):
    path = data / "rasters" / f"{name}.tif"
    with Scene(path) as scene, rasterio.open(path) as file:
        height, width = scene.grid.shape
        for window in (
            Window(0, 0, 33, 47),
            Window(-10, width - 20, 30, 40),
            Window(height - 5, -8, 64, 64),
            Window(height // 2, width // 3, 1, 1),
            Window(height + 3, 0, 8, 8),
        ):
            place = Place(window.column, window.row, window.width, window.height)
            found, want = scene.read(window), np.moveaxis(file.read(window=place, boundless=True, fill_value=0), 0, -1)
            inside = np.zeros(found.valid.shape, bool)
            clipped = window.clip(height, width)
            if clipped.height:
                area = Place(clipped.column, clipped.row, clipped.width, clipped.height)
                inside[clipped.seen_from(window).slices] = file.dataset_mask(window=area) > 0
            assert (found.valid == inside).all()
            assert found.values.dtype == scene.dtype == want.dtype
            assert (found.values == np.where(inside[..., None], want, 0)).all()


@pytest.mark.parametrize("name", REAL)
def test_the_place_is_that_of_rasterio(data, name):
    path = data / "rasters" / f"{name}.tif"
    with Scene(path) as scene, rasterio.open(path) as file:
        assert scene.grid.shape == file.shape
        assert scene.grid.transform == file.transform
        assert (scene.grid.crs is None) == (file.crs is None)
        assert scene.grid.crs is None or scene.grid.crs.to_epsg() == file.crs.to_epsg()
        assert len(scene.control_points[0]) == len(file.gcps[0])


def test_complex_values_are_refused(data):
    with pytest.raises(SceneError, match="real numbers, got complex64"):
        Scene(data / "rasters" / "sar_complex64.tif")


def test_near_infrared_called_alpha_is_a_band(data):
    tiles = sorted((data / "naip" / "train" / "img").iterdir())
    for tile in tiles[::20]:
        with Scene(tile) as scene, rasterio.open(tile) as file:
            assert file.colorinterp[3] == ColorInterp.alpha
            assert scene.bands == ("red", "green", "blue", "band 4")
            pixels = scene.read(Window(0, 0, 256, 256))
            assert pixels.valid.all()
            assert (pixels.values == np.moveaxis(file.read(), 0, -1)).all()


@pytest.mark.parametrize("driver", ["PNG", "GTiff"])
def test_transparent_pixels_are_not_valid(tmp_path, driver):
    values = noise(bands=4)
    values[..., 3] = 255
    values[5:9, 7:30, 3] = 0
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    path = tmp_path / ("a.png" if driver == "PNG" else "a.tif")
    if driver == "PNG":
        cv2.imwrite(str(path), values[..., [2, 1, 0, 3]])
    else:
        write(path, values, colours=colours)
    for bands in (None, [1, 3], ["blue"]):
        with Scene(path, bands=bands) as scene:
            pixels = scene.read(Window(0, 0, 40, 50))
            assert (pixels.valid == (values[..., 3] > 0)).all()
            assert (pixels.values[pixels.valid] == values[values[..., 3] > 0][:, [i - 1 for i in scene.indexes]]).all()
            assert len(scene.sample()) == pixels.valid.sum()
    with Scene(path) as scene:
        assert scene.bands == ("red", "green", "blue")
        assert len(scene.all_bands) == 4


def test_a_mask_band_says_what_is_valid(tmp_path):
    values, mask = noise(), np.full((40, 50), 255, np.uint8)
    mask[:7] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "a.tif", values)
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    with Scene(path) as scene:
        assert (scene.read(Window(0, 0, 40, 50)).valid == (mask > 0)).all()
        assert len(scene.sample()) == (mask > 0).sum()


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("int16", -999), ("float32", 0.1), ("float32", -3.4e38)])
def test_nodata_counts_only_in_all_bands(tmp_path, dtype, nodata):
    values = noise(dtype=dtype)
    values[3:6] = nodata
    values[10, 10, 0] = nodata
    with Scene(write(tmp_path / "a.tif", values, nodata=nodata)) as scene:
        pixels = scene.read(Window(0, 0, 40, 50))
    valid = np.ones((40, 50), bool)
    valid[3:6] = False
    assert (pixels.valid == valid).all()
    assert (pixels.values == np.where(valid[..., None], values, 0)).all()


@pytest.mark.parametrize("nodata", [None, np.nan])
def test_what_is_not_finite_is_not_valid(tmp_path, nodata):
    values = noise(dtype=np.float32)
    values[0, :, 1], values[:, 0, 2], values[9, 9, 0] = np.nan, np.inf, -np.inf
    with Scene(write(tmp_path / "a.tif", values, nodata=nodata)) as scene:
        pixels = scene.read(Window(0, 0, 40, 50))
        assert (pixels.valid == np.isfinite(values).all(axis=-1)).all()
        assert np.isfinite(pixels.filled([1, 2, 3])).all()
        assert pixels.filled([1, 2, 3])[0, 5].tolist() == [1, 2, 3]


def test_bands_are_chosen_and_ordered_by_number_or_name(tmp_path):
    values = noise(bands=5, dtype=np.uint16)
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("coastal", "blue", None, "red", "red")
    with Scene(path, bands=["red", 1, "blue", 5]) as scene:
        assert scene.indexes == [4, 1, 2, 5]
        assert scene.bands == ("red", "coastal", "blue", "band 5")
        assert (scene.read(Window(0, 0, 40, 50)).values == values[..., [3, 0, 1, 4]]).all()


@pytest.mark.parametrize("bands", [[6], [0], [-1], ["swir"], [], [True, 9], [1.5]])
def test_unknown_bands_are_refused_by_name(tmp_path, bands):
    path = write(tmp_path / "scene_7.tif", noise(bands=5))
    with pytest.raises(SceneError, match=r"scene_7\.tif"):
        Scene(path, bands=bands)


def test_sixteen_bit_and_twenty_bands(tmp_path):
    values = np.random.default_rng(1).integers(1, 65535, (9, 7, 20)).astype(np.uint16)
    with Scene(write(tmp_path / "a.tif", values)) as scene:
        assert (scene.read(Window(0, 0, 9, 7)).values == values).all()
        assert len(set(scene.bands)) == 20


def test_a_vrt_under_another_name_is_refused(tmp_path, data):
    target = data / "rasters" / "panchromatic_uint16.tif"
    for name in ("a.tif", "a.png", "a.jpg", "a"):
        path = tmp_path / name
        path.write_text(
            '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f"<SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
            "</VRTRasterBand></VRTDataset>"
        )
        with pytest.raises(SceneError, match="can be opened"):
            Scene(path)


@pytest.mark.parametrize("path", ["/vsicurl/http://127.0.0.1:9/a.tif", "/vsizip/a.zip/a.tif", "none.tif", "."])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(SceneError, match="must be a file"):
        Scene(path)


TRUNCATED = {
    "jpg": "buildings/val/images",
    "png": "dubai/masks",
    "tif": "naip/val/img",
}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "scene"])
def test_truncated_files_are_errors_and_never_wrong_pixels(tmp_path, data, suffix, share):
    if suffix == "scene":
        source = data / "scenes" / "catanduanes_ph_z20_0.tif"
    else:
        source = sorted((data / TRUNCATED[suffix]).glob(f"*.{suffix}"))[3]
    path = tmp_path / f"half{source.suffix}"
    whole = source.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with Scene(source) as scene:
        want = scene.read(Window(0, 0, *scene.grid.shape))
    try:
        with Scene(path) as scene:
            found = scene.read(Window(0, 0, *scene.grid.shape))
    except SceneError as error:
        assert re.fullmatch(rf".*{path.name}.*", str(error))  # noqa: PT017  # either an error, or the right pixels
    else:
        assert (found.values == want.values).all()


@pytest.mark.parametrize(
    "damage", [lambda half: bytes(200) + half[200:], lambda half: half[300:]], ids=["blank", "gap"]
)
def test_a_jpeg_with_a_damaged_middle_is_an_error(tmp_path, data, damage):
    whole = sorted((data / TRUNCATED["jpg"]).glob("*.jpg"))[3].read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2] + damage(whole[len(whole) // 2 :]))
    with Scene(tmp_path / "a.jpg") as scene, pytest.raises(SceneError, match=r"Corrupt JPEG.*a\.jpg"):
        scene.read(Window(0, 0, *scene.grid.shape))


@pytest.mark.parametrize("compress", ["deflate", "lzw", "jpeg", "zstd", "none"])
@pytest.mark.parametrize("seed", range(6))
def test_garbled_files_never_crash(tmp_path, compress, seed):
    options = {"interleave": "pixel"} if compress == "jpeg" else {}
    path = write(
        tmp_path / "a.tif", noise(100, 100), tiled=True, blockxsize=64, blockysize=64, compress=compress, **options
    )
    content, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in random.integers(len(content), size=10 ** (seed % 3)):
        content[place] = random.integers(256)
    path.write_bytes(content)
    try:
        with Scene(path) as scene:
            scene.read(Window(0, 0, 100, 100))
            scene.sample()
    except SceneError as error:
        assert "a.tif" in str(error)  # noqa: PT017  # garbled pixels can't always be told


def test_threads_read_the_same_pixels(data):
    path = data / "scenes" / "catanduanes_ph_z20_0.tif"
    random = np.random.default_rng(0)
    windows = [Window(int(row), int(column), 64, 80) for row, column in random.integers(-20, 500, (60, 2))]
    with Scene(path) as scene:
        want = [scene.read(window).values for window in windows]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda window: scene.read(window).values, windows * 2))
    assert all((a == b).all() for a, b in zip(found, want * 2, strict=True))


def test_a_sample_holds_values_of_the_scene(data):
    for name in ("naip_4band_nodata", "cog_nodata_uint16"):
        with Scene(data / "rasters" / f"{name}.tif") as scene:
            sample = scene.sample()
            pixels = scene.read(Window(0, 0, *scene.grid.shape))
            whole = pixels.values[pixels.valid]
            assert 1000 < len(sample) <= 256 * 256
            assert sample.shape[1] == len(scene.bands)
            assert np.abs(sample.mean(axis=0) / whole.mean(axis=0) - 1).max() < 0.05


def test_palettes_are_given_as_colours(tmp_path):
    path = write(tmp_path / "a.tif", noise(bands=1))
    assert Scene(path).palette is None
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {3: (10, 20, 30, 255)})
    with Scene(path) as scene:
        assert scene.palette[3].tolist() == [10, 20, 30]


def test_open_scenes_are_kept(tmp_path):
    path = write(tmp_path / "a.tif", noise())
    assert open_scene(path) is open_scene(path)
    assert open_scene(path, (1,)).bands != open_scene(path).bands


def test_a_tile_without_a_place_has_none(tmp_path):
    path = shutil.copy(write(tmp_path / "a.tif", noise(), crs=None), tmp_path / "b.tif")
    cv2.imwrite(str(tmp_path / "a.jpg"), noise())
    with Scene(tmp_path / "a.jpg") as scene:
        assert (scene.grid.crs, scene.grid.gsd_m, scene.grid.degrees) == (None, None, None)
    with Scene(path) as scene:
        assert scene.grid.crs is None


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("bigtiff", ["NO", "YES"])
def test_every_type_of_real_numbers_is_read_as_it_is(tmp_path, dtype, bigtiff):
    kind = np.dtype(dtype)
    low, high = (-1e30, 1e30) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = np.random.default_rng(0).integers(-(2**62), 2**62, (30, 20, 2)).astype(kind)
    values[0, 0], values[0, 1] = low, high
    with Scene(write(tmp_path / "a.tif", values, bigtiff=bigtiff)) as scene:
        pixels = scene.read(Window(0, 0, 30, 20))
        assert scene.dtype == pixels.values.dtype == kind
        assert pixels.valid.all()
        assert (pixels.values == values).all()
        assert pixels.filled([0, 0]).dtype == np.float32


@pytest.mark.parametrize("nodata", [2**53 + 2, 2**53, -1, 0])
def test_nodata_of_64_bits_is_that_number_and_no_neighbour(tmp_path, nodata):
    values = np.full((4, 4, 1), nodata, np.int64)
    values[1], values[2] = nodata + 1, nodata - 1
    with Scene(write(tmp_path / "a.tif", values, nodata=nodata)) as scene:
        assert scene.read(Window(0, 0, 4, 4)).valid.all(axis=1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("nodata", [-9999, 256, 1e9, 0.5])
def test_nodata_that_no_pixel_can_hold_makes_none_invalid(tmp_path, nodata):
    values = noise()
    values[0] = 0
    path = write(tmp_path / "a.vrt.tif", values)
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        f'<NoDataValue>{nodata}</NoDataValue><SimpleSource><SourceFilename relativeToVRT="1">{path.name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with Scene(tmp_path / "a.vrt") as scene:
        assert scene.read(Window(0, 0, 40, 50)).valid.all()


@pytest.mark.parametrize(
    "place",
    [Affine(1, 0, 5e5, 0, 1, 4e6), Affine.translation(5e5, 4e6) @ Affine.rotation(30) @ Affine.scale(2, -3)],
    ids=["south-up", "rotated"],
)
def test_places_of_any_kind_are_kept(tmp_path, place):
    path = tmp_path / "a.tif"
    settings = {"driver": "GTiff", "height": 9, "width": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=place, **settings) as file:
        file.write(np.arange(72, dtype=np.uint8).reshape(1, 9, 8))
    with Scene(path) as scene:
        assert scene.grid.transform.almost_equals(place)
        assert (scene.read(Window(0, 0, 9, 8)).values.ravel() == np.arange(72)).all()


def test_tags_of_scale_are_told_and_change_nothing(tmp_path):
    values = noise(dtype=np.uint16)
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1, 1, 2), (-5, 0, 3)
    with Scene(path, bands=[3, 1]) as scene:
        assert scene.scaling == ((2.0, 3.0), (0.1, -5.0))
        assert (scene.read(Window(0, 0, 40, 50)).values == values[..., [2, 0]]).all()
