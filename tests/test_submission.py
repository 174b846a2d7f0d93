"""Laws of result files: truth handed in scores 1, pycocotools reads the masks back, and a bad file never appears."""

import json
import warnings

import numpy as np
import pytest
import rasterio
from pycocotools import mask as pycoco
from rasterio.errors import NotGeoreferencedWarning

from satmask.errors import DataError, SettingError
from satmask.scoring.coco import score_coco
from satmask.submission import PredictedTile, crowdai_results, find_tiles, write_crowdai

SIZE = (60, 80)

# pycocotools hasn't followed NumPy 2's change of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def town(tiles=4):
    """Houses on plots of 10 pixels, so that they don't touch: masks and the truth that draws them."""
    truth = {"images": [], "categories": [{"id": 100, "name": "building"}], "annotations": []}
    masks = {}
    for tile in range(tiles):
        random, id_, mask = np.random.default_rng(tile), tile + 11, np.zeros(SIZE, bool)
        truth["images"].append({"id": id_, "file_name": f"place-{tile}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for corner in random.permutation(48)[: 12 * tile, None] // [8, 1] % [6, 8] * 10:
            h, w = (int(side) for side in random.integers(4, 10, 2))
            y, x = corner.tolist()
            mask[y : y + h, x : x + w] = True
            ring = [x, y, x + w, y, x + w, y + h, x, y + h]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]),
                    "image_id": id_,
                    "category_id": 100,
                    "segmentation": [ring],
                }
            )
        masks[id_] = mask
    return masks, truth


def write(path, values, **settings):
    values = np.atleast_3d(values)
    profile = {"count": values.shape[2], "height": SIZE[0], "width": SIZE[1], "dtype": values.dtype} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **profile) as file:
            file.write(np.moveaxis(values, -1, 0))


