"""Judging and pointing: what the library says of the same pixels, window by window and at single thresholds."""

import json

import numpy as np
import pytest
import shapely

from satmask.errors import SettingError
from satmask.polygons import find_polygons, read_polygons, write_polygons
from satmask.scoring.pixels import confusion
from satmask.scoring.rasters import score_rasters
from satmask.uncertainty import entropy
from satmask.viewing import judging
from satmask.viewing.counting import CELL, count
from satmask.viewing.judging import Judge, overall
from satmask.viewing.pointing import describe, features
from satmask.viewing.shelf import open_shelf
from viewed import LEGEND, blobs, write_mask, write_prediction, write_raster

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SHAPE = (300, 1100)  # neither side a multiple of a window's


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A place in UTM with probabilities, classes, truth that is moved a little, and polygons."""
    folder = tmp_path_factory.mktemp("town")
    said = blobs(SHAPE, side=25)
    said[:40, :60] = np.nan
    classes = write_prediction(folder, "town", said)
    truth = np.roll(classes, (4, -6), axis=(0, 1))
    truth[truth == LEGEND.nodata] = 0
    write_mask(folder / "town_mask.tif", truth)
    (place,) = open_shelf(folder).places
    grid = place.grid
    write_polygons(find_polygons(classes, grid, LEGEND, probabilities=np.nan_to_num(said)), folder / "town.gpkg")
    (place,) = open_shelf(folder).places
    return place, said, classes, truth


def truth_masks(truth):
    return truth[..., None] == np.asarray(LEGEND.ids)


def test_scores_are_those_of_the_library(town):
    place, *_ = town
    folder = place.files.folder
    expected = score_rasters(folder / "town.classes.tif", folder / "town_mask.tif", LEGEND)
    assert Judge(place).scores() == expected.to_dict() | {"legend": place.legend.to_dict()}


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.2, 0.5, 0.7, 0.75, 0.999])
@pytest.mark.parametrize("class_id", [1, 2])
def test_a_slider_looks_up_what_a_threshold_scores(town, threshold, class_id):
    place, said, _, truth = town
    known = np.isfinite(said).all(axis=-1)
    masks = np.where(known[..., None], said, 0) >= np.float32(threshold)
    expected = confusion(truth_masks(truth), masks, LEGEND, known)
    found = Judge(place).at(class_id, threshold)
    for name in ("iou", "precision", "recall", "f1"):
        assert found[name] == pytest.approx(getattr(expected, name)[class_id - 1], rel=1e-12)


def test_the_curve_and_the_histogram_are_of_the_same_pixels(town):
    place, said, _, truth = town
    judge = Judge(place)
    curve, histogram = judge.curve(1), judge.histogram(1, bins=20)
    for at, threshold in enumerate(curve["threshold"]):
        assert {name: curve[name][at] for name in ("iou", "precision", "recall")}.items() <= judge.at(
            1, threshold
        ).items()
    assert curve["best"]["iou"] >= max(curve["iou"])
    known = np.isfinite(said).all(axis=-1)
    edges = np.asarray(histogram["edges"], np.float32)
    edges[-1] = 2
    for name, there in (("inside", truth == 1), ("outside", truth != 1)):
        np.testing.assert_array_equal(histogram[name], np.histogram(said[..., 0][known & there], edges)[0])


def test_windows_add_up_to_the_scene(town):
    place, said, classes, truth = town
    judge = Judge(place)
    counts = judge.counts()
    known = classes != LEGEND.nodata
    masks = [side[..., None] == np.asarray(LEGEND.ids) for side in (truth, classes)]
    missed = (masks[0] & ~masks[1]).any(-1) & known
    unsure = entropy(said, exclusive=False)
    assert counts.missed.shape == (2, 5)
    for row in range(2):
        for column in range(5):
            here = np.s_[row * CELL : row * CELL + CELL, column * CELL : column * CELL + CELL]
            assert counts.missed[row, column] == missed[here].sum()
            assert counts.uncertainty[row, column] == pytest.approx(np.nanmean(unsure[here]), rel=1e-5)
    worst = judge.windows(by="wrong")
    assert [one.wrong_px for one in worst] == sorted((one.wrong_px for one in worst), reverse=True)
    (south, west), (north, east) = worst[0].box
    assert south < worst[0].point[1] < north
    assert west < worst[0].point[0] < east


def test_nothing_is_counted_twice(town, monkeypatch):
    calls = []
    monkeypatch.setattr(judging, "count", lambda place, **settings: calls.append(place) or count(place, **settings))
    judge = Judge(town[0])
    for threshold in np.linspace(0, 1, 50):
        judge.at(1, float(threshold))
    assert judge.curve(2)
    assert judge.histogram(1)
    assert judge.scores()
    assert len(calls) == 1
    assert judge.done == 1


def test_worst_objects_are_found_where_they_are(tmp_path):
    said = np.zeros((200, 200, 2), np.float32)
    said[20:40, 20:40, 0] = said[100:130, 100:130, 0] = 0.9
    said[60:64, 60:64, 1] = 0.6
    classes = write_prediction(tmp_path, "town", said)
    truth = np.where(classes == 1, 1, 0)
    truth[100:130] = 0  # invented
    truth[150:160, 20:60] = 1  # missed
    truth[20:40, 20:24] = 0  # drawn a fifth too large
    write_mask(tmp_path / "town_mask.tif", truth)
    (place,) = open_shelf(tmp_path).places
    judge = Judge(place)
    found = judge.worst(classes=["house"])
    assert [(one.kind, one.area_px) for one in found] == [("invented", 900), ("missed", 400), ("matched", 320)]
    assert found[2].iou == pytest.approx(0.8)
    for one, (column, row, width, height) in zip(
        found, [(100, 100, 30, 30), (20, 150, 40, 10), (24, 20, 16, 20)], strict=True
    ):
        (south, west), (north, east) = one.box
        corners = place.view.to_pixels(np.array([(west, north), (east, south)]))
        np.testing.assert_allclose(corners, [(column, row), (column + width, row + height)], atol=0.2)
        assert one.area_m2 == pytest.approx(one.area_px * 100, rel=0.01)
    assert [one.kind for one in judge.worst(kinds=["missed"], min_area_px=300)] == ["missed"]
    assert judge.worst(kinds=["missed"], max_area_px=300) == []
    assert [one.class_name for one in judge.worst(classes=["water"])] == ["water"]


def test_the_least_certain_come_first(town):
    place, *_ = town
    found = Judge(place).worst(kinds=["unsure"], count=1000)
    expected = read_polygons(place.files.folder / "town.gpkg")["mean_probability"]
    np.testing.assert_allclose([one.certainty for one in found], np.sort(expected))


def test_scores_of_places_add_up(tmp_path):
    for seed, name in enumerate(["a", "b", "c"]):
        classes = write_prediction(tmp_path, name, blobs((64, 64), seed=seed))
        write_mask(tmp_path / f"{name}_mask.tif", np.roll(classes, seed, axis=0))
    write_raster(tmp_path / "d.tif", np.full((64, 64, 3), 90, np.uint8))
    judges = [Judge(place) for place in open_shelf(tmp_path).places]
    found = overall(judges)
    total = sum((judge.counts().confusion for judge in judges[1:3]), judges[0].counts().confusion)
    assert (found["places"], found["left_out"]) == (3, ["d"])
    for channel, entry in enumerate(found["classes"]):
        assert entry["iou"]["value"] == pytest.approx(total.iou[channel])
        assert entry["iou"]["low"] <= entry["iou"]["value"] <= entry["iou"]["high"]


def test_what_isnt_labelled_counts_nowhere(tmp_path):
    said = blobs((64, 64))
    classes = write_prediction(tmp_path, "town", said)
    truth = np.roll(classes, 3, axis=1)
    truth[:, 20:40] = 9  # no class of the legend
    write_mask(tmp_path / "town_mask.tif", truth)
    judge = Judge(open_shelf(tmp_path).places[0])
    known = truth != 9
    expected = confusion(truth_masks(truth), said >= 0.5, LEGEND, known)
    assert judge.at(1, 0.5)["iou"] == pytest.approx(expected.iou[0])
    assert sum(sum(judge.histogram(1)[side]) for side in ("inside", "outside")) == known.sum()
    wrong = ((truth_masks(truth) & ~truth_masks(classes)).any(-1) & known).sum()
    assert judge.counts().missed.sum() == wrong


def test_without_truth_there_are_histograms_only(tmp_path):
    write_prediction(tmp_path, "town", blobs((64, 64)))
    judge = Judge(open_shelf(tmp_path).places[0])
    assert not judge.judged
    assert sum(judge.histogram(1)["outside"]) == 64 * 64
    assert judge.windows(by="uncertainty")
    assert judge.windows(by="missed") == judge.worst() == []
    for ask in (judge.scores, lambda: judge.at(1, 0.5), lambda: judge.curve(1), lambda: overall([judge])):
        with pytest.raises(SettingError):
            ask()


# -- pointing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel", [(100.5, 50.5), (700.2, 299.9), (10.5, 10.5), (1099.5, 0.5)])
def test_a_point_is_told_as_it_is(town, pixel):
    place, said, classes, truth = town
    column, row = int(pixel[0]), int(pixel[1])
    facts = describe(place, *place.view.to_map(np.array([pixel]))[0].tolist())
    json.dumps(facts, allow_nan=False)
    assert facts["inside"]
    assert (facts["column"], facts["row"]) == pytest.approx(pixel, abs=1e-3)
    assert (facts["x"], facts["y"]) == pytest.approx(place.grid.transform @ pixel, abs=1e-2)
    assert facts["crs"] == "EPSG:32633"
    assert facts["bands"] == {"red": 90, "green": 90, "blue": 90}
    names = {0: None, LEGEND.nodata: None} | dict(zip(LEGEND.ids, LEGEND.names, strict=True))
    assert facts["class"] == names[classes[row, column]]
    assert facts["truth"] == [name for name in [names[truth[row, column]]] if name]
    expected = said[row, column]
    if np.isfinite(expected).all():
        assert facts["probabilities"] == pytest.approx({"house": expected[0], "water": expected[1]})
        assert facts["uncertainty"] == pytest.approx(float(entropy(expected[None], exclusive=False)[0]))
    else:
        assert facts["probabilities"] == {"house": None, "water": None}
    assert [row["class"] for row in facts["polygons"]] == [name for name in [names[classes[row, column]]] if name]


def test_beside_the_scene_there_is_nothing(town):
    place, *_ = town
    facts = describe(place, *place.view.to_map(np.array([[-1, 5]]))[0].tolist())
    assert not facts["inside"]
    assert "bands" not in facts
    for far in ((1e9, -1e9), (float("nan"), 0), (float("inf"), 0), (0, 90), (180, -90)):
        assert not describe(place, *far)["inside"]


def test_features_are_the_polygons_of_a_part_of_the_map(town):
    place, *_ = town
    layer = place.first("polygons")
    frame = read_polygons(place.files.folder / "town.gpkg").to_crs("OGC:CRS84")
    every = features(place, layer)
    assert len(every["features"]) == len(frame)
    assert every["left_out"] == 0
    box = shapely.box(*frame.geometry.iloc[0].bounds)
    west, south, east, north = box.bounds
    some = features(place, layer, box=((south, west), (north, east)))
    assert {one["id"] for one in some["features"]} == set(np.flatnonzero(frame.intersects(box)))
    few = features(place, layer, most=3)
    assert (len(few["features"]), few["left_out"]) == (3, len(frame) - 3)
    drawn = shapely.geometry.shape(few["features"][0]["geometry"])
    assert drawn.symmetric_difference(frame.geometry[few["features"][0]["id"]]).area < 1e-12
    json.dumps(every, allow_nan=False)


INJECTIONS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "javascript:alert(1)", "{{7*7}}",
    "${7*7}", "</title><script>", "\u202egnp.exe", "'; DROP TABLE x; --", "a\nb", "<!--", "]]>", "&lt;script&gt;",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_files_say_is_handed_on_as_plain_text(tmp_path, text):
    write_prediction(tmp_path, "town", blobs((64, 64)))
    (place,) = open_shelf(tmp_path).places
    frame = find_polygons(np.ones((64, 64), np.uint8), place.grid, LEGEND)
    frame["note"] = text
    write_polygons(frame, tmp_path / "town.gpkg")
    (place,) = open_shelf(tmp_path).places
    (row,) = describe(place, *place.view.to_map(np.array([[5, 5]]))[0].tolist())["polygons"]
    (feature,) = features(place, place.first("polygons"))["features"]
    assert row["note"] == feature["properties"]["note"] == text
    assert text not in "".join([place.id, *(layer.id + layer.title for layer in place.layers)])
