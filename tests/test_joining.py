"""Tiles put together into scenes: what was cut comes back, pixel by pixel and object by object."""

import json
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS, Transformer
from scipy.ndimage import binary_dilation

from satmask.datasets import read_dataset
from satmask.datasets.tile_names import tile_bounds
from satmask.errors import DataError, SettingError
from satmask.joining import join_tiles
from satmask.labels import draw
from satmask.scene import Scene
from satmask.seams import Piece, make_whole
from satmask.tile_plans import plan_scenes
from satmask.windows import Window

SIDE, X, Y, ZOOM = 32, 141_000, 130_900, 18
HOUSES = [
    shapely.box(20, 10, 50, 26),  # over one edge
    shapely.box(55, 50, 75, 70),  # over a corner, so in four tiles
    shapely.Polygon([(70, 5), (100.37, 8.21), (97.13, 29.07), (72, 24)]),  # askew
    shapely.box(2, 40, 10, 50),  # two that touch inside a tile
    shapely.box(10, 40, 16, 50),
    shapely.box(20, 70, 40, 76),  # two in a row that touch, both over one edge
    shapely.box(20, 76, 40, 84),
    shapely.Polygon([(100, 60), (120, 60), (120, 64), (104, 64), (104, 68), (120, 68), (120, 72), (100, 72)]),  # a U
]


