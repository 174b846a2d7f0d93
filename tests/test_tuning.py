"""Tuning: what is chosen is the best there is, and its gain is judged on places that it hasn't seen."""

import inspect
import json
from dataclasses import replace
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from onnx import TensorProto, helper

from satmask.assembly import Assembly, Member
from satmask.cli import main
from satmask.cli import tune as cli_tune
from satmask.datasets import Sample
from satmask.decisions import Decision, read_decision
from satmask.engines import Engine, open_engine
from satmask.errors import DataError, SettingError
from satmask.labels import PolygonLabels, Truth
from satmask.legend import Legend
from satmask.masks import encode_coco, rasterise
from satmask.model_file import KEY, BandInfo, ModelInfo, read_info, rewrite
from satmask.refinements import Refinement, refine
from satmask.scoring.coco import score_coco
from satmask.separation import separate
from satmask.submission import crowdai_results, find_tiles
from satmask.tuning import LEAST_GAIN, Cache, assign, choose, digest_model, tune
from satmask.tuning.measuring import Image
from satmask.tuning.search import Tables, search
from satmask.tuning.settings import AREAS_PX, PARTS, THRESHOLDS, Setting, choices
from satmask.tuning.tallies import total

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


def picture(seed, model=None, *, gsd_m=None, hidden=None):
    """An image for tuning the first class."""
    said, truth = image(seed)
    labels = ArrayLabels(truth, hidden)
    return Image(lambda: np.moveaxis(said, -1, 0), labels, model or info(), 0, shape=truth.shape[:2], gsd_m=gsd_m)


def tables(pictures, tried, *, objects=False):
    """Tallies of images, each a part of its own."""

    def measure(settings):
        each = [
            one.object_tallies(settings, tried) if objects else one.pixel_tallies(settings, tried) for one in pictures
        ]
        return [[mine[at] for mine in each] for at in range(len(settings))]

    return Tables(measure)


SETTINGS = [
    Setting(0.5), Setting(0.37, opening=1.5), Setting(0.25, closing=1), Setting(0.2, hole=8),
    Setting(0.3, opening=1, closing=1.5, hole=32), Setting(0.01),
]  # fmt: skip


@pytest.mark.parametrize("gsd_m", [None, 0.5])
def test_every_setting_with_every_area_scores_as_the_decision_does(gsd_m):
    random = np.random.default_rng(9)
    hidden = random.random((40, 50)) < 0.1
    own = {"thresholds": (0.37, 0.5)} | ({"gsd_m": (0.5, 0.5)} if gsd_m else {"min_area_px": (7, 0)})
    model, (said, truth) = info(**own), image(1)
    tried = choices(model, 0, in_m2=gsd_m is not None, objects=False)
    unit = gsd_m or 1
    settings = [
        replace(one, opening=one.opening * unit, closing=one.closing * unit, hole=one.hole * unit**2)
        for one in SETTINGS
    ]
    for setting, tally in zip(
        settings, picture(1, model, gsd_m=gsd_m, hidden=hidden).pixel_tallies(settings, tried), strict=True
    ):
        rule = setting.refinement("house", in_m2=gsd_m is not None)
        for place, area in list(enumerate(tried.areas))[::4]:
            key = "min_area_m2" if gsd_m else "min_area_px"
            changed = info(
                **own
                | {key: (area, 0), "thresholds": (setting.threshold, 0.5), "refinements": (rule,) if rule.any else ()}
            )
            mask = changed.decision.masks(said, gsd_m=gsd_m)[..., 0]
            both, either = (op(mask, truth[..., 0])[~hidden].sum() for op in (np.logical_and, np.logical_or))
            assert tally.scores()[place] == pytest.approx(both / either)


def test_with_the_smallest_area_given_smaller_groups_count_nowhere():
    model, (said, truth) = info(min_area_px=(7, 0)), image(1)
    tried = choices(model, 0, in_m2=False, objects=False)
    alone = tried.only(["threshold"])
    assert alone.areas == (7.0,)
    every = picture(1, model).pixel_tallies(SETTINGS, tried)
    for setting, tally, whole in zip(SETTINGS, picture(1, model).pixel_tallies(SETTINGS, alone), every, strict=True):
        rule = setting.refinement("house", in_m2=False)
        changed = replace(model.decision, thresholds=(setting.threshold, 0.5), refinements=(rule,) if rule.any else ())
        mask = changed.masks(said)[..., 0]
        both, either = (op(mask, truth[..., 0]).sum() for op in (np.logical_and, np.logical_or))
        assert tally.scores().tolist() == [pytest.approx(both / either)] == [whole.scores()[tried.areas.index(7)]]


