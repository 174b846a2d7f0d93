"""Decisions: thresholds, smallest areas and merging rules give masks, as data says and in its order."""

import json

import numpy as np
import pytest
import rasterio
from scipy import ndimage
from shapely import box

from satmask.cli import main
from satmask.decisions import Decision, Merge, Shape, choose_objects, merge, read_decision
from satmask.errors import SettingError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.rasters import legend_tags
from satmask.scoring import rasters
from satmask.scoring.labels import score_labels
from satmask.scoring.pixels import confusion
from satmask.windows import Window

WATER = Legend.of(["river", "pond", "house"])


def noise(seed, shape=(23, 31, 3)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("least", [0, 1, 2, 5, 11.5, 1000])
def test_small_groups_are_dropped_as_scipy_counts_them(least):
    mask = noise(1)[..., 0] > 0.55
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum(mask, labels, range(count + 1))
    assert np.array_equal(choose_objects(mask, least), mask & (sizes[labels] >= least))


def test_thresholds_are_compared_in_float32_and_nan_reaches_none():
    said = np.array([[[0.7, np.nan, 0.5]]], np.float32)
    assert Decision(WATER, thresholds=(0.7, 0.0, 0.5)).masks(said).tolist() == [[[True, False, True]]]


def test_small_objects_go_before_they_can_clear_anything():
    said = np.zeros((5, 5, 3), np.float32)
    said[2, 2, 0], said[..., 1] = 1, 1
    rules = (Merge("river", ("pond",)),)
    assert not Decision(WATER, merges=rules).masks(said)[2, 2, 1]
    assert Decision(WATER, min_area_px=(2, 0, 0), merges=rules).masks(said)[..., 1].all()


def test_shapes_keep_what_is_large_slender_or_cut_off():
    mask = np.zeros((20, 30), bool)
    mask[2:8, 2:8], mask[10, 2:22], mask[13:16, 13:16], mask[17:20, 25:28] = True, True, True, True
    kept = {
        key: choose_objects(mask, 0, Shape("river", **{key: value})) for key, value in
        (("large_px", 30), ("slender", 10), ("edge_px", 5))
    }  # fmt: skip
    assert kept["large_px"].sum() == 36
    assert kept["slender"].sum() == 20
    assert kept["edge_px"].sum() == 9
    all_of_them = choose_objects(mask, 10, Shape("river", 30, 10, 5))
    assert np.array_equal(all_of_them, kept["large_px"] | kept["slender"])


def test_large_water_is_a_river_and_the_rest_a_pond():
    said = (noise(4, (40, 50, 1)) > 0.45).astype(np.float32)
    decision = Decision(
        Legend.of(["river", "pond"]), shapes=(Shape("river", large_px=25),), merges=(Merge("river", ("pond",)),)
    )
    masks = decision.masks(np.repeat(said, 2, axis=-1))
    assert not decision.local
    assert masks[..., 0].any()
    assert np.array_equal(masks.sum(axis=-1), said[..., 0])
    assert np.array_equal(masks[..., 0], choose_objects(said[..., 0] > 0, 25))


def test_rules_are_applied_in_order():
    everything = np.ones((1, 1, 3), bool)
    first, second = Merge("river", ("pond",)), Merge("pond", ("house",))
    assert merge(everything, WATER, [first, second]).tolist() == [[[True, False, True]]]
    assert merge(everything, WATER, [second, first]).tolist() == [[[True, False, False]]]
    assert everything.all()


def test_bands_one_by_one_decide_as_all_together():
    decision = Decision(WATER, (0.4, 0.6, 0.5), (3, 4, 0), merges=(Merge("house", ("river", "pond")),))
    said = noise(2)
    together = decision.masks(said)
    assert np.array_equal(decision.masks(said[..., channel] for channel in range(3)), together)
    assert not (together[..., 2] & together[..., 0]).any()
    with pytest.raises(SettingError, match="of 3 classes"):
        decision.masks(said[..., channel] for channel in range(2))


def test_windows_can_be_decided_apart_where_the_decision_is_local():
    decision = Decision(WATER, merges=(Merge("house", ("river",)),))
    said = noise(3)
    assert decision.local
    assert np.array_equal(decision.masks(said)[4:9, 5:20], decision.masks(said[4:9, 5:20]))
    assert not Decision(WATER, min_area_m2=(0, 0, 5)).local


def test_square_metres_count_where_a_pixel_has_a_size():
    decision = Decision(WATER, min_area_px=(10, 0, 0), min_area_m2=(1, 8, 0))
    assert decision.smallest_px(0.5).tolist() == [10, 32, 0]
    assert decision.smallest_px().tolist() == [10, 0, 0]


def test_a_file_changes_what_it_names(tmp_path):
    path = tmp_path / "decision.toml"
    path.write_text(
        '[[class]]\nname = "pond"\nthreshold = 0.3\nmin_area_px = 40\nslender = 8\n'
        '[[merge]]\nwhere = "river"\nclears = ["pond", "house"]\n'
    )
    start = Decision(WATER, thresholds=(0.9, 0.9, 0.9))
    found = read_decision(path, start)
    assert found == Decision(
        WATER, (0.9, 0.3, 0.9), (0, 40, 0), (), (Merge("river", ("pond", "house")),), (Shape("pond", slender=8),)
    )
    assert Decision.from_tags(found.tags(), WATER) == found
    assert start.updated(found.to_dict()) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[class]]\nname = "lake"', "river, pond, house, got 'lake' in d.toml"),
        ('[[class]]\nname = "pond"\nthreshold = 1.5', "thresholds from 0 to 1"),
        ('[[class]]\nname = "pond"\nthreshold = "half"', "a number as threshold, got 'half'"),
        ('[[class]]\nname = "pond"\nsmallest = 3', "separate_m, got 'smallest'"),
        ('[[merge]]\nwhere = "pond"\nclears = ["pond"]', "other than its own"),
        ('[[merge]]\nclass = "pond"', "must have `where`"),
        ('[[class]]\nname = "pond"\nlarge_px = -2', "Shape must have"),
        ("class = 3", r"tables \[\[class\]\]"),
        ("thresholds = 3", "got 'thresholds'"),
        ("[[", "must be TOML or JSON"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, message):
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(SettingError, match=message):
        read_decision(tmp_path / "d.toml", Decision(WATER))


