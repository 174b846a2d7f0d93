"""Laws of masks a class, of mask images and of drawing: overlaps kept, files read back, holes left free."""

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from satmask.errors import DataError, SceneError, SettingError
from satmask.labels import MaskLabels
from satmask.legend import Legend
from satmask.masks import (
    Runs,
    areas,
    boxes,
    class_masks,
    contours,
    draw_masks,
    draw_order,
    draw_polygons,
    flatten,
    merge_legends,
    rasterise,
    read_mask,
    write_mask,
    write_masks,
    write_picture,
)
from satmask.scene import Scene
from satmask.windows import Window

LEGEND = Legend.of({3: "house", 9: "tree", 5: "road"}, colours={3: "#FF0000", 9: "#00FF00", 5: "#0000FF"})
EXCLUSIVE = Legend.of(["land", "water", "wood"], exclusive=True)


def random_ids(legend, shape=(30, 40), seed=0):
    values = [*legend.ids, legend.nodata if legend.exclusive else 0]
    return np.random.default_rng(seed).choice(values, shape).astype(legend.dtype)


def ring(side=40):
    """A ring with an island in its hole."""
    mask = np.zeros((side, side), bool)
    mask[4:36, 4:36] = True
    mask[10:30, 10:30] = False
    mask[17:23, 17:23] = True
    return mask


@pytest.mark.parametrize("order", ["row", "column"])
def test_class_masks_are_the_union_of_their_objects_and_keep_overlaps(order):
    objects = np.random.default_rng(1).random((12, 15, 7)) < 0.3
    labels = [9, 3, 9, 9, 3, 9, 3]
    masks = class_masks(Runs.of(objects, order=order), labels, LEGEND)
    assert masks.dtype == bool
    for channel, id_ in enumerate(LEGEND.ids):
        np.testing.assert_array_equal(masks[..., channel], objects[..., np.array(labels) == id_].any(axis=-1))
    assert (masks.sum(axis=-1) > 1).any()
    np.testing.assert_array_equal(Runs.of(masks, order=order).masks(), masks)
    with pytest.raises(SettingError, match="Class id must be one of"):
        class_masks(Runs.of(objects), [1] * 7, LEGEND)


def test_areas_and_boxes_are_those_counted_pixel_by_pixel():
    masks = np.random.default_rng(2).random((20, 30, 5)) < 0.01
    masks[..., 3] = False
    for place in range(5):
        rows, columns = np.nonzero(masks[..., place])
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1] if len(rows) else [0] * 4
        assert boxes(masks)[place].tolist() == boxes(masks[..., place]).tolist() == box
        assert areas(masks)[place] == areas(masks[..., place]) == len(rows)


def test_a_later_class_covers_an_earlier_one():
    masks = np.ones((1, 1, 3), bool)
    assert flatten(masks, LEGEND).tolist() == [[5]]
    assert flatten(masks, LEGEND, order=[5, 9]).tolist() == [[9]]
    assert flatten(~masks, LEGEND).tolist() == [[0]]
    assert flatten(~masks, EXCLUSIVE).tolist() == [[EXCLUSIVE.nodata]]
    assert draw_order(LEGEND) == [0, 1, 2]
    with pytest.raises(SettingError, match="once"):
        draw_order(LEGEND, [5, 5])
    with pytest.raises(SettingError, match="one a class"):
        flatten(masks[..., :2], LEGEND)


@pytest.mark.parametrize("legend", [LEGEND, EXCLUSIVE, Legend.of({500: "far"}), Legend.of({100: "hôuse / ü"})])
def test_png_masks_come_back_with_their_legend(legend, tmp_path):
    ids = random_ids(legend)
    path = write_mask(tmp_path / "new" / "mask.png", ids, legend)
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]
    read, found = read_mask(path)
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == legend.dtype
    assert {entry.id: entry.name for entry in found} == {entry.id: entry.name for entry in legend}
    if legend.dtype == np.uint8:
        assert {entry.colour for entry in found} == {entry.colour for entry in legend}
        with rasterio.open(path) as file:
            assert file.colormap(1)[legend.ids[-1]] == (*legend.classes[-1].rgb, 255)


