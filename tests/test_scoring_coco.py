"""Laws of object scores: the bits of pycocotools, and no broken entry gets as far as an evaluator."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import shapely
from pycocotools import mask as pycoco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapely.affinity import rotate, scale, translate

from satmask.errors import DataError
from satmask.masks import encode_coco, rasterise
from satmask.scoring.coco import score_coco
from satmask.scoring.coco_matches import match_coco
from satmask.scoring.coco_table import score_coco_table


def oracle(detections, truth):
    """AP and AR by pycocotools with the challenge's settings; results need a bbox to be taken as polygons."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(truth)
        ground.createIndex()
        run = COCOeval(ground, ground.loadRes([entry | {"bbox": [0, 0, 1, 1]} for entry in detections]), "segm")
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"][0, :, :, 0, 2], run.eval["recall"][0, :, 0, 2]
    return float(np.mean(precision[precision > -1])), float(np.mean(recall[recall > -1]))


def ring(polygon):
    return [shapely.get_coordinates(polygon.exterior).round(2).ravel().tolist()]


def jitter(polygon, random):
    moved = translate(polygon, *random.normal(0, polygon.area**0.5 / 12, 2))
    return rotate(scale(moved, *random.uniform(0.85, 1.15, 2)), random.normal(0, 4))


def detect(truth, seed, *, rle=False):
    """Move true objects about, drop some, see some twice, add false ones; scores with many ties."""
    random, sizes = (
        np.random.default_rng(seed),
        {tile["id"]: (tile["height"], tile["width"]) for tile in truth["images"]},
    )
    entries = []
    for entry in truth["annotations"]:
        outline = shapely.Polygon(np.reshape(entry["segmentation"][0], (-1, 2)))
        seen = [jitter(outline, random) for _ in range(random.choice(3, p=[0.2, 0.7, 0.1]))]
        if random.random() < 0.15:
            seen.append(translate(outline, 15, 9))
        for polygon in seen:
            size = sizes[entry["image_id"]]
            segmentation = encode_coco(rasterise([polygon], *size)) if rle else ring(polygon)
            score = round(float(random.random()), 1)
            entries.append(
                {"image_id": entry["image_id"], "category_id": 100, "segmentation": segmentation, "score": score}
            )
    return entries


def town(seed, tiles=12, crowd=False):
    random = np.random.default_rng(seed)
    truth = {"images": [], "categories": [{"id": 100, "name": "building"}], "annotations": []}
    for tile in range(1, tiles + 1):
        truth["images"].append({"id": tile, "file_name": f"{tile:012d}.jpg", "height": 90, "width": 120})
        for x, y, w, h, turn in random.uniform(0, [120, 90, 30, 30, 90], (random.integers(0, 9), 5)):
            house = rotate(shapely.box(x, y, x + w + 3, y + h + 3), turn)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": tile,
                    "category_id": 100,
                    "area": house.area,
                    "iscrowd": int(crowd and random.random() < 0.2),
                    "bbox": [0, 0, 1, 1],
                    "segmentation": ring(house),
                }
            )
    if crowd:
        for entry in truth["annotations"]:
            if entry["iscrowd"]:
                entry["segmentation"] = encode_coco(rasterise([entry["segmentation"]], 90, 120), compressed=False)
    return truth


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_pycocotools_on_random_towns(seed, rle):
    truth = town(seed)
    detections = detect(truth, seed, rle=rle)
    score = score_coco(detections, truth)
    assert (score.ap50, score.ar50) == oracle(detections, truth)
    assert 0.1 < score.ap50 < 0.95
    assert score.matched / score.truths == score.ar50


@pytest.mark.parametrize("rle", [False, True])
def test_scores_are_those_of_pycocotools_on_real_buildings(data, tmp_path, rle):
    path = data / "buildings/val/annotation.json"
    truth = json.loads(path.read_text())
    detections = detect(truth, 1, rle=rle)
    (tmp_path / "results.json").write_text(json.dumps(detections))
    score = score_coco(tmp_path / "results.json", path)
    assert (score.ap50, score.ar50) == oracle(detections, truth)
    assert (score.tiles, score.truths, score.detections) == (84, 531, len(detections))
    assert 0.1 < score.ap50 < score.ar50 < 0.95


