"""Laws of the pictures: nothing unknown looks known, and what is counted is what is seen."""

import json
import re
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


# ---- figures


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


def history(epochs=30):
    steps = np.arange(epochs)
    return {
        "epoch": steps,
        "loss": np.exp(-steps / 9),
        "val_loss": np.exp(-steps / 9) + 0.1,
        "iou": 1 - np.exp(-steps / 9),
        "val_iou": 0.7 - ((steps - 20) / 40) ** 2,
        "learning_rate": np.full(epochs, 1e-3),
    }


def figures(data):
    rgb, polygons, mask = building_tile(data, least=5)
    name = r"$house_{1}$ <b> & a very long class name without end 家"
    legend = Legend.of({1: name, 2: "_hidden"})
    both = np.stack([mask, np.roll(mask, 9, axis=0)], axis=-1)
    valid = np.ones(mask.shape, bool)
    valid[:40] = False
    holed = [polygons[0].difference(polygons[0].centroid.buffer(2)), shapely.MultiPolygon(polygons[1:3])]
    return {
        "comparison": pictures.comparison(rgb, both, both[::-1], legend, valid=valid, title=name),
        "sheet": pictures.comparison_sheet([Example(rgb[:, :99], both[:, :99], both[:, :99])] * 2, legend, title=name),
        "windows": pictures.window_sheet([rgb * 1.0] * 3, [both] * 3, [valid * 1.0] * 3, legend, title=name),
        "polygons": pictures.polygons_over(rgb, holed, [1, 2], legend, gsd_m=0.15, title=name),
        "curves": pictures.learning_curves(history()),
        "one epoch": pictures.learning_curves({"loss": [1.0], "val_loss": [float("nan")]}),
        "confusion": pictures.confusion_matrix([[5_000_000, 3], [0, 0]], legend.names),
        "bars": pictures.score_bars({name: {"IoU": 0.5, "F1": float("nan")}, "_hidden": {"IoU": 1.0}}),
    }


def test_every_figure_is_drawn_whole_for_any_class_name(data):
    for name, figure in figures(data).items():
        picture = cv2.imdecode(np.frombuffer(pictures.png_bytes(figure, dpi=80), np.uint8), cv2.IMREAD_COLOR)
        border = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
        assert (border == 255).all(), f"{name} is clipped"
        assert picture.std() > 5, f"{name} is blank"


def test_a_long_legend_takes_no_room_from_the_picture():
    def height_of_image(names):
        figure = pictures.polygons_over(np.zeros((90, 90, 3), np.uint8), [], [], Legend.of(names))
        figure.draw_without_rendering()
        return figure.axes[0].get_window_extent().height

    few, many = height_of_image(["a"]), height_of_image([f"{'a long name ' * 6}{index}" for index in range(12)])
    assert abs(many / few - 1) < 0.03


def test_best_epoch_has_the_highest_validation_iou():
    pandas = pytest.importorskip("pandas")
    for kind in (dict, pandas.DataFrame):
        figure = pictures.learning_curves(kind(history()))
        assert [axis.get_title(loc="right") for axis in figure.axes] == ["", "best 0.700 in epoch 21", ""]


def test_pixels_of_weight_0_take_no_part_in_the_stretch_of_windows():
    def sheet(junk):
        images = [
            random.uniform(0, 50, (32, 32, 4)).astype(np.float32) for random in map(np.random.default_rng, (1, 2))
        ]
        weights = [np.ones((32, 32, 1)), np.ones((32, 32, 1))]
        images[0][:8], weights[0][:8] = junk, 0
        figure = pictures.window_sheet(images, [np.zeros((32, 32), int)] * 2, weights, OVERLAPPING, columns=2)
        shown = figure.axes[0].images[0].get_array()
        return shown[shown.shape[0] // 3 :]

    assert np.array_equal(sheet(0), sheet(1e6))


def test_a_history_of_nothing_but_nan_has_no_best_epoch():
    figure = pictures.learning_curves({"loss": [float("nan")] * 3})
    assert figure.axes[0].get_title(loc="right") == ""


def test_confusion_is_shared_out_by_truth():
    figure = pictures.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no pixels", "75.0%\n3", "25.0%\n1"]


def test_polygons_are_counted_and_measured(data):
    rgb, polygons, _ = building_tile(data, least=5)
    figure = pictures.polygons_over(rgb, polygons, [100] * len(polygons), BUILDING, gsd_m=0.5)
    area = sum(polygon.area for polygon in polygons) * 0.25
    assert figure.legends[0].texts[0].get_text() == f"building: {len(polygons):,} · {area:,.0f} m²"
    plain = pictures.polygons_over(rgb, polygons[:2], [100] * 2, BUILDING)
    assert plain.legends[0].texts[0].get_text() == "building: 2"


def test_svg_follows_the_page_into_the_dark():
    text = pictures.svg_bytes(pictures.learning_curves(history())).decode()
    assert text.count("prefers-color-scheme:dark") == 1
    assert not re.search(f'style="[^"]*({pictures.INK}|{pictures.GRID})', text)
    assert "var(--ink)" in text


def test_save_writes_the_kind_that_the_name_asks_for(tmp_path):
    figure = pictures.score_bars({"building": 0.7})
    pictures.save(figure, tmp_path / "bars.svg")
    pictures.save(figure, tmp_path / "bars.png")
    assert b"<svg" in (tmp_path / "bars.svg").read_bytes()
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: pictures.learning_curves({"iou": [0.1]}),
        lambda: pictures.learning_curves({"loss": []}),
        lambda: pictures.comparison_sheet([], BUILDING),
        lambda: pictures.window_sheet([], [], [], BUILDING),
        lambda: pictures.confusion_matrix([[1, 2]], ["a"]),
        lambda: pictures.score_bars({}),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(SettingError, match=r"must .*got"):
        draw()
