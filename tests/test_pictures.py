"""Laws of the pictures: nothing unknown looks known, and what is counted is what is seen."""

import json
from itertools import combinations

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from satmask import pictures
from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.pictures import ERRORS, WRONG, Example

BUILDING = Legend.of({100: "building"})
OVERLAPPING = Legend.of({1: "road", 2: "tree"})
EXCLUSIVE = Legend.of(["other", "building", "water"], exclusive=True)
# Viénot-style simulation of full colour blindness in linear RGB: Machado, Oliveira & Fernandes, 2009,
# https://doi.org/10.1109/TVCG.2009.113, severity 1.0.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.fixture
def random():
    return np.random.default_rng(20)


def count(picture, colour):
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((picture == wanted).all(axis=-1).sum())


def building_tile(data, *, least):
    """The first validation tile with many buildings: RGB, polygons, mask."""
    folder = data / "buildings" / "val"
    content = json.loads((folder / "annotation.json").read_text())
    for image in content["images"]:
        rings = [entry["segmentation"][0] for entry in content["annotations"] if entry["image_id"] == image["id"]]
        if len(rings) >= least:
            break
    rgb = cv2.imread(str(folder / "images" / image["file_name"]))[..., ::-1].copy()
    polygons = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in rings]
    mask = rasterize([(polygon, 1) for polygon in polygons], rgb.shape[:2], dtype="uint8").astype(bool)
    return rgb, polygons, mask


# ---- stretch


def test_8_bit_rgb_is_shown_as_it_is(data):
    rgb, _, _ = building_tile(data, least=5)
    assert np.array_equal(pictures.stretch(rgb), rgb)
    with rasterio.open(data / "rasters" / "naip_4band_nodata.tif") as source:
        image = source.read().transpose(1, 2, 0)
    assert np.array_equal(pictures.stretch(image, bands=(3, 0, 1)), image[..., [3, 0, 1]])


@pytest.mark.parametrize("junk", [0, 65535, 1234])
def test_nodata_changes_no_other_pixel(data, junk, random):
    with rasterio.open(data / "rasters" / "worldview_vegas_uint16.tif") as source:
        image = source.read().transpose(1, 2, 0)
    valid = random.random(image.shape[:2]) < 0.3
    framed = np.where(valid[..., None], image, np.uint16(junk))
    assert np.array_equal(pictures.stretch(framed, valid=valid), pictures.stretch(image, valid=valid))


def test_nodata_looks_like_nothing():
    image = np.arange(40 * 50, dtype=np.float32).reshape(40, 50, 1)
    image[:9, :11] = np.nan
    picture = pictures.stretch(image)
    assert set(np.unique(picture[:9, :11])) == {204, 232}
    assert pictures.stretch(np.full((8, 8, 3), np.inf)).min() == 204


def test_stretch_keeps_order_and_spans_black_to_white(data):
    with rasterio.open(data / "rasters" / "sentinel2_8band_uint16.tif") as source:
        image = source.read().transpose(1, 2, 0)
    picture = pictures.stretch(image, bands=(2, 1, 0))
    for shown, band in enumerate((2, 1, 0)):
        order = np.argsort(image[..., band], axis=None)
        assert (np.diff(picture[..., shown].ravel()[order].astype(int)) >= 0).all()
        share = (picture[..., shown] == 0).mean()
        assert 0.005 < share < 0.04
    assert picture.max() == 255


def test_one_range_for_several_images_keeps_their_difference(random):
    dark = random.uniform(0, 100, (30, 30, 3)).astype(np.float32)
    limits = pictures.value_range([dark, dark * 2])
    assert pictures.stretch(dark, limits=limits).mean() < 0.7 * pictures.stretch(dark * 2, limits=limits).mean()


def test_stretch_of_flat_and_one_band_images_is_grey():
    assert (pictures.stretch(np.full((3, 4), 77, np.uint16)) == 128).all()
    picture = pictures.stretch(np.arange(12, dtype=np.uint16).reshape(3, 4, 1))
    assert (picture == picture[..., :1]).all()
    with pytest.raises(SettingError, match="0 to 3"):
        pictures.stretch(np.zeros((2, 2, 4)), bands=(0, 1, 4))


@pytest.mark.parametrize(("count", "bands"), [(1, (0, 0, 0)), (3, (0, 1, 2)), (4, (0, 1, 2)), (8, (4, 2, 1))])
def test_display_shows_8_bits_as_they_are_and_others_by_their_range(count, bands, random):
    low, high = np.arange(count) + 10.0, np.arange(count) + 500.0
    assert pictures.display(np.dtype("uint16"), low, high)[0] == bands
    image = random.integers(0, 600, (20, 30, count), dtype=np.uint16)
    wide = pictures.stretch(image, bands=bands, limits=pictures.display(image.dtype, low, high)[1])
    red = image[..., bands[0]]
    assert (wide[..., 0][red <= low[bands[0]]] == 0).all()
    assert (wide[..., 0][red >= high[bands[0]]] == 255).all()
    small = image.astype(np.uint8)
    shown = pictures.stretch(small, bands=bands, limits=pictures.display(small.dtype, low, high)[1])
    assert np.array_equal(shown, small[..., list(bands)])


# ---- paint, overlay, hatch


def test_paint_is_undone_by_its_colours(random):
    classes = random.choice([0, 1, 2], (20, 30))
    picture = pictures.paint(classes, EXCLUSIVE)
    for entry in EXCLUSIVE:
        assert np.array_equal((picture == entry.rgb).all(axis=-1), classes == entry.id)
    assert np.ptp(pictures.paint(np.full((4, 4), EXCLUSIVE.nodata), EXCLUSIVE)) > 0  # a checkerboard


