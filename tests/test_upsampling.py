"""Upsampling: each pixel seen as four, exact at any window, and only where the model file asks for it."""

import json

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from satmask.assembly import Assembly, AssemblyEngine, Member
from satmask.cli import app, main
from satmask.datasets import read_dataset
from satmask.engines import open_engine
from satmask.errors import DataError, SceneError, SettingError
from satmask.fitting import Reading, open_for
from satmask.jobs import open_work
from satmask.legend import Legend
from satmask.model_file import BandInfo, ModelInfo, export, read_info, rewrite
from satmask.prediction import planning, predict_array, predict_scene
from satmask.prediction.planning import FINISHING_BYTES, Footprint, find_room, plan_scene
from satmask.prediction.tiling import choose_window, lay_out
from satmask.prediction.walking import Seeing
from satmask.prediction.work import Job
from satmask.tuning.upsampling import choose_upsampling
from satmask.upsampling import double, halve

COARSE, FINE = 0.6, 0.15


def write(path, shape=(90, 70), gsd_m=COARSE, *, nodata=None, seed=0):
    image = np.random.default_rng(seed).integers(1, 255, (3, *shape), dtype=np.uint8)
    if nodata is not None:
        image[:, 30:50, :20] = nodata
    place = {"crs": "EPSG:32633", "transform": Affine(gsd_m, 0, 5e5, 0, -gsd_m, 4e6)} if gsd_m else {}
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 3, "dtype": "uint8", "nodata": nodata}
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(image)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A U-Net with three levels, that wants pixels from 0.3 m on upsampled."""
    import keras

    from satmask.models import build, measure_reach

    keras.utils.set_random_seed(1)
    network = build("unet", bands=3, classes=1, filters=(4, 6, 8), activation="sigmoid")
    reach = measure_reach(network)
    info = ModelInfo(
        legend=Legend.of(["house"]),
        bands=tuple(BandInfo(name=name) for name in ("red", "green", "blue")),
        dtype="uint8",
        value_range=((0, 255),) * 3,
        gsd_m=(0.1, 0.6),
        upsample_above_m=0.3,
        fill=(100.0,) * 3,
        stride=reach.stride,
        halo=reach.halo,
        activation="sigmoid",
        biases=(0.3,),
        network="unet",
    )
    return export(network, tmp_path_factory.mktemp("model") / "unet.onnx", info)


@pytest.fixture(scope="module")
def engine(model):
    return open_engine(model)


def seen_at_once(engine, path):
    """The definition: the whole scene enlarged, seen at once, and each four pixels joined again."""
    with rasterio.open(path) as file:
        image = np.moveaxis(file.read(), 0, -1).astype(np.float32)
        valid = np.moveaxis(file.dataset_mask()[None] > 0, 0, -1)
    image = np.where(valid, image, np.float32(100))
    height, width = image.shape[:2]
    stride = engine.info.stride // 2
    framed = np.full((-(-height // stride) * stride, -(-width // stride) * stride, 3), 100, np.float32)
    framed[:height, :width] = image
    said = halve(engine.run(double(framed[None])))[0, :height, :width]
    return np.where(valid, said, np.nan)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 2**31),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_enlarged_as_opencv_does(height, width, bands, seed, dtype):
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, bands)).astype(np.float32)
    want = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR).reshape(2 * height, 2 * width, -1)
    # OpenCV rounds once more on its way.
    np.testing.assert_allclose(double(image[None])[0], want, rtol=1e-6, atol=1e-3)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_four_become_their_mean(height, width, seed):
    said = np.random.default_rng(seed).random((2, 2 * height, 2 * width, 3)).astype(np.float32)
    want = said.reshape(2, height, 2, width, 2, 3).astype(np.float64).mean(axis=(2, 4))
    np.testing.assert_allclose(halve(said), want, atol=1e-7)


def test_flipped_and_turned_before_or_after_is_the_same():
    image = np.random.default_rng(0).integers(0, 255, (1, 8, 12, 2)).astype(np.float32)
    for turn in (lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: np.rot90(a, axes=(1, 2))):
        np.testing.assert_array_equal(double(turn(image)), turn(double(image)))
        np.testing.assert_array_equal(halve(turn(image)), turn(halve(image)))


@pytest.mark.parametrize("halo", [0, 1, 2, 3, 8, 309])
def test_halo_reaches_as_far_as_the_network_s(halo):
    """What a block of pixels depends on: its enlarged block and the network's halo, and what those are made of."""
    info = ModelInfo(
        legend=Legend.of(["a"]), bands=(BandInfo(name="x"),), dtype="uint8", value_range=((0, 255),), fill=(0,),
        stride=2, halo=halo, activation="sigmoid", network="any",
    ).at(None, 2)  # fmt: skip
    first_seen = 2 * 1000 - halo  # of the enlarged pixels that pixel 1000 is made of
    made_of = first_seen // 2 if first_seen % 2 else first_seen // 2 - 1
    assert info.halo == 1000 - made_of
    assert (info.stride, info.upsampling) == (1, 2)


