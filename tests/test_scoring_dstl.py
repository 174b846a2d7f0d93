"""DSTL's score: areas that add, equal to counted pixels and to a cell-by-cell oracle, and files that are forgiven."""

import json

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon

from satmask.cli import main
from satmask.datasets.dstl import LEGEND
from satmask.datasets.wkt import EMPTY, write_table, write_wkt
from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.masks import polygonise
from satmask.scoring.dstl import AreaScore, compare, score_submission
from satmask.scoring.pixels import confusion

THREE = Legend.of({1: "house", 4: "track", 7: "river"})


def random_masks(random, classes, shape=(12, 15)):
    """Blocky masks, some classes empty."""
    small = random.random((-(-shape[0] // 3), -(-shape[1] // 3), classes)) < random.choice([0, 0.2, 0.6], classes)
    return np.kron(small, np.ones((3, 3, 1), bool))[: shape[0], : shape[1]]


def shapes(masks, legend):
    return {id_: MultiPolygon(polygonise(masks[..., channel])) for channel, id_ in enumerate(legend.ids)}


def brute_force(truths, predictions):
    """The mean Jaccard, counted cell by cell in plain Python."""
    scores = []
    for channel in range(truths[0].shape[2]):
        tp = fp = fn = 0
        for truth, said in zip(truths, predictions, strict=True):
            for there, found in zip(truth[..., channel].ravel(), said[..., channel].ravel(), strict=True):
                tp, fp, fn = tp + (there and found), fp + (found and not there), fn + (there and not found)
        if tp + fp + fn:
            scores.append(tp / (tp + fp + fn))
    return sum(scores) / len(scores) if scores else float("nan")


@pytest.mark.parametrize("seed", range(12))
def test_polygons_and_masks_score_as_the_oracle_does(seed):
    random = np.random.default_rng(seed)
    truths, said = ([random_masks(random, 3) for _ in range(3)] for _ in range(2))
    drawn = [compare(shapes(t, THREE), shapes(s, THREE), THREE) for t, s in zip(truths, said, strict=True)]
    counted = [AreaScore.of_counts(confusion(t, s, THREE)) for t, s in zip(truths, said, strict=True)]
    for parts in (drawn, counted):
        total = sum(parts, AreaScore.empty(THREE))
        np.testing.assert_allclose(total.score, brute_force(truths, said), rtol=1e-12)
    np.testing.assert_allclose(drawn[0].areas, counted[0].areas, atol=1e-9)


def test_areas_are_summed_before_they_are_divided():
    box = shapely.box(0, 0, 10, 10)
    large = compare({1: box}, {1: box}, THREE)
    missed = compare({1: shapely.box(0, 0, 1, 1)}, {}, THREE)
    assert (large + missed).score == pytest.approx(100 / 101)


def test_a_class_of_neither_side_has_no_score_and_one_only_predicted_scores_nothing():
    box = shapely.box(0, 0, 1, 1)
    score = compare({1: box}, {1: box, 4: box}, THREE)
    assert score.jaccard[:2].tolist() == [1, 0]
    assert np.isnan(score.jaccard[2])
    assert score.score == 0.5
    assert np.isnan(AreaScore.empty(THREE).score)


def test_scores_survive_json_and_refuse_other_legends():
    score = compare({1: shapely.box(0, 0, 2, 2)}, {1: shapely.box(1, 0, 3, 2), 7: shapely.box(0, 0, 1, 1)}, THREE)
    again = AreaScore.from_dict(json.loads(json.dumps(score.to_dict())))
    assert (again + score).areas.tolist() == (2 * score.areas).tolist()
    with pytest.raises(SettingError, match="share a legend"):
        score + AreaScore.empty(LEGEND)
    with pytest.raises(SettingError, match=r"must be \(3, 3\)"):
        AreaScore(THREE, np.zeros((2, 3)))


def table(path, rows):
    return write_table(path, {key: text if isinstance(text, str) else write_wkt(text) for key, text in rows.items()})


def test_a_bow_tie_is_repaired_and_told(tmp_path):
    bow_tie = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    truth = table(tmp_path / "truth.csv", {("a", 1): shapely.box(0, 0, 2, 2)})
    said = table(tmp_path / "said.csv", {("a", 1): bow_tie})
    score = score_submission(said, truth, LEGEND)
    assert score.total.jaccard[0] == pytest.approx(0.5)
    assert "said.csv has invalid polygons (Self-intersection), repaired: 1 by" in score.repaired[0]


def test_images_of_one_side_are_left_out_but_missing_classes_are_empty(tmp_path):
    box = shapely.box(0, 0, 2, 2)
    truth = table(tmp_path / "truth.csv", {("a", 1): box, ("a", 2): box, ("b", 1): box})
    said = table(tmp_path / "said.csv", {("a", 1): box, ("c", 1): box})
    score = score_submission(said, truth, LEGEND)
    assert score.left_out == ("b", "c")
    assert list(score.parts) == ["a"]
    assert score.total.jaccard[:2].tolist() == [1, 0]


def test_text_that_is_no_polygon_costs_one_image(tmp_path):
    box = shapely.box(0, 0, 2, 2)
    truth = table(tmp_path / "truth.csv", {("a", 1): box, ("b", 1): box})
    said = table(tmp_path / "said.csv", {("a", 1): box, ("b", 1): "MULTIPOLYGON (((0 0, 1"})
    score = score_submission(said, truth, LEGEND)
    assert score.total.score == 1
    assert list(score.failed) == ["b"]
    with pytest.raises(DataError, match="images in common, got a and z"):
        score_submission(said, table(tmp_path / "other.csv", {("z", 1): box}), LEGEND)


def test_polygons_beyond_the_edge_are_told(tmp_path):
    truth = table(tmp_path / "truth.csv", {("a", 1): shapely.box(0, -0.009, 0.009, 0), ("b", 1): EMPTY})
    said = table(tmp_path / "said.csv", {("a", 1): shapely.box(0, 0, 0.009, 0.009), ("b", 1): EMPTY})
    (tmp_path / "grid.csv").write_text(",Xmax,Ymin\na,0.009,-0.009\nb,0.009,-0.009\n")
    score = score_submission(said, truth, LEGEND, grid=tmp_path / "grid.csv")
    assert score.doubts == ("Image a has predicted polygons beyond its edge, of class 1.",)


def test_the_real_truth_scores_one_against_itself(data):
    truth = data / "dstl" / "train_wkt_v4.csv"
    score = score_submission(truth, truth, LEGEND)
    known = score.total.jaccard[~np.isnan(score.total.jaccard)]
    np.testing.assert_allclose(known, 1, atol=1e-9)
    assert len(score.parts) == 20
    assert not score.failed


def test_the_command_prints_classes_groups_and_json(tmp_path, capsys):
    box = shapely.box(0, 0, 2, 2)
    truth = table(tmp_path / "truth.csv", {("6010_1_2", 1): box, ("6040_1_0", 1): box})
    said = table(tmp_path / "said.csv", {("6010_1_2", 1): box, ("6040_1_0", 1): shapely.box(0, 0, 1, 2)})
    assert main(["score", str(said), str(truth), "--by", "^(6[0-9]+)"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Buildings", "0.7500", "1.0000", "0.7500", "0.750"] in lines
    assert ["6040", "0.5000"] in lines
    assert main(["score", str(said), str(truth), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["dstl"]
    assert content["score"] == 0.75
    assert AreaScore.from_dict(content["parts"]["6010_1_2"]).score == 1


def test_the_command_refuses_a_truth_of_another_kind(tmp_path, capsys):
    said = table(tmp_path / "said.csv", {("a", 1): EMPTY})
    (tmp_path / "x.tif").write_bytes(b"")
    assert main(["score", str(said), str(tmp_path / "x.tif")]) == 2
    assert "must be a CSV file" in capsys.readouterr().err
