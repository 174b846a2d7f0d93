"""Starts: what is known is taken over, what is new begins anew, and averages go on exactly."""

import json
import shutil

import numpy as np
import pytest

from reportless import reportless
from satmask.datasets import read_dataset
from satmask.datasets.town import draw_town, write_scene, write_tiles
from satmask.errors import ModelError, SettingError
from satmask.legend import Legend
from satmask.model_file import BandInfo, ModelInfo, read_info, rewrite
from satmask.models import build
from satmask.recipe import Recipe
from satmask.run import Run
from satmask.training import train
from satmask.training.carrying import freeze, match_bands, settled, take_over, weighted

UNET = ["network.filters=[4, 6]"]
SMALL = ["window=32", "batch=4", "windows_per_epoch=16", "compile=false", "epochs=1"]
RGB = ("red", "green", "blue")


@pytest.fixture(scope="module", autouse=True)
def quick():
    with reportless():
        yield


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("town"), count=6, size=64, seed=3)


@pytest.fixture(scope="module")
def run(tiles, tmp_path_factory):
    recipe = Recipe.load(settings=[*UNET, *SMALL])
    return train(read_dataset(tiles), tmp_path_factory.mktemp("runs") / "first", recipe, quiet=True)


def load(run):
    import keras

    return keras.saving.load_model(run.folder / "model.keras", compile=False)


def info_of(network, bands, legend, **options):
    return ModelInfo(
        legend=legend,
        bands=tuple(BandInfo(name=name) for name in bands),
        dtype="uint8",
        value_range=((0.0, 255.0),) * len(bands),
        fill=(0.0,) * len(bands),
        stride=1,
        halo=0,
        activation=legend.activation,
        network=network,
        options=options,
    )


def pair(name, bands, *, legend=None, wanted=None, **options):
    """A network of three bands with shaken weights, and a new one of the given bands that takes them over."""
    legend = legend or Legend.of(["building"])
    wanted = wanted or legend
    given = build(name, bands=3, classes=len(legend), activation=legend.activation, scale=0.01, **options)
    random = np.random.default_rng(0)
    given.set_weights([value + random.uniform(0, 0.1, value.shape).astype("float32") for value in given.get_weights()])
    new = build(name, bands=len(bands), classes=len(wanted), activation=wanted.activation, scale=0.01, **options)
    take_over(new, given, info_of(name, RGB, legend, **options), bands=bands, legend=wanted)
    return given, new


NETWORKS = [
    ("unet", {"filters": (4, 8)}),
    ("cnn", {}),
    ("dilated", {"filters": (4, 4, 6), "window": 16}),
    ("encoder", {"encoder": "MobileNetV2"}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_a_band_that_the_start_lacks_changes_nothing_at_first(name, options):
    given, new = pair(name, ("blue", "nir", "red", "green"), **options)
    image = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 4)).astype("float32")
    known = image[..., [2, 3, 0]]
    # The dilated network joins the normalised image, where an unknown band is the new network's own affair.
    # Four bands in another order are summed in another order, too: float32 rounds sums of values up to 255 elsewhere.
    np.testing.assert_allclose(
        np.asarray(new(image, training=False)), np.asarray(given(known, training=False)), atol=2e-4
    )


def test_three_grey_bands_in_one_say_the_same():
    """Without a shared name, weights are spread as those of encoders are: one grey band speaks for three."""
    given, new = pair("unet", ("pan",), filters=(4, 8))
    image = np.random.default_rng(1).uniform(0, 255, (1, 16, 16, 1)).astype("float32")
    says = np.asarray(given(np.repeat(image, 3, axis=-1), training=False))
    inside = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(np.asarray(new(image, training=False))[inside], says[inside], atol=1e-5)


