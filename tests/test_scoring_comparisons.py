"""Laws of comparisons: the pixels that count are those of pixel scores, windows change nothing, doors say the same."""

import json
import warnings
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning

from satmask.cli import main
from satmask.datasets.scenes import read_labels
from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.masks import encode_coco, polygonise, rasterise
from satmask.polygons import place
from satmask.scoring import rasters
from satmask.scoring.boundaries import score_boundaries
from satmask.scoring.coco_objects import compare_coco
from satmask.scoring.comparisons import Comparison, compare_boundaries, compare_objects
from satmask.scoring.labels import score_labels
from satmask.scoring.objects import score_objects
from satmask.scoring.rasters import score_rasters
from satmask.windows import Window

HOUSE = Legend.of({4: "house"})
LAND = Legend.of({0: "other", 4: "house", 9: "water"}, exclusive=True)
MARKS = Legend.of({4: "house", 9: "water"})
PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
GRID = Grid(40, 54, PLACE, CRS("EPSG:32633"))


def write(path, values, *, transform=PLACE, crs="EPSG:32633", **settings):
    profile = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": "uint8"}
    path.parent.mkdir(exist_ok=True, parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, transform=transform, crs=crs, **settings) as file:
            file.write(values[None])
    return path


def write_legend(path):
    path.write_text(json.dumps(Legend.of({4: "house"}).to_dict()))
    return path