@pytest.mark.parametrize("separate_px", [0, 1])
@pytest.mark.parametrize("drawn", [True, False])
def test_objects_are_scored_as_the_challenge_does(separate_px, drawn):
    shapes, model = [shapely.box(4, 4, 14, 12), shapely.box(16, 4, 26, 12), shapely.box(30, 20, 44, 34)], info()
    said = np.random.default_rng(3).uniform(0, 0.4, (2, 40, 50)).astype(np.float32)
    said[0, 4:12, 5:27] = 0.8
    said[0, 4:7, 15], said[0, 9:12, 15], said[0, 21:30, 30:44], said[0, 37, 3:6] = 0.1, 0.1, 0.7, 0.9
    truth = np.stack([rasterise(shapes, 40, 50) > 0, np.zeros((40, 50), bool)], axis=-1)
    labels = PolygonLabels(TWO, (40, 50), shapes, [0, 0, 0]) if drawn else ArrayLabels(truth)
    tried = choices(model, 0, in_m2=False, objects=True)
    setting = Setting(0.5, separate=separate_px)
    tally = Image(lambda: said, labels, model, 0, shape=(40, 50), gsd_m=None).object_tallies([setting], tried)[0]
    assert tally.truths == 3
    for area in (0, 4):
        mask = said[0] >= 0.5
        groups, sizes = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)[1:3]
        mask &= sizes[groups, cv2.CC_STAT_AREA] >= area
        parts = separate(mask, depth=separate_px) if separate_px else groups * mask
        entries = [
            {"image_id": 1, "category_id": 1, "segmentation": encode_coco(parts == part), "score": float(said[0][parts == part].mean())}
            for part in np.setdiff1d(parts, 0)
        ]  # fmt: skip
        content = {
            "images": [{"id": 1, "file_name": "", "height": 40, "width": 50}], "categories": [{"id": 1}],
            "annotations": [
                {"id": at + 1, "image_id": 1, "category_id": 1, "segmentation": encode_coco(rasterise([one], 40, 50))}
                for at, one in enumerate(shapes)
            ],
        }  # fmt: skip
        assert tally.scores()[tried.areas.index(area)] == pytest.approx(score_coco(entries, content).ap50)


def test_unknown_ground_makes_no_object_wrong():
    hidden = np.zeros((40, 50), bool)
    said = np.zeros((2, 40, 50), np.float32)
    said[0, 5:15, 5:15] = said[0, 25:35, 25:35] = 0.9
    truth = np.zeros((40, 50, 2), bool)
    truth[5:15, 5:15, 0] = True
    tried = choices(info(), 0, in_m2=False, objects=True)
    wrong, unknown = (
        Image(lambda: said, ArrayLabels(truth, where), info(), 0, shape=(40, 50), gsd_m=None).object_tallies(
            [Setting(0.5)], tried
        )[0]
        for where in (hidden, hidden | (np.arange(50) >= 20))
    )
    assert (len(wrong.found), len(unknown.found)) == (2, 1)


def test_the_search_finds_the_best_threshold_and_area_of_all():
    tried = choices(info(), 0, in_m2=False, objects=False)
    pictures = [picture(seed) for seed in range(4)]
    every = tables(pictures, tried)
    best = search(every, range(4), replace(tried, refined={}))
    grid = [total(row).scores() for row in every.of([Setting(limit) for limit in (*THRESHOLDS, 0.5)])]
    assert best.score == pytest.approx(np.max(grid))
    assert tried.areas == AREAS_PX
    assert search(every, range(4), tried).score >= best.score


