"""Laws of pixel scores: scikit-learn agrees, counts add, and what isn't known isn't counted."""

import json
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from sklearn import metrics

from satmask.errors import DataError, SceneError, SettingError
from satmask.legend import Legend
from satmask.scoring import pixels, rasters
from satmask.scoring.pixels import Confusion, confusion
from satmask.scoring.rasters import score_folders, score_rasters

LAND = Legend.of({0: "other", 4: "house", 9: "water"}, exclusive=True)
MARKS = Legend.of({4: "house", 9: "water"})
PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)


def draw(seed, ids=(0, 4, 9, 255), shape=(31, 23)):
    return np.random.default_rng(seed).choice(np.array(ids, np.uint8), size=shape)


def write(path, values, *, transform=PLACE, crs="EPSG:32633", **settings):
    values = values[None] if values.ndim == 2 else values
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    path.parent.mkdir(exist_ok=True, parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, transform=transform, crs=crs, **settings) as file:
            file.write(values)
    return path


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_agrees_where_classes_exclude_each_other(seed):
    truth, prediction, valid = draw(seed), draw(seed + 100), draw(seed + 200, ids=(0, 1))
    score = confusion(truth, prediction, LAND, valid)
    counted = (truth != 255) & (prediction != 255) & (valid == 1)
    pair = truth[counted], prediction[counted]
    np.testing.assert_array_equal(score.matrix, metrics.confusion_matrix(*pair, labels=[0, 4, 9]))
    np.testing.assert_allclose(score.iou, metrics.jaccard_score(*pair, labels=[0, 4, 9], average=None))
    assert score.accuracy == pytest.approx(metrics.accuracy_score(*pair))
    for average, value in (("micro", score.pooled), ("macro", score.mean)):
        assert value("iou") == pytest.approx(metrics.jaccard_score(*pair, average=average))
        assert value("f1") == pytest.approx(metrics.f1_score(*pair, average=average))
        assert value("precision") == pytest.approx(metrics.precision_score(*pair, average=average))
        assert value("recall") == pytest.approx(metrics.recall_score(*pair, average=average))


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_agrees_where_classes_overlap(seed):
    random = np.random.default_rng(seed)
    truth, prediction = random.random((2, 12, 9, 2)) < 0.4
    score = confusion(truth, prediction, MARKS)
    flat = truth.reshape(-1, 2), prediction.reshape(-1, 2)
    np.testing.assert_array_equal(score.matrix, metrics.multilabel_confusion_matrix(*flat))
    np.testing.assert_allclose(score.f1, metrics.f1_score(*flat, average=None))
    assert score.pooled("iou") == pytest.approx(metrics.jaccard_score(*flat, average="micro"))
    assert score.accuracy == pytest.approx((flat[0] == flat[1]).mean())


def test_ids_and_masks_of_the_same_classes_score_alike():
    truth, prediction = draw(1, ids=(0, 4, 9)), draw(2, ids=(0, 4, 9))
    stacks = [np.stack([ids == 4, ids == 9], axis=-1) for ids in (truth, prediction)]
    assert confusion(truth, prediction, MARKS) == confusion(*stacks, MARKS) == confusion(truth, stacks[1], MARKS)
    stacks = [np.stack([ids == id_ for id_ in (0, 4, 9)], axis=-1) for ids in (truth, prediction)]
    assert confusion(truth, prediction, LAND) == confusion(*stacks, LAND)


@pytest.mark.parametrize("legend", [LAND, MARKS])
def test_counts_add(legend):
    truth, prediction = draw(3), draw(4)
    whole = confusion(truth, prediction, legend)
    parts = [confusion(truth[rows], prediction[rows], legend) for rows in (slice(0, 7), slice(7, 31))]
    assert parts[0] + parts[1] == whole == Confusion.empty(legend) + whole
    assert Confusion.from_dict(json.loads(json.dumps(whole.to_dict(), allow_nan=False))) == whole
    with pytest.raises(SettingError, match="share a legend"):
        whole + Confusion.empty(Legend.of(["house"]))