@pytest.mark.parametrize("size", [None, 40, 48, (48, 40)])
def test_windows_equal_the_whole_scene_bit_for_bit(engine, tmp_path, size):
    path = write(tmp_path / "a.tif", nodata=0)
    want = seen_at_once(engine, path)
    with open_for(engine.info, path) as scene:
        found, _ = predict_array(engine, scene, size=size)
        assert size is None or len(lay_out(engine.info.at(COARSE), scene.shape, size=size)) > 3
    np.testing.assert_array_equal(found, want)


def test_files_hold_what_the_whole_scene_says(engine, tmp_path):
    path = write(tmp_path / "a.tif")
    made = predict_scene(engine, path, tmp_path / "out", size=48)
    with rasterio.open(made.probabilities) as file:
        np.testing.assert_array_equal(file.read(1), seen_at_once(engine, path)[..., 0])
        assert file.res == (COARSE, COARSE)
        assert file.tags()["UPSAMPLING"] == "2"


@pytest.mark.parametrize(
    ("gsd_m", "upsampled"), [(FINE, False), (0.29, False), (0.31, True), (COARSE, True), (None, False)]
)
def test_the_size_of_pixels_decides(engine, tmp_path, gsd_m, upsampled):
    path = write(tmp_path / "a.tif", gsd_m=gsd_m)
    with open_for(engine.info, path) as scene:
        found, _ = predict_array(engine, scene)
        plain, _ = predict_array(engine, scene, upsampling=1)
        asked, _ = predict_array(engine, scene, upsampling=2)
    np.testing.assert_array_equal(found, asked if upsampled else plain)
    assert not np.array_equal(asked, plain)


def test_resampled_pixels_decide_where_they_are_resampled(engine, tmp_path):
    path = write(tmp_path / "a.tif", gsd_m=COARSE)
    with open_for(engine.info, path, resample_to_gsd=0.2) as scene:
        found, _ = predict_array(engine, scene)
        plain, _ = predict_array(engine, scene, upsampling=1)
    np.testing.assert_array_equal(found, plain)


def test_other_factors_are_refused(engine):
    with pytest.raises(SettingError, match="Upsampling must be 1 or 2, got 3"):
        engine.at(COARSE, 3)


def test_a_model_that_says_nothing_is_left_alone(model, tmp_path):
    info = read_info(model)
    path = tmp_path / "plain.onnx"
    path.write_bytes(model.read_bytes())
    rewrite(path, info.model_copy(update={"upsample_above_m": None}))
    engine = open_engine(path)
    assert engine.at(100.0) is engine
    assert "upsampling" not in json.loads(read_info(path).model_dump_json())


