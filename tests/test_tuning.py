"""Tuning: what is chosen is the best there is, and its gain is judged on places that it hasn't seen."""

import functools
import json
import operator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from onnx import TensorProto, helper

from satmask.assembly import Assembly, Member
from satmask.cli import main
from satmask.datasets import Sample
from satmask.decisions import choose_objects
from satmask.engines import Engine, open_engine
from satmask.errors import DataError, SettingError
from satmask.labels import Truth
from satmask.legend import Legend
from satmask.model_file import KEY, BandInfo, ModelInfo, read_info
from satmask.scoring.thresholds import count_thresholds
from satmask.tuning import AREAS_PX, THRESHOLDS, assign, choose, count_objects, iou_of, tune

TWO = Legend.of(["house", "pond"])


def info(**changes):
    values = {
        "legend": TWO, "bands": (BandInfo(name="grey"),), "dtype": "uint8", "value_range": ((0, 255),), "fill": (0.0,),
        "stride": 1, "halo": 0, "activation": "sigmoid", "network": "copy",
    }  # fmt: skip
    return ModelInfo(**values | changes)


def image(seed, shape=(40, 50)):
    """Probabilities and truth that agree best at a threshold of 0.3, but for specks."""
    random = np.random.default_rng(seed)
    coarse = np.kron(random.random((shape[0] // 5, shape[1] // 5)) < 0.3, np.ones((5, 5), bool))
    said = np.where(coarse, random.uniform(0.3, 0.9, shape), random.uniform(0.0, 0.28, shape))
    said = np.where(random.random(shape) < 0.02, 0.95, said)
    return np.stack([said, said], axis=-1).astype(np.float32), np.stack([coarse, np.zeros_like(coarse)], axis=-1)


def counts(seed, model=None, counted=None):
    said, truth = image(seed)
    everything = np.ones(truth.shape[:2], bool) if counted is None else counted
    return count_objects(said, truth, everything, model or info())


@pytest.mark.parametrize("own", [(0.5, 0.37), (0.123, 0.5)])
def test_every_threshold_with_every_area_scores_as_the_masks_do(own):
    model, random = info(thresholds=own, min_area_px=(7, 0)), np.random.default_rng(9)
    said, truth = image(1)
    said[3:5, :9] = np.nan
    counted = random.random(truth.shape[:2]) < 0.9
    found = count_objects(said, truth, counted, model)
    table = found.iou()
    for row in range(0, len(THRESHOLDS) + 1, 5):
        for column in range(len(AREAS_PX) + 1):
            mask = choose_objects(said[..., 0] >= np.float32(found.thresholds[0, row]), found.areas[0, column])
            both, either = (op(mask, truth[..., 0])[counted].sum() for op in (np.logical_and, np.logical_or))
            assert table[0, row, column] == pytest.approx(both / either)


def test_without_smallest_areas_the_f1_is_that_of_threshold_counts():
    said, truth = image(2)
    curve = count_thresholds(said, truth, TWO).curve(0)
    found = count_objects(said, truth, np.ones(truth.shape[:2], bool), info())
    for row, threshold in enumerate(found.thresholds[0]):
        iou = found.iou()[0, row, 0]
        assert 2 * iou / (1 + iou) == pytest.approx(curve.f1[round(threshold * 1000)])


def test_counts_add():
    one, other = counts(3), counts(4)
    said, truth = (np.concatenate(pair) for pair in zip(image(3), image(4), strict=True))
    gap = np.zeros((1, *truth.shape[1:]), truth.dtype)
    said, truth = np.insert(said, 40, 0, axis=0), np.insert(truth, 40, gap, axis=0)
    together = count_objects(said, truth, np.ones(truth.shape[:2], bool), info())
    assert np.array_equal((one + other).found, together.found)
    assert np.array_equal((one + other).truth, together.truth)


def test_the_choice_is_the_best_and_its_estimate_comes_from_other_parts():
    parts = [counts(seed) for seed in range(4)]
    (choice, absent) = choose(parts, info())
    table = functools.reduce(operator.add, parts).iou()[0]
    assert choice.after == np.nanmax(table)
    assert 0.28 <= choice.threshold <= 0.35
    assert choice.smallest > 1
    assert choice.before < choice.estimate <= choice.after
    hits = 0
    for number, part in enumerate(parts):
        others = functools.reduce(operator.add, parts[:number] + parts[number + 1 :])
        place = np.unravel_index(np.nanargmax(others.iou()[0]), table.shape)
        hits = hits + part.kept[0][place]
    assert choice.estimate == pytest.approx(float(iou_of(hits, sum(part.truth[0] for part in parts))))
    assert not absent.better


def test_a_choice_that_does_not_hold_elsewhere_is_refused():
    good, bad = image(5), image(6)
    worse = (bad[0].copy(), bad[1])
    worse[0][..., 0] = np.where(bad[1][..., 0], 0.99, 0.9)  # asks for the highest threshold, the other for a low one
    everything = np.ones(good[1].shape[:2], bool)
    parts = [count_objects(*pair, everything, info()) for pair in (good, worse)]
    choice = choose(parts, info())[0]
    assert choice.after > choice.before
    assert not choice.better


def test_a_single_part_tells_no_gain():
    choice = choose([counts(7)], info())[0]
    assert np.isnan(choice.estimate)
    assert not choice.better


class Copy(Engine):
    """A network that says what its image holds."""

    name = "copy"

    def _run(self, images):
        return np.repeat(images, 2, axis=-1) / np.float32(255)


class ArrayLabels:
    """Labels from an array."""

    legend = TWO

    def __init__(self, masks):
        self.masks = masks

    def read(self, window):
        inside = self.masks[window.slices].astype(np.uint8)
        return Truth(inside, np.ones(inside.shape[:2], bool))


def sample(folder, number, place=""):
    said, truth = image(number)
    path = Path(folder) / f"image{number}.tif"
    with rasterio.open(path, "w", driver="GTiff", height=40, width=50, count=1, dtype="uint8") as file:
        file.write(np.round(said[..., 0] * 255).astype(np.uint8), 1)
    return Sample(path.stem, path, (40, 50), ArrayLabels(truth), place)


def test_a_model_is_tuned_and_told(tmp_path):
    samples = [sample(tmp_path, number, f"place {number // 2}") for number in range(6)]
    found = tune(Copy(info()), samples, metric="f1", folds=3)
    assert (found.images, found.folds, found.in_m2) == (6, 3, False)
    told = found.apply(info())
    house, pond = found.choices
    assert told.thresholds == (house.threshold, 0.5)
    assert told.min_area_px == (house.smallest, 0)
    assert told.training["tuning"]["estimate"] > told.training["tuning"]["before"]
    again = tune(Copy(told), samples, folds=3).choices[0]
    assert again.before == pytest.approx(house.after)
    assert not again.better
    assert np.isnan(pond.before) or not pond.better


def test_places_stay_together(tmp_path):
    samples = [sample(tmp_path, number, place) for number, place in enumerate(["a", "b", "a", "c", "a", "b"])]
    folds = assign(samples, 2)
    assert len({folds[at] for at in (0, 2, 4)}) == 1
    assert sorted(set(folds)) == [0, 1]
    assert len(set(assign([sample(tmp_path, number) for number in range(4)], 9))) == 4


def test_what_cannot_be_tuned_is_refused(tmp_path):
    with pytest.raises(DataError, match="got none"):
        tune(Copy(info()), [])
    with pytest.raises(SettingError, match="got 'ap' and 5 folds"):
        tune(Copy(info()), [sample(tmp_path, 1)], metric="ap")
    exclusive = Copy(info(legend=Legend.of(["ground", "house"], exclusive=True), activation="softmax"))
    with pytest.raises(SettingError, match="exclude each other"):
        tune(exclusive, [sample(tmp_path, 1)])


def write_model(path, model):
    """A model file whose network says what its image holds."""
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [1], [1 / 255])
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["said"]),
        helper.make_node("Concat", ["said", "said"], ["probabilities"], axis=3),
    ]
    sides = ["batch", "height", "width"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*sides, channels])
        for name, channels in (("image", 1), ("probabilities", 2))
    ]
    graph = helper.make_graph(nodes, "copy", ends[:1], ends[1:], [scale])
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(onnx_model, {KEY: model.model_dump_json()})
    path.write_bytes(onnx_model.SerializeToString())
    return path