def test_masks_on_a_scene_lie_where_it_does(tmp_path):
    place = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 30, "width": 40}
    grid = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}
    with rasterio.open(tmp_path / "scene.tif", "w", **place, **grid):
        pass
    ids = random_ids(LEGEND)
    with Scene(tmp_path / "scene.tif") as scene:
        path = write_mask(tmp_path / "mask.tif", ids, LEGEND, scene=scene)
        with Scene(path) as written:
            assert written.grid == scene.grid
        assert write_masks(tmp_path / "b", ids[..., None] == LEGEND.ids, LEGEND, scene=scene)[0].name == "b.tif"
        with pytest.raises(DataError, match="size of its image"):
            write_masks(tmp_path / "c", np.zeros((3, 3, 3)), LEGEND, scene=scene)
    np.testing.assert_array_equal(read_mask(path)[0], ids)
    with pytest.raises(SettingError, match=r"Write a \.png"):
        write_mask(tmp_path / "mask.tif", ids, LEGEND)


def test_overlapping_classes_are_written_one_by_one(tmp_path):
    masks = np.random.default_rng(3).random((8, 9, 3)) < 0.4
    paths = write_masks(tmp_path / "a.b", masks, LEGEND)
    assert [path.name for path in paths] == ["a.b.house.png", "a.b.tree.png", "a.b.road.png"]
    for channel, path in enumerate(paths):
        np.testing.assert_array_equal(read_mask(path)[0] == LEGEND.ids[channel], masks[..., channel])
    apart = masks & (np.cumsum(masks, axis=-1) == 1)
    assert [path.name for path in write_masks(tmp_path / "c", apart, LEGEND)] == ["c.png"]
    np.testing.assert_array_equal(read_mask(tmp_path / "c.png")[0], flatten(apart, LEGEND))


def write_raw(path, array):
    bands = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    size = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    with rasterio.open(path, "w", driver="PNG", dtype=array.dtype, **size) as file:
        file.write(bands)
    return path


@pytest.mark.parametrize("legend", [LEGEND, EXCLUSIVE])
def test_colours_are_read_as_labels_read_them(legend, tmp_path):
    ids = random_ids(legend)
    palette = legend.colour_table()
    rgb = np.array([palette.get(int(id_), (1, 2, 3, 0))[:3] for id_ in ids.ravel()], np.uint8).reshape(30, 40, 3)
    rgb[0, :5] = 7, 7, 7
    read, _ = read_mask(write_raw(tmp_path / "mask.png", rgb), legend)
    truth = MaskLabels(legend, tmp_path / "mask.png", colours=True).read(Window(0, 0, 30, 40))
    np.testing.assert_array_equal(read[..., None] == legend.ids, truth.classes)
    np.testing.assert_array_equal(read != legend.nodata, truth.labelled)
    with pytest.raises(DataError, match="must come with a legend, got none for #"):
        read_mask(tmp_path / "mask.png")


def test_masks_without_a_legend_name_their_own_values(tmp_path):
    ids = np.array([[0, 7, 9]], np.uint8)
    read, legend = read_mask(write_raw(tmp_path / "ids.png", ids))
    assert (read.tolist(), legend.names) == ([[0, 7, 9]], ("class 7", "class 9"))
    black_white = write_raw(tmp_path / "white.png", np.array([[0, 255]], np.uint8))
    assert read_mask(black_white)[0].tolist() == [[0, 1]]
    assert read_mask(black_white, Legend.of({100: "house"}))[0].tolist() == [[0, 100]]
    assert read_mask(black_white, LEGEND)[0].tolist() == [[0, 255]]
    photo = np.arange(400, dtype=np.uint16).reshape(20, 20)
    with pytest.raises(DataError, match="at most 100 class ids"):
        read_mask(write_raw(tmp_path / "photo.png", photo))
    with pytest.raises(SceneError, match="must be a file"):
        read_mask(tmp_path / "nothing.png")


def test_legends_are_merged_unless_they_disagree():
    merged = merge_legends([Legend.of({7: "b"}), Legend.of({3: "a", 7: "b"})])
    assert (merged.ids, merged.names) == ((3, 7), ("a", "b"))
    with pytest.raises(DataError, match="one name"):
        merge_legends([Legend.of({7: "b"}), Legend.of({7: "c"})])


@pytest.mark.parametrize("density", [0.0, 0.2, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (23, 31)])
def test_contours_hold_the_centres_of_their_own_pixels_only(shape, density):
    for seed in range(8):
        mask = np.random.default_rng(seed).random(shape) < density
        found = contours(mask)
        assert all(polygon.is_valid for polygon in found)
        np.testing.assert_array_equal(rasterise(found, *shape), mask)


