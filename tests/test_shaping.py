"""Laws of shaping in a stream: the same features whatever the strips, none of which meet, and as soon as can be."""

import cv2
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from pyproj import CRS
from shapely import affinity

import satmask.shaping
from satmask.cleaning import Cleaning
from satmask.errors import SettingError
from satmask.features import Shaping, Steps, find_features, stream_features
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.masks import rasterise
from satmask.polygons import find_polygons
from satmask.separation import separate
from satmask.windows import Window

SHAPE = (180, 150)
GRIDS = [
    Grid(*SHAPE, Affine(0.25, 0, 500_000, 0, -0.25, 4_000_000), CRS("EPSG:32633")),
    Grid(*SHAPE, Affine(0.25, 0, 500_000, 0, -0.25, 4_000_000) @ Affine.rotation(33), CRS("EPSG:32633")),
    Grid(*SHAPE, Affine(4e-6, 0, 10, 0, -2e-6, 60), CRS("EPSG:4326")),
]
HOUSES, TWO = Legend.of(["house"]), Legend.of(["house", "tree"])
SHAPINGS = {
    "nothing": Shaping(),
    "parted": Shaping(separate_depth=0.5),
    "parted by probability": Shaping(separate_by="probability", separate_depth=0.2),
    "simplified": Shaping(simplify_m=0.3),
    "squared": Shaping(square=True),
    "all": Shaping(Cleaning(0.3, 0.2, 1, 2), separate_depth={1: 0.4}, simplify_m=0.35, square=True),
}


def town(seed=1):
    """Houses at any angle that nearly touch, and some that do, with ragged edges."""
    random = np.random.default_rng(seed)
    houses = []
    for place in range(30):
        house = affinity.rotate(shapely.box(0, 0, *random.uniform(12, 27, 2)), random.uniform(0, 90), origin="centroid")
        houses.append(affinity.translate(house, 29 * (place % 5) - 2, 29 * (place // 5) - 2))
    mask = rasterise(houses, *SHAPE) > 0
    edge = mask ^ np.roll(mask, 1, 0) | mask ^ np.roll(mask, 1, 1)
    return mask ^ (edge & (random.random(SHAPE) < 0.15))


def wood(seed):
    noise = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) > 0.51


def scenes():
    said = np.stack([cv2.GaussianBlur(town(2).astype(np.float32), (0, 0), 2), np.full(SHAPE, 0.7, np.float32)], axis=-1)
    ids = np.where(wood(4), np.uint8(2), town().astype(np.uint8))
    return {
        "one class": (town().astype(np.uint8), HOUSES, said[..., :1]),
        "ids": (ids, TWO, said),
        "overlapping": (np.stack([town(), wood(4)], axis=-1), TWO, said),
    }


def streamed(classes, legend, said, shaping, *, rows, grid=GRIDS[0], steps=None):
    def read(window):
        return classes[window.slices], said[window.slices]

    frames = [*stream_features(read, grid, legend, shaping=shaping, rows=rows, steps=steps)]

    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True), [len(one) for one in frames]


def listed(frame):
    """Rows as plain values, in an order of their own."""
    rows = frame.drop(columns="geometry").round(9).astype(str).agg(" ".join, axis=1)
    return sorted(zip(shapely.to_wkb(shapely.normalize(frame.geometry.to_numpy())), rows, strict=True))


@pytest.mark.parametrize("name", SHAPINGS)
@pytest.mark.parametrize("kind", ["one class", "ids", "overlapping"])
def test_features_are_the_same_whatever_the_strips(kind, name):
    classes, legend, said = scenes()[kind]
    shaping = SHAPINGS[name]
    whole = find_features(classes, GRIDS[0], legend, probabilities=said, shaping=shaping)
    assert len(whole.frame) > 10
    for rows in (29,) if kind == "ids" else (8,):
        steps = Steps(drawing=True)
        frame, _ = streamed(classes, legend, said, shaping, rows=rows, steps=steps)
        assert listed(frame) == listed(whole.frame)
        assert steps.told() == whole.steps


@pytest.mark.parametrize("name", ["parted", "parted by probability"])
@pytest.mark.parametrize("kind", ["one class", "ids", "overlapping"])
def test_objects_are_parted_together_as_they_are_one_by_one(kind, name, monkeypatch):
    classes, legend, said = scenes()[kind]
    given = {"probabilities": said, "shaping": SHAPINGS[name]}
    together = find_features(classes, GRIDS[0], legend, **given)
    for rule in ("EMPTY", "LITTLE_PX"):
        monkeypatch.setattr(satmask.shaping, rule, 0)
    drawn = []
    monkeypatch.setattr(
        satmask.shaping, "rasterise", lambda own, *rest, **more: drawn.append(len(own)) or rasterise(own, *rest, **more)
    )
    alone = find_features(classes, GRIDS[0], legend, **given)
    assert max(drawn) == 1 < len(drawn)
    assert listed(together.frame) == listed(alone.frame)


@pytest.mark.parametrize("grid", GRIDS[1:])
def test_features_are_the_same_on_every_grid(grid):
    classes, legend, said = scenes()["one class"]
    whole = find_features(classes, grid, legend, probabilities=said, shaping=SHAPINGS["all"])
    frame, _ = streamed(classes, legend, said, SHAPINGS["all"], rows=16, grid=grid)
    assert listed(frame) == listed(whole.frame)


@pytest.mark.parametrize("seed", range(3))
def test_shaped_objects_of_different_strips_do_not_meet(seed):
    frame, _ = streamed(town(seed).astype(np.uint8), HOUSES, np.ones((*SHAPE, 1), np.float32), SHAPINGS["all"], rows=9)
    shapes = frame.geometry.to_numpy()
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(shapes[one], shapes[other]))[one != other]
    assert shared.max(initial=0) < 1e-6
    assert frame["right_angles"].mean() > 0.5
    assert shapely.is_valid(shapes).all()