@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_truth_handed_in_scores_one(tmp_path, segmentation):
    masks, truth = town()
    tiles = [PredictedTile(id_, mask) for id_, mask in masks.items()]
    count = write_crowdai(tmp_path / "results.json", tiles, truth=truth, segmentation=segmentation)
    score = score_coco(tmp_path / "results.json", truth)
    assert (score.ap50, score.ar50) == (pytest.approx(1, abs=1e-12), 1)
    assert count == score.matched == score.truths == score.detections == 72
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("seed", range(5))
def test_pycocotools_reads_the_mask_back(seed):
    random = np.random.default_rng(seed)
    mask = np.kron(random.random((12, 16)) < 0.4, np.ones((5, 5))).astype(bool)
    probabilities = random.random(SIZE)
    entries = crowdai_results([PredictedTile(3, mask, probabilities)])
    parts = np.stack([pycoco.decode(entry["segmentation"]) for entry in entries])
    np.testing.assert_array_equal(parts.sum(axis=0), mask)
    for part, entry in zip(parts.astype(bool), entries, strict=True):
        assert entry["score"] == pytest.approx(probabilities[part].mean())
        assert entry["bbox"] == pycoco.toBbox(entry["segmentation"]).tolist()
    scores = [entry["score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_without_holes_are_drawn_to_the_pixel(seed):
    mask = np.kron(np.random.default_rng(seed).random((12, 16)) < 0.2, np.ones((5, 5))).astype(bool)
    tile = PredictedTile(3, mask, np.random.default_rng(seed).random(SIZE))
    codes, rings = (crowdai_results([tile], segmentation=kind) for kind in ("rle", "polygons"))
    for code, ring in zip(codes, rings, strict=True):
        drawn = pycoco.decode(pycoco.merge(pycoco.frPyObjects(ring["segmentation"], *SIZE)))
        np.testing.assert_array_equal(drawn, pycoco.decode(code["segmentation"]))
        assert ring["score"] == code["score"]


def test_the_hundred_best_are_kept():
    mask = np.zeros(SIZE, bool)
    mask[::2, ::2] = True
    mask[1, 0] = True
    probabilities = np.random.default_rng(1).random(SIZE)
    entries = crowdai_results([PredictedTile(3, mask, probabilities)])
    assert len(entries) == 100
    assert entries[-1]["score"] >= np.sort(probabilities[mask])[-105]
    best = crowdai_results([PredictedTile(3, mask)], score="mean_sqrt_area")[0]
    assert (best["bbox"], best["score"]) == ([0, 0, 1, 3], pytest.approx(3**0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_what_predict_writes_is_found(tmp_path, dtype):
    masks, truth = town(3)
    likely = np.full(SIZE, 0.6, np.float32) if dtype == np.float32 else np.full(SIZE, 153, np.uint8)
    for tile, mask in enumerate(masks.values()):
        ids = np.where(mask, 100, 0).astype(np.uint8)
        ids[-1, -1] = 255
        write(tmp_path / f"place-{tile}.classes.tif", ids, nodata=255)
        write(tmp_path / f"place-{tile}.probabilities.tif", likely)
    (tmp_path / "annotation.json").write_text(json.dumps(truth))
    tiles = list(find_tiles(tmp_path, truth=tmp_path / "annotation.json"))
    assert [tile.image_id for tile in tiles] == [11, 12, 13]
    assert {round(entry["score"], 6) for entry in crowdai_results(tiles)} == {0.6}
    write_crowdai(tmp_path / "results.json", tiles, truth=tmp_path / "annotation.json")
    assert score_coco(tmp_path / "results.json", truth).ar50 == 1


def test_several_classes_and_bands_have_to_be_chosen(tmp_path):
    ids = np.zeros(SIZE, np.uint8)
    ids[:9, :9], ids[20:29, :9] = 1, 2
    write(tmp_path / "000000000042.classes.tif", ids)
    write(tmp_path / "000000000042.probabilities.tif", np.full((*SIZE, 3), [0.1, 0.2, 0.7], np.float32))
    with pytest.raises(DataError, match=r"several, got \[1, 2\] in 000000000042.classes.tif"):
        list(find_tiles(tmp_path))
    with pytest.raises(DataError, match="Channel must be 0 to 2"):
        list(find_tiles(tmp_path, class_id=2))
    (tile,) = find_tiles(tmp_path, class_id=2, channel=2)
    (entry,) = crowdai_results([tile])
    assert (entry["image_id"], entry["bbox"], round(entry["score"], 6)) == (42, [0, 20, 9, 9], 0.7)


def test_tiles_that_do_not_fit_the_truth_are_refused(tmp_path):
    masks, truth = town(2)
    write(tmp_path / "elsewhere.classes.tif", masks[11].astype(np.uint8))
    with pytest.raises(DataError, match="among the 2 of the annotation file, got 'elsewhere'"):
        list(find_tiles(tmp_path, truth=truth))
    with pytest.raises(DataError, match="12 digits, got 'elsewhere'"):
        list(find_tiles(tmp_path))
    with pytest.raises(DataError, match=r"named <name>\.classes\.tif, got none"):
        list(find_tiles(tmp_path / "none"))
    tile = PredictedTile(11, masks[12])
    for tiles, words in (
        ([PredictedTile(99, masks[12])], "got .* for tile 99"),
        ([PredictedTile(11, masks[12][1:])], r"as in the truth \(\(60, 80\)\), got \(59, 80\)"),
        ([tile, tile], "got 11 a second time"),
    ):
        with pytest.raises(DataError, match=words):
            write_crowdai(tmp_path / "results.json", tiles, truth=truth)


def test_a_bad_file_never_gets_its_name(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    bad = PredictedTile(11, np.ones(SIZE, bool), np.full(SIZE, np.nan))
    with pytest.raises(DataError, match="score"):
        write_crowdai(path, [bad])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "old")]
    with pytest.raises(SettingError, match="mean or mean_sqrt_area"):
        crowdai_results([], score="area")