def test_holes_stay_holes_and_islands_are_polygons_of_their_own():
    found = sorted(contours(ring()), key=lambda polygon: polygon.area)
    assert [len(polygon.interiors) for polygon in found] == [0, 1]


@pytest.mark.parametrize("drawn", ["masks", "polygons"])
def test_fills_and_lines_come_where_they_belong(drawn):
    rgb = np.asfortranarray(np.full((40, 40, 3), 100, np.uint8))
    legend = Legend.of({1: "a"}, colours={1: "#C8C8C8"})
    if drawn == "masks":
        picture = draw_masks(rgb, ring(), legend, alpha=0.5)
    else:
        picture = draw_polygons(rgb, contours(ring()), [1, 1], legend, alpha=0.5)
    assert (rgb == 100).all()
    deep = [(7, 20), (20, 20), (33, 7)]  # in the ring, on the island
    free = [(1, 1), (38, 20), (13, 13), (26, 20)]  # outside, in the hole
    assert [picture[place].tolist() for place in deep] == [[150] * 3] * 3
    assert [picture[place].tolist() for place in free] == [[100] * 3] * 4
    for edge in (picture[20, 3:5, 0], picture[20, 35:37, 0], picture[20, 9:11, 0], picture[20, 16:18, 0]):
        assert edge.max() > 150
    bare = draw_masks(rgb, ring(), legend, alpha=0.5, width=0)
    np.testing.assert_array_equal(bare[..., 0], np.where(ring(), 150, 100))


def test_lines_lie_evenly_on_both_sides_of_an_edge():
    picture = draw_masks(np.zeros((40, 40, 3), np.uint8), ring(), Legend.of({1: "a"}, colours={1: "#FFFFFF"}), alpha=0)
    # OpenCV rounds to within a few grey levels; half a pixel off would be a hundred.
    grey = picture[..., 0].astype(int)
    np.testing.assert_allclose(grey, grey[:, ::-1], atol=12)
    np.testing.assert_allclose(grey, grey[::-1], atol=12)
    wide = draw_masks(np.zeros((40, 40, 3), np.uint8), ring(), Legend.of(["a"]), alpha=0, width=3)
    assert (wide > 0).any(axis=-1).sum() > 1.3 * (picture > 0).any(axis=-1).sum()


def test_the_draw_order_decides_who_covers_whom():
    rgb, masks = np.zeros((9, 9, 3), np.uint8), np.ones((9, 9, 3), bool)
    assert draw_masks(rgb, masks, LEGEND, alpha=1, width=0)[4, 4].tolist() == [0, 0, 255]
    assert draw_masks(rgb, masks, LEGEND, alpha=1, width=0, order=[9, 3])[4, 4].tolist() == [255, 0, 0]
    squares = [shapely.box(0, 0, 9, 9)] * 3
    assert draw_polygons(rgb, squares, [3, 9, 5], LEGEND, alpha=1, width=0, order=[9])[4, 4].tolist() == [0, 255, 0]


def test_what_cannot_be_drawn_is_refused():
    rgb, mask = np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), bool)
    one = Legend.of(["a"])
    with pytest.raises(SettingError, match="size of its image"):
        draw_masks(rgb, mask[:5], one)
    with pytest.raises(SettingError, match="uint8"):
        draw_masks(rgb.astype(float), mask, one)
    with pytest.raises(SettingError, match="Alpha"):
        draw_masks(rgb, mask, one, alpha=2)
    with pytest.raises(SettingError, match="one label each"):
        draw_polygons(rgb, [shapely.box(0, 0, 1, 1)], [], one)
    assert (draw_polygons(rgb, [], [], one) == rgb).all()


def test_pictures_are_written_whole(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (9, 8, 3), np.uint8)
    with Scene(write_picture(tmp_path / "new" / "a.png", rgb)) as scene:
        np.testing.assert_array_equal(scene.raw(Window(0, 0, 9, 8)), rgb)
    with pytest.raises(SettingError, match=r"must end in \.png"):
        write_picture(tmp_path / "a.gif", rgb)
    (tmp_path / "taken.png").mkdir()
    for write in (lambda path: write_picture(path, rgb), lambda path: write_mask(path, rgb[..., 0] % 2, LEGEND)):
        with pytest.raises(SceneError, match="written whole"):
            write(tmp_path / "taken.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "taken.png"]