def cut(pixels, houses, folder, *, leave_out=(), name="town-{x}-{y}-18", category=lambda _: 100):
    """Write a scene as tiles in the crowdAI layout, all rounded to hundredths of a pixel as such files are."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for row in range(pixels.shape[0] // SIDE):
        for column in range(pixels.shape[1] // SIDE):
            if (column, row) in leave_out:
                continue
            west, north = column * SIDE, row * SIDE
            file = name.format(x=X + column, y=Y + row, r=row, c=column) + ".png"
            write(folder / "images" / file, pixels[north : north + SIDE, west : west + SIDE])
            images.append({"id": len(images) + 1, "file_name": file, "height": SIDE, "width": SIDE})
            for number, house in enumerate(houses):
                inside = house & shapely.box(west, north, west + SIDE, north + SIDE)
                for part in shapely.get_parts(inside):
                    if part.area:
                        ring = np.round(shapely.get_coordinates(part) - (west, north), 2)
                        code = {"segmentation": [ring.ravel().tolist()], "category_id": category(number)}
                        annotations.append(code | {"id": len(annotations) + 1, "image_id": len(images), "iscrowd": 0})
    ids = sorted({category(number) for number in range(len(houses))})
    content = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": f"c{i}"} for i in ids]}
    (folder / "annotation.json").write_text(json.dumps(content))
    return read_dataset(folder)


def write(path, pixels):
    bands = np.moveaxis(np.atleast_3d(pixels), -1, 0)
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", driver="PNG", dtype="uint8", count=len(bands), height=SIDE, width=SIDE) as file:
        file.write(bands)


@pytest.fixture
def pixels():
    """A scene of 3 × 4 tiles whose pixels differ little from their neighbours."""
    rows, columns = np.mgrid[: 3 * SIDE, : 4 * SIDE]
    noise = np.random.default_rng(0).integers(0, 9, (3 * SIDE, 4 * SIDE, 3))
    return (np.stack([rows, columns, rows + columns], -1) + noise).astype(np.uint8)


def read(path):
    with Scene(path) as scene:
        return scene.read(Window(0, 0, *scene.shape)), scene.grid


def mask(shapes, shape):
    return draw(list(shapes), Window(0, 0, *shape)) > 0


def test_what_was_cut_comes_back(pixels, tmp_path):
    found = join_tiles(cut(pixels, HOUSES, tmp_path / "tiles"), tmp_path / "out")
    assert [(one.name, one.tiles, one.polygons) for one in found] == [("town_z18_0", 12, len(HOUSES))]
    assert found[0].pieces > len(HOUSES)
    back, grid = read(tmp_path / "out" / "town_z18_0.tif")
    assert (back.values == pixels).all()
    assert back.valid.all()
    (sample,) = read_dataset(tmp_path / "out").splits["train"]
    assert (sample.labels.read(Window(0, 0, *grid.shape)).classes[..., 0] == mask(HOUSES, grid.shape)).all()
    areas = sorted(shape.area for shape in sample.labels.geometries)
    np.testing.assert_allclose(areas, sorted(shape.area for shape in HOUSES), atol=0.5)


def test_place_is_that_of_the_names(pixels, tmp_path):
    join_tiles(cut(pixels, HOUSES, tmp_path / "tiles"), tmp_path / "out")
    _, grid = read(tmp_path / "out" / "town_z18_0.tif")
    west, _, _, north = tile_bounds(f"town-{X}-{Y}-{ZOOM}")
    corner = Transformer.from_crs(4326, 3857, always_xy=True).transform(west, north)
    assert grid.crs == CRS("EPSG:3857")
    np.testing.assert_allclose(corner, grid.transform @ (0, 0), atol=1e-4)
    east, south, _, _ = tile_bounds(f"town-{X + 4}-{Y + 2}-{ZOOM}")
    corner = Transformer.from_crs(4326, 3857, always_xy=True).transform(east, south)
    np.testing.assert_allclose(corner, grid.transform @ (4 * SIDE, 3 * SIDE), atol=1e-4)


def test_ground_that_no_tile_shows_is_invalid_and_groups_are_scenes(pixels, tmp_path):
    gaps = {(2, 0), (2, 1), (3, 1)}
    found = join_tiles(cut(pixels, HOUSES, tmp_path / "tiles", leave_out={*gaps, (2, 2)}), tmp_path / "out")
    # (3, 0) and (3, 2) each touch nobody by an edge.
    assert sorted((one.tiles, one.width, one.height) for one in found) == [(1, 32, 32), (1, 32, 32), (6, 64, 96)]
    found = join_tiles(cut(pixels, HOUSES, tmp_path / "some", leave_out=gaps), tmp_path / "whole")
    assert sorted(one.tiles for one in found) == [1, 8]
    (large,) = (one for one in found if one.tiles == 8)
    back, _ = read(tmp_path / "whole" / f"{large.name}.tif")
    there = np.ones((3 * SIDE, 4 * SIDE), bool)
    for column, row in {*gaps, (3, 0)}:
        there[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = False
    assert (back.valid == there).all()
    assert (back.values == pixels * there[..., None]).all()


def test_a_long_diagonal_chain_takes_little_room(tmp_path):
    stairs = {(i, i) for i in range(24)} | {(i + 1, i) for i in range(23)}
    pixels = np.random.default_rng(0).integers(0, 255, (24 * SIDE, 24 * SIDE, 3), np.uint8)
    gaps = {(x, y) for x in range(24) for y in range(24)} - stairs
    data = cut(pixels, HOUSES[:1], tmp_path / "tiles", leave_out=gaps)
    (scene,) = join_tiles(data, tmp_path / "out")
    assert scene.tiles == 47
    # Blocks hold 8 × 8 tiles: three on the diagonal and few beside them are written.
    assert (tmp_path / "out" / "town_z18_0.tif").stat().st_size < 0.5 * pixels.nbytes


def test_classes_are_kept_and_not_joined_with_each_other(pixels, tmp_path):
    data = cut(pixels, HOUSES, tmp_path / "tiles", category=lambda number: 7 + number % 2)
    join_tiles(data, tmp_path / "out")
    frame = geopandas.read_file(tmp_path / "out" / "town_z18_0.gpkg")
    assert frame.groupby(["class_id", "class"]).size().to_dict() == {(7, "c7"): 4, (8, "c8"): 4}
    assert read_dataset(tmp_path / "out").legend.ids == data.legend.ids
    left, right = Piece(shapely.box(2, 2, 8, 6), 0), Piece(shapely.box(0, 2, 5, 6), 1)
    assert len(make_whole({(0, 0): [left], (1, 0): [right]}, (8, 8))) == 2


@pytest.mark.parametrize(
    ("right", "objects"),
    [((0, 2, 5, 6), 1), ((0, 5.99, 5, 8), 2), ((0, 4, 5, 8), 1), ((0.5, 2, 5, 6), 2), ((0, 0, 5, 2), 2)],
    ids=["across", "neighbour in a row", "half of it", "not on the edge", "a corner"],
)
def test_a_stretch_of_the_edge_must_be_shared(right, objects):
    tiles = {(0, 0): [Piece(shapely.box(2, 2, 8, 6), 0)], (1, 0): [Piece(shapely.box(*right), 0)]}
    found = make_whole(tiles, (8, 8))
    assert len(found) == objects
    assert sum(piece.geometry.area for piece in found) == pytest.approx(24 + shapely.box(*right).area)


def test_gaps_of_a_hundredth_of_a_pixel_are_closed_and_what_hangs_over_is_cut():
    left, right = shapely.box(2, 2, 7.99, 6), shapely.box(0.01, 2, 3, 6)
    (one,) = make_whole({(0, 0): [Piece(left, 0)], (1, 0): [Piece(right, 0)]}, (8, 8))
    assert one.geometry.equals(shapely.box(2, 2, 11, 6))
    (one,) = make_whole({(0, 0): [Piece(shapely.box(2, 2, 9, 6), 0)]}, (8, 8))
    assert one.geometry.equals(shapely.box(2, 2, 8, 6))


def test_tiles_of_other_zooms_sizes_and_names_stay_apart(pixels, tmp_path):
    data = cut(pixels, HOUSES, tmp_path / "tiles")
    samples = data.splits["train"]
    other = replace(samples[1], shape=(64, 64))
    plans = plan_scenes([samples[0], other, replace(samples[1], name=samples[1].name.replace("town", "village"))])
    assert [(plan.name, len(plan.tiles)) for plan in plans] == [
        ("town_z18_32px_0", 1),
        ("town_z18_64px_0", 1),
        ("village_z18_0", 1),
    ]
    with pytest.raises(DataError, match="places of their own"):
        plan_scenes([samples[0], replace(samples[1], name=samples[0].name)])


def test_rows_and_columns_are_joined_without_a_crs_where_they_fit(pixels, tmp_path):
    (scene,) = join_tiles(cut(pixels, HOUSES, tmp_path / "tiles", name="town_r{r}_c{c}"), tmp_path / "out")
    assert (scene.name, scene.polygons, scene.gsd_m) == ("town_0", len(HOUSES), None)
    (sample,) = read_dataset(tmp_path / "out").splits["train"]
    assert (read(sample.image)[0].values == pixels).all()
    assert (sample.labels.read(Window(0, 0, 96, 128)).classes[..., 0] == mask(HOUSES, (96, 128))).all()
    shuffled = pixels.reshape(96, 4, SIDE, 3)[:, ::-1].reshape(pixels.shape)
    found = join_tiles(cut(shuffled, HOUSES, tmp_path / "odd", name="town_r{r}_c{c}"), tmp_path / "apart")
    assert len(found) == 12


def test_what_has_no_place_is_left_as_it_is(pixels, tmp_path):
    data = cut(pixels, HOUSES, tmp_path / "tiles", name="site {x} of {y} here")
    assert all(one.tiles == 1 for one in join_tiles(data, tmp_path / "out"))
    again = {sample.name: sample for sample in read_dataset(tmp_path / "out").splits["train"]}
    for sample in data.splits["train"]:
        assert again[sample.name].image.read_bytes() == sample.image.read_bytes()
        window = Window(0, 0, SIDE, SIDE)
        assert (again[sample.name].labels.read(window).classes == sample.labels.read(window).classes).all()


def test_masks_are_joined_on_the_same_grid(pixels, tmp_path):
    truth = mask(HOUSES, (96, 128)).astype(np.uint8) * 255
    for row in range(3):
        for column in range(4):
            part = np.s_[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            for folder, values in {"images": pixels, "masks": truth}.items():
                (tmp_path / "tiles").mkdir(exist_ok=True)
                write(tmp_path / "tiles" / folder / f"town-{X + column}-{Y + row}-18.png", values[part])
    join_tiles(read_dataset(tmp_path / "tiles"), tmp_path / "out")
    (sample,) = read_dataset(tmp_path / "out").splits["train"]
    assert (read(sample.image)[0].values == pixels).all()
    assert read(tmp_path / "out" / "town_z18_0_mask.tif")[1].transform == read(sample.image)[1].transform
    seen = sample.labels.read(Window(0, 0, 96, 128))
    assert seen.labelled.all()
    assert (seen.classes[..., 0] * 255 == truth).all()


def test_regions_to_be_ignored_stay_so(pixels, tmp_path):
    data = cut(pixels, HOUSES, tmp_path / "tiles")
    path = tmp_path / "tiles" / "annotation.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    data = read_dataset(tmp_path / "tiles")
    (scene,) = join_tiles(data, tmp_path / "out")
    assert scene.polygons is None
    (sample,) = read_dataset(tmp_path / "out").splits["train"]
    (plan,) = plan_scenes(data.splits["train"])
    assert not all(tile.sample.labels.read(Window(0, 0, SIDE, SIDE)).labelled.all() for tile in plan.tiles)
    for tile in plan.tiles:
        want, got = tile.sample.labels.read(Window(0, 0, SIDE, SIDE)), sample.labels.read(tile.window)
        assert (want.labelled == got.labelled).all()
        assert (want.classes[want.labelled] == got.classes[want.labelled]).all()


def test_other_layouts_and_full_folders_are_refused_and_failure_leaves_nothing(pixels, tmp_path):
    data = cut(pixels, HOUSES, tmp_path / "tiles")
    join_tiles(data, tmp_path / "out")
    with pytest.raises(SettingError, match="empty folder"):
        join_tiles(data, tmp_path / "out")
    with pytest.raises(SettingError, match="coco or pairs"):
        join_tiles(read_dataset(tmp_path / "out"), tmp_path / "again")
    write(data.splits["train"][5].image, pixels[:SIDE, :SIDE, 0])
    with pytest.raises(DataError, match="alike"):
        join_tiles(data, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tiles"]


@pytest.fixture(scope="module")
def real(data, tmp_path_factory):
    """Tiles of the smaller real places, and what they were joined to."""
    out = tmp_path_factory.mktemp("real") / "joined"
    tiles = read_dataset(data / "buildings")
    few = {
        "train": tuple(s for s in tiles.splits["train"] if s.name.startswith(("kampala", "banepa_np", "banepa_no"))),
        "val": tiles.splits["val"],
    }
    tiles = replace(tiles, splits=few)
    return tiles, out, join_tiles(tiles, out)


def test_real_tiles_lie_at_their_place_with_their_labels(real):
    tiles, out, found = real
    joined = read_dataset(out)
    assert not joined.problems
    for split, samples in joined.splits.items():
        scenes = {sample.name: sample for sample in samples}
        for plan in plan_scenes(tiles.splits[split]):
            for tile in plan.tiles[::5]:
                scene, whole = scenes[plan.name], Window(0, 0, *tile.sample.shape)
                with Scene(scene.image) as there, Scene(tile.sample.image) as here:
                    assert (there.read(tile.window).values == here.read(whole).values).all()
                want, got = (
                    x[..., 0] > 0
                    for x in (tile.sample.labels.read(whole).classes, scene.labels.read(tile.window).classes)
                )
                # Vertices in hundredths of a pixel move an outline by less than the pixel it runs through.
                assert not (binary_dilation(~want) & binary_dilation(want) < (want != got)).any()
                assert (want != got).mean() < 0.0005
    assert all(one.polygons <= one.pieces for one in found)
    assert sum(one.polygons for one in found) < 0.85 * sum(one.pieces for one in found)


def test_one_place_has_the_same_objects_at_every_zoom(real):
    """Tiles of three zooms cut the same buildings at other places, so what they are joined to tells the same."""
    counts = {one.name: one.polygons for one in real[2]}
    for place, groups in {"banepa_np-OAM": (0, 1), "catanduanes_ph-OAM": (0, 1), "kampala_ug-OAM": (0, 1)}.items():
        for group in groups:
            zooms = [counts[f"{place}_z{zoom}_{group}"] for zoom in (19, 20, 21)]
            assert max(zooms) - min(zooms) <= 1, (place, group, zooms)


@pytest.mark.parametrize("name", ["kampala_ug_z20_1", "catanduanes_ph_z20_0"])
def test_scenes_of_the_same_places_agree(real, data, name):
    """Mosaics that others made of the same tiles: the same grid, pixels but for JPEG, labels but for single pixels."""
    _, out, _ = real
    theirs, grid = read(data / "scenes" / f"{name}.tif")
    truth = read(data / "scenes" / f"{name}_mask.tif")[0].values[..., 0] > 0
    place = name.removesuffix(name[-6:])
    met = 0
    for split, samples in read_dataset(out).splits.items():
        for sample in samples:
            mine, its = (None, None) if f"{place}-OAM_z20" not in sample.name else read(sample.image)
            if mine is None or not np.allclose(grid.bounds, its.bounds, atol=1e-3):
                continue
            met += 1
            assert np.allclose(tuple(its.transform), tuple(grid.transform), atol=1e-3), split
            assert np.abs(mine.values.astype(int) - theirs.values).mean() < 2
            assert ((sample.labels.read(Window(0, 0, *grid.shape)).classes[..., 0] > 0) != truth).sum() < 80
    assert met == 1
