"""Objects one by one: each is listed once, its numbers are those of brute force, and places are where the pixels lie."""

import json

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS

from satmask.cli import main
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.scoring.object_list import (
    INVENTED,
    RANKINGS,
    ListedObject,
    count_kinds,
    list_objects,
    locate,
    placed,
    worst,
)
from satmask.scoring.objects import ERRORS, score_objects

HOUSE, TWO = Legend.of(["house"]), Legend.of({1: "house", 7: "pond"})
box = shapely.box


def town(seed):
    """Boxes of two classes, and boxes that are about like them."""
    random = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        corners = random.integers([0, 0, 4, 4], [90, 90, 16, 16], (40, 4)).tolist()
        sides.append([box(x, y, x + w, y + h) for x, y, w, h in corners])
    mixed = [shape if random.random() < 0.5 else other for shape, other in zip(*sides, strict=True)]
    return {1: sides[0][:25], 7: sides[0][25:]}, {1: mixed[:22], 7: mixed[22:]}


@pytest.mark.parametrize("seed", range(5))
def test_every_object_is_listed_once_and_kinds_add_up_to_all(seed):
    truth, predicted = town(seed)
    listed = list_objects(truth, predicted, TWO)
    score = score_objects(truth, predicted, TWO, shape=(120, 120))
    counts = count_kinds(listed, TWO)
    for channel, (id_, name) in enumerate(zip(TWO.ids, TWO.names, strict=True)):
        for side, (title, objects) in enumerate((("truth", truth[id_]), ("prediction", predicted[id_]))):
            mine = [one for one in listed if (one.name, one.side) == (name, title)]
            assert [one.bounds for one in mine] == [shape.bounds for shape in objects]
            assert sum(pair[side] for pair in counts[name].values()) == len(objects)
        errors = score.errors(channel)
        assert {kind: counts[name][kind] for kind in ERRORS} == errors
        assert counts[name]["matched"] == tuple(score.counts[channel, 0, :, 1].tolist())
    assert {one.kind for one in listed if one.side == "truth"} <= {"matched", *ERRORS}
    assert "missed" not in {one.kind for one in listed if one.side == "prediction"}


def test_numbers_are_those_of_brute_force():
    truth, predicted = town(9)
    listed = [one for one in list_objects(truth, predicted, TWO) if one.name == "pond"]
    for objects, others, mine in (
        (truth[7], predicted[7], listed[: len(truth[7])]),
        (predicted[7], truth[7], listed[len(truth[7]) :]),
    ):
        for shape, one in zip(objects, mine, strict=True):
            best = max(shape.intersection(other).area / shape.union(other).area for other in others)
            assert one.iou == pytest.approx(best)
            assert one.area_px == shape.area
            assert shape.contains(shapely.Point(one.column, one.row))


def test_the_worst_come_first_and_none_is_in_two_rankings():
    truth, predicted = town(3)
    found = worst({"a": list_objects(truth, predicted, TWO), "b": list_objects(predicted, truth, TWO)}, count=7)
    assert list(found) == list(RANKINGS)
    assert all(0 < len(pairs) <= 7 for pairs in found.values())
    for kind in ("missed", INVENTED):
        sizes = [one.area_px for _, one in found[kind]]
        assert sizes == sorted(sizes, reverse=True)
        assert {one.kind for _, one in found[kind]} == {kind}
    wrong = [(1 - one.iou) * one.area_px for _, one in found["badly drawn"]]
    assert wrong == sorted(wrong, reverse=True)
    assert len({(image, one.side, one.bounds) for pairs in found.values() for image, one in pairs}) == sum(
        map(len, found.values())
    )


def test_nothing_is_no_trouble():
    assert list_objects({}, {}, HOUSE) == []
    assert worst({"a": []}) == {name: [] for name in RANKINGS}
    assert set(count_kinds([], HOUSE)["house"].values()) == {(0, 0)}


def test_objects_lie_where_their_pixels_do():
    one = ListedObject("house", "truth", "missed", 0.0, 40.0, (10, 20, 30, 22), 20.0, 21.0)
    utm = Grid(100, 100, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), CRS("EPSG:32633"))
    told = locate(one, utm)
    assert (told["x"], told["y"], told["crs"]) == (500_010, 3_999_989.5, "EPSG:32633")
    assert told["area_m2"] == pytest.approx(40 * utm.gsd_m**2)
    nowhere = locate(one, Grid(100, 100))
    assert (nowhere["x"], nowhere["crs"], nowhere["area_m2"], nowhere["column"]) == (None, None, None, 20.0)


def write(path, values):
    settings = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8"}
    place = rasterio.Affine(0.5, 0, 600_000, 0, -0.5, 5_000_000)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=place, **settings) as file:
        file.write(values, 1)


def test_the_command_tells_the_worst_objects_of_scenes_and_folders(tmp_path, capsys):
    truth, said = np.zeros((2, 60, 80), np.uint8)
    truth[2:12, 2:12], truth[30:36, 40:50] = 1, 1
    said[2:12, 2:11], said[50:55, 60:70] = 1, 1
    for name, values in (("truth", truth), ("said", said)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "scene.tif", values)
    pair = [str(tmp_path / name / "scene.tif") for name in ("said", "truth")]
    assert main(["score", *pair, "--errors", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["errors"]
    assert told["counts"]["class 1"]["matched"] == [1, 1]
    assert told["counts"]["class 1"]["missed"] == [1, 1]
    (missed,), (invented,), (drawn,) = (told["worst"][name] for name in RANKINGS)
    assert (missed["image"], missed["area_px"], missed["iou"]) == ("scene", 60, 0)
    assert missed["area_m2"] == pytest.approx(15, rel=0.01)
    assert 600_020 <= missed["x"] <= 600_025
    assert 4_999_982 <= missed["y"] <= 4_999_985
    assert invented["area_px"] == 50
    assert drawn["iou"] == pytest.approx(0.9)
    assert main(["score", str(tmp_path / "said"), str(tmp_path / "truth"), "--errors"]) == 0
    printed = capsys.readouterr().out
    assert "EPSG:32633" in printed
    assert "missed / invented" in printed


def test_a_result_file_has_no_single_objects(tmp_path, capsys):
    (tmp_path / "result.json").write_text("[]")
    assert main(["score", str(tmp_path / "result.json"), str(tmp_path), "--errors"]) == 2
    assert "--errors" in capsys.readouterr().err


def test_bounds_place_only_what_lies_nowhere():
    bounds = (10.0, 50.0, 12.0, 51.0)
    nowhere, somewhere = Grid(20, 40), Grid(20, 40, crs=CRS("EPSG:32633"))
    found = placed(nowhere, bounds)
    assert found.crs == CRS("OGC:CRS84")
    assert (found.transform @ (0, 0), found.transform @ (40, 20)) == ((10.0, 51.0), (12.0, 50.0))
    assert placed(somewhere, bounds) is somewhere
    assert placed(nowhere, None) is nowhere