def test_the_estimate_comes_from_other_parts():
    tried = choices(info(), 0, in_m2=False, objects=False)
    every = tables([picture(seed) for seed in range(4)], tried)
    choice = choose(every, tried, 4)
    assert choice.before < choice.estimate <= choice.after
    assert 0.2 <= choice.threshold <= 0.35
    decided = []
    for part in range(4):
        found = search(every, [other for other in range(4) if other != part], tried)
        decided.append(every.of([found.setting])[0][part].at(found.area))
    assert choice.estimate == pytest.approx(total(decided).scores()[0])
    alone = choose(tables([picture(7)], tried), tried, 1)
    assert np.isnan(alone.estimate)
    assert not alone.better


def test_a_choice_that_does_not_hold_elsewhere_is_refused():
    tried = choices(info(), 0, in_m2=False, objects=False)
    truth = image(6)[1]
    worse = np.moveaxis(np.where(truth, np.float32(0.99), np.float32(0.9)), -1, 0)  # asks for the highest threshold
    other = Image(lambda: worse, ArrayLabels(truth), info(), 0, shape=(40, 50), gsd_m=None)
    choice = choose(tables([picture(5), other], tried), tried, 2)
    assert choice.after > choice.before
    assert not choice.better


def test_a_refinement_is_chosen_where_it_helps_alone():
    tried = choices(info(), 0, in_m2=False, objects=True)
    houses = [shapely.box(x, y, x + 10, y + 9) for y in (3, 16, 28) for x in (4, 15, 26, 37)]
    truth = PolygonLabels(TWO, (40, 50), houses, [0] * 12)
    grown = np.zeros((2, 40, 50), np.float32)
    grown[0] = np.where(rasterise(houses, 40, 50) > 0, 0.9, 0)
    for y in (3, 16, 28):
        grown[0, y + 4 : y + 6, 4:47] = 0.9  # bridges between neighbours
    clear = np.where(grown * 0 + rasterise(houses, 40, 50) > 0, np.float32(0.9), np.float32(0))
    bridged, apart = (
        Image(lambda said=said: said, truth, info(), 0, shape=(40, 50), gsd_m=None) for said in (grown, clear)
    )
    found = search(tables([bridged], tried, objects=True), [0], tried)
    assert found.setting.separate > 0 or found.setting.opening > 0
    assert found.score > 0.9
    parted = search(tables([bridged], tried, objects=True), [0], tried.only(["separate"]))
    assert parted.setting == replace(tried.own, separate=parted.setting.separate) != tried.own
    assert search(tables([apart], tried, objects=True), [0], tried).setting == tried.own


class Copy(Engine):
    """A network that says what its image holds."""

    name = "copy"

    def _run(self, images):
        return np.repeat(images, 2, axis=-1) / np.float32(255)


class ArrayLabels:
    """Labels from an array."""

    legend = TWO

    def __init__(self, masks, hidden=None):
        self.masks, self.hidden = masks, np.zeros(masks.shape[:2], bool) if hidden is None else hidden

    def read(self, window):
        return Truth(self.masks[window.slices].astype(np.uint8), ~self.hidden[window.slices])


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
    refined = told.decision.refinement("house")
    assert (refined.open_px, refined.close_px, refined.min_hole_px) == (house.opening, house.closing, house.hole)
    assert told.training["tuning"]["estimate"] > told.training["tuning"]["before"]
    again = tune(Copy(told), samples, folds=3).choices[0]
    assert again.before == pytest.approx(house.after)
    assert not again.better
    assert np.isnan(pond.before) or not pond.better


@pytest.mark.parametrize(("beyond", "better"), [(-1e-9, True), (1e-9, False)])
def test_a_class_changes_from_the_least_gain_on(tmp_path, beyond, better):
    samples = [sample(tmp_path, number, f"place {number // 2}") for number in range(6)]
    house = tune(Copy(info()), samples, folds=3).choices[0]
    least = house.estimate - house.before + beyond
    assert tune(Copy(info()), samples, folds=3, least_gain=least).choices[0].better == better


