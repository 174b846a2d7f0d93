"""Corrections: what is saved is read again, is trained on, and lies over nobody's file."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS

from satmask.datasets import read_dataset
from satmask.errors import DataError, SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.polygons import find_polygons, read_polygons, write_polygons
from satmask.rasters import RasterWriter
from satmask.scene import Scene
from satmask.viewing.corrections import Corrections
from satmask.viewing.files import NotFoundError
from satmask.viewing.shelf import open_shelf
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

LEGEND = Legend.of(["house", "shed"])
PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
WHOLE = Window(0, 0, 60, 80)


def write_scene(path, crs="EPSG:32633"):
    place = {"crs": crs, "transform": PLACE} if crs else {}
    with rasterio.open(path, "w", driver="GTiff", height=60, width=80, count=3, dtype="uint8", **place) as file:
        file.write(np.full((3, 60, 80), 90, np.uint8))
    return path


def predicted(folder, *, crs="EPSG:32633"):
    """A scene with the prediction of three houses, each of 10 × 10 pixels, and a shed."""
    from satmask.decisions import Decision
    from satmask.prediction.finishing import class_kind

    write_scene(folder / "town.tif", crs)
    classes = np.zeros((60, 80), np.uint8)
    for column in (5, 25, 45):
        classes[10:20, column : column + 10] = 1
    classes[40:45, 5:10] = 2
    with Scene(folder / "town.tif") as scene:
        with RasterWriter(folder / "town.classes.tif", scene, class_kind(Decision(LEGEND))) as writer:
            writer.write(classes, WHOLE)
            writer.finish()
        write_polygons(find_polygons(classes, scene.grid, LEGEND), folder / "town.gpkg")
    return open_shelf(folder).places[0]


def square(place, left, top, side=8):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    return {"type": "Polygon", "coordinates": [place.view.to_map(np.array(corners)).tolist()]}


def by_column(corrections):
    """Ids of the labels, from left to right in pixels, the shed first."""
    inverse = ~corrections.place.grid.transform
    return sorted(corrections.labels, key=lambda id_: inverse @ corrections.labels[id_].shape.centroid.coords[0])


def mask(corrections, class_id):
    """What a training reads of the scene."""
    (sample,) = read_dataset(corrections.path.parent, legend=LEGEND).splits["train"]
    truth = sample.labels.read(WHOLE)
    return truth.classes[..., LEGEND.channel(class_id)] != 0, truth.labelled


@pytest.mark.parametrize("crs", ["EPSG:32633", None])
def test_saved_labels_are_read_again(tmp_path, crs):
    corrections = Corrections(predicted(tmp_path, crs=crs))
    shed, first, second, third = by_column(corrections)
    corrections.accept(first)
    corrections.delete(second)
    corrections.reshape(third, square(corrections.place, 44, 8))
    corrections.draw(square(corrections.place, 60, 30), 1)
    corrections.ignore(square(corrections.place, 20, 40))
    corrections.accept(shed, class_id=1)
    again = Corrections(open_shelf(tmp_path).places[0])
    told = [(label.shape.normalize().wkt, label.class_id, label.status) for label in corrections.labels.values()]
    assert [(label.shape.normalize().wkt, label.class_id, label.status) for label in again.labels.values()] == told
    assert sorted(status for _, _, status in told) == ["accepted", "accepted", "drawn", "ignored", "reshaped"]


def test_corrected_labels_are_what_training_reads(tmp_path):
    (tmp_path / "scenes").mkdir()
    corrections = Corrections(predicted(tmp_path / "scenes"))
    _, first, second, _ = by_column(corrections)
    corrections.accept(first)
    corrections.delete(second)
    corrections.draw(square(corrections.place, 60, 30), 1)
    corrections.ignore(square(corrections.place, 20, 40))
    for path in (tmp_path / "scenes").glob("town.*"):
        if path.name not in ("town.tif", corrections.path.name):
            path.unlink()
    houses, labelled = mask(corrections, 1)
    expected, known = np.zeros((60, 80), bool), np.ones((60, 80), bool)
    expected[10:20, 5:15] = expected[30:38, 60:68] = True
    # What nobody has looked at, and what is to be ignored, is neither a house nor none.
    known[10:20, 45:55] = known[40:45, 5:10] = known[40:48, 20:28] = False
    np.testing.assert_array_equal(houses & labelled, expected)
    np.testing.assert_array_equal(labelled, known)


def test_undo_takes_back_each_change(tmp_path):
    corrections = Corrections(predicted(tmp_path))
    states = [corrections.labels]
    shed, first, *_ = by_column(corrections)
    for change in (
        lambda: corrections.accept(first),
        lambda: corrections.delete(shed),
        lambda: corrections.draw(square(corrections.place, 60, 30), 2),
        lambda: corrections.reshape(first, square(corrections.place, 0, 0)),
        lambda: corrections.ignore(square(corrections.place, 20, 40)),
    ):
        change()
        states.append(corrections.labels)
    while len(states) > 1:
        assert corrections.labels == states.pop()
        assert corrections.undo()
        assert len(read_polygons(corrections.path)) == len(states[-1])
    assert corrections.labels == states[0]
    assert not corrections.undo()


def test_nobodys_file_is_written_over(tmp_path):
    place = predicted(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    corrections = Corrections(place)
    corrections.delete(by_column(corrections)[0])
    corrections.draw(square(place, 60, 30), 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != corrections.path} == before
    assert corrections.path.name == "town.labels.gpkg"


def test_labels_that_somebody_else_made_are_refused(tmp_path):
    place = predicted(tmp_path)
    square_m = shapely.box(500_000, 3_999_990, 500_005, 3_999_995)
    theirs = geopandas.GeoDataFrame({"class": ["house"]}, geometry=[square_m], crs="EPSG:32633")
    write_polygons(theirs, tmp_path / "town.labels.gpkg")
    with pytest.raises(DataError, match="the viewer wrote"):
        Corrections(place)


def test_two_that_write_at_once_lose_nothing(tmp_path):
    place = predicted(tmp_path)
    one, other = Corrections(place), Corrections(place)
    one.draw(square(place, 60, 30), 1)
    with pytest.raises(DataError, match="by two at once"):
        other.draw(square(place, 20, 40), 1)
    assert len(read_polygons(one.path)) == len(one.labels) == 5


def test_a_crash_while_saving_leaves_the_last_labels(tmp_path, monkeypatch):
    import satmask.polygons

    corrections = Corrections(predicted(tmp_path))
    corrections.draw(square(corrections.place, 60, 30), 1)
    before = corrections.path.read_bytes()

    def crash(frame, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(satmask.polygons, "write_draft", crash)
    with pytest.raises(OSError, match="No space left"):
        corrections.draw(square(corrections.place, 20, 40), 1)
    assert corrections.path.read_bytes() == before
    assert corrections.unsaved
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    corrections.save()
    assert len(read_polygons(corrections.path)) == len(corrections.labels) == 6


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_mask_becomes_polygons_that_draw_it_again(tmp_path, exclusive):
    write_scene(tmp_path / "town.tif")
    random = np.random.default_rng(4)
    truth = np.repeat(np.repeat(random.integers(0, 3, (12, 16), dtype=np.uint8), 5, 0), 5, 1)
    truth[20:30, 20:30] = 7  # not in the legend: unlabelled
    with rasterio.open(
        tmp_path / "town_mask.tif", "w", driver="GTiff", height=60, width=80, count=1, dtype="uint8"
    ) as file:
        file.write(truth, 1)
    names = ["ground", "house", "shed"] if exclusive else {1: "house", 2: "shed"}
    legend = Legend.of(names, exclusive=exclusive)
    (tmp_path / "legend.toml").write_text(legend_text(legend))
    place = open_shelf(tmp_path).places[0]
    corrections = Corrections(place)
    corrections.save()
    (sample,) = read_dataset(tmp_path).splits["train"]
    found = sample.labels.read(WHOLE)
    np.testing.assert_array_equal(found.labelled, truth != 7)
    for id_ in (1, 2):
        there = found.classes[..., legend.channel(id_)].astype(bool) & found.labelled
        np.testing.assert_array_equal(there, truth == id_)


def legend_text(legend):
    from satmask.datasets.legend_file import to_toml

    return to_toml(legend)


BAD = {
    "nothing": {},
    "a point": {"type": "Point", "coordinates": [0, 0]},
    "no rings": {"type": "Polygon", "coordinates": []},
    "two points": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
    "NaN": {"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 1], [1, 0]]]},
    "infinity": {"type": "Polygon", "coordinates": [[[0, 0], [float("inf"), 1], [1, 0]]]},
    "huge": {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 1], [1, 0]]]},
    "text": {"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"]]]},
    "text for rings": {"type": "Polygon", "coordinates": "0123456789"},
    "numbers for points": {"type": "Polygon", "coordinates": [[1, 2, 3]]},
    "elsewhere": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]},
    "no area": {"type": "Polygon", "coordinates": [[[15.0, 36.1], [15.0, 36.2], [15.0, 36.1]]]},
    "too many points": {"type": "Polygon", "coordinates": [[[0, number] for number in range(30_000)]]},
    "too many rings": {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1]]]] * 1001},
}


@pytest.mark.parametrize("what", BAD)
def test_outlines_that_are_none_are_refused(tmp_path, what):
    corrections = Corrections(predicted(tmp_path))
    before = corrections.labels
    for change in (
        lambda: corrections.draw(BAD[what], 1),
        lambda: corrections.ignore(BAD[what]),
        lambda: corrections.reshape(1, BAD[what]),
    ):
        with pytest.raises(DataError, match="Outline must be a polygon in the scene"):
            change()
    assert corrections.labels == before
    assert not corrections.path.exists()


def test_what_isnt_there_is_refused(tmp_path):
    corrections = Corrections(predicted(tmp_path))
    for change in (corrections.accept, corrections.delete, corrections.adopt):
        with pytest.raises(NotFoundError):
            change(99)
    with pytest.raises(SettingError, match="Class id"):
        corrections.draw(square(corrections.place, 60, 30), 9)


def test_an_outline_that_crosses_itself_is_repaired(tmp_path):
    corrections = Corrections(predicted(tmp_path))
    eight = [(60, 30), (68, 38), (68, 30), (60, 38), (60, 30)]
    bow = {"type": "Polygon", "coordinates": [corrections.place.view.to_map(np.array(eight)).tolist()]}
    id_ = corrections.draw(bow, 1)
    shape = corrections.labels[id_].shape
    assert shape.is_valid
    assert shape.area == pytest.approx(32 * 0.25)


def test_adopted_polygons_are_those_of_the_prediction(tmp_path):
    place = predicted(tmp_path)
    corrections = Corrections(place, autosave=False)
    corrections._labels.clear()
    shapes = read_polygons(tmp_path / "town.gpkg")
    ids = [corrections.adopt(number) for number in range(len(shapes))]
    for id_, shape, class_id in zip(ids, shapes.geometry, shapes["class_id"], strict=True):
        label = corrections.labels[id_]
        assert label.shape.symmetric_difference(shape).area == pytest.approx(0, abs=1e-6)
        assert (label.class_id, label.status) == (class_id, "accepted")


def test_map_coordinates_lead_back_to_the_ground(tmp_path):
    place = predicted(tmp_path)
    grid = Grid(60, 80, PLACE, CRS("EPSG:32633"))
    corrections = Corrections(place, autosave=False)
    id_ = corrections.draw(square(place, 12, 30), 1)
    shape = corrections.labels[id_].shape
    left, top = grid.transform @ (12, 30)
    assert shape.symmetric_difference(shapely.box(left, top - 4, left + 4, top)).area < 1e-3
    told = corrections.features()["features"][-1]
    assert told["properties"]["status"] == "drawn"
    assert told["properties"]["area_m2"] == pytest.approx(16, rel=1e-3)
    sent = shapely.geometry.shape(square(place, 12, 30))
    assert shapely.geometry.shape(told["geometry"]).symmetric_difference(sent).area < 1e-12