def test_empty_classes_follow_the_rule():
    legend = Legend.of({1: "seen", 2: "missed", 3: "made up", 4: "nowhere"})
    score = confusion(np.array([[1, 2, 0]]), np.array([[1, 0, 3]]), legend)
    for measure in pixels.MEASURES:
        np.testing.assert_array_equal(getattr(score, measure), [1, 0, 0, np.nan])
        assert score.mean(measure) == pytest.approx(1 / 3)
    nothing = confusion(np.zeros((1, 2), int), np.zeros((1, 2), int), legend)
    assert np.isnan([nothing.mean("iou"), nothing.pooled("iou"), Confusion.empty(legend).accuracy]).all()
    assert nothing.to_dict()["mean"]["iou"] is None
    assert score.table()[4] == ("nowhere", "–", "–", "–", "–", "0.00%")


def test_zero_is_unlabelled_in_the_truth_of_an_exclusive_legend_without_it():
    legend = Legend.of({1: "a", 2: "b"}, exclusive=True)
    assert confusion(np.array([[0, 1, 2]]), np.array([[1, 1, 1]]), legend).matrix.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(DataError, match="Prediction must hold class ids 1, 2, got 0"):
        confusion(np.array([[1]]), np.array([[0]]), legend)


def test_strange_ids_are_refused_unless_masked():
    with pytest.raises(DataError, match="Truth must hold class ids 4, 9, got 7 in 1 pixels"):
        confusion(np.array([[7, 4]]), np.array([[4, 4]]), MARKS)
    assert confusion(np.array([[7, 4]]), np.array([[4, 4]]), MARKS, np.array([[0, 1]])).pixels == 1
    for values in (np.array([[-1]]), np.array([[65536 + 4]]), np.array([[0.5]])):
        with pytest.raises(DataError, match="Prediction must hold class ids"):
            confusion(np.array([[4]]), values, MARKS)
    with pytest.raises(DataError, match="one shape"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), MARKS)


def test_rasters_score_as_their_arrays_do_in_any_window(tmp_path, monkeypatch):
    truth, prediction = draw(5), draw(6)
    paths = write(tmp_path / "p.tif", prediction, nodata=255), write(tmp_path / "t.tif", truth)
    expected = confusion(truth, prediction, LAND)
    for side in (2048, 8):
        monkeypatch.setattr(rasters, "SIDE", side)
        assert score_rasters(*paths, LAND) == expected
    found = score_rasters(*paths)
    assert found.legend.ids == (4, 9)
    np.testing.assert_array_equal(found.iou, expected.iou[1:])


def test_a_nodata_tag_of_0_hides_pixels_only_where_0_means_nothing_else(tmp_path):
    truth, prediction = draw(5, ids=(0, 4, 9)), draw(6, ids=(0, 4, 9))
    paths = write(tmp_path / "p.tif", prediction, nodata=0), write(tmp_path / "t.tif", truth, nodata=0)
    for legend in (LAND, MARKS):
        assert score_rasters(*paths, legend) == confusion(truth, prediction, legend)
    legend = Legend.of({4: "house", 9: "water"}, exclusive=True)
    assert score_rasters(*paths, legend).pixels == np.count_nonzero((truth != 0) & (prediction != 0))