def test_crowds_neither_help_nor_hurt():
    truth = town(1, crowd=True)
    detections = detect(town(1), 1)
    score = score_coco(detections, truth)
    assert (score.ap50, score.ar50) == oracle(detections, truth)
    assert score.truths < len(truth["annotations"])


def test_only_the_hundred_best_of_a_tile_count():
    truth, random = town(2, tiles=2), np.random.default_rng(2)
    detections = [entry | {"score": random.random()} for entry in detect(truth, 2) for _ in range(40)]
    with pytest.raises(DataError, match="at most 100 detections, got"):
        score_coco(detections, truth)
    score = score_coco(detections, truth, keep_best=True)
    assert (score.ap50, score.ar50) == oracle(detections, truth)
    assert score.detections <= 200


def test_tiles_without_detections_and_truth_with_id_0_count():
    truth = town(3)
    perfect = [entry | {"score": 1.0} for entry in truth["annotations"]]
    assert score_coco(perfect, truth).ap50 == pytest.approx(1, abs=1e-12)
    half = [entry for entry in perfect if entry["image_id"] % 2]
    assert score_coco(half, truth).ar50 == len(half) / len(perfect)
    renumbered = truth | {"annotations": [entry | {"id": 0} for entry in truth["annotations"]]}
    assert score_coco(perfect, renumbered) == score_coco(perfect, truth)
    assert score_coco([], truth).ap50 == 0


def test_without_truth_scores_are_minus_one():
    truth = town(4) | {"annotations": []}
    for detections in ([], detect(town(4), 4)):
        score = score_coco(detections, truth)
        assert (score.ap50, score.ar50, score.matched) == (-1, -1, 0)


GOOD = {"image_id": 1, "category_id": 100, "segmentation": [[1, 1, 9, 1, 9, 9]], "score": 0.5}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": [[1, 1, NAN, 1, 9, 9]]}, "finite coordinates within 100,000 pixels, got nan in tile 1"),
        ({"segmentation": [[1, 1, 9, 1, 9, -INF]]}, "finite coordinates .* got -inf"),
        ({"segmentation": [[1, 1, INF, -INF, 9, 1]]}, "finite coordinates .* got inf"),
        ({"segmentation": [[1, 1, 1e12, 1, 9, 9]]}, "finite coordinates .* got 1000000000000.0"),
        ({"segmentation": [[1, 1, 10**400, 1, 9, 9]]}, "finite coordinates"),
        ({"segmentation": [[1, 1, "9", 1, 9, 9]]}, "finite coordinates .* got '9'"),
        ({"segmentation": [[1, 1, 9, 1, 9]]}, "x and y in turn, three points or more, got 5 numbers"),
        ({"segmentation": [[1, 1, 9, 1]]}, "three points or more, got 4 numbers"),
        ({"segmentation": []}, "rings or a run-length code, got"),
        ({"segmentation": [1, 1, 9, 1, 9, 9]}, "x and y in turn"),
        ({"segmentation": {"size": [120, 90], "counts": "0"}}, r"of its tile's size \[90, 120\]"),
        ({"segmentation": {"size": [90, 120], "counts": "abc"}}, "that can be read, got"),
        ({"segmentation": {"size": [90, 120], "counts": [5, 4]}}, "add up to 10800, got 9"),
        ({"segmentation": {"size": [90, 120], "counts": [-5, 10805]}}, "text or whole numbers"),
        ({"segmentation": {"size": [90, 120]}}, "text or whole numbers, got None"),
        ({"image_id": 99}, "lie in a tile of the truth, got image_id 99"),
        ({"image_id": "1"}, "whole number as image_id, got '1'"),
        ({"category_id": 1}, r"category of \[100\], got 1 in tile 1"),
        ({"score": NAN}, "finite score, got nan"),
        ({"score": "0.5"}, "finite score, got '0.5'"),
    ],
)
def test_broken_detections_are_named(change, words):
    with pytest.raises(DataError, match=f"^Detection 1 must .*{words}"):
        score_coco([GOOD, GOOD | change], town(5))


