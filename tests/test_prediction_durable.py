"""Prediction that is stopped, killed, disturbed or damaged goes on, and ends with the same bytes; or says why not."""

import contextlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from noisy_scenes import SIZE, contents, make_place
from satmask.engines import open_engine
from satmask.errors import SceneError
from satmask.jobs import open_work
from satmask.prediction import predict_scene
from satmask.prediction.claim import Claim
from satmask.prediction.work import Work


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    """A scene of 25 windows, a model, and what comes out without any disturbance."""
    return make_place(tmp_path_factory.mktemp("durable"), write_convolutions)


@pytest.fixture(scope="module")
def engine(place):
    return open_engine(place / "model.onnx")


class StopError(Exception):
    """Ends a prediction from outside."""


def begin(engine, place, out, *, windows, error=StopError, size=SIZE):
    """Predict some windows and fail."""
    count = iter(range(windows))

    def progress(_):
        if next(count, None) is None:
            raise error

    with contextlib.suppress(error):
        predict_scene(engine, place / "scene.tif", out, size=size, progress=progress)
    return out


def go_on(engine, place, out, **settings):
    notes = []
    predict_scene(engine, place / "scene.tif", out, tell=notes.append, **settings)
    assert contents(out) == contents(place / "whole")
    return notes


def test_what_is_done_is_not_done_again(engine, place, tmp_path, monkeypatch):
    out = begin(engine, place, tmp_path / "out", windows=9)
    assert [path.name for path in out.iterdir()] == [".scene.job"]
    done, original = [], Work.do
    monkeypatch.setattr(Work, "do", lambda self, number: done.append(number) or original(self, number))
    notes = go_on(engine, place, out)
    assert 25 - 10 - engine.workers - 2 <= len(done) <= 25 - 10
    assert f"{25 - len(done)} of 25 windows of scene.tif are there already" in notes[0]


def test_a_window_without_data_is_known_to_be_done(engine, place, tmp_path):
    out = begin(engine, place, tmp_path / "out", windows=3)
    chunks = {path.name for path in (out / ".scene.job/windows.zarr/probabilities").iterdir()} - {"zarr.json"}
    marks = {path.name for path in (out / ".scene.job/windows.zarr/marks").iterdir()} - {"zarr.json"}
    assert "0.0" in marks
    assert "0.0.0.0.0" not in chunks


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "zeros", "gone"])
def test_a_damaged_chunk_is_done_again_with_a_note(engine, place, tmp_path, damage):
    out = begin(engine, place, tmp_path / "out", windows=20)
    chunk = out / ".scene.job/windows.zarr/probabilities/0.3.0.0.0"
    held = chunk.read_bytes()
    after = {"flip": bytes([*held[:99], held[99] ^ 4, *held[100:]]), "cut": held[:-7], "empty": b"", "zeros": bytes(99)}
    chunk.write_bytes(after[damage]) if damage in after else chunk.unlink()
    notes = go_on(engine, place, out)
    assert ["window 4 of 25 of scene.tif" in note and "done again" in note for note in notes] == [False, True]


def test_a_damaged_mark_is_made_again(engine, place, tmp_path):
    out = begin(engine, place, tmp_path / "out", windows=20)
    (out / ".scene.job/windows.zarr/marks/0.3").write_bytes(b"")
    go_on(engine, place, out)


def test_a_torn_manifest_begins_anew(engine, place, tmp_path):
    out = begin(engine, place, tmp_path / "out", windows=20)
    (out / ".scene.job/manifest.json").write_text("{", encoding="utf-8")
    assert go_on(engine, place, out, size=SIZE) == []


@pytest.mark.parametrize("gone", ["marks", "probabilities/zarr.json", "zarr.json"])
def test_a_store_that_lacks_a_part_begins_anew(engine, place, tmp_path, gone):
    out = begin(engine, place, tmp_path / "out", windows=20)
    lost = out / ".scene.job/windows.zarr" / gone
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    assert go_on(engine, place, out, size=SIZE) == []