def test_windows_take_no_more_memory(engine):
    """Neither the usual ones nor those of a memory have more pixels, as the network sees them."""
    seen = engine.info.at(COARSE)
    for largest in (None, 512):
        before = choose_window(engine.info, (9000, 9000), largest=largest)
        after = choose_window(seen, (9000, 9000), largest=largest)
        assert 4 * after[0] * after[1] <= (largest or 1280) ** 2
        assert 4 * after[0] * after[1] > 0.8 * before[0] * before[1]


def test_plans_and_memory_know_it(engine, tmp_path):
    path = write(tmp_path / "a.tif", (400, 400))
    plan = plan_scene(engine, path)
    assert plan.upsampling == 2
    assert plan_scene(engine, path, reading=Reading(upsampling=1)).upsampling == 1
    room = find_room(engine, path, 3 * 10**9, seeing=Seeing())
    assert room.largest % 2 == 0
    with open_for(engine.info, path) as scene:
        size = choose_window(engine.info.at(COARSE), scene.shape, largest=room.largest)
    assert 4 * size[0] * size[1] <= room.largest**2


def test_a_memory_holds_windows_as_large_as_the_network_sees_them(engine, tmp_path, monkeypatch):
    """With four times as many bytes for a pixel that is seen as four, the network sees as much at a time."""
    path = write(tmp_path / "a.tif", (2000, 2000))
    found = []
    for upsampling in (1, 2):
        footprint = Footprint(0, 1000 * upsampling**2, 1e-6, 1)
        monkeypatch.setattr(planning, "measure", lambda *_, footprint=footprint: footprint)
        reading = Reading(upsampling=upsampling)
        found.append(find_room(engine, path, FINISHING_BYTES + 10**9, reading=reading, seeing=Seeing()).largest)
    assert found[1] == pytest.approx(found[0], rel=0.03)  # what waits to be written is a quarter


def test_other_processes_do_the_same(engine, tmp_path):
    """A job opened elsewhere, as workers do: its windows lie in the store as those of this process."""
    path, out = write(tmp_path / "a.tif"), tmp_path / "out"
    seen = []

    def spread(job: Job, missing):
        with open_work(job) as work:
            seen.append((work.engine.info.upsampling, len(missing)))
            for number in missing:
                work.do(number)
                yield number

    made = predict_scene(engine, path, out, size=48, spread=spread)
    with rasterio.open(made.probabilities) as file:
        np.testing.assert_array_equal(file.read(1), seen_at_once(engine, path)[..., 0])
    assert seen[0][0] == 2
    assert seen[0][1] > 3


def test_what_was_begun_otherwise_is_not_gone_on_with(engine, tmp_path):
    path, out = write(tmp_path / "a.tif"), tmp_path / "out"

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_scene(engine, path, out, size=48, progress=stop)
    with pytest.raises(SceneError, match="pixels UPSAMPLING=2 instead of as they are"):
        predict_scene(engine, path, out, size=48, upsampling=1)
    predict_scene(engine, path, out, size=48)


def test_members_of_an_assembly_see_as_their_own_files_say(model, write_model, tmp_path):
    plain = write_model(tmp_path / "plain.onnx", ["red", "green", "blue"], ["tree"])
    (tmp_path / "unet.onnx").write_bytes(model.read_bytes())
    members = Member(file="unet.onnx", classes=("house",)), Member(file="plain.onnx", classes=("tree",))
    Assembly(legend=Legend.of(["house", "tree"]), members=members).save(tmp_path / "assembly.json")
    engine = open_engine(tmp_path / "assembly.json")
    assert engine.at(FINE) is engine
    seen = engine.at(COARSE)
    assert isinstance(seen, AssemblyEngine)
    assert seen.path == engine.path
    path = write(tmp_path / "a.tif")
    with open_for(engine.info, path) as scene:
        found, _ = predict_array(engine, scene, size=48)
        trees, _ = predict_array(open_engine(plain), scene)
    np.testing.assert_array_equal(found[..., :1], seen_at_once(open_engine(model), path))
    np.testing.assert_array_equal(found[..., 1:], trees)