def test_a_new_head_keeps_the_body_and_the_classes_that_it_knows():
    legend, wanted = Legend.of(["road", "building", "tree"]), Legend.of(["Building", "water"])
    given, new = pair("unet", RGB, legend=legend, wanted=wanted, filters=(4, 8))
    for old, now in zip(weighted(given)[:-1], weighted(new)[:-1], strict=True):
        for one, other in zip(old.get_weights(), now.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    image = np.random.default_rng(1).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    before, after = np.asarray(given(image, training=False)), np.asarray(new(image, training=False))
    np.testing.assert_allclose(after[..., 0], before[..., 1], atol=1e-6)
    old, now = (weighted(network)[-1].get_weights()[0] for network in (given, new))
    assert not any(np.array_equal(now[..., 1], old[..., channel]) for channel in range(3))


def test_what_a_start_froze_learns_again_but_for_how_it_normalises():
    options = {"bands": 3, "classes": 1, "activation": "sigmoid", "decoder": [4] * 5}
    given, new = (build("encoder", **options, frozen=frozen) for frozen in (5, 0))
    assert not given.get_layer("block_6_expand").trainable
    freeze(new, settled(given))
    for layer in weighted(new):
        assert layer.trainable == (layer.name.startswith(("up", "scores")) or "BN" not in layer.name.upper()), (
            layer.name
        )


def test_another_network_is_refused():
    given = build("unet", bands=3, classes=1, filters=(4, 8))
    other = build("unet", bands=3, classes=1, filters=(4, 6))
    legend = Legend.of(["building"])
    with pytest.raises(ModelError, match=r"fit layer.*Leave out network"):
        take_over(other, given, info_of("unet", RGB, legend, filters=(4, 8)), bands=RGB, legend=legend)


def test_bands_are_matched_by_name_then_by_order():
    assert match_bands(RGB, ("BLUE", "red"))[0].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert match_bands(RGB, ("1", "2", "3"))[0].tolist() == np.eye(3).tolist()
    shares, single = match_bands(RGB, ("1", "2", "3", "4", "5", "6"))
    assert not single
    np.testing.assert_allclose(shares.sum(axis=0), 1)


def test_a_start_without_learning_says_the_same(run, tiles, tmp_path, monkeypatch):
    """Also batch normalisation must learn nothing, which no setting asks for."""
    from satmask.training import job, set_momentum

    def remember_all(network, momentum):
        set_momentum(network, momentum)
        for layer in weighted(network):
            if hasattr(layer, "momentum"):
                layer.momentum = 1.0

    monkeypatch.setattr(job, "set_momentum", remember_all)
    settings = [*SMALL, f"start={run.folder}", "learning_rate=1e-30", "weight_decay=0"]
    again = train(read_dataset(tiles), tmp_path / "again", Recipe.load(settings=settings), quiet=True)
    image = np.random.default_rng(1).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    before, after = (np.asarray(load(one)(image, training=False)) for one in (run, again))
    np.testing.assert_allclose(after, before, atol=1e-4)
    info = read_info(again.model)
    assert info.options == {"filters": [4, 6]}
    told = json.loads((again.folder / "start.json").read_text())
    assert info.training["start"] == {"name": "first", "sha256": told["sha256"]}
    assert str(run.folder) not in info.model_dump_json()


def test_a_run_goes_on_without_its_start(run, tiles, tmp_path):
    start = shutil.copytree(run.folder, tmp_path / "start")
    settings = [*SMALL, "network.name=unet", *UNET, f"start={start}", "average=0.9", "epochs=2"]
    recipe = Recipe.load(settings=settings)
    straight = train(read_dataset(tiles), tmp_path / "straight", recipe, quiet=True)
    broken = broken_after_first(tiles, tmp_path / "broken", recipe)
    shutil.rmtree(start)
    again = train(read_dataset(tiles), broken, recipe, resume=True, quiet=True)
    assert scores(again) == scores(straight)
    for one, other in zip(load(again).get_weights(), load(straight).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def broken_after_first(tiles, folder, recipe):
    """A run that is stopped once its first epoch is kept."""
    from satmask.training import Job

    keep = Job._keep

    def stop(self, history):
        keep(self, history)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "_keep", stop)
        with pytest.raises(KeyboardInterrupt):
            train(read_dataset(tiles), folder, recipe, quiet=True)
    return folder


def scores(run):
    return [{key: row[key] for key in ("loss", "val_loss", "val_iou")} for row in run.history]


def test_sixteen_bits_begin_where_eight_bits_were(run, tmp_path):
    """Behind the normalisation new values have the mean and the spread that the start's had."""
    for seed, name in enumerate(("north", "south")):
        write_scene(draw_town(64, 96, seed=seed, bands=8), tmp_path / "scenes", name)
    settings = [*SMALL, f"start={run.folder}", 'bands=["red", "green", "blue"]']
    new = train(read_dataset(tmp_path / "scenes"), tmp_path / "run", Recipe.load(settings=settings), quiet=True)
    layer, info = load(new).get_layer("normalise"), read_info(new.model)
    scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    assert info.dtype == "uint16"
    np.testing.assert_allclose(np.asarray(info.training["mean"]) * scale + offset, 0, atol=1e-4)
    np.testing.assert_allclose(np.asarray(info.training["deviation"]) * scale, 1, atol=1e-4)


@pytest.fixture(scope="module")
def enlarging(run, tmp_path_factory):
    """The run as a start that sees pixels as four from 0.3 m on."""
    folder = tmp_path_factory.mktemp("runs") / "enlarging"
    shutil.copytree(run.folder, folder)
    rewrite(folder / "model.onnx", read_info(run.model).model_copy(update={"upsample_above_m": 0.3}))
    return folder


def towns(folder, *gsds_m):
    for seed, gsd_m in enumerate(gsds_m):
        write_scene(draw_town(48, 64, seed=seed, gsd_m=gsd_m), folder, f"town{seed}")
    return read_dataset(folder)


@pytest.mark.parametrize(
    ("gsds_m", "said", "limit"),
    [
        ((0.5, 0.6), [], 0.354),
        ((0.2, 0.6), [], None),
        ((0.5, 0.6), ["upsampling=1"], None),
        ((0.2, 0.2), ["upsampling=2"], 0.141),
    ],
)
def test_pixels_are_seen_as_the_start_sees_them(enlarging, tmp_path, gsds_m, said, limit):
    upsampling = 2 if limit else 1
    data = towns(tmp_path / "data", *gsds_m)
    settings = [*SMALL, f"start={enlarging}", *said]
    made = train(data, tmp_path / "run", Recipe.load(settings=settings), quiet=True)
    assert Recipe.read(made.recipe).upsampling == upsampling
    info = read_info(made.model)
    assert info.upsample_above_m == (pytest.approx(limit, rel=2e-3) if limit else None)
    assert all(info.at(gsd_m).upsampling == upsampling for gsd_m in gsds_m)
    # Asked for again in the same words, it is the same run.
    again = train(data, tmp_path / "run", Recipe.load(settings=settings), resume=True, quiet=True)
    assert Recipe.read(again.recipe).upsampling == upsampling


def test_what_never_says_how_large_its_pixels_are_is_always_seen_so(tiles, tmp_path):
    made = train(
        read_dataset(tiles), tmp_path / "run", Recipe.load(settings=[*UNET, *SMALL, "upsampling=2"]), quiet=True
    )
    info = read_info(made.model)
    assert info.gsd_m is None or info.upsample_above_m > 0
    assert info.at(info.gsd_m[0] if info.gsd_m else None).upsampling == 2


@pytest.mark.parametrize("left", ["model.onnx", "model.keras"])
def test_half_a_start_is_refused_with_the_way_out(run, tiles, tmp_path, left):
    (tmp_path / left).write_bytes((run.folder / left).read_bytes())
    recipe = Recipe.load(settings=[*SMALL, f"start={tmp_path / left}"])
    with pytest.raises(ModelError, match="Training writes it beside"):
        train(read_dataset(tiles), tmp_path / "run", recipe, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_start_and_weights_from_imagenet_are_refused(run, tiles, tmp_path):
    recipe = Recipe.load(settings=["network.name=encoder", "network.weights=a.npz", f"start={run.folder}"])
    with pytest.raises(SettingError, match="Leave one out"):
        train(read_dataset(tiles), tmp_path / "run", recipe, quiet=True)


def test_the_average_is_that_of_the_steps():
    import keras

    from satmask.training.averaging import Average, wearing

    network, twin = (build("unet", bands=1, classes=1, filters=(2, 2)) for _ in range(2))
    twin.set_weights(network.get_weights())
    average = Average(twin, 0.8)
    average.set_model(network)
    expected, random = [value.astype(float) for value in network.get_weights()], np.random.default_rng(0)
    for step in range(60):
        network.set_weights([random.normal(size=value.shape).astype("float32") for value in expected])
        average.on_train_batch_end(step)
        memory = min(0.8, (1 + step) / (10 + step))
        expected = [
            memory * one + (1 - memory) * other for one, other in zip(expected, network.get_weights(), strict=True)
        ]
    for one, other in zip(twin.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    own = network.get_weights()
    with wearing(network, twin):
        assert all(map(np.array_equal, network.get_weights(), twin.get_weights()))
    assert all(map(np.array_equal, network.get_weights(), own))
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def test_validation_and_the_model_file_use_the_averaged_weights(tiles, tmp_path):
    """What the history says of validation is what the model that was kept says."""
    recipe = Recipe.load(settings=[*UNET, *SMALL, "average=0.9", "learning_rate=0.01"])
    run = train(read_dataset(tiles), tmp_path / "run", recipe, quiet=True)
    twin, raw = (build("unet", bands=3, classes=1, filters=(4, 6), scale=[1.0] * 3) for _ in range(2))
    twin.load_weights(run.average(1))
    raw.load_weights(run.checkpoint(1))
    kept = load(run).get_weights()
    assert all(map(np.array_equal, kept, twin.get_weights()))
    assert not all(map(np.array_equal, kept, raw.get_weights()))
    assert Run(run.folder).history[0]["val_loss"] == pytest.approx(validate(tiles, load(run)), rel=1e-4)
    again = build("unet", bands=3, classes=1, filters=(4, 6), scale=[1.0] * 3)
    again.get_layer("normalise").scale, again.get_layer("normalise").offset = _scaling(load(run))
    again.set_weights(raw.get_weights())
    assert Run(run.folder).history[0]["val_loss"] != pytest.approx(validate(tiles, again), rel=1e-3)


def _scaling(network):
    layer = network.get_layer("normalise")
    return layer.scale, layer.offset


def validate(tiles, network):
    """The loss of a network on the validation tiles."""
    from satmask.batches import ValidationBatches
    from satmask.losses import make_loss
    from satmask.survey import survey
    from satmask.training.describing import reading_of

    splits = read_dataset(tiles).splits
    batches = ValidationBatches(splits["val"], reading_of(survey(splits["train"])), size=32, batch=4)
    network.compile(loss=make_loss("bce_dice"))
    return network.evaluate(batches, verbose=0)


def test_an_axis_too_many_is_taken_off():
    """What tf2onnx makes of a single class now and then; ending as it does at other times, with the same bytes."""
    import onnx

    from satmask.models.onnx_export import _canonical, _squeeze_end

    def graph(*, squeezed):
        value = onnx.helper.make_tensor_value_info
        shape = onnx.numpy_helper.from_array(np.array([1, -1, 0, 0, 1]), "shape")
        axes = onnx.numpy_helper.from_array(np.array([0]), "axes")
        nodes = [onnx.helper.make_node("Reshape", ["x", "shape"], ["five" if squeezed else "y"], name="r")]
        nodes += [onnx.helper.make_node("Squeeze", ["five", "axes"], ["y"], name="s")] if squeezed else []
        ends = value("x", 1, [None] * 4), value("y", 1, [None] * 4)
        made = onnx.helper.make_graph(nodes, "g", [ends[0]], [ends[1]], [shape, axes][: 1 + squeezed])
        return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)])

    lost, whole = (_canonical(_squeeze_end(graph(squeezed=squeezed))) for squeezed in (False, True))
    assert lost.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)
    run = onnx.reference.ReferenceEvaluator(lost).run
    assert run(None, {"image": np.zeros((2, 1, 3, 4), np.float32)})[0].shape == (2, 3, 4, 1)
