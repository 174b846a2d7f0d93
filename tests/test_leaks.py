"""Leaks: a data set made to have them shows them, and nothing else."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS

from satmask.datasets import read_dataset
from satmask.datasets.dataset import Dataset, Sample, place_of
from satmask.datasets.tile_names import tile_bounds
from satmask.fingerprints import SYMMETRIES
from satmask.grid import Grid
from satmask.labels import PolygonLabels
from satmask.leaks import find_bonds, find_leaks, find_overlaps
from satmask.legend import Legend

LEGEND = Legend.of(["building"])


def sample(path, bounds=None):
    height, width = cv2.imread(str(path)).shape[:2] if path.suffix != ".tif" else (0, 0)
    labels = PolygonLabels(LEGEND, (height, width), [], [])
    return Sample(path.stem, path, (height, width), labels, place_of(path.stem), bounds)


def dataset(**splits):
    return Dataset(None, "coco", LEGEND, {name: tuple(samples) for name, samples in splits.items()})


def test_real_tiles_that_leak_into_validation_are_all_found_and_no_other_pair(data, tmp_path):
    train = [
        tile for tile in read_dataset(data / "buildings").splits["train"] if tile.image.stem.endswith(("-20", "c2"))
    ][:90]
    random = np.random.default_rng(2)
    val, want = [], []
    for number, tile in enumerate(train[::3]):
        way = list(SYMMETRIES)[random.integers(8)]
        turned = SYMMETRIES[way](cv2.imread(str(tile.image)))
        path = tmp_path / f"leak_{number}.{'png' if number % 2 else 'jpg'}"
        cv2.imwrite(str(path), turned, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 95))])
        val.append(sample(path))
        want.append(((tile.name, path.stem), way))
    calls = []
    leaks = find_leaks(dataset(train=train, val=val), progress=calls.append)
    assert [(pair.names, pair.symmetry) for pair in leaks.across] == want
    assert leaks.within == ()
    assert leaks.problems == ()
    assert calls == [1] * (len(train) + len(val))


@pytest.mark.parametrize("name", ["buildings", "scenes"])
def test_real_data_without_leaks_has_none(data, name):
    whole = read_dataset(data / name)
    found = find_leaks(
        replace(whole, splits={split: samples[:: 1 + len(samples) // 300] for split, samples in whole.splits.items()})
    )
    assert (found.duplicates, found.overlaps, found.places, found.problems) == ((), (), (), ())


def test_exact_copies_are_told_from_compressed_ones(data, tmp_path):
    tile = next((data / "buildings" / "train" / "images").glob("banepa512*"))
    image = cv2.imread(str(tile))
    cv2.imwrite(str(tmp_path / "exact.png"), np.rot90(image, 2))
    cv2.imwrite(str(tmp_path / "near.jpg"), np.rot90(image, 2), [cv2.IMWRITE_JPEG_QUALITY, 80])
    cv2.imwrite(str(tmp_path / "plain.png"), image)
    paths = [tmp_path / name for name in ("plain.png", "exact.png", "near.jpg")]
    found = find_leaks(dataset(train=[sample(paths[0])], val=[sample(path) for path in paths[1:]]))
    assert [(pair.names[1], pair.exact, pair.symmetry) for pair in found.across] == [
        ("exact", True, "turned 180°"),
        ("near", False, "turned 180°"),
    ]
    assert [pair.names for pair in found.within] == [("exact", "near")]


def test_flat_tiles_leak_only_as_exact_copies(tmp_path):
    for name, value in (("a", 0), ("b", 0), ("c", 3)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((40, 40, 3), value, np.uint8))
    a, b, c = (sample(tmp_path / f"{name}.png") for name in "abc")
    assert [pair.names for pair in find_leaks(dataset(train=[a], val=[b, c])).across] == [("a", "b")]


def test_broken_images_are_named_and_the_rest_is_compared(tmp_path):
    image = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    samples = []
    for name in ("a", "broken", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        samples.append(sample(tmp_path / f"{name}.png"))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    bonds = find_bonds(samples)
    assert list(bonds.problems) == [1]
    assert [(twin.first, twin.second, twin.exact) for twin in bonds.twins] == [(0, 2, True)]


@pytest.mark.parametrize("angle", [0, 20])
def test_ground_seen_from_two_splits_is_found_and_touching_edges_are_not(tmp_path, angle):
    """Tiles 100 m wide, also turned against north, the second half over the first, the third beside it."""
    random = np.random.default_rng(1)
    samples = []
    for name, east in (("a", 0), ("b", 50), ("c", 100), ("d", 400)):
        turned = rasterio.Affine.translation(500_000, 6_600_000) @ rasterio.Affine.rotation(angle)
        transform = turned @ rasterio.Affine.translation(east, 0) @ rasterio.Affine.scale(2, -2)
        options = {"driver": "GTiff", "height": 50, "width": 50, "count": 1, "dtype": "uint8", "crs": "EPSG:32637"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=transform, **options) as file:
            file.write(random.integers(0, 255, (1, 50, 50), np.uint8))
        samples.append(sample(tmp_path / f"{name}.tif"))
    found = find_leaks(dataset(train=samples[:1], val=samples[1:])).overlaps
    assert [overlap.names for overlap in found] == [("a", "b")]
    assert found[0].share == pytest.approx(0.5, abs=0.001)


def test_overlaps_are_those_of_shapely():
    random = np.random.default_rng(4)
    corners = random.random((60, 2))
    boxes = [
        shapely.box(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, random.random((60, 2)) / 5, strict=True)
    ]
    want = {
        (one, other): boxes[one].intersection(boxes[other]).area / min(boxes[one].area, boxes[other].area)
        for one in range(60)
        for other in range(one + 1, 60)
    }
    found = {(one, other): share for one, other, share in find_overlaps(boxes)}
    assert found.keys() == {pair for pair, share in want.items() if share > 0.01}
    assert all(share == pytest.approx(want[pair]) for pair, share in found.items())
    assert list(find_overlaps([None, None])) == list(find_overlaps([])) == []


def test_a_place_in_two_splits_is_named(data):
    found = find_leaks(read_dataset(data / "mumbai"))
    assert [(shared.place, shared.images) for shared in found.places] == [("jp22", {"train": 50, "val": 23})]
    assert found.duplicates == ()


def test_tile_names_give_the_bounds_of_web_maps():
    """By the numbers of the tile below: each zoom halves the sides."""
    zoom, column, row = 20, 638584, 541920
    west, south, east, north = tile_bounds(f"zanzibar_tz-OAM-{column}-{row}-{zoom}")
    halves = [tile_bounds(f"x-{2 * column + x}-{2 * row + y}-{zoom + 1}") for y in (0, 1) for x in (0, 1)]
    assert shapely.union_all([shapely.box(*half) for half in halves]).bounds == pytest.approx(
        (west, south, east, north)
    )
    side = 40_075_016.685578488 / 2**zoom
    left, top = column * side - 20_037_508.342789244, 20_037_508.342789244 - row * side
    transform = rasterio.Affine(side / 256, 0, left, 0, -side / 256, top)
    assert Grid(256, 256, transform, CRS("EPSG:3857")).degrees == pytest.approx((west, south, east, north), abs=1e-9)


@pytest.mark.parametrize(
    "name",
    ["scene-2019-10-12", "a-2019-10-24", "tile_3-28-12", "x-1-2-30", "x-5-6-20", "bn_r0_c0", "000000012345", "12-13", "x-600000_541920-20",
     "6110_1_2", "tile1_image_part_001", "x-1200000-541920-20", ""],
)  # fmt: skip
def test_names_that_only_look_like_tiles_have_no_bounds(name):
    assert tile_bounds(name) is None
