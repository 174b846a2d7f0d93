"""Stacks: windows agree with the whole, pixels lie where another interpolation puts them, names mean what they say."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.bands import compute_index, register, resample, sharpen
from satmask.errors import SceneError, SettingError
from satmask.scene import Scene
from satmask.stack import Product, Stack, StackScene, keep_open, open_imagery
from satmask.windows import Window

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SHAPE = (96, 104)
M_BANDS = ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2")


def write(path, values, **options):
    """Write `(height, width, bands)` by rasterio."""
    height, width, count = values.shape
    options = {"driver": "GTiff", "dtype": values.dtype} | options
    with rasterio.open(path, "w", height=height, width=width, count=count, **options) as file:
        file.write(np.moveaxis(values, -1, 0))
    return path


def picture(shape, bands, seed, top=2047):
    """Soft random hills, `(height, width, bands)` of 11 bits."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(20, top, (9, 9, bands)).astype(np.float32)
    fine = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).reshape(*shape, bands)
    return np.clip(fine + random.normal(0, 9, fine.shape), 1, top).astype(np.uint16)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Four products of unequal sizes, P shorter by a row; M and A out of register."""
    folder = tmp_path_factory.mktemp("stack")
    rgb = write(folder / "a.tif", picture(SHAPE, 3, 0))
    pan = write(folder / "a_P.tif", picture((95, 104), 1, 1))
    m = write(folder / "a_M.tif", picture((24, 26), 8, 2))
    a = write(folder / "a_A.tif", picture((5, 6), 8, 3, top=16383))
    return Stack(
        "a",
        (
            Product("RGB", rgb, ("red", "green", "blue"), largest=2047),
            Product("P", pan, ("pan",), largest=2047),
            Product("M", m, M_BANDS, "m_", largest=2047, shift=(2.3, -1.2), wavelengths_nm=(425,) * 8),
            Product("A", a, tuple(f"swir{n}" for n in range(1, 9)), largest=16383, shift=(-9.5, 4.0)),
        ),
    )


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


EVERY = [None, ("m_red", "blue", "ndvi", "swir3", "sharp_green", "mndwi", "sharp_nir1"), (20, 1, "evi")]


@pytest.mark.parametrize("bands", EVERY)
def test_windows_are_the_whole_to_the_bit(stack, bands):
    random = np.random.default_rng(5)
    with open_imagery(stack, bands=bands) as scene, open_imagery(stack, bands=bands) as other:
        everything = whole(other)
        for _ in range(25):
            row, column = random.integers(-20, 90, 2)
            window = Window(int(row), int(column), *map(int, random.integers(1, 60, 2)))
            inside = window.clip(*SHAPE)
            part = scene.read(window)
            here = inside.seen_from(window).slices
            np.testing.assert_array_equal(part.values[here], everything.values[inside.slices])
            assert part.valid.sum() == everything.valid[inside.slices].sum()
            assert not part.values[~part.valid].any()


def test_strips_don_t_show(stack, monkeypatch):
    with StackScene(stack, bands=["swir1", "sharp_red", "ccci"]) as scene:
        at_once = whole(scene).values
        monkeypatch.setattr("satmask.stack.reading.STRIP", 7)
        np.testing.assert_array_equal(whole(scene).values, at_once)


def test_threads_read_the_same(stack):
    windows = [Window(row, column, 40, 40) for row in range(0, 60, 10) for column in range(0, 60, 10)]
    with StackScene(stack, bands=["m_blue", "sharp_blue", "swir2"]) as scene:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(scene.read, windows))
        for window, pixels in zip(windows, together, strict=True):
            np.testing.assert_array_equal(scene.read(window).values, pixels.values)


def test_coarse_products_lie_where_opencv_puts_them(stack):
    """Without a shift, interpolating by extent is what `cv2.resize` does."""
    straight = replace(stack, products=tuple(replace(product, shift=(0, 0)) for product in stack.products))
    with StackScene(straight) as scene, Scene(stack.products[2].path) as m:
        mine = whole(scene).values[..., 4:12]
        theirs = cv2.resize(whole(m).values.astype(np.float64), SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    # OpenCV's weights are float32, so that a half may be rounded the other way.
    assert np.abs(mine - theirs).max() <= 0.51


def test_products_of_the_reference_s_size_aren_t_blurred(stack):
    with StackScene(stack) as scene, Scene(stack.products[1].path) as pan, Scene(stack.products[0].path) as rgb:
        everything = whole(scene).values
        np.testing.assert_array_equal(everything[..., :3], whole(rgb).values)
        assert set(np.unique(everything[..., 3])) == set(np.unique(whole(pan).values))
    assert everything.dtype == np.uint16


def test_a_shift_found_by_registration_is_undone(tmp_path):
    """The sign of `Product.shift` is that of `register`: the two must not part company."""
    ground = picture((460, 460), 1, 8).astype(np.float32)
    ground += np.random.default_rng(3).normal(0, 300, ground.shape).astype(np.float32)
    fixed = ground[30:430, 30:430]
    moved = ground[24:424, 34:434]  # what is at (x, y) in `fixed` is at (x − 4, y + 6) here
    coarse = cv2.resize(moved, (100, 100), interpolation=cv2.INTER_AREA)[..., None]
    found = register(coarse, fixed)
    assert found.accepted
    assert (found.dx, found.dy) == pytest.approx((-4, 6), abs=0.5)
    paths = write(tmp_path / "f.tif", fixed), write(tmp_path / "m.tif", coarse)
    target = cv2.resize(cv2.resize(fixed, (100, 100), interpolation=cv2.INTER_AREA), (400, 400))

    def error(shift):
        products = Product("F", paths[0], ("pan",)), Product("M", paths[1], ("red",), shift=shift)
        with StackScene(Stack("s", products), bands=["red"]) as scene:
            return np.abs(whole(scene).values[20:-20, 20:-20, 0] - target[20:-20, 20:-20]).mean()

    assert error(found.shift) < 0.5 * error((0, 0)) < 0.5 * error((-found.dx, -found.dy))


def test_indices_are_those_of_the_interpolated_bands(stack):
    with StackScene(stack, bands=["evi", "m_nir1", "m_red", "m_blue", "mndwi", "m_green", "swir3"]) as scene:
        values = whole(scene).values
    bands = {"nir1": values[..., 1], "red": values[..., 2], "blue": values[..., 3]}
    np.testing.assert_allclose(values[..., 0], compute_index("evi", bands, scale=1 / 2047), atol=1e-5)
    water = compute_index(
        "mndwi", {"green": values[..., 5], "swir3": values[..., 6]}, scale={"green": 1 / 2047, "swir3": 1 / 16383}
    )
    np.testing.assert_allclose(values[..., 4], water, atol=1e-5)


def test_sharpened_bands_are_those_of_the_bands_package(stack):
    same = replace(stack, products=(stack.products[0], replace(stack.products[2], shift=(0, 0))))
    m_and_p = Stack("mp", (replace(stack.products[1]), same.products[1]))
    with StackScene(m_and_p, bands=["sharp_red", "sharp_nir2"]) as scene:
        mine = whole(scene).values
    with Scene(stack.products[1].path) as pan, Scene(stack.products[2].path) as m:
        theirs = sharpen(whole(m).values[..., [4, 7]], whole(pan).values[..., 0])
    np.testing.assert_array_equal(mine, theirs)


def test_edges_are_repeated_where_a_shift_leaves_the_product(stack):
    with StackScene(stack, bands=["swir1"]) as scene, Scene(stack.products[3].path) as a:
        pixels = whole(scene)
        np.testing.assert_array_equal(pixels.values[-2, :3, 0], whole(a).values[-1, 0, 0])
    assert pixels.valid.all()


def placed(path, values, gsd_m, *, corner=(5e5, 4e6), **options):
    return write(path, values, crs="EPSG:32633", transform=Affine(gsd_m, 0, corner[0], 0, -gsd_m, corner[1]), **options)


def test_georeferenced_products_are_placed_by_their_grids(tmp_path):
    """The oracle is GDAL's warper; the product ends before the reference does, and there nothing is valid."""
    from rasterio.vrt import WarpedVRT

    pan = placed(tmp_path / "pan.tif", picture((80, 88), 1, 4), 0.5)
    colour = placed(tmp_path / "ms.tif", picture((15, 30), 4, 5), 2.0, corner=(5e5 - 3, 4e6 + 5))
    products = Product("P", pan, ("pan",)), Product("M", colour, ("blue", "green", "red", "nir"))
    with StackScene(Stack("s", products, placed="grid"), bands=[2, 3, 4, 5]) as scene, rasterio.open(colour) as file:
        pixels = whole(scene)
        with rasterio.open(pan) as like, WarpedVRT(file, crs=like.crs, transform=like.transform, height=80, width=88,
                                                   resampling=rasterio.enums.Resampling.bilinear, nodata=0) as warped:  # fmt: skip
            theirs = np.moveaxis(warped.read(), 0, -1)
    assert scene.grid.crs.to_epsg() == 32633
    assert pixels.valid[:50].all()
    assert not pixels.valid[50:].any()
    assert np.abs(pixels.values[:44].astype(int) - theirs[:44]).max() <= 1