@pytest.mark.parametrize("only", [("threshold",), ("area",), ("threshold", "area"), ("closing", "hole"), ("separate",)])
def test_only_what_is_asked_for_is_chosen(tmp_path, only):
    samples = [sample(tmp_path, number, f"place {number // 2}") for number in range(6)]
    own = {"threshold": 0.5, "smallest": 0, "separate": 0, "opening": 0, "closing": 0, "hole": 0}
    chosen = [{"area": "smallest"}.get(part, part) for part in only]
    for metric in ("ap50",) if only == ("separate",) else ("iou", "ap50"):
        house = vars(tune(Copy(info()), samples, metric=metric, folds=3, only=only).choices[0])
        assert {part: house[part] for part in own if part not in chosen} == {
            part: value for part, value in own.items() if part not in chosen
        }
        if only != ("separate",):  # these houses don't touch
            assert any(house[part] != own[part] for part in chosen)


def test_all_is_chosen_unless_said_otherwise(tmp_path):
    samples = [sample(tmp_path, number, f"place {number // 2}") for number in range(6)]
    assert tune(Copy(info()), samples, folds=3) == tune(Copy(info()), samples, folds=3, only=PARTS)


def test_a_gain_of_thousandths_is_none_unless_asked_for():
    assert LEAST_GAIN == inspect.signature(cli_tune.tune).parameters["least_gain"].default == 0.005


def test_places_stay_together(tmp_path):
    samples = [sample(tmp_path, number, place) for number, place in enumerate(["a", "b", "a", "c", "a", "b"])]
    folds = assign(samples, 2)
    assert len({folds[at] for at in (0, 2, 4)}) == 1
    assert sorted(set(folds)) == [0, 1]
    assert len(set(assign([sample(tmp_path, number) for number in range(4)], 9))) == 4


def test_what_cannot_be_tuned_is_refused(tmp_path):
    with pytest.raises(DataError, match="got none"):
        tune(Copy(info()), [])
    with pytest.raises(SettingError, match="must be for ap50, got iou"):
        tune(Copy(info()), [sample(tmp_path, 1)], only=["separate"])
    with pytest.raises(SettingError, match="hole, got colour"):
        tune(Copy(info()), [sample(tmp_path, 1)], only=["colour"])
    with pytest.raises(SettingError, match="got 'ap' and 5 folds"):
        tune(Copy(info()), [sample(tmp_path, 1)], metric="ap")


def test_exclusive_classes_get_smallest_areas_and_separation_only(tmp_path):
    legend = Legend.of(["ground", "house"], exclusive=True)
    model = info(legend=legend, activation="softmax")
    for objects in (False, True):
        tried = choices(model, 1, in_m2=False, objects=objects)
        assert (tried.thresholds, set(tried.refined)) == ((), {"separate"} if objects else set())
    said, truth = image(3)
    both = np.stack([1 - said[..., 0], said[..., 0]])
    masks = np.stack([~truth[..., 0], truth[..., 0]], axis=-1)
    tally = Image(lambda: both, ArrayLabels(masks), model, 1, shape=(40, 50), gsd_m=None).pixel_tallies(
        [tried.own], tried
    )[0]
    mask = said[..., 0] > 0.5
    assert tally.scores()[0] == pytest.approx((mask & truth[..., 0]).sum() / (mask | truth[..., 0]).sum())
    samples = [sample(tmp_path, number, f"place {number}") for number in range(4)]
    samples = [replace(one, labels=ArrayLabels(one.labels.masks * [False, True])) for one in samples]
    found = tune(Halves(model), samples)
    assert [choice.threshold for choice in found.choices] == [None, None]
    told = found.apply(model)
    assert told.thresholds == model.thresholds
    assert told.decision.local is not any(choice.better for choice in found.choices)


class Halves(Engine):
    """A network whose two classes exclude each other."""

    name = "halves"

    def _run(self, images):
        said = images / np.float32(255)
        return np.concatenate([1 - said, said], axis=-1)


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


class Counting(Copy):
    """A network that counts how often it is asked."""

    asked = 0

    def _run(self, images):
        self.asked += 1
        return super()._run(images)


def test_what_a_network_says_is_kept_by_network_and_image(tmp_path):
    samples = [sample(tmp_path, number, f"place {number}") for number in range(3)]
    engine, cache = Counting(info()), Cache(tmp_path / "said", "one network")
    first = tune(engine, samples, cache=cache)
    assert engine.asked == 3
    assert tune(engine, samples, cache=cache) == first
    assert engine.asked == 3
    kept = sorted((tmp_path / "said").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:-9])  # half of one is none
    tune(engine, [*samples, sample(tmp_path, 8)], cache=cache)
    assert engine.asked == 5
    tune(engine, samples, cache=Cache(tmp_path / "said", "another"))
    assert engine.asked == 8
    assert len(list((tmp_path / "said").glob("*.npy"))) == 7