def write_pairs(folder, count):
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        said, truth = image(number)
        for kind, values in (("images", np.round(said[..., 0] * 255)), ("masks", truth[..., 0])):
            with rasterio.open(
                folder / kind / f"{'ab'[number % 2]}-{number}.tif", "w", driver="GTiff", height=40, width=50, count=1,
                dtype="uint8",
            ) as file:  # fmt: skip
                file.write(values.astype(np.uint8), 1)
    (folder / "legend.toml").write_text(
        '[[classes]]\nid = 1\nname = "house"\n[[classes]]\nid = 2\nname = "pond"\n', encoding="utf-8"
    )


def test_the_command_writes_what_is_better_and_predict_uses_it(tmp_path, capsys):
    write_pairs(tmp_path / "data", 4)
    path = write_model(tmp_path / "model.onnx", info())
    before = path.read_bytes()
    assert main(["tune", str(path), str(tmp_path / "data"), "--json", "--dry-run", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)["model.onnx"]
    assert (told["better"], told["written"]) == (["house"], False)
    assert path.read_bytes() == before
    assert main(["tune", str(path), str(tmp_path / "data"), "-q"]) == 0
    assert "1 of 2 classes better, written to" in capsys.readouterr().out
    tuned = read_info(path)
    house = told["classes"][0]
    assert (tuned.thresholds[0], tuned.min_area_px[0]) == (house["threshold"], house["smallest"])
    scene = tmp_path / "data" / "images" / "a-0.tif"
    assert main(["predict", str(path), str(scene), "--out", str(tmp_path / "p"), "-q"]) == 0
    with rasterio.open(tmp_path / "p" / "a-0.probabilities.tif") as file:
        said = np.moveaxis(file.read(), 0, -1)
    with rasterio.open(tmp_path / "p" / "a-0.classes.tif") as file:
        assert np.array_equal(file.read(1) > 0, tuned.decision.masks(said).any(axis=-1))
    assert main(["tune", str(path), str(tmp_path / "data"), "-q"]) == 0
    assert "0 of 2 classes better\n" in capsys.readouterr().out


def test_members_of_an_assembly_are_tuned_one_by_one(tmp_path, capsys):
    write_pairs(tmp_path / "data", 4)
    write_model(tmp_path / "model.onnx", info())
    assembly = Assembly(legend=TWO, members=(Member(file="model.onnx", classes=("house", "pond")),))
    assembly.save(tmp_path / "assembly.json")
    assert main(["tune", str(tmp_path), str(tmp_path / "data"), "-q"]) == 0
    assert "1 of 2 classes better" in capsys.readouterr().out
    assert open_engine(tmp_path / "assembly.json").info.thresholds == read_info(tmp_path / "model.onnx").thresholds
    assert main(["tune", str(tmp_path / "data" / "legend.toml"), str(tmp_path / "data"), "-q"]) == 2