def test_nodata_of_a_coarse_product_reaches_as_far_as_it_is_used(tmp_path):
    values = picture((10, 10), 2, 6)
    values[4, 4] = 0
    fine = placed(tmp_path / "p.tif", picture((40, 40), 1, 7), 1.0)
    coarse = placed(tmp_path / "m.tif", values, 4.0, nodata=0)
    stack = Stack("s", (Product("P", fine, ("pan",)), Product("M", coarse, ("red", "nir"))), placed="grid")
    with StackScene(stack, bands=["red", "nir", "ndvi", "pan"]) as scene:
        pixels = whole(scene)
    rows, columns = np.nonzero(~pixels.valid)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 21, 14, 21)
    assert len(rows) == 64


def test_grids_that_can_t_be_compared_are_refused(tmp_path):
    one = placed(tmp_path / "a.tif", picture((20, 20), 1, 1), 1.0)
    turned = write(tmp_path / "b.tif", picture((20, 20), 1, 1), crs="EPSG:32633",
                   transform=Affine.translation(5e5, 4e6) @ Affine.rotation(30))  # fmt: skip
    elsewhere = write(tmp_path / "c.tif", picture((20, 20), 1, 1), crs="EPSG:32634", transform=Affine.identity())
    for path, reason in ((turned, "turned"), (elsewhere, "share a CRS")):
        products = Product("A", one, ("a",)), Product("B", path, ("b",))
        with pytest.raises(SceneError, match=reason):
            StackScene(Stack("s", products, placed="grid"))