def test_a_networks_digest_is_that_of_what_it_says(tmp_path):
    path = write_model(tmp_path / "model.onnx", info())
    before = digest_model(path, read_info(path))
    rewrite(path, info(thresholds=(0.2, 0.5), min_area_px=(9, 0), refinements=(Refinement("house", open_px=1),)))
    assert digest_model(path, read_info(path)) == before
    rewrite(path, info(fill=(7.0,)))
    assert digest_model(path, read_info(path)) != before


def test_the_command_keeps_probabilities_under_the_run_and_tunes_objects(tmp_path, capsys):
    write_pairs(tmp_path / "data", 4)
    (tmp_path / "run").mkdir()
    path = write_model(tmp_path / "run" / "model.onnx", info())
    assert main(["tune", str(tmp_path / "run"), str(tmp_path / "data"), "--for", "ap50", "-q"]) == 0
    out = capsys.readouterr().out
    assert "mean ap50" in out
    assert len(list((tmp_path / "run" / "probabilities").glob("*.npy"))) == 4
    assert "1 of 2 classes better" in out
    told = read_info(path).training["tuning"]
    assert told["metric"] == "ap50"
    assert told["estimate"] > told["before"]
    assert main(["tune", str(path), str(tmp_path / "data"), "--cache", str(tmp_path / "c"), "--dry-run", "-q"]) == 0
    assert len(list((tmp_path / "c").glob("*.npy"))) == 4


def test_predict_parts_objects_as_the_model_file_says(tmp_path):
    values = np.zeros((40, 50), np.uint8)
    values[4:14, 4:44] = values[20:30, 4:44] = 200
    values[4:8, 23:25] = values[10:14, 23:25] = 0
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", height=40, width=50, count=1, dtype="uint8"
    ) as file:
        file.write(values, 1)
    found = {}
    for depth in (0, 2):
        rule = Refinement("house", open_px=1, separate_px=depth)
        path = write_model(tmp_path / "model.onnx", info(refinements=(rule,), thresholds=(0.5, 0.99)))
        out = tmp_path / str(depth)
        assert main(["predict", str(path), str(tmp_path / "scene.tif"), "--out", str(out), "--polygons", "-q"]) == 0
        found[depth] = geopandas.read_file(out / "scene.gpkg")
        with rasterio.open(out / "scene.classes.tif") as file:
            mask = refine(values > 100, rule)
            assert np.array_equal(file.read(1) == 1, mask)
        truth = {"images": [{"id": 7, "file_name": "scene.jpg", "height": 40, "width": 50}], "annotations": []}
        listed = crowdai_results(find_tiles(out, truth=truth | {"categories": [{"id": 100}]}, class_id=1, channel=0))
        boxes = shapely.box(
            *np.array([[x, y, x + width, y + height] for x, y, width, height in (one["bbox"] for one in listed)]).T
        )
        assert sorted(shapely.bounds(boxes).tolist()) == sorted(
            np.abs(found[depth].geometry.bounds).to_numpy().tolist()
        )
    assert (len(found[0]), len(found[2])) == (2, 3)
    assert found[2]["area_px"].sum() == found[0]["area_px"].sum() == mask.sum()


def test_reached_by_a_decision_file(tmp_path):
    (tmp_path / "d.toml").write_text('[[class]]\nname = "house"\nopen_px = 2\nseparate_m = 0.5\n', encoding="utf-8")
    decision = read_decision(tmp_path / "d.toml", info().decision)
    assert decision.refinement("house") == Refinement("house", open_px=2, separate_m=0.5)
    assert Decision.from_tags(decision.tags(), TWO) == decision
    assert not decision.local
    with pytest.raises(SettingError, match="must not be opened"):
        Decision(Legend.of(["a", "b"], exclusive=True), refinements=(Refinement("a", open_px=1),))