@pytest.mark.parametrize("key", [*GOOD])
def test_missing_keys_are_named(key):
    entry = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(DataError, match=f"Detection 0 must have a {key}, got"):
        score_coco([entry], town(5))


def test_broken_truth_is_named(tmp_path):
    truth = town(6)
    bad = truth["annotations"][3] | {"id": 317, "segmentation": [[1, 1, NAN, 1, 9, 9]]}
    with pytest.raises(DataError, match="Annotation 317 must have finite coordinates"):
        score_coco([GOOD], truth | {"annotations": [bad]})
    for change, words in (
        ({"images": [*truth["images"], truth["images"][0]]}, "Tile 000000000001.jpg must have an id of its own, got 1"),
        ({"images": [truth["images"][0] | {"width": 0}]}, "sides of 1 to 100000 pixels, got 90 × 0"),
        ({"categories": []}, "at least one category"),
        ({"annotations": None}, "a dict of images, categories and annotations"),
    ):
        with pytest.raises(DataError, match=words):
            score_coco([GOOD], truth | change)
    with pytest.raises(DataError, match="must be a list of detections, got dict"):
        score_coco({"annotations": []}, truth)
    (tmp_path / "cut.json").write_text("[{")
    with pytest.raises(DataError, match=r"Predictions must be JSON, got .* in cut\.json"):
        score_coco(tmp_path / "cut.json", truth)
    with pytest.raises(DataError, match="No such file"):
        score_coco(tmp_path / "none.json", truth)


def test_areas_of_our_codes_are_those_of_pycocotools():
    masks = [rasterise([entry["segmentation"]], 90, 120) for entry in town(7)["annotations"]]
    assert [int(pycoco.area(encode_coco(mask))) for mask in masks] == [int(mask.sum()) for mask in masks]