def test_a_plain_raster_gives_indices_too(tmp_path):
    path = write(tmp_path / "four.tif", picture((40, 40), 4, 9, top=255).astype(np.uint8))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("red", "green", "blue", "nir")
    with open_imagery(path, bands=["nir", "ndwi", "evi"]) as scene, Scene(path) as raw:
        values, known = whole(scene).values, whole(raw).values
    assert scene.indexes == ("nir", "ndwi", "evi")
    green, nir = known[..., 1].astype(float), known[..., 3].astype(float)
    np.testing.assert_allclose(values[..., 1], (green - nir) / (green + nir), atol=1e-6)
    assert isinstance(open_imagery(path, bands=["nir"]), Scene)
    with pytest.raises(SceneError, match="Band must be one of"):
        open_imagery(path, bands=["ndre"])


def test_reflectance_is_asked_for_where_it_matters(tmp_path):
    path = write(tmp_path / "raw.tif", picture((40, 40), 2, 9))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("red", "nir")
    with pytest.raises(SettingError, match="largest"):
        open_imagery(path, bands=["savi"])
    with open_imagery(path, bands=["ndvi"]) as scene:
        assert scene.dtype == np.float32


def test_names_numbers_and_wavelengths(stack):
    with StackScene(stack, bands=["m_blue", 1, "ndvi", "sharp_blue"]) as scene:
        assert scene.bands == ("m_blue", "red", "ndvi", "sharp_blue")
        assert scene.indexes == scene.bands
        assert scene.wavelengths_nm == (425, None, None, 425)
    assert len(stack.bands) == 20
    assert {"ndvi", "ndwi", "evi", "savi", "ccci", "sharp_red"} <= set(stack.derived)
    with pytest.raises(SceneError, match=r"1 to 20 .*computed: .*ndvi"):
        StackScene(stack, bands=["infrared"])