def test_later_classes_cover_earlier_ones():
    both = np.ones((8, 8, 2), bool)
    assert (pictures.paint(both, OVERLAPPING) == OVERLAPPING.classes[1].rgb).all()


def test_overlay_leaves_what_has_no_class(data):
    rgb, _, mask = building_tile(data, least=5)
    before = rgb.copy()
    drawn = pictures.overlay(rgb, mask, BUILDING)
    assert np.array_equal(drawn[~mask], rgb[~mask])
    assert np.array_equal(rgb, before)
    assert (drawn[mask] != rgb[mask]).any(axis=-1).mean() > 0.99


def test_outline_is_the_rim_of_the_mask_and_open_at_the_edge():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 20:] = True
    drawn = pictures.overlay(np.zeros((40, 40, 3), np.uint8), mask, BUILDING, alpha=0)
    rim = (drawn == BUILDING.classes[0].rgb).all(axis=-1)
    expected = np.zeros_like(mask)
    expected[[10, 29], 20:] = expected[10:30, 20] = True
    assert np.array_equal(rim, expected)


def test_outline_widens_with_the_image():
    def rim(side):
        mask = np.zeros((side, side), bool)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        drawn = pictures.overlay(np.zeros((side, side, 3), np.uint8), mask, BUILDING, alpha=0)
        return (drawn[side // 3] > 0).any(axis=-1).sum() / 2

    assert [rim(64), rim(320), rim(1600)] == [1, 1, 5]


def test_hatch_touches_only_what_does_not_count(data):
    rgb, _, mask = building_tile(data, least=5)
    hatched = pictures.hatch(rgb, mask)
    assert np.array_equal(hatched[~mask], rgb[~mask])
    assert (hatched[mask] == hatched[mask][:, :1]).all()  # grey


def test_labels_of_other_classes_are_refused():
    with pytest.raises(SettingError, match="one mask a class"):
        pictures.overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), bool), OVERLAPPING)


# ---- error maps


def test_error_colours_count_as_the_confusion_does(data, random):
    rgb, _, truth = building_tile(data, least=5)
    prediction = np.roll(truth, 5, axis=1)
    valid = random.random(truth.shape) < 0.8
    picture = pictures.error_map(truth, prediction, valid=valid, rgb=rgb)
    found = [count(picture, ERRORS[kind]) for kind in ("true positive", "false positive", "false negative")]
    pairs = [(truth, prediction), (~truth, prediction), (truth, ~prediction)]
    assert found == [int((left & right & valid).sum()) for left, right in pairs]


def test_overlapping_classes_show_a_mix_up_as_such():
    truth = np.array([[[1, 0], [1, 0], [1, 1], [0, 0], [1, 1]]], bool)
    prediction = np.array([[[1, 0], [0, 1], [1, 0], [0, 1], [1, 1]]], bool)
    picture = pictures.error_map(truth, prediction)
    kinds = ("true positive", "wrong class", "false negative", "false positive", "true positive")
    assert [count(picture[:, at : at + 1], ERRORS[kind]) for at, kind in enumerate(kinds)] == [1] * 5


def test_exclusive_classes_are_right_or_wrong(random):
    truth, prediction = random.integers(0, 3, (2, 30, 40))
    assert count(pictures.error_map(truth, prediction), WRONG) == int((truth != prediction).sum())
    with pytest.raises(SettingError, match="shape of its truth"):
        pictures.error_map(truth, prediction[1:])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_error_colours_stay_apart_for_the_colour_blind(kind):
    def lab(colour):
        value = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        seen = np.clip(np.asarray(BLINDNESS[kind]) @ linear, 0, 1)
        coded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
        return cv2.cvtColor(coded.astype(np.float32)[None, None], cv2.COLOR_RGB2LAB)[0, 0]

    # The dimmed image is grey from 14 to 99. A difference of 2.3 is just seen; 25 is seen at a glance.
    colours = [*ERRORS.values(), *(f"#{grey:02X}{grey:02X}{grey:02X}" for grey in range(14, 100, 5))]
    for left, right in combinations(colours[:4], 2):
        assert np.linalg.norm(lab(left) - lab(right)) > 25, (left, right)
    for error in colours[:4]:
        assert min(np.linalg.norm(lab(error) - lab(grey)) for grey in colours[4:]) > 25, error


# ---- panels


def test_panels_agree_in_size_and_with_their_key(data, random):
    rgb, _, truth = building_tile(data, least=5)
    drawn = pictures.panels(Example(rgb, truth, np.roll(truth, 3, axis=0)), BUILDING, side=500)
    assert list(drawn) == ["image", "truth", "prediction", "error"]
    assert {picture.shape for picture in drawn.values()} == {(512, 512, 3)}
    seen = [kind for kind, colour in pictures.panel_key(BUILDING) if count(drawn["error"], colour)]
    assert seen == ["true positive", "false positive", "false negative"]


def test_exclusive_panels_take_ids_and_masks_alike(random):
    truth, prediction = random.integers(0, 3, (2, 24, 24))
    rgb = random.integers(0, 255, (24, 24, 3), dtype=np.uint8)
    masks = [pictures.layers(labels, EXCLUSIVE) for labels in (truth, prediction)]
    by_ids = pictures.panels(Example(rgb, truth, prediction), EXCLUSIVE)
    by_masks = pictures.panels(Example(rgb, *masks), EXCLUSIVE)
    assert all(np.array_equal(by_ids[name], by_masks[name]) for name in by_ids)