def test_truth_with_other_values_needs_a_mapping(tmp_path):
    truth, prediction = draw(7, ids=(0, 255)), draw(8, ids=(0, 1))
    paths = write(tmp_path / "p.tif", prediction), write(tmp_path / "t.png", truth, crs=None, driver="PNG")
    with pytest.raises(DataError, match=r"share class ids, got \[255\] and \[1\]. Use mapping=\{255: 1\}"):
        score_rasters(*paths)
    with pytest.raises(
        DataError, match=r"Truth must hold class ids 1, got only \[255\] in t.png. Use mapping=\{255: 1\}"
    ):
        score_rasters(*paths, Legend.of(["house"]))
    assert score_rasters(*paths, Legend.of(["house"]), mapping={255: 255}).recall.tolist() == [0]
    score = score_rasters(*paths, mapping={255: 1})
    assert score.iou[0] == pytest.approx(metrics.jaccard_score(truth.ravel() > 0, prediction.ravel() > 0))
    assert score_rasters(*paths, Legend.of(["house"]), mapping={255: 1}).matrix.tolist() == score.matrix.tolist()


def test_one_band_a_class_is_read_as_masks(tmp_path):
    stack = np.random.default_rng(9).integers(0, 2, (2, 9, 8)).astype(np.uint8)
    paths = write(tmp_path / "p.tif", stack), write(tmp_path / "t.tif", stack[::-1])
    expected = confusion(np.moveaxis(stack[::-1], 0, -1), np.moveaxis(stack, 0, -1), MARKS)
    assert score_rasters(*paths, MARKS) == expected
    with pytest.raises(DataError, match="must have one band of class ids"):
        score_rasters(*paths, LAND)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transform": PLACE @ Affine.translation(0.5, 0)}, "places up to 0.5 pixels apart"),
        ({"crs": "EPSG:32634"}, "EPSG:32633 and EPSG:32634"),
    ],
)
def test_different_grids_are_refused(tmp_path, settings, words):
    one = write(tmp_path / "p.tif", draw(1))
    with pytest.raises(DataError, match=f"must share a grid, got {words} in p.tif and t.tif"):
        score_rasters(one, write(tmp_path / "t.tif", draw(1), **settings), LAND)
    with pytest.raises(DataError, match="31 × 23 and 31 × 22 pixels"):
        score_rasters(one, write(tmp_path / "t.tif", draw(1)[:, 1:]), LAND)


def test_folders_are_paired_by_name(tmp_path):
    write(tmp_path / "p/a.classes.tif", draw(1))
    write(tmp_path / "p/a.probabilities.tif", draw(1))
    write(tmp_path / "p/b.classes.tif", draw(2))
    write(tmp_path / "p/c.classes.tif", draw(2))
    write(tmp_path / "p/broken.classes.tif", draw(2))
    write(tmp_path / "t/a.tif", np.zeros((3, 31, 23), np.uint8))
    write(tmp_path / "t/a_mask.tif", draw(3))
    write(tmp_path / "t/mask_b.tif", draw(4))
    write(tmp_path / "t/d.tif", draw(4))
    (tmp_path / "t/broken.tif").write_bytes(b"no")
    score = score_folders(tmp_path / "p", tmp_path / "t", LAND)
    assert score.total == confusion(draw(3), draw(1), LAND) + confusion(draw(4), draw(2), LAND)
    assert [*score.parts] == ["a", "b"]
    assert [path.name for path in score.unpaired] == ["c.classes.tif", "d.tif"]
    assert "broken.tif" in score.failed["broken"]
    assert score_folders(tmp_path / "p", tmp_path / "t").total.legend.ids == (4, 9)
    with pytest.raises(DataError, match="rasters of the same names"):
        score_folders(tmp_path / "p", tmp_path)


def test_a_file_that_is_no_raster_is_refused(tmp_path):
    (tmp_path / "t.tif").write_bytes(b"no")
    with pytest.raises(SceneError, match=r"t\.tif"):
        score_rasters(write(tmp_path / "p.tif", draw(1)), tmp_path / "t.tif")


def test_truth_scored_against_itself_is_perfect_on_real_masks(data):
    masks = sorted((data / "scenes").glob("catanduanes*_mask.tif"))
    score = score_rasters(masks[0], masks[0])
    assert score.iou.tolist() == [1.0]
    assert score.pixels > 100_000