def test_a_sample_shows_every_band(stack):
    with StackScene(stack) as scene:
        assert scene.sample().shape[1] == 20
        np.testing.assert_allclose(scene.sample().mean(axis=0), whole(scene).values.mean(axis=(0, 1)), rtol=0.15)


def test_what_is_kept_open_is_opened_once(stack):
    assert keep_open(stack, ("red",)) is keep_open(stack, ("red",))
    assert keep_open(stack.products[0].path, (1,)) is keep_open(stack.products[0].path, (1,))


def test_saved_and_loaded_is_the_same(stack):
    folder = stack.products[0].path.parent
    path = stack.save(folder / "a.stack.json")
    assert Stack.load(path) == stack
    with open_imagery(path, bands=["m_red"]) as scene, open_imagery(stack, bands=["m_red"]) as other:
        np.testing.assert_array_equal(whole(scene).values, whole(other).values)


@pytest.mark.parametrize("bad", ["../b.tif", "/vsicurl/http://x/b.tif", "x/../../b.tif", "C:\\b.tif", "zip:b.tif"])
def test_a_stack_file_points_at_nothing_outside_its_folder(tmp_path, bad):
    content = {"schema_version": 1, "products": [{"name": "x", "path": bad, "bands": ["red"]}]}
    path = tmp_path / "s.stack.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SceneError, match="must lie in the folder of"):
        Stack.load(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 2, "products": []}', '{"schema_version": 1, "products": [{}]}', "[" * 99_999],
)
def test_damaged_stack_files_are_refused(tmp_path, text):
    path = tmp_path / "s.stack.json"
    path.write_text(text)
    with pytest.raises(SceneError, match="Stack file must be"):
        Stack.load(path)


def test_products_elsewhere_can_t_be_saved(stack, tmp_path):
    with pytest.raises(SettingError, match="must lie in the folder of"):
        stack.save(tmp_path / "a.stack.json")
    with pytest.raises(SettingError, match="must be called"):
        stack.save(tmp_path / "a.json")


def test_resample_and_stack_mean_the_same_shift(stack):
    """Cubic there, linear here, but the same place: a smooth product must agree."""
    with StackScene(stack, bands=["m_green"]) as scene, Scene(stack.products[2].path) as m:
        smooth = resample(whole(m).values[..., 2], SHAPE, shift=stack.products[2].shift)
        mine = whole(scene).values[..., 0].astype(float)
    inner = (slice(12, -12),) * 2
    good = np.corrcoef(mine[inner].ravel(), smooth[inner].ravel())[0, 1]
    off = np.corrcoef(mine[inner].ravel(), np.roll(smooth, (2, -2), (0, 1))[inner].ravel())[0, 1]
    assert good > 0.995 > off


@pytest.mark.parametrize("side", [200, 52, 20])
def test_shrunk_is_an_average(stack, side):
    with StackScene(stack, bands=["red", "m_red"]) as scene:
        small, large = scene.shrunk(side), whole(scene).values
    factor = -(-104 // side)
    assert max(small.valid.shape) <= side
    np.testing.assert_allclose(small.values[0, 0], large[:factor, :factor].mean(axis=(0, 1)), atol=0.51)
    assert small.valid.all()
