"""Laws of the run report: its numbers are those of other tools, its pictures show what they say, its page is whole."""

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import rasterio
from onnx import helper, numpy_helper
from sklearn import metrics

from satmask import sample_objects, validation
from satmask.datasets import read_dataset
from satmask.engines import open_engine
from satmask.fitting import open_for
from satmask.legend import Legend
from satmask.model_file import KEY, ModelInfo
from satmask.prediction import predict_array, walk
from satmask.report import Page, Picture, Section, render_page, render_small
from satmask.run import Run
from satmask.run_report import report_run
from satmask.survey import survey
from satmask.windows import Window

EXCLUSIVE = Legend.of(["ground", "roof", "tree"], exclusive=True)


def write_model(path, legend, *, bands, seed=0):
    """A model file that weighs each pixel's bands at random: it sees no neighbour, so it is exact without a halo."""
    random = np.random.default_rng(seed)
    weights = random.normal(0, 0.05, (bands, len(legend))).astype(np.float32)
    shift = -(weights * 110).sum(axis=0)
    last = helper.make_node("Softmax", ["sum"], ["probabilities"], axis=-1)
    if legend.activation == "sigmoid":
        last = helper.make_node("Sigmoid", ["sum"], ["probabilities"])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["sum"]),
            last,
        ],
        "net",
        [helper.make_tensor_value_info("image", 1, ["n", "h", "w_", bands])],
        [helper.make_tensor_value_info("probabilities", 1, ["n", "h", "w_", len(legend)])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(shift, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    info = ModelInfo(
        legend=legend, bands=[{"name": str(at)} for at in range(bands)], dtype="uint8", value_range=[(0, 255)] * bands,
        fill=[0.0] * bands, stride=1, halo=0, activation=legend.activation, network="unet",
    )  # fmt: skip
    model.metadata_props.add(key=KEY, value=info.model_dump_json())
    onnx.save(model, path)


def write_run(folder, legend, *, bands=3):
    folder.mkdir()
    run = Run(folder)
    write_model(run.model, legend, bands=bands)
    columns = "epoch,loss,iou,val_loss,val_iou,learning_rate,images_per_s,seconds"
    (folder / "history.csv").write_text(f"{columns}\n1,2,.1,2,.3,.001,9,5\n2,1,.4,3,.2,.001,9,5\n")
    run.recipe.write_text(json.dumps({"network": {"name": "unet"}, "loss": {"<b>": None}, "epochs": 2}))
    return run


@pytest.fixture(scope="module")
def buildings(data, tmp_path_factory):
    """A report on eight tiles of real buildings: run, data, survey and scores."""
    whole = read_dataset(data / "buildings")
    samples = [sample for sample in whole.splits["val"] if len(sample.labels.geometries) > 5][:6]
    samples += [sample for sample in whole.splits["val"] if not sample.labels.geometries][:2]
    # Two places, and two sizes of tile would do too: what counts is that sums over them are sums over samples.
    samples = [replace(sample, place="<east>" if at % 2 else "west") for at, sample in enumerate(samples)]
    found = replace(whole, splits={"train": tuple(samples), "val": tuple(samples)})
    held = survey(samples)
    run = write_run(tmp_path_factory.mktemp("runs") / "run", found.legend)
    return run, found, held, report_run(run, found, held, "Validation: <these>.", quiet=True)


def predict(run, held, sample):
    engine = open_engine(run.model)
    with open_for(engine.info, sample.image, bands=held.indexes) as scene:
        return predict_array(engine, scene)


def test_scores_are_those_of_scikit_learn(buildings):
    run, _, held, scores = buildings
    truths, predictions = [], []
    for sample in held.samples:
        probabilities, valid = predict(run, held, sample)
        truth = sample.labels.read(Window(0, 0, *sample.shape))
        truths.append(truth.classes[truth.labelled & valid].ravel())
        predictions.append(probabilities[truth.labelled & valid].ravel() >= 0.5)
    truth, said = np.concatenate(truths), np.concatenate(predictions)
    total = scores["total"]["classes"][0]
    assert np.isclose(total["iou"], metrics.jaccard_score(truth, said))
    assert np.isclose(total["precision"], metrics.precision_score(truth, said))
    assert np.isclose(total["recall"], metrics.recall_score(truth, said))
    assert scores["total"]["matrix"][0] == metrics.confusion_matrix(truth, said).tolist()
    assert 0.02 < total["iou"] < 0.98


def test_scores_at_every_threshold_are_those_of_scikit_learn(buildings):
    run, _, held, scores = buildings
    truths, said = [], []
    for sample in held.samples:
        probabilities, valid = predict(run, held, sample)
        truth = sample.labels.read(Window(0, 0, *sample.shape))
        truths.append(truth.classes[truth.labelled & valid].ravel() != 0)
        said.append(probabilities[truth.labelled & valid].ravel())
    truth, said = np.concatenate(truths), np.concatenate(said)
    told = scores["probabilities"]["classes"][0]
    assert told["average_precision"] == pytest.approx(metrics.average_precision_score(truth, said), abs=2e-3)
    assert told["thresholds"][6]["recall"] == metrics.recall_score(truth, said >= np.float32(0.7))
    assert told["thresholds"][4]["precision"] == scores["total"]["classes"][0]["precision"]
    assert sum(row["pixels"] for row in told["reliability"]) == scores["total"]["pixels"]
    page = (run.folder / "report.html").read_text()
    assert f"average precision {told['average_precision']:.3f}" in page.lower()


def test_samples_and_places_add_up_to_the_total(buildings):
    scores = buildings[3]
    for part in ("samples", "places"):
        summed = sum(np.array(entry["matrix"]) for entry in scores[part])
        assert summed.tolist() == scores["total"]["matrix"]
    assert [entry["place"] for entry in scores["places"]] == ["<east>", "west"]
    assert len({entry["iou"] for entry in scores["samples"]}) > 4


def test_scores_on_disk_are_those_returned(buildings):
    run, _, _, scores = buildings
    assert json.loads((run.folder / "scores.json").read_text()) == scores


def test_objects_are_scored_as_pycocotools_does(buildings, data):
    run, _, held, scores = buildings
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    content = json.loads((data / "buildings" / "val" / "annotation.json").read_text())
    names = {sample.image.name for sample in held.samples}
    content["images"] = [entry for entry in content["images"] if entry["file_name"] in names]
    ids = {entry["id"]: entry["file_name"] for entry in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    verdicts, _ = validation.judge(open_engine(run.model), held, objects=True)
    numbers = {sample.image.name: number for number, sample in enumerate(held.samples)}
    back = {numbers[name]: id_ for id_, name in ids.items()}
    category = content["categories"][0]["id"]
    found = [
        {**entry, "image_id": back[entry["image_id"]], "category_id": category}
        for v in verdicts
        for entry in v.detections
    ]
    truth = coco.COCO()
    truth.dataset = content
    truth.createIndex()
    run_ = evaluation.COCOeval(truth, truth.loadRes(found), "segm")
    run_.params.iouThrs, run_.params.areaRng, run_.params.areaRngLbl = np.array([0.5]), [[0, 1e10]], ["all"]
    run_.params.maxDets = [100]
    run_.evaluate()
    run_.accumulate()
    precision = run_.eval["precision"]
    assert scores["objects"]["ap50"] == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
    assert scores["objects"]["ar50"] == pytest.approx(run_.eval["recall"].mean(), abs=1e-12)


def test_the_worst_and_best_shown_are_so(buildings):
    run, _, held, scores = buildings
    page = (run.folder / "report.html").read_text()
    labelled = {
        sample.name for sample in held.samples if sample.labels.read(Window(0, 0, *sample.shape)).classes.mean() > 0.001
    }
    order = [
        entry["name"]
        for entry in sorted(scores["samples"], key=lambda entry: entry["iou"])
        if entry["name"] in labelled
    ]
    worst, best = page.split("Worst predictions")[1].split("Best predictions")
    shown = [re.findall(r'alt="Image of ([^,]+), IoU', part) for part in (worst, best)]
    assert shown == [order[: len(shown[0])], order[::-1][: len(shown[1])]]
    assert len(order) == len(shown[0]) + len(shown[1]) == 6


def test_page_is_whole_and_asks_for_nothing(buildings):
    run, *_ = buildings
    page = (run.folder / "report.html").read_text()
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", page)
    assert "<these>" not in page
    assert "&lt;east&gt;" in page
    assert "loss.&lt;b&gt;" in page
    assert "Epoch 1 of 2 was chosen" in page
    assert len(page.encode()) < 4_000_000


def test_a_page_that_grows_too_large_loses_quality_first():
    rgb = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    pages = {}

    def make(quality):
        pages[quality] = Page(
            "noise", sections=[Section("all", pictures=[Picture.photo(rgb, "noise", quality=quality)] * 12)]
        )
        return pages[quality]

    text = render_small(make)
    assert len(text.encode()) < 4_000_000 < len(render_page(pages[max(pages)]).encode())


@pytest.fixture
def scene(tmp_path):
    """A scene larger than a view with exclusive labels, some of them unknown, and nodata: a pairs data set."""
    random = np.random.default_rng(5)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    small = random.integers(20, 220, (4, 30, 50), dtype=np.uint8)
    image = np.stack([cv2.resize(band, (1100, 540), interpolation=cv2.INTER_CUBIC) for band in small])
    image[:, :100, :100] = 0
    mask = cv2.resize(random.integers(0, 3, (9, 15), dtype=np.uint8), (1100, 540), interpolation=cv2.INTER_NEAREST)
    mask[200:260] = 77
    settings = {"driver": "GTiff", "height": 540, "width": 1100, "dtype": "uint8"}
    with rasterio.open(tmp_path / "data" / "images" / "a.tif", "w", count=4, nodata=0, **settings) as file:
        file.write(image)
    with rasterio.open(tmp_path / "data" / "masks" / "a.tif", "w", count=1, **settings) as file:
        file.write(mask, 1)
    found = read_dataset(tmp_path / "data", legend=EXCLUSIVE)
    return replace(found, splits={"train": found.splits["train"], "val": found.splits["train"]})


def test_large_scenes_are_counted_once_whatever_the_window(scene, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", EXCLUSIVE, bands=4)
    held = survey(scene.splits["val"], bands=(1, 2, 3, 4))
    sample = held.samples[0]
    monkeypatch.setattr(validation, "walk", lambda engine, scene, **settings: walk(engine, scene, size=96, **settings))
    scores = report_run(run, scene, held, "Validation: itself.", quiet=True)
    probabilities, valid = predict(run, held, sample)
    truth = sample.labels.read(Window(0, 0, *sample.shape))
    counted = truth.labelled & valid
    expected = metrics.confusion_matrix(
        truth.classes.argmax(-1)[counted], np.nan_to_num(probabilities).argmax(-1)[counted]
    )
    assert scores["total"]["matrix"] == expected.tolist()
    assert scores["total"]["pixels"] == counted.sum() < 540 * 1100 - 60 * 1100
    assert scores["objects"] is None


def test_a_view_is_predicted_as_its_scene_is(scene, tmp_path):
    run = write_run(tmp_path / "run", EXCLUSIVE, bands=4)
    held = survey(scene.splits["val"], bands=(1, 2, 3, 4))
    engine = open_engine(run.model)
    (verdict,), _ = validation.judge(engine, held)
    assert len(verdict.views) == 6
    for view in validation.rank([verdict]):
        example = validation.illustrate(engine, view, held)
        wrong = view.counts.matrix.sum() - np.trace(view.counts.matrix)
        ids = np.asarray(EXCLUSIVE.ids)[example.truth.argmax(-1)]
        assert ((ids != example.prediction) & example.valid).sum() == wrong
        assert example.rgb.shape[:2] == (view.window.height, view.window.width)


def test_overlapping_classes_are_counted_each_on_its_own(scene, tmp_path):
    legend = Legend.of({1: "roof", 2: "tree"})
    found = read_dataset(scene.root, legend=legend)
    run = write_run(tmp_path / "run", legend, bands=4)
    held = survey(found.splits["train"], bands=(1, 2, 3, 4))
    scores = report_run(run, found, held, "Validation: itself.", quiet=True)
    probabilities, valid = predict(run, held, held.samples[0])
    truth = held.samples[0].labels.read(Window(0, 0, 540, 1100))
    counted = truth.labelled & valid
    expected = metrics.multilabel_confusion_matrix(truth.classes[counted], probabilities[counted] >= 0.5)
    assert scores["total"]["matrix"] == expected.tolist()


def test_every_object_of_the_run_is_told_once(buildings):
    run, _, held, scores = buildings
    counts = scores["errors"]["counts"]
    assert list(counts) == list(held.samples[0].labels.legend.names)
    true, said = np.sum([*counts["building"].values()], axis=0).tolist()
    groups = 0
    for sample in held.samples:
        probabilities, _ = predict(run, held, sample)
        groups += cv2.connectedComponents((probabilities[..., 0] >= 0.5).astype(np.uint8), connectivity=4)[0] - 1
    assert true == sum(len(sample.labels.geometries) for sample in held.samples)
    assert said == groups
    assert json.loads((run.folder / "scores.json").read_text())["errors"]["worst"] == scores["errors"]["worst"]


def test_the_page_shows_the_worst_objects_where_they_are(buildings):
    run, _, held, scores = buildings
    page = (run.folder / "report.html").read_text()
    worst = scores["errors"]["worst"]
    for title, kind in (("Missed objects", "missed"), ("Invented objects", "invented"), ("Badly drawn", "badly drawn")):
        assert (title in page) == bool(worst[kind])
    assert worst["invented"]
    first = worst["invented"][0]
    sample = next(sample for sample in held.samples if sample.name == first["image"])
    probabilities, _ = predict(run, held, sample)
    assert probabilities[int(first["row"]), int(first["column"]), 0] >= 0.5
    assert f"{first['x']:.6f}" in page
    assert sample.bounds[0] <= first["x"] <= sample.bounds[2]
    assert sample.bounds[1] <= first["y"] <= sample.bounds[3]
    for name in ("Image", "Error"):
        assert f'alt="{name} of building, invented, in {first["image"]}"' in page


def test_objects_of_a_scene_are_those_of_its_whole_whatever_the_window(scene, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", EXCLUSIVE, bands=4)
    held = survey(scene.splits["val"], bands=(1, 2, 3, 4))
    engine = open_engine(run.model)
    (one,), _ = validation.judge(engine, held)
    monkeypatch.setattr(validation, "walk", lambda engine, scene: walk(engine, scene, size=96))
    (other,), _ = validation.judge(engine, held)
    assert one.objects == other.objects
    assert {listed.name for listed in one.objects.worst} == {
        "roof",
        "tree",
    }  # ground, with id 0, is what has no objects
    monkeypatch.setattr(sample_objects, "LARGEST", 100)
    assert validation.judge(engine, held)[0][0].objects is None