def test_the_command_line_says_and_takes_it(model, tmp_path):
    path = write(tmp_path / "a.tif")
    run = CliRunner().invoke
    told = run(app, ["predict", str(model), str(path), "--dry-run"])
    assert "each pixel seen as four" in told.output
    for asked in ([], ["--upsampling", "1"], ["--upsampling", "2"]):
        done = run(app, ["predict", str(model), str(path), "--out", str(tmp_path / f"o{''.join(asked)}"), *asked])
        assert done.exit_code == 0, done.output
        assert ("1 of 1 scenes are coarse and were seen as four each" in done.output) == (not asked)
    said = [
        rasterio.open(tmp_path / name / "a.probabilities.tif").read(1)
        for name in ("o", "o--upsampling1", "o--upsampling2")
    ]
    np.testing.assert_array_equal(said[0], said[2])
    assert not np.array_equal(said[0], said[1])


def labelled(folder, engine, upsampled):
    """Scenes at three distances, several places each, whose truth is what the network says, seen as `upsampled` has it."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for place in range(3):
        for gsd_m in upsampled:
            path = write(
                folder / "images" / f"place{place}-{gsd_m}.tif", (48, 64), gsd_m, seed=int(100 * gsd_m) + place
            )
            with open_for(engine.info, path) as scene, rasterio.open(path) as image:
                said, _ = predict_array(engine, scene, upsampling=2 if upsampled[gsd_m] else 1)
                profile = image.profile | {"count": 1}
            with rasterio.open(folder / "masks" / path.name, "w", **profile) as file:
                file.write((said[..., 0] >= np.float32(engine.info.thresholds[0])).astype(np.uint8), 1)
    return folder


@pytest.fixture(scope="module")
def sharp(model, tmp_path_factory):
    """The network with the threshold amid what it says, and nothing said of upsampling."""
    engine = open_engine(model)
    folder = tmp_path_factory.mktemp("sharp")
    path = write(folder / "a.tif")
    with open_for(engine.info, path) as scene:
        middle = float(np.median(predict_array(engine, scene)[0]))
    target = folder / "model.onnx"
    target.write_bytes(model.read_bytes())
    rewrite(target, engine.info.model_copy(update={"upsample_above_m": None, "thresholds": (middle,)}))
    return target


@pytest.mark.parametrize(
    ("upsampled", "limit"),
    [
        ({0.1: False, 0.2: False, 0.4: True}, 0.283),
        ({0.1: False, 0.2: True, 0.4: True}, 0.141),
        ({0.1: True, 0.2: True, 0.4: True}, 0.0707),
        ({0.1: False, 0.2: False, 0.4: False}, None),
    ],
)
def test_the_limit_lies_where_seeing_pixels_as_four_begins_to_be_right(sharp, tmp_path, upsampled, limit):
    engine = open_engine(sharp)
    data = read_dataset(labelled(tmp_path / "data", engine, upsampled), legend=Legend.of(["house"]))
    told = []
    found = choose_upsampling(engine, data.splits["train"], progress=lambda count, _: told.append(count))
    assert found.above_m == pytest.approx(limit, rel=2e-3) if limit else found.above_m is None
    assert found.after == 1.0
    assert found.better == (limit is not None)
    assert (found.folds, len(told)) == (3, 9)
    for distance, (gsd_m, wanted) in zip(found.distances, upsampled.items(), strict=True):
        assert distance.gsd_m == pytest.approx(gsd_m, rel=1e-3)  # UTM stretches a little
        assert ((distance.upsampled == 1), (distance.plain == 1)) == (wanted, not wanted)
        assert distance.images == 3
    written = found.apply(engine.info)
    for gsd_m, wanted in upsampled.items():
        assert (written.at(gsd_m).upsampling == 2) == wanted
    assert choose_upsampling(open_engine(sharp), data.splits["train"]).to_dict() == found.to_dict()


def test_the_estimate_is_of_places_that_did_not_choose(sharp, tmp_path):
    """One place wants it, one doesn't: chosen with the other alone, each is seen wrongly."""
    engine = open_engine(sharp)
    folder = labelled(tmp_path / "data", engine, {0.4: False})
    more = labelled(tmp_path / "more", engine, {0.4: True})
    for kind in ("images", "masks"):
        (folder / kind / "place0-0.4.tif").write_bytes((more / kind / "place0-0.4.tif").read_bytes())
        (folder / kind / "place2-0.4.tif").unlink()
    samples = read_dataset(folder, legend=Legend.of(["house"])).splits["train"]
    found = choose_upsampling(engine, samples)
    assert found.estimate < found.after < 1
    assert not found.better
    with pytest.raises(SettingError, match="2 folds or more"):
        choose_upsampling(engine, samples, folds=1)


