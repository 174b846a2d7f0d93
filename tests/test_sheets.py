"""Laws of the sheets: whole, whatever classes are called, and true to what they show."""

import json

import cv2
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from satmask import figures, maps, sheets
from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.pictures import Example

BUILDING = Legend.of({100: "building"})
OVERLAPPING = Legend.of({1: "road", 2: "tree"})
NAME = r"$house_{1}$ <b> & a very long class name without end 家"


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


def assert_whole(drawn):
    for name, figure in drawn.items():
        picture = cv2.imdecode(np.frombuffer(figures.png_bytes(figure, dpi=80), np.uint8), cv2.IMREAD_COLOR)
        border = np.concatenate([picture[[0, -1]].reshape(-1, 3), picture[:, [0, -1]].reshape(-1, 3)])
        assert (border == 255).all(), f"{name} is clipped"
        assert picture.std() > 5, f"{name} is blank"


def all_sheets(data):
    name = NAME
    rgb, polygons, mask = building_tile(data, least=5)
    legend = Legend.of({1: name, 2: "_hidden"})
    both = np.stack([mask, np.roll(mask, 9, axis=0)], axis=-1)
    valid = np.ones(mask.shape, bool)
    valid[:40] = False
    holed = [polygons[0].difference(polygons[0].centroid.buffer(2)), shapely.MultiPolygon(polygons[1:3])]
    return {
        "comparison": sheets.comparison(rgb, both, both[::-1], legend, valid=valid, title=name),
        "sheet": sheets.comparison_sheet([Example(rgb[:, :99], both[:, :99], both[:, :99])] * 2, legend, title=name),
        "windows": sheets.window_sheet([rgb * 1.0] * 3, [both] * 3, [valid * 1.0] * 3, legend, title=name),
        "polygons": maps.polygons_over(rgb, holed, [1, 2], legend, gsd_m=0.15, title=name),
    }


def test_every_sheet_is_drawn_whole_for_any_class_name(data):
    assert_whole(all_sheets(data))


def test_a_long_legend_takes_no_room_from_the_picture():
    def height_of_image(names):
        figure = maps.polygons_over(np.zeros((90, 90, 3), np.uint8), [], [], Legend.of(names))
        figure.draw_without_rendering()
        return figure.axes[0].get_window_extent().height

    few, many = height_of_image(["a"]), height_of_image([f"{'a long name ' * 6}{index}" for index in range(12)])
    assert abs(many / few - 1) < 0.03


def test_pixels_of_weight_0_take_no_part_in_the_stretch_of_windows():
    def sheet(junk):
        images = [
            random.uniform(0, 50, (32, 32, 4)).astype(np.float32) for random in map(np.random.default_rng, (1, 2))
        ]
        weights = [np.ones((32, 32, 1)), np.ones((32, 32, 1))]
        images[0][:8], weights[0][:8] = junk, 0
        figure = sheets.window_sheet(images, [np.zeros((32, 32), int)] * 2, weights, OVERLAPPING, columns=2)
        shown = figure.axes[0].images[0].get_array()
        return shown[shown.shape[0] // 3 :]

    assert np.array_equal(sheet(0), sheet(1e6))


def test_polygons_are_counted_and_measured(data):
    rgb, polygons, _ = building_tile(data, least=5)
    figure = maps.polygons_over(rgb, polygons, [100] * len(polygons), BUILDING, gsd_m=0.5)
    area = sum(polygon.area for polygon in polygons) * 0.25
    share = 400 * area / (rgb.shape[0] * rgb.shape[1])
    assert figure.legends[0].texts[0].get_text() == f"building: {len(polygons):,} · {area:,.0f} m² · {share:.1f} %"
    halves = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]
    plain = maps.polygons_over(np.zeros((20, 20, 3), np.uint8), halves, [100] * 2, BUILDING)
    assert plain.legends[0].texts[0].get_text() == "building: 2 · 50.0 %"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: sheets.comparison_sheet([], BUILDING),
        lambda: sheets.window_sheet([], [], [], BUILDING),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(SettingError, match=r"must .*got"):
        draw()
