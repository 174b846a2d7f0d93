"""Labels: a window is the crop of the whole, and the whole is what rasterio and the files say."""

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.shutil import copy

from satmask.errors import DataError, SceneError
from satmask.labels import MaskLabels, PolygonLabels, draw, thin
from satmask.legend import Legend
from satmask.masks import rasterise
from satmask.windows import Window

SHAPE = (90, 120)
WHOLE = Window(0, 0, *SHAPE)
OVERLAPPING = Legend.of({3: "a", 7: "b"})
EXCLUSIVE = Legend.of({0: "rest", 3: "a", 7: "b"}, exclusive=True)
WITHOUT_BACKGROUND = Legend.of({3: "a", 7: "b"}, exclusive=True)


def polygons(seed, count=25):
    """Polygons of any shape, some with a hole, some over the edge, some crossing themselves."""
    random = np.random.default_rng(seed)
    shapes = []
    for number in range(count):
        middle, size = random.uniform(-10, 125, 2), random.uniform(2, 25)
        ring = middle + random.uniform(-size, size, (random.integers(3, 9), 2))
        shapes.append(shapely.Polygon(ring))
        if number % 3 == 0:
            disc = shapely.Point(middle).buffer(size)
            shapes[-1] = disc.difference(shapely.Point(middle).buffer(size / 2))
    return shapes


def whole(shapes, values=1):
    pairs = list(zip(shapes, np.broadcast_to(values, len(shapes)).tolist(), strict=True))
    return rasterize(pairs, out_shape=SHAPE, dtype="int32") if pairs else np.zeros(SHAPE, np.int32)


def crop(array, window, fill):
    """The window of an array; what hangs over the edge is `fill`."""
    padded = np.full((SHAPE[0] + 400, SHAPE[1] + 400, *array.shape[2:]), fill, array.dtype)
    padded[200 : 200 + SHAPE[0], 200 : 200 + SHAPE[1]] = array
    return padded[Window(window.row + 200, window.column + 200, window.height, window.width).slices]


def some_windows(seed):
    random = np.random.default_rng(seed)
    yield WHOLE
    yield Window(SHAPE[0] + 5, 0, 10, 10)
    for row, column, height, width in random.integers((-30, -30, 1, 1), (90, 120, 60, 60), (12, 4)):
        yield Window(int(row), int(column), int(height), int(width))


@pytest.mark.parametrize("seed", range(4))
def test_a_window_of_overlapping_classes_is_the_crop_of_the_whole(seed):
    shapes, channels = polygons(seed), np.random.default_rng(seed).integers(-1, 2, 25)
    labels = PolygonLabels(OVERLAPPING, SHAPE, shapes, channels.tolist())
    drawn = [whole([s for s, c in zip(shapes, channels, strict=True) if c == want]) for want in (-1, 0, 1)]
    for window in some_windows(seed):
        truth = labels.read(window)
        assert (truth.classes == crop(np.stack(drawn[1:], axis=-1), window, 0)).all()
        assert (truth.labelled == crop(drawn[0] == 0, window, fill=False)).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("legend", [EXCLUSIVE, WITHOUT_BACKGROUND], ids=["background", "none"])
def test_a_window_of_exclusive_classes_is_the_crop_of_the_whole(seed, legend):
    background = legend is EXCLUSIVE
    shapes, channels = polygons(seed), np.random.default_rng(seed).integers(0, len(legend), 25)
    labels = PolygonLabels(legend, SHAPE, shapes, channels.tolist())
    # The later polygon lies over the earlier one.
    top = whole(shapes, channels + 1) - 1
    if background:
        top[top < 0] = 0
    for window in some_windows(seed):
        truth = labels.read(window)
        assert (truth.labelled == crop(top >= 0, window, fill=False)).all()
        assert (truth.classes == crop((top[..., None] == np.arange(len(legend))).astype(np.uint8), window, 0)).all()
        assert (truth.classes.sum(axis=-1) == truth.labelled).all()


def test_ignored_regions_are_unlabelled_under_exclusive_classes():
    square, ignored = shapely.box(10, 10, 40, 40), shapely.box(30, 30, 60, 60)
    truth = PolygonLabels(EXCLUSIVE, SHAPE, [square, ignored], [1, -1]).read(WHOLE)
    assert not truth.labelled[30:60, 30:60].any()
    assert truth.labelled.sum() == SHAPE[0] * SHAPE[1] - 900
    assert truth.classes[10:30, 10:30, 1].all()
    assert truth.classes[70, 70].tolist() == [1, 0, 0]


def test_holes_stay_empty():
    ring = shapely.box(10, 10, 50, 50).difference(shapely.box(20, 20, 30, 40))
    classes = PolygonLabels(OVERLAPPING, SHAPE, [ring], [0]).read(WHOLE).classes
    assert classes[..., 0].sum() == ring.area
    assert not classes[20:40, 20:30].any()


def test_a_scene_without_polygons_is_labelled_background():
    truth = PolygonLabels(OVERLAPPING, SHAPE, [], []).read(Window(-5, 0, 20, 20))
    assert truth.labelled.sum() == 15 * 20
    assert not truth.classes.any()