def test_features_come_as_soon_as_nothing_can_join_them():
    mask = np.zeros((400, 40), np.uint8)
    for top in range(0, 400, 50):
        mask[top + 5 : top + 20, 5:30] = 1
    grid = Grid(400, 40, GRIDS[0].transform, GRIDS[0].crs)
    _, counts = streamed(
        mask, HOUSES, np.ones((400, 40, 1), np.float32), Shaping(simplify_m=0.3, square=True), rows=25, grid=grid
    )
    assert counts[:-1] == [0, 1] * 8
    mask[:, 39] = 1  # what is open holds back what is near it, and what began after it
    _, counts = streamed(mask, HOUSES, np.ones((400, 40, 1), np.float32), Shaping(square=True), rows=25, grid=grid)
    assert counts[:-1] == [0] * 16


def test_without_shaping_the_polygons_are_those_of_find_polygons():
    for classes, legend, said in scenes().values():
        frame, _ = streamed(classes, legend, said, Shaping(), rows=11)
        plain = find_polygons(classes, GRIDS[0], legend, probabilities=said)
        assert listed(frame[list(plain.columns)]) == listed(plain)


def test_windows_that_are_read_do_not_grow_with_the_scene():
    mask, read = np.tile(town(3).astype(np.uint8), (6, 1)), []

    def note(window):
        read.append(window.height)
        return mask[window.slices], None

    grid = Grid(*mask.shape, GRIDS[0].transform, GRIDS[0].crs)
    shaping = Shaping(Cleaning(0.3, 0, 1, 2), separate_depth=0.5, simplify_m=0.3, square=True)
    assert sum(map(len, stream_features(note, grid, HOUSES, shaping=shaping, rows=32))) > 100
    assert max(read) <= max(32 + 2 * 4, SHAPE[0])


def test_exclusive_classes_are_cleaned_as_a_whole_only():
    legend = Legend.of(["ground", "house"], exclusive=True)
    classes = np.where(town(), legend.ids[1], legend.ids[0]).astype(np.uint8)
    shaping = Shaping(Cleaning(min_area_m2=3))
    found = find_features(classes, GRIDS[0], legend, shaping=shaping)
    assert found.frame["area_px"].sum() == classes.size
    with pytest.raises(SettingError, match="as a whole"):
        next(stream_features(lambda at: (classes[at.slices], None), GRIDS[0], legend, shaping=shaping))


def test_objects_are_parted_as_if_there_were_no_other():
    mask = wood(5) | town(4)
    whole = separate(mask, depth=1.5)
    groups = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    for group in range(1, groups.max() + 1):
        alone = separate(groups == group, depth=1.5)
        inside = groups == group
        pairs = {*zip(whole[inside].tolist(), alone[inside].tolist(), strict=True)}
        assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    assert whole.max() > groups.max()


def test_window_is_what_reading_is_asked_for():
    asked = []
    mask = town().astype(np.uint8)

    def read(window):
        asked.append(window)
        return mask[window.slices], None

    list(stream_features(read, GRIDS[0], HOUSES, rows=50))
    assert asked[1:] == [Window(top, 0, min(50, 180 - top), 150) for top in range(0, 180, 50)]