def test_the_manifest_is_the_first_to_go(place, tmp_path):
    with Claim(tmp_path, "scene") as claim:
        shutil.copytree(place / "whole", claim.folder, dirs_exist_ok=True)
        (claim.folder / "manifest.json").write_text("{}", encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(StopError):
            patch.setattr(Path, "iterdir", lambda self: (_ for _ in ()).throw(StopError))
            claim.clear()
        assert not (claim.folder / "manifest.json").exists()


def test_another_model_scene_or_setting_is_refused_and_restart_helps(engine, place, tmp_path, write_convolutions):
    out = begin(engine, place, tmp_path / "out", windows=9)
    scene = place / "scene.tif"
    other = open_engine(write_convolutions(tmp_path / "model.onnx", ("river", "house"), layers=3, width=8, seed=1))
    changed = tmp_path / "scene.tif"
    shutil.copy(scene, changed)
    with rasterio.open(changed, "r+") as file:
        file.write(np.full((3, 1, 1), 77, np.uint8), window=rasterio.windows.Window(390, 390, 1, 1))
    for what, arguments, settings in (
        ("another model", (other, scene), {}),
        ("another scene, or this one before it was changed", (engine, changed), {}),
        (r"symmetries none instead of flips \(geometric\)", (engine, scene), {"symmetries": "flips"}),
        ("bands 1, 2, 3 instead of 3, 2, 1", (engine, scene), {"bands": (3, 2, 1)}),
        ("windows of 96 × 96 instead of 80 × 80", (engine, scene), {"size": 80}),
    ):
        with pytest.raises(SceneError, match=rf"got {what} in .*--restart"):
            predict_scene(*arguments, out, **settings)
    predict_scene(engine, scene, out, size=80, restart=True)
    assert contents(out)["scene.classes.tif"] == contents(place / "whole")["scene.classes.tif"]


def test_thresholds_may_change_on_the_way(engine, place, tmp_path):
    out = begin(engine, place, tmp_path / "out", windows=9)
    predict_scene(engine, place / "scene.tif", out, thresholds=[0.4])
    predict_scene(engine, place / "scene.tif", tmp_path / "whole", thresholds=[0.4], size=SIZE)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_store_knows_its_windows_where_they_are_not_square(engine, place, tmp_path):
    out = begin(engine, place, tmp_path / "out", windows=5, size=(64, 160))
    assert "windows of scene.tif are there already" in go_on(engine, place, out)[0]


def test_a_store_knows_its_windows_whatever_the_threads(place, tmp_path):
    out = begin(open_engine(place / "model.onnx", threads=1), place, tmp_path / "out", windows=9)
    go_on(open_engine(place / "model.onnx", threads=3), place, out)


def test_the_second_run_is_told(engine, place, tmp_path):
    with Claim(tmp_path, "scene"), pytest.raises(SceneError, match=r"one run at a time.*process \d+"):
        predict_scene(engine, place / "scene.tif", tmp_path)
    with Claim(tmp_path, "scene") as claim:
        claim.remove()
    assert not claim.folder.exists()


def test_many_runs_at_once_end_with_one_result(engine, place, tmp_path):
    said = []

    def attempt():
        try:
            predict_scene(engine, place / "scene.tif", tmp_path / "out", size=SIZE)
            said.append("done")
        except SceneError as error:
            said.append(str(error)[:40])

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in said
    assert set(said) <= {"done", "Output must be written by one run at a t"}
    assert contents(tmp_path / "out") == contents(place / "whole")


def test_windows_done_elsewhere_in_any_order_give_the_same(engine, place, tmp_path):
    did = []

    def spread(job, numbers):
        with open_work(job, threads=1) as work:
            for number in reversed(numbers):
                work.do(number)
                did.append(number)
                yield number

    predict_scene(engine, place / "scene.tif", tmp_path / "out", size=SIZE, spread=spread)
    assert sorted(did) == list(range(25))
    assert contents(tmp_path / "out") == contents(place / "whole")


def test_what_nobody_did_elsewhere_is_done_here(engine, place, tmp_path):
    predict_scene(
        engine, place / "scene.tif", tmp_path / "out", size=SIZE, spread=lambda job, numbers: iter(numbers[:5])
    )
    assert contents(tmp_path / "out") == contents(place / "whole")


class Killer:
    """A process that predicts and is killed, see `predicting.py`."""

    def __init__(self):
        script = Path(__file__).with_name("predicting.py")
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, place, out, **order):
        order |= {"model": str(place / "model.onnx"), "scene": str(place / "scene.tif"), "out": str(out)}
        self.process.stdin.write(json.dumps(order | {"settings": {"size": SIZE}}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def killer():
    killer = Killer()
    yield killer
    killer.process.communicate()


@pytest.mark.parametrize("phase", ["start", "finish"])
def test_killed_at_random_moments_and_continued_the_bytes_are_the_same(killer, place, tmp_path, phase):
    moments, out = np.random.default_rng(len(phase)), tmp_path / "out"
    whole = killer.ask(place, tmp_path / "first")["seconds"][phase]
    killed = 0
    for _ in range(4):
        answer = killer.ask(place, out, phase=phase, kill_after_s=moments.uniform(0.01, 0.9 * whole))
        assert not answer["error"]
        killed += answer["killed"]
        names = set(contents(out) if not (out / ".scene.job").is_dir() else ())
        assert not names or names == set(contents(place / "whole"))
    assert killed
    assert not killer.ask(place, out)["error"]
    assert contents(out) == contents(place / "whole")


def command(place, out, *more):
    arguments = ["predict", place / "model.onnx", place / "scene.tif", "--out", out, "--window", str(SIZE), *more]
    return [sys.executable, "-m", "satmask", *map(str, arguments)]


def test_signals_leave_a_clean_state_and_say_how_to_go_on(engine, place, tmp_path):
    # More windows than can be done before the signal comes.
    arguments = [*command(place, tmp_path / "out", "--quiet", "--symmetries", "all", "--threads", "1")]
    arguments[arguments.index("--window") + 1] = "24"
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    marks = tmp_path / "out/.scene.job/windows.zarr/marks"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not marks.is_dir() or len(list(marks.iterdir())) < 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in said.splitlines() if "windows of scene.tif are kept; the same command goes on" in line]
    assert {path.name for path in (tmp_path / "out/.scene.job").iterdir()} == {"lock", "manifest.json", "windows.zarr"}


@pytest.mark.parametrize("limit", [9_000, 60_000, 700_000])
def test_a_full_disk_is_told_and_what_is_there_is_kept(engine, place, tmp_path, limit):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "out"
    ended = subprocess.run(
        command(place, out, "--quiet"), capture_output=True, text=True, preexec_fn=small_files, check=False
    )  # fmt: skip
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("satmask: error: ")]
    assert len(errors) == 2
    assert "Traceback" not in ended.stderr
    assert {path.name for path in out.iterdir()} <= {".scene.job"}
    go_on(engine, place, out, size=SIZE)


def test_a_dry_run_writes_nothing_and_counts_as_the_real_one(place, tmp_path):
    ended = subprocess.run(
        command(place, tmp_path / "out", "--dry-run", "--json"), capture_output=True, text=True, check=True
    )
    (plan,) = json.loads(ended.stdout)["plans"]
    assert (plan["windows"], plan["megapixels"], plan["shape"]) == (25, 0.16, [400, 400])
    assert plan["computed_per_kept"] == pytest.approx(25 * plan["window"][0] * plan["window"][1] / 160_000, abs=1e-3)
    assert not (tmp_path / "out").exists()