def table_oracle(detections, truth):
    """The twelve numbers of pycocotools; it knows the area of detections that are codes without a box only."""
    sizes = {tile["id"]: (tile["height"], tile["width"]) for tile in truth["images"]}
    coded = []
    for entry in detections:
        outline = entry["segmentation"]
        if not isinstance(outline, dict):
            outline = pycoco.merge(pycoco.frPyObjects(outline, *sizes[entry["image_id"]]))
        kept = {key: entry[key] for key in ("image_id", "category_id", "score")}
        coded.append(kept | {"segmentation": copy.deepcopy(outline)})
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(truth)
        ground.createIndex()
        run = COCOeval(ground, ground.loadRes(coded), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def enlarge(truth, factor):
    """The same town seen from nearer, so that objects of all sizes occur."""
    truth = copy.deepcopy(truth)
    for tile in truth["images"]:
        tile["height"], tile["width"] = tile["height"] * factor, tile["width"] * factor
    for entry in truth["annotations"]:
        entry["segmentation"] = [(np.array(ring) * factor).tolist() for ring in entry["segmentation"]]
        entry["area"] = entry["area"] * factor**2
    return truth


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_tables_are_those_of_pycocotools_on_random_towns(seed, rle):
    truth = enlarge(town(seed, tiles=8), 3)
    detections = detect(truth, seed, rle=rle)
    table = score_coco_table(detections, truth)
    assert list(table.to_dict().values()) == table_oracle(detections, truth)
    assert 0 < table.ap < table.ap50 < 1
    assert sum(value >= 0 for value in table.to_dict().values()) >= 10  # two sizes or all three occur
    assert table.ap50 == score_coco(detections, truth).ap50


@pytest.mark.parametrize("rle", [False, True])
def test_tables_are_those_of_pycocotools_on_real_buildings(data, rle):
    truth = json.loads((data / "buildings/val/annotation.json").read_text())
    detections = detect(truth, 1, rle=rle)
    assert list(score_coco_table(detections, truth).to_dict().values()) == table_oracle(detections, truth)


def test_several_rings_and_several_categories_are_those_of_pycocotools():
    truth = enlarge(town(3), 2)
    truth["categories"].append({"id": 7, "name": "shed"})
    for place, entry in enumerate(truth["annotations"]):
        entry["category_id"] = (100, 7)[place % 2]
        entry["segmentation"].append([1, 1, 9, 1, 9, 8])
    detections = [entry | {"category_id": (7, 100)[place % 3 > 0]} for place, entry in enumerate(detect(truth, 3))]
    assert list(score_coco_table(detections, truth).to_dict().values()) == table_oracle(detections, truth)


def test_an_annotation_without_area_has_that_of_its_pixels():
    truth = enlarge(town(2), 4)
    detections = detect(truth, 2)
    bare, counted = copy.deepcopy(truth), copy.deepcopy(truth)
    sizes = {tile["id"]: (tile["height"], tile["width"]) for tile in truth["images"]}
    for without, entry in zip(bare["annotations"], counted["annotations"], strict=True):
        del without["area"]
        codes = pycoco.frPyObjects(entry["segmentation"], *sizes[entry["image_id"]])
        entry["area"] = float(pycoco.area(pycoco.merge(codes)))
    assert list(score_coco_table(detections, bare).to_dict().values()) == table_oracle(detections, counted)


def test_what_does_not_occur_is_minus_one():
    truth = town(5)
    nothing = score_coco_table(detect(truth, 5), truth | {"annotations": []})
    assert set(nothing.to_dict().values()) == {-1}
    missed = score_coco_table([], truth)
    assert (missed.ap, missed.ap50, missed.ar100) == (0, 0, 0)
    assert missed.ap_large == missed.ar_large == -1
    assert missed.table()[1][4] == "–"


@pytest.mark.parametrize("area", [float("nan"), -1, "9", True, 1e30])
def test_areas_that_cannot_be_are_those_of_the_pixels(area):
    truth = town(6)
    strange = truth | {"annotations": [entry | {"area": area} for entry in truth["annotations"]]}
    without = truth | {"annotations": [entry | {"area": None} for entry in truth["annotations"]]}
    assert score_coco_table(detect(truth, 6), strange) == score_coco_table(detect(truth, 6), without)


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_matches_of_tiles_that_all_count_once_give_the_same_scores(seed, crowd):
    truth = town(seed, crowd=crowd)
    detections = detect(town(seed), seed)
    score = score_coco(detections, truth)
    found = match_coco(detections, truth).scores(np.ones(12, int))
    assert found == pytest.approx((score.ap50, score.ar50), abs=1e-12)


def test_matches_of_tiles_that_count_twice_are_those_of_tiles_given_twice():
    truth, random = town(8), np.random.default_rng(8)
    detections = [entry | {"score": random.random()} for entry in detect(truth, 8)]
    weights = random.integers(0, 3, 12)
    repeated = {"images": [], "categories": truth["categories"], "annotations": []}
    seen = []
    for tile, times in zip(truth["images"], weights, strict=True):
        for copy_ in range(times):
            id_ = tile["id"] + 100 * copy_
            repeated["images"].append(tile | {"id": id_})
            for source, target in ((truth["annotations"], repeated["annotations"]), (detections, seen)):
                target += [entry | {"image_id": id_} for entry in source if entry["image_id"] == tile["id"]]
    score = score_coco(seen, repeated)
    # Repeated detections follow one another here and tie there: precision may differ at single recalls.
    ap50, ar50 = match_coco(detections, truth).scores(weights)
    assert ar50 == pytest.approx(score.ar50)
    assert ap50 == pytest.approx(score.ap50, abs=0.01)
    assert ap50 != score_coco(detections, truth).ap50


def test_matches_of_nothing_have_no_score():
    truth = town(5)
    nothing = match_coco(detect(truth, 5), truth | {"annotations": []})
    assert np.isnan(nothing.scores(np.ones(12, int))).all()
    assert match_coco([], truth).scores(np.ones(12, int)) == (0, 0)