def test_classes_that_exclude_each_other_have_no_merging_rules():
    legend = Legend.of(["ground", "house"], exclusive=True)
    with pytest.raises(SettingError, match="classes that overlap"):
        Decision(legend, merges=(Merge("house", ("ground",)),))


def write_probabilities(path, said, decision):
    settings = {"driver": "GTiff", "dtype": "float32", "height": said.shape[0], "width": said.shape[1]}
    with rasterio.open(path, "w", count=said.shape[2], **settings) as file:
        file.write(np.moveaxis(said, -1, 0))
        file.descriptions = [f"{name} probability" for name in decision.legend.names]
        file.update_tags(**legend_tags(decision.legend, decision.thresholds), **decision.tags())
    return path


@pytest.mark.parametrize("least", [0, 6])
def test_probabilities_are_scored_as_the_raster_says(tmp_path, monkeypatch, least):
    monkeypatch.setattr(rasters, "SIDE", 16)  # objects cross windows
    said = noise(6, (30, 40, 3))
    decision = Decision(WATER, (0.4, 0.6, 0.5), (least, 0, 0), merges=(Merge("house", ("river",)),))
    path = write_probabilities(tmp_path / "a.probabilities.tif", said, decision)
    # Classes in another order than the raster's, and one that it doesn't know.
    legend = Legend.of({3: "house", 1: "river", 2: "pond", 9: "ice"})
    labels = PolygonLabels(legend, (30, 40), [box(3, 3, 30, 20), box(10, 2, 38, 28), box(0, 0, 9, 30)], [0, 1, 2])
    masks = np.concatenate([decision.masks(said)[..., [2, 0, 1]], np.zeros((30, 40, 1), bool)], axis=-1)
    truth = labels.read(Window(0, 0, 30, 40)).classes
    np.testing.assert_array_equal(score_labels(path, labels).iou, confusion(truth, masks, legend).iou)


def test_polygons_are_decided_as_the_raster_says(tmp_path, capsys):
    said = noise(6, (30, 40, 3))
    decision = Decision(WATER, (0.4, 0.6, 0.5), (6, 0, 0), merges=(Merge("house", ("river",)),))
    write_probabilities(tmp_path / "a.probabilities.tif", said, decision)
    arguments = ["polygons", str(tmp_path / "a.probabilities.tif"), "--out", str(tmp_path / "a.gpkg"), "--json"]
    (tmp_path / "d.toml").write_text('merge = []\n[[class]]\nname = "river"\nmin_area_px = 0\n')
    for more, wanted in (
        ([], decision),
        (["--threshold", "0.7"], decision.with_thresholds([0.7])),
        (["--decision", str(tmp_path / "d.toml")], Decision(WATER, (0.4, 0.6, 0.5))),
    ):
        assert main([*arguments, *more]) == 0
        found = json.loads(capsys.readouterr().out)["classes"]
        masks = wanted.masks(said)
        assert found == {name: ndimage.label(masks[..., at])[1] for at, name in enumerate(WATER.names)}


@pytest.mark.parametrize("turns", range(4))
def test_each_edge_of_the_image_may_cut_an_object_off(turns):
    mask = np.zeros((9, 12), bool)
    mask[3:6, :2] = mask[3:6, 5:7] = True  # six pixels at an edge, and six inside
    at_the_edge = np.zeros_like(mask)
    at_the_edge[3:6, :2] = True
    mask, at_the_edge = np.rot90(mask, turns), np.rot90(at_the_edge, turns)
    np.testing.assert_array_equal(choose_objects(mask, 0, Shape("river", edge_px=6)), at_the_edge)
    assert not choose_objects(mask, 0, Shape("river", edge_px=7)).any()