def test_where_it_makes_no_difference_pixels_are_seen_as_they_are(sharp, tmp_path):
    engine = open_engine(sharp)
    samples = read_dataset(labelled(tmp_path / "data", engine, {0.4: True}), legend=Legend.of(["house"])).splits[
        "train"
    ]
    mute = tmp_path / "model.onnx"
    mute.write_bytes(sharp.read_bytes())
    rewrite(mute, engine.info.model_copy(update={"thresholds": (1.0,)}))
    assert choose_upsampling(open_engine(mute), samples).above_m is None


def test_what_was_chosen_before_is_taken_back_where_it_is_wrong(sharp, tmp_path):
    engine = open_engine(sharp)
    samples = read_dataset(labelled(tmp_path / "data", engine, {0.4: False}), legend=Legend.of(["house"])).splits[
        "train"
    ]
    other = tmp_path / "model.onnx"
    other.write_bytes(sharp.read_bytes())
    rewrite(other, engine.info.model_copy(update={"upsample_above_m": 0.3}))
    found = choose_upsampling(open_engine(other), samples)
    assert (found.above_m, found.better, found.estimate) == (None, True, 1.0)


def test_the_command_writes_the_limit(sharp, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(sharp.read_bytes())
    data = labelled(tmp_path / "data", open_engine(sharp), {0.1: False, 0.4: True})
    (data / "legend.toml").write_text('[classes]\n1 = "house"\n')
    ask = ["tune", str(path), str(data), "--only", "upsampling", "-q"]
    assert main([*ask, "--dry-run"]) == 0
    assert "pixels seen as four: from 0.2 m on is best\n" in capsys.readouterr().out
    assert read_info(path).upsample_above_m is None
    assert main(ask) == 0
    assert "written to" in capsys.readouterr().out
    assert read_info(path).upsample_above_m == pytest.approx(0.2, rel=1e-3)
    assert read_info(path).training["upsampling"]["better"]
    assert main([*ask, "--for", "ap50"]) != 0
    assert main(["tune", str(path), str(data), "--only", "area,upsampling", "-q"]) != 0
    told = capsys.readouterr().err
    assert "Upsampling must be chosen for iou, got 'ap50'" in told
    assert "Upsampling must be chosen alone, got area, upsampling" in told


def test_images_without_a_place_cannot_tell(sharp, tmp_path):
    engine = open_engine(sharp)
    folder = labelled(tmp_path / "data", engine, {0.4: False})
    for kind in ("images", "masks"):
        for path in (folder / kind).iterdir():
            with rasterio.open(path) as file:
                values, profile = file.read(), file.profile
            with rasterio.open(path, "w", **(profile | {"crs": None, "transform": Affine.identity()})) as file:
                file.write(values)
    samples = read_dataset(folder, legend=Legend.of(["house"])).splits["train"]
    with pytest.raises(DataError, match="Images must say how large their pixels are"):
        choose_upsampling(engine, samples)
    with pytest.raises(DataError, match="got none"):
        choose_upsampling(engine, [])