def blobs(seed, ids=(0, 4, 9, 255), shape=(40, 54)):
    """Rectangles of ids, so that there are objects of some size."""
    coarse = np.random.default_rng(seed).choice(np.array(ids, np.uint8), size=(shape[0] // 5 + 1, shape[1] // 6 + 1))
    return np.kron(coarse, np.ones((5, 6), np.uint8))[: shape[0], : shape[1]]


def run(capsys, *arguments):
    """Run the command line: exit code, stdout, stderr."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("legend", [LAND, MARKS])
def test_pixels_that_count_are_those_of_pixel_scores(legend, tmp_path):
    said, true = write(tmp_path / "p.tif", blobs(1), nodata=255), write(tmp_path / "t.tif", blobs(2))
    for comparison, counts in (
        (Comparison(said, true, legend), score_rasters(said, true, legend)),
        (Comparison(said, true, legend, {9: 4}), score_rasters(said, true, legend, mapping={9: 4})),
    ):
        with comparison.reader() as (grid, read):
            masks = read(Window(0, 0, *grid.shape))
        truth, found = (side & masks.counted[..., None] for side in (masks.truth, masks.predicted))
        assert (truth & found).sum(axis=(0, 1)).tolist() == counts.true_positives.tolist()
        assert (found & ~truth).sum(axis=(0, 1)).tolist() == counts.false_positives.tolist()
        assert (truth & ~found).sum(axis=(0, 1)).tolist() == counts.false_negatives.tolist()
        assert 0 < masks.counted.sum() < masks.counted.size


def test_ids_of_the_prediction_are_mapped_where_the_truth_is_labels(tmp_path):
    said = write(tmp_path / "p.tif", blobs(1, ids=(0, 1)))
    labels = PolygonLabels(
        HOUSE, (40, 54), polygonise(blobs(2, ids=(0, 1))), [0] * len(polygonise(blobs(2, ids=(0, 1))))
    )
    counts = score_labels(said, labels, mapping={1: 4})
    edges = compare_boundaries(Comparison(said, labels, HOUSE, {1: 4}), distance_px=100)
    assert edges.iou.tolist() == counts.iou.tolist()
    assert 0 < edges.iou[0] < 1


@pytest.mark.parametrize("side", [16, 23])
def test_windows_change_nothing(side, tmp_path, monkeypatch):
    comparison = Comparison(write(tmp_path / "p.tif", blobs(1)), write(tmp_path / "t.tif", blobs(2)), MARKS)
    whole = [compare_boundaries(comparison, distance_px=2), compare_objects(comparison)]
    monkeypatch.setattr(rasters, "SIDE", side)
    parts = [compare_boundaries(comparison, distance_px=2), compare_objects(comparison)]
    for one, other in zip(whole, parts, strict=True):
        assert one.counts.tolist() == other.counts.tolist()
        assert one.counts.sum() > 100


def test_boundaries_and_objects_of_files_are_those_of_arrays(tmp_path):
    said, true = blobs(1, ids=(0, 4)), blobs(2, ids=(0, 4))
    comparison = Comparison(write(tmp_path / "p.tif", said), write(tmp_path / "t.tif", true), HOUSE)
    edges = compare_boundaries(comparison, distance_m=1)
    assert (
        edges.counts.tolist()
        == score_boundaries(true[..., None], said[..., None], HOUSE, distance_px=2).counts.tolist()
    )
    found = compare_objects(comparison)
    wanted = score_objects({4: polygonise(true)}, {4: polygonise(said)}, HOUSE, shape=true.shape, gsd_m=0.5)
    assert found.counts.tolist() == wanted.counts.tolist()
    assert found.counts[0, 0, 0, 0] == len(polygonise(true)) > 3


def test_true_polygons_keep_apart_what_touches_and_are_cut_where_nothing_counts(tmp_path):
    houses = [shapely.box(10, 10, 20, 20), shapely.box(20, 10, 30, 20), shapely.box(50, 10, 60, 20)]
    houses += [shapely.box(30, 30, 40, 40), shapely.box(2, 2, 6, 6), shapely.box(80, 80, 90, 90)]
    ignored = shapely.box(35, 25, 45, 45)
    said = rasterise(houses[:3], 40, 54) * 4
    said[2:6, 2:6] = 255
    labels = PolygonLabels(HOUSE, (40, 54), [*houses, ignored], [0] * 6 + [-1])
    found = compare_objects(Comparison(write(tmp_path / "p.tif", said, nodata=255), labels, HOUSE))
    # Of six houses one lies in nodata, one beyond the image; one is cut by what is ignored, one by the edge.
    assert found.counts[0, 0, :, 0].tolist() == [4, 2]
    assert found.errors(0) == {
        "doubled": (0, 0),
        "merged": (1, 0),
        "split": (0, 0),
        "boundary": (0, 0),
        "missed": (1, 0),
    }
    assert found.recall(9)[0] == 1 / 4  # only the one at the edge matches with IoU 0.95, since it is cut, too
    assert compare_objects(Comparison(write(tmp_path / "q.tif", said * 0), labels, HOUSE)).recall()[0] == 0


def test_the_background_has_no_objects(tmp_path):
    path = write(tmp_path / "p.tif", blobs(1, ids=(0, 4, 9)))
    counts = compare_objects(Comparison(path, path, LAND)).counts
    assert counts[0].sum() == 0
    assert (counts[1:, 0, 0, 0] > 0).all()
    assert (counts[1:, 0, 0, 0] == counts[1:, 0, 0, 10]).all()  # all match with IoU 0.95


def test_sizes_on_the_ground_come_from_the_file_or_from_bounds_in_degrees(tmp_path):
    values = blobs(1, ids=(0, 4))
    placed = Comparison(write(tmp_path / "p.tif", values), tmp_path / "p.tif", HOUSE)
    bare = write(tmp_path / "q.tif", values, transform=Affine.identity(), crs=None)
    nowhere, told = Comparison(bare, bare, HOUSE), Comparison(bare, bare, HOUSE, bounds=(10, 0, 10.00054, 0.0004))
    sizes = [compare_objects(one).counts[0, 4:8, 0, 0].sum() for one in (placed, nowhere, told)]
    assert sizes[0] == sizes[2] > sizes[1] == 0
    with told.reader() as (grid, _):
        assert told.gsd_m(grid) == pytest.approx(1.11, abs=0.01)
    with pytest.raises(SettingError, match="in metres must have an image with a CRS"):
        compare_boundaries(nowhere, distance_m=1)


def test_the_command_line_says_what_the_library_says(tmp_path, capsys):
    for seed, name in enumerate(("north_1", "north_2", "south_1")):
        write(tmp_path / "p" / f"{name}.classes.tif", blobs(seed, ids=(0, 4)))
        write(tmp_path / "t" / f"{name}_mask.tif", blobs(seed + 9, ids=(0, 4)))
    flags = ("--boundary", "1m", "--objects", "--intervals", "groups", "--by", "^[a-z]+")
    code, out, _ = run(capsys, "score", tmp_path / "p", tmp_path / "t", *flags, "--json")
    found = json.loads(out)
    comparisons = [
        Comparison(tmp_path / "p" / f"{name}.classes.tif", tmp_path / "t" / f"{name}_mask.tif", HOUSE)
        for name in ("north_1", "north_2", "south_1")
    ]
    edges = sum(compare_boundaries(one, distance_m=1).counts for one in comparisons)
    objects = sum(compare_objects(one).counts for one in comparisons)
    assert (code, found["boundary"]["counts"]) == (0, edges.tolist())
    assert found["objects"]["counts"] == objects.tolist()
    assert [entry["drawn"] for entry in found["intervals"]] == [2] * 6
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in found["intervals"])
    assert set(found["group_details"]) == {"north", "south"}
    code, out, _ = run(capsys, "score", tmp_path / "p", tmp_path / "t", *flags)
    for words in ("boundary IoU", "missed / invented", "PoLiS", "95% interval, n = 2", "object F1"):
        assert words in out


def coco_of(polygons, **more):
    """COCO entries of one tile from polygons without holes."""
    rings = [shapely.get_coordinates(shape.exterior).ravel().tolist() for shape in polygons]
    return [{"id": k, "image_id": 7, "category_id": 4, "segmentation": [ring]} | more for k, ring in enumerate(rings)]


@pytest.mark.parametrize("form", ["codes", "outlines"])
def test_objects_of_a_result_file_are_those_of_rasters(form, tmp_path):
    houses = [
        shapely.box(2, 3, 12, 11),
        shapely.box(12, 3, 20, 11),
        shapely.box(30, 5, 60, 20),
        shapely.box(5, 30, 9, 36),
    ]
    said = rasterise([shapely.box(2, 3, 20, 10), shapely.box(31, 5, 52, 20), shapely.box(40, 30, 45, 35)], 40, 54) * 4
    path = write(tmp_path / "p.tif", said, transform=Affine.identity(), crs=None)
    wanted = compare_objects(Comparison(path, PolygonLabels(HOUSE, (40, 54), houses, [0] * 4), HOUSE))
    truth = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 40, "width": 54}],
        "categories": [{"id": 4, "name": "house"}],
        "annotations": [*coco_of(houses), *coco_of([shapely.box(0, 0, 54, 40)], iscrowd=1)],
    }
    entries = coco_of(polygonise(said), score=0.5)
    if form == "codes":
        for entry, shape in zip(entries, polygonise(said), strict=True):
            entry["segmentation"] = encode_coco(rasterise([shape], 40, 54))
    found = compare_coco(entries, truth)
    assert list(found) == ["a"]
    assert found["a"].counts.tolist() == wanted.counts.tolist()
    assert found["a"].quality == pytest.approx(wanted.quality, nan_ok=True)
    assert wanted.errors(0) == {
        "doubled": (0, 0),
        "merged": (1, 0),
        "split": (0, 0),
        "boundary": (0, 0),
        "missed": (1, 1),
    }


def test_result_files_get_the_whole_table_and_intervals_over_tiles(data, tmp_path, capsys):
    annotation = data / "buildings/val/annotation.json"
    truth = json.loads(annotation.read_text())
    random = np.random.default_rng(0)
    entries = [
        {key: entry[key] for key in ("image_id", "category_id", "segmentation")} | {"score": random.random()}
        for entry in truth["annotations"]
        if random.random() < 0.7
    ]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    code, out, _ = run(capsys, "score", tmp_path / "r.json", annotation, "--objects", "--intervals", "images", "--json")
    found = json.loads(out)
    assert (code, found["coco"]["ap50"]) == (0, found["crowdai"]["ap50"])
    *others, ap50, ar50 = found["intervals"]
    assert [entry["score"] for entry in others] == ["object precision", "object recall", "object F1"]
    assert (ap50["score"], ap50["drawn"], ar50["score"]) == ("AP@0.5", 84, "AR@0.5")
    assert ar50["value"] == pytest.approx(found["crowdai"]["ar50"])
    assert ar50["low"] < ar50["value"] < ar50["high"]
    code, _, err = run(capsys, "score", tmp_path / "r.json", annotation, "--boundary", "2%")
    assert code == 2
    assert "--boundary, --errors and --polygons must come with rasters, got a result file" in err


def test_predicted_polygons_of_a_file_are_scored_as_they_are(tmp_path, capsys):
    houses = [shapely.box(10, 10, 20, 20), shapely.box(20, 10, 30, 20), shapely.box(50, 10, 60, 20)]
    true = gpd.GeoDataFrame({"class": ["house"] * 3}, geometry=list(place(np.array(houses), GRID)), crs="EPSG:32633")
    said = true.assign(class_id=4).iloc[:2].to_crs("EPSG:4326")
    raster = write(tmp_path / "p" / "town.classes.tif", rasterise(houses[:2], 40, 54) * 4)
    true.to_file(tmp_path / "t.geojson")
    said.to_file(tmp_path / "town.gpkg")
    labels, _ = read_labels(tmp_path / "t.geojson", GRID, Legend.of({1: "house"}))
    traced = Comparison(raster, labels, labels.legend, {4: 1})
    drawn = compare_objects(replace(traced, polygons=tmp_path / "town.gpkg"))
    # Traced, the two are one; drawn, they match, and with as many vertices.
    assert compare_objects(traced).counts[0, 0, :, 0].tolist() == [3, 1]
    assert drawn.counts[0, 0, :, 0].tolist() == [3, 2]
    assert drawn.recall(9)[0] == pytest.approx(2 / 3)
    assert drawn.mean_quality(0)["c_iou"] == pytest.approx(1, abs=1e-4)
    flags = ("--polygons", tmp_path, "--legend", write_legend(tmp_path / "legend.json"))
    code, out, err = run(capsys, "score", tmp_path / "p", tmp_path / "t.geojson", *flags, "--json")
    assert (code, json.loads(out)["objects"]["counts"]) == (0, drawn.counts.tolist()), err
    code, _, err = run(capsys, "score", tmp_path / "p", tmp_path / "t.geojson", "--polygons", tmp_path / "p")
    assert code == 1
    assert "must hold one vector file named town, got none in" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--boundary", "5"], "--boundary must be a distance such as 2%, 5px or 1.5m, got '5'"),
        (["--boundary", "0px"], "--boundary must be a distance"),
        (["--boundary", "1.5px"], "--boundary must be a distance"),
        (["--intervals", "groups"], "--intervals must be images, or groups together with --by, got 'groups'"),
        (["--intervals", "tiles"], "--intervals must be images"),
    ],
)
def test_flags_that_cannot_be_are_misuse(flags, words, tmp_path, capsys):
    path = write(tmp_path / "p.tif", blobs(1, ids=(0, 4)))
    code, _, err = run(capsys, "score", path, path, *flags)
    assert code == 2
    assert words in err
