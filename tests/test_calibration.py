"""Calibration: scalings are those of other tools, leave decisions as they are, and are judged on what they haven't seen."""

import json

import numpy as np
import pytest
import rasterio
from scipy import optimize, special
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from satmask import calibration
from satmask.assembly import Assembly, Member
from satmask.calibration import ALL, calibrate, choose
from satmask.cli import main
from satmask.datasets import Sample
from satmask.engines import Engine, open_engine
from satmask.errors import DataError, ModelError, SettingError
from satmask.evidence import draw, gather
from satmask.labels import Truth
from satmask.legend import Legend
from satmask.model_file import BandInfo, ModelInfo, read_info, rewrite
from satmask.scaling import Scaling
from satmask.windows import Window

ONE, TWO = Legend.of(["house"]), Legend.of(["house", "pond"])
LAND = Legend.of(["ground", "roof", "tree"], exclusive=True)


def overlapping(seed, *, temperature=2.5, bias=-0.7, pixels=20_000, legend=ONE):
    """Pixels of a network that is too sure, and the truth that it should have been sure of."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 4, (pixels, len(legend)))
    truth = random.random(logits.shape) < special.expit(logits / temperature + bias)
    return special.expit(logits).astype(np.float32), truth


def exclusive(seed, *, temperature=2.5, pixels=20_000):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (pixels, len(LAND)))
    chances = special.softmax(logits / temperature, axis=1)
    place = (random.random((pixels, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return special.softmax(logits, axis=1).astype(np.float32), np.eye(3, dtype=bool)[place]


@pytest.mark.parametrize("seed", range(3))
def test_temperature_and_bias_are_those_of_logistic_regression(seed):
    said, truth = overlapping(seed)
    logits = special.logit(said.astype(np.float64))
    platt = LogisticRegression(C=np.inf, tol=1e-10).fit(logits, truth[:, 0])
    found = gather(said, truth, ONE).fit(bias=True)
    assert 1 / found.temperatures[0] == pytest.approx(platt.coef_[0, 0], rel=2e-3)
    assert found.biases[0] == pytest.approx(platt.intercept_[0], abs=5e-3)
    assert (found.temperatures[0], found.biases[0]) == pytest.approx((2.5, -0.7), rel=0.1)


def test_without_a_bias_no_temperature_has_a_lower_log_loss():
    said, truth = overlapping(4)
    evidence = gather(said, truth, ONE)
    logits = special.logit(said[:, 0].astype(np.float64))
    oracle = optimize.minimize_scalar(
        lambda t: log_loss(truth[:, 0], special.expit(logits / t)), bounds=(0.1, 9), method="bounded"
    )
    found = evidence.fit()
    assert found.temperatures[0] == pytest.approx(oracle.x, rel=2e-3)
    assert evidence.losses(found)[0] / evidence.weights()[0] == pytest.approx(oracle.fun, rel=1e-4)


def test_exclusive_classes_get_the_temperature_of_a_grid():
    said, truth = exclusive(5)
    evidence = gather(said, truth, LAND)
    logs = np.log(said.astype(np.float64))
    grid = np.linspace(1.5, 4, 251)
    losses = [log_loss(truth, special.softmax(logs / t, axis=1)) for t in grid]
    found = evidence.fit()
    assert found.temperatures == (found.temperatures[0],) * 3
    assert found.temperatures[0] == pytest.approx(grid[np.argmin(losses)], abs=0.011)
    assert evidence.losses(found)[0] / evidence.weights()[0] == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("scaling", [Scaling((1.0,), (0.0,)), Scaling((2.5,), (-0.7,)), Scaling((0.6,), (0.4,))])
def test_calibration_errors_are_those_of_scikit_learn_s_curve(scaling):
    said, truth = overlapping(6)
    turned = scaling.apply(said)[:, 0].astype(np.float64)
    share, mean = calibration_curve(truth[:, 0], turned, n_bins=10, strategy="uniform")
    sizes = np.histogram(turned, np.linspace(0, 1, 11))[0]
    expected = (sizes[sizes > 0] * np.abs(share - mean)).sum() / len(turned)
    found = gather(said, truth, ONE).counts(scaling).reliability(0).calibration_error
    assert found == pytest.approx(expected, abs=5e-4)


def test_the_error_of_the_most_probable_class_is_the_published_one():
    said, truth = exclusive(7)
    sure, right = said.max(axis=1), truth[np.arange(len(said)), said.argmax(axis=1)]
    bins = np.minimum((sure * 10).astype(int), 9)
    expected = sum(
        abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())
    )
    same = Scaling.none(3, exclusive=True)
    found = gather(said, truth, LAND).sureness(same).reliability(0).calibration_error
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("make", [lambda seed: (*overlapping(seed), ONE), lambda seed: (*exclusive(seed), LAND)])
def test_evidence_adds(make):
    (said, truth, legend), (more, others, _) = make(1), make(2)
    parts = gather(said, truth, legend) + gather(more, others, legend)
    whole = gather(np.concatenate([said, more]), np.concatenate([truth, others]), legend)
    assert parts.fit().temperatures == pytest.approx(whole.fit().temperatures, rel=1e-9)
    assert parts.losses(parts.fit()) == pytest.approx(whole.losses(whole.fit()))


def test_a_sample_stands_for_all_pixels():
    said, truth = exclusive(8, pixels=60_000)
    chosen = draw(Window(0, 0, 200, 300), width=300, share=0.25, seed=3).ravel()
    drawn, every = gather(said[chosen], truth[chosen], LAND, weight=4), gather(said, truth, LAND)
    assert drawn.weights() == pytest.approx(every.weights(), rel=0.02)
    assert drawn.fit().temperatures[0] == pytest.approx(every.fit().temperatures[0], rel=0.05)


def test_pixels_are_drawn_alike_in_all_windows_and_without_a_pattern():
    whole = draw(Window(0, 0, 90, 130), width=130, share=0.3, seed=7)
    for window in (Window(0, 0, 7, 9), Window(40, 100, 50, 30), Window(89, 129, 1, 1)):
        assert np.array_equal(draw(window, width=130, share=0.3, seed=7), whole[window.slices])
    assert whole.mean() == pytest.approx(0.3, abs=0.02)
    assert whole.mean(axis=0) == pytest.approx(0.3, abs=0.2)
    assert np.corrcoef(whole[:, 1:].ravel(), whole[:, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.04)
    other = draw(Window(0, 0, 90, 130), width=130, share=0.3, seed=8)
    assert (whole & other).mean() == pytest.approx(0.09, abs=0.015)


@pytest.mark.parametrize("scaling", [Scaling((3.0,), (0.8,)), Scaling((0.4,), (-2.0,)), Scaling((1.3,), (0.0,))])
def test_thresholds_go_along_so_that_masks_stay(scaling):
    random = np.random.default_rng(0)
    said = np.append(random.random(100_000), [0, 1, 1e-30, 1 - 2**-24, 0.5, 0.3]).astype(np.float32)
    turned = scaling.apply(said[:, None])[:, 0]
    assert ((turned >= 0) & (turned <= 1)).all()
    # A network made surer says 1 of many pixels, which no threshold tells apart any more.
    for threshold in (0.0, 0.01, 0.3, 0.5, 0.99, *([1.0] if scaling.temperatures[0] > 1 else [])):
        (moved,) = scaling.thresholds((threshold,))
        differ = (said >= np.float32(threshold)) != (turned >= np.float32(moved))
        # Rounding may make equal what was next to each other, never part what was equal.
        assert (np.abs(said[differ] - threshold) < 1e-6).all()
        assert differ.sum() <= 1
        assert not differ[said == np.float32(threshold)].any()


def test_scaled_shares_add_up_and_the_most_probable_class_stays():
    said, _ = exclusive(9)
    turned = Scaling((3.0,) * 3, (0.0,) * 3, exclusive=True).apply(said)
    assert turned.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(turned.argmax(axis=1), said.argmax(axis=1))
    assert np.allclose(turned, special.softmax(np.log(np.maximum(said, 2.0**-126)) / 3, axis=1), atol=1e-6)


def test_scalings_follow_one_another_and_lead_back():
    one, two = Scaling((2.0, 0.7), (0.3, -1.0)), Scaling((0.5, 3.0), (1.0, 0.2))
    said = np.random.default_rng(3).uniform(0.001, 0.999, (500, 2)).astype(np.float32)
    assert np.allclose(one.then(two).apply(said), two.apply(one.apply(said)), atol=1e-6)
    assert np.allclose(one.undone.apply(one.apply(said)), said, atol=1e-5)
    same = Scaling.none(2)
    assert same.apply(said) is said
    assert one.then(same) == one


def test_windows_are_scaled_to_the_bits_of_the_whole():
    said = np.random.default_rng(4).random((45, 71, 3)).astype(np.float32)
    mixed = Scaling((1.7, 0.6, 2.0), (0.1, -0.5, 0.0))
    shares = Scaling((1.7,) * 3, (0.0,) * 3, exclusive=True)
    for scaling in (mixed, shares):
        whole = scaling.apply(said)
        for row, column, side in ((0, 0, 7), (3, 11, 19), (20, 40, 25), (44, 70, 1)):
            part = (slice(row, row + side), slice(column, column + side))
            assert np.array_equal(scaling.apply(said[part]), whole[part])
    assert np.isnan(mixed.apply(np.full((1, 3), np.nan, np.float32))).all()


@pytest.mark.parametrize(
    ("temperatures", "biases", "shared"),
    [((0.0,), (0.0,), False), ((1.0,), (), False), ((1.0, 2.0), (0.0, 0.0), True), ((1.0,), (np.nan,), False)],
)
def test_scalings_that_can_t_be_are_refused(temperatures, biases, shared):
    with pytest.raises(SettingError, match="Scaling"):
        Scaling(temperatures, biases, exclusive=shared)


def test_a_gain_is_told_by_parts_that_did_not_choose():
    same = {(fold, f"place {fold}"): gather(*overlapping(fold), ONE) for fold in range(3)}
    found = choose(same, images=3)
    (grade,) = found.grades
    assert found.better == ("house",)
    assert grade.estimate < 0.02 < grade.before
    assert grade.after <= grade.estimate + 0.005
    assert grade.loss_estimate < grade.loss_before
    # Of the first part, what the two others would choose.
    others = same[1, "place 1"] + same[2, "place 2"]
    expected = same[0, "place 0"].counts(others.fit(bias=True)).reliability(0).calibration_error
    assert found.places["place 0"]["house"][1] == pytest.approx(expected)


def test_what_does_not_hold_elsewhere_is_not_used():
    parts = {
        (fold, str(fold)): gather(*overlapping(fold, temperature=temperature, bias=bias), ONE)
        for fold, (temperature, bias) in enumerate([(4.0, 2.0), (0.5, -2.0)])
    }
    found = choose(parts, images=2)
    assert found.grades[0].loss_estimate > found.grades[0].loss_before
    assert not found.better
    assert not found.scaling.changes


def test_a_bias_is_used_only_where_it_is_worth_it():
    plain = {(fold, ""): gather(*overlapping(fold, bias=0.0), ONE) for fold in range(3)}
    assert choose(plain, images=3).scaling.biases == (0.0,)
    shifted = {(fold, ""): gather(*overlapping(fold, bias=-2.0), ONE) for fold in range(3)}
    assert choose(shifted, images=3).scaling.biases[0] == pytest.approx(-2, abs=0.2)


def test_a_single_part_tells_no_gain():
    found = choose({(0, "here"): gather(*overlapping(0), ONE)}, images=1)
    assert np.isnan(found.grades[0].estimate)
    assert not found.better
    assert json.dumps(found.to_dict())
    assert found.to_dict()["classes"][0]["estimate"] is None


def test_classes_are_scaled_each_by_itself():
    def part(seed):
        sure, truth = overlapping(seed, legend=TWO, bias=0.0)
        right = np.random.default_rng(seed + 9).random(len(sure)) < sure[:, 1]
        return gather(sure, np.stack([truth[:, 0], right], axis=1), TWO)

    found = choose({(fold, ""): part(fold) for fold in range(3)}, images=3)
    assert found.better == ("house",)
    assert found.scaling.temperatures[0] == pytest.approx(2.5, rel=0.1)
    assert found.scaling.temperatures[1] == 1


def info(legend, **changes):
    values = {
        "legend": legend, "bands": tuple(BandInfo(name=name) for name in legend.names), "dtype": "uint8",
        "value_range": ((0, 255),) * len(legend), "fill": (0.0,) * len(legend), "stride": 1, "halo": 0,
        "activation": legend.activation, "network": "copy",
    }  # fmt: skip
    return ModelInfo(**values | changes)


class Copy(Engine):
    """A network that says what its image holds."""

    name = "copy"

    def _run(self, images):
        said = (images + np.float32(0.5)) / np.float32(256)
        return said / said.sum(axis=-1, keepdims=True) if self.info.legend.exclusive else said


class ArrayLabels:
    """Labels from an array."""

    def __init__(self, masks, legend):
        self.masks, self.legend = masks, legend

    def read(self, window):
        inside = self.masks[window.slices].astype(np.uint8)
        labelled = np.ones(inside.shape[:2], bool)
        labelled[:, : max(1 - window.column, 0)] = False  # pixels that must not count: they are wrong
        return Truth(inside, labelled)


def sample(folder, number, legend, place=""):
    make = exclusive if legend.exclusive else overlapping
    said, truth = make(number, pixels=40 * 50) if legend.exclusive else make(number, pixels=2000, legend=legend)
    said, truth = (array.reshape(40, 50, len(legend)) for array in (said, truth))
    truth[:, 0] = ~truth[:, 0]
    path = folder / f"image{number}.tif"
    with rasterio.open(path, "w", driver="GTiff", height=40, width=50, count=len(legend), dtype="uint8") as file:
        file.write(np.moveaxis(np.round(said * 255), -1, 0).astype(np.uint8))
    return Sample(path.stem, path, (40, 50), ArrayLabels(truth, legend), place)


@pytest.mark.parametrize("legend", [TWO, LAND])
def test_a_network_is_calibrated_and_then_there_is_nothing_left_to_do(tmp_path, legend):
    samples = [sample(tmp_path, number, legend, f"place {number // 2}") for number in range(6)]
    engine = Copy(info(legend))
    found = calibrate(engine, samples, folds=3)
    assert (found.images, found.folds, sorted(found.places)) == (6, 3, ["place 0", "place 1", "place 2"])
    assert found.grades[-1].estimate < found.grades[-1].before / 2
    assert (found.grades[-1].name == ALL) == legend.exclusive
    # What isn't labelled, here the first column, takes no part.
    seen = []
    for one in samples:
        with rasterio.open(one.image) as file:
            seen.append(
                engine.run(np.moveaxis(file.read(), 0, -1)[None].astype(np.float32))[0, :, 1:].reshape(-1, len(legend))
            )
    truth = np.concatenate([one.labels.masks[:, 1:].reshape(-1, len(legend)) for one in samples])
    expected = gather(np.concatenate(seen), truth, legend).fit(bias=any(found.scaling.biases))
    assert found.grades[0].temperature == pytest.approx(expected.temperatures[0])
    again = calibrate(Copy(found.apply(engine.info)), samples, folds=3)
    assert not again.better
    assert again.grades[0].before == pytest.approx(found.grades[0].after, abs=2e-3)


def test_small_images_side_by_side_say_what_they_say_one_by_one(tmp_path, monkeypatch):
    samples = [sample(tmp_path, number, LAND, f"place {number}") for number in range(4)]
    monkeypatch.setattr(calibration, "KEPT", 2000)
    engine = Copy(info(LAND, stride=64))
    alone = calibrate(engine, samples).to_dict()
    engine.workers = 3
    assert calibrate(engine, samples).to_dict() == alone


def test_what_can_t_be_calibrated_is_refused(tmp_path):
    with pytest.raises(DataError, match="got none"):
        calibrate(Copy(info(ONE)), [])
    with pytest.raises(SettingError, match="2 folds"):
        calibrate(Copy(info(ONE)), [sample(tmp_path, 0, ONE)], folds=1)
    with pytest.raises(DataError, match="1 probabilities"):
        gather(np.zeros((3, 2), np.float32), np.zeros((3, 2)), ONE)


def test_model_files_keep_temperatures_and_old_ones_have_none(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx", ["red"], ["house"])
    old = read_info(path)
    assert (old.temperatures, old.biases) == ((1.0,), (0.0,))
    image = np.random.default_rng(0).integers(0, 255, (1, 8, 9, 1)).astype(np.float32)
    bare = open_engine(path).run(image)
    scaling = Scaling((2.0,), (-0.5,))
    rewrite(
        path,
        old.model_copy(update={"temperatures": (2.0,), "biases": (-0.5,), "thresholds": scaling.thresholds((0.5,))}),
    )
    assert read_info(path).scaling == scaling
    engine = open_engine(path)
    assert np.array_equal(engine.run(image), scaling.apply(bare))
    assert np.array_equal(engine.run(image) >= np.float32(engine.info.thresholds[0]), bare >= 0.5)


def test_an_assembly_scales_its_members_once(tmp_path, write_model):
    path = write_model(tmp_path / "house.onnx", ["red"], ["house"])
    rewrite(path, read_info(path).model_copy(update={"temperatures": (2.0,), "thresholds": (0.4,)}))
    Assembly(legend=ONE, members=(Member(file="house.onnx", classes=("house",)),)).save(tmp_path / "assembly.json")
    image = np.full((1, 2, 2, 1), 200, np.float32)
    both = open_engine(tmp_path / "assembly.json")
    assert np.array_equal(both.run(image), open_engine(path).run(image))
    assert both.info.thresholds == (0.4,)
    assert not both.info.scaling.changes


def test_temperatures_that_don_t_fit_are_refused(tmp_path, write_model):
    path = write_model(tmp_path / "model.onnx", ["red"], ["house"])
    for changes in ({"temperatures": (2.0, 1.0)}, {"temperatures": (0.0,)}, {"biases": (1.0, 2.0)}):
        with pytest.raises((ModelError, SettingError), match=r"Scaling must|Model metadata"):
            rewrite(path, read_info(path).model_copy(update=changes))


def test_the_command_writes_what_is_better(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    write_copy(run / "model.onnx")
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    for number in range(4):
        said, truth = (array.reshape(40, 50) for array in overlapping(number, pixels=2000))
        for name, values in (("images", np.round(said * 255)), ("masks", truth)):
            with rasterio.open(
                data / name / f"{number}.tif", "w", driver="GTiff", height=40, width=50, count=1, dtype="uint8"
            ) as file:
                file.write(values.astype(np.uint8), 1)
    arguments = ["calibrate", str(run), str(data), "--quiet", "--folds", "4"]
    assert main([*arguments, "--json", "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)["model.onnx"]
    assert told["better"] == ["house"]
    assert not told["written"]
    assert read_info(run / "model.onnx").temperatures == (1.0,)
    picture = tmp_path / "pictures" / "reliability.svg"
    assert main([*arguments, "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 better, written to" in printed
    assert "error" in picture.read_text()
    written = read_info(run / "model.onnx")
    assert written.temperatures[0] == pytest.approx(told["classes"][0]["temperature"])
    assert written.thresholds != (0.5,)
    assert written.training["calibration"]["folds"] == 4


def write_copy(path):
    """A model file that says what its single band holds."""
    import onnx
    from onnx import helper, numpy_helper

    from satmask.model_file import KEY

    shape = ["n", "h", "w", 1]
    graph = helper.make_graph(
        [helper.make_node("Div", ["image", "most"], ["probabilities"])],
        "copy",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info("probabilities", 1, shape)],
        [numpy_helper.from_array(np.array(255, np.float32), "most")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key=KEY, value=info(ONE).model_dump_json())
    onnx.save(model, path)