@pytest.fixture
def ids():
    return np.random.default_rng(1).choice([0, 3, 7, 9, 255], SHAPE).astype(np.uint8)


def save(path, values):
    cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("legend", [OVERLAPPING, EXCLUSIVE, WITHOUT_BACKGROUND], ids=["overlap", "background", "none"])
def test_masks_of_ids(tmp_path, ids, suffix, legend):
    labels = MaskLabels(legend, save(tmp_path / f"a.{suffix}", ids))
    known = [*legend.ids, *([] if legend.exclusive else [0])]
    for window in some_windows(1):
        truth = labels.read(window)
        want = np.stack([crop(ids == id_, window, fill=False) for id_ in legend.ids], axis=-1)
        assert (truth.classes == want).all()
        assert (truth.labelled == crop(np.isin(ids, known), window, fill=False)).all()


def test_masks_of_colours(tmp_path):
    legend = Legend.of({1: "a", 2: "b"}, colours={1: "#3C1098", 2: "#0000FF"}, exclusive=True)
    picks = np.random.default_rng(1).integers(0, 3, SHAPE)
    colours = np.array([[0x3C, 0x10, 0x98], [0, 0, 255], [0, 0, 254]], np.uint8)[picks]
    truth = MaskLabels(legend, save(tmp_path / "a.png", colours), colours=True).read(WHOLE)
    assert (truth.classes == (picks[..., None] == [0, 1])).all()
    assert (truth.labelled == (picks < 2)).all()


@pytest.fixture
def paletted(tmp_path):
    picks = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    path = tmp_path / "a.png"
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype="uint8"
    ) as file:
        file.write(picks, 1)
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (60, 16, 152, 255), 2: (0, 0, 255, 255)})
    with rasterio.open(tmp_path / "a.tif") as file, rasterio.Env(GDAL_PAM_ENABLED=False):
        copy(file, path, driver="PNG")
    return path, picks


def test_palettes_are_read_as_ids_or_as_colours(paletted):
    path, picks = paletted
    legend = Legend.of({1: "a", 2: "b"}, colours={1: "#3C1098", 2: "#0000FF"})
    for colours in (False, True):
        truth = MaskLabels(legend, path, colours=colours).read(WHOLE)
        assert (truth.classes == (picks[..., None] == [1, 2])).all()
        assert truth.labelled.all()


def test_other_values_are_looked_up(tmp_path):
    values = np.random.default_rng(1).choice([0, 7, 255], SHAPE).astype(np.uint8)
    truth = MaskLabels(Legend.of({100: "building"}), save(tmp_path / "a.png", values), lookup=((255, 100),)).read(WHOLE)
    assert (truth.classes[..., 0] == (values == 255)).all()
    assert (truth.labelled == (values != 7)).all()


def test_masks_of_16_bits(tmp_path):
    values = np.random.default_rng(1).choice([0, 300, 65534], SHAPE).astype(np.uint16)
    truth = MaskLabels(Legend.of({300: "a", 65534: "b"}), save(tmp_path / "a.png", values)).read(WHOLE)
    assert (truth.classes == (values[..., None] == [300, 65534])).all()


def test_what_is_no_mask_is_refused_by_name(tmp_path, ids):
    with pytest.raises(DataError, match=r"red, green and blue, got 1 .* in a\.png"):
        MaskLabels(OVERLAPPING, save(tmp_path / "a.png", ids), colours=True).read(WHOLE)
    with pytest.raises(DataError, match=r"class ids, got 3 .* in b\.png"):
        MaskLabels(OVERLAPPING, save(tmp_path / "b.png", np.dstack([ids] * 3))).read(WHOLE)
    (tmp_path / "c.png").write_bytes((tmp_path / "b.png").read_bytes()[:500])
    with pytest.raises(SceneError, match=r"c\.png"):
        MaskLabels(OVERLAPPING, tmp_path / "c.png", colours=True).read(WHOLE)


def tangle(seed):
    """A polygon of many vertices that crosses itself, some of them on pixel centres, with a hole that may lie outside."""
    random = np.random.default_rng(seed)
    points = np.round(random.uniform(-40, 140, (300, 2)) * 2) / 2
    angles = np.sort(random.uniform(0, 2 * np.pi, 400))
    reach = random.uniform(5, 60, 400)
    star = np.column_stack([50 + reach * np.cos(angles), 45 + reach * np.sin(angles)])
    return shapely.Polygon([points, star][seed % 2], [star[:80] + random.integers(-30, 30, 2)])


@pytest.mark.parametrize("seed", range(8))
def test_thinned_polygons_look_the_same_in_any_window(seed):
    shape = shapely.MultiPolygon([tangle(seed), shapely.box(60, -30, 61, 300)])
    random = np.random.default_rng(seed)
    fewer = []
    for _ in range(30):
        window = Window(*map(int, random.integers(-20, 110, 2)), *map(int, random.integers(1, 50, 2)))
        plain = shapely.transform(shape, lambda p, w=window: p - (w.column, w.row))
        wanted = rasterise([plain], window.height, window.width)
        np.testing.assert_array_equal(draw([shape], window), wanted)
        fewer.append(shapely.get_num_coordinates(thin(shape, window)) / shapely.get_num_coordinates(shape))
    assert np.mean(fewer) < 0.9
