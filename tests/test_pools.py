"""Pools: processes and clusters write the bytes that one thread writes, also when workers die; and refuse what differs."""

import os
import pickle
import shutil
import signal
import subprocess
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor, wait

import pytest

from noisy_scenes import SIZE, contents, make_place, write_scene
from satmask import workers
from satmask.cli import main
from satmask.engines import open_engine
from satmask.errors import InstallError, ModelError, SceneError, SettingError
from satmask.pools import open_pool, predict_over
from satmask.prediction import predict_scene
from satmask.prediction.claim import Claim, ClaimedError
from satmask.prediction.identity import identify_model
from satmask.prediction.work import Job
from satmask.processes import ATTEMPTS, Processes
from satmask.workers import SceneTask, Terms, do_scene, do_window


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    """A scene of 25 windows, eight tiles, a model, and what one thread makes of them."""
    folder = make_place(tmp_path_factory.mktemp("pools"), write_convolutions)
    tiles = [write_scene(folder / f"tile{number}.tif", 60, seed=number) for number in range(8)]
    engine = open_engine(folder / "model.onnx", threads=1)
    for tile in tiles:
        predict_scene(engine, tile, folder / "tiles")
    return folder


@pytest.fixture(scope="module")
def engine(place):
    return open_engine(place / "model.onnx", threads=1)


@pytest.fixture(scope="module")
def pool():
    """Two processes of one lane."""
    with open_pool(workers=2, threads=1) as pool:
        yield pool


def job_of(place, folder, engine):
    """The job of the scene, as it is handed to a pool; its store is begun."""
    jobs = []

    def some(job, numbers):
        jobs.append(job)
        yield do_window(job, numbers[0], terms_of(engine))
        raise SceneError("stopped")  # noqa: EM101

    with pytest.raises(SceneError, match="stopped"):
        predict_scene(engine, place / "scene.tif", folder, size=SIZE, spread=some)
    return jobs[0]


def terms_of(opened, **other):
    return Terms(identify_model(opened) | other, lanes=1)


def test_two_processes_write_the_bytes_of_one_thread(place, engine, pool, tmp_path):
    ((image, found),) = predict_over(pool, engine, [place / "scene.tif"], tmp_path / "out", size=SIZE)
    assert image.name == "scene.tif"
    assert found.objects > 0
    assert contents(tmp_path / "out") == contents(place / "whole")


def test_a_worker_of_two_lanes_writes_the_same(place, engine, tmp_path):
    with open_pool(workers=1, threads=2) as pool:
        list(predict_over(pool, engine, [place / "scene.tif"], tmp_path / "out", size=SIZE))
    assert contents(tmp_path / "out") == contents(place / "whole")


def test_many_scenes_go_to_workers_whole_and_a_bad_one_is_reported(place, engine, pool, tmp_path):
    tiles = sorted(place.glob("tile*.tif"))
    (tmp_path / "bad.tif").write_bytes(b"II*\0 no raster")
    notes, megapixels = [], []
    found = dict(
        predict_over(
            pool,
            engine,
            [tiles[0], tmp_path / "bad.tif", *tiles[1:]],
            tmp_path / "out",
            tell=notes.append,
            progress=megapixels.append,
        )
    )
    assert isinstance(found.pop(tmp_path / "bad.tif"), SceneError)
    assert list(found) == tiles
    assert sum(megapixels) == pytest.approx(8 * 60 * 60 / 1e6)
    assert contents(tmp_path / "out") == contents(place / "tiles")


def test_a_killed_worker_is_replaced_and_changes_no_byte(place, engine, pool, tmp_path):
    killed = []
    spread = pool.spread(engine)

    def killing(job, numbers):
        for number in spread(job, numbers):
            if not killed:
                killed.append(pool.executor.pids[0])
                os.kill(killed[0], signal.SIGKILL)
            yield number

    predict_scene(engine, place / "scene.tif", tmp_path / "out", size=SIZE, spread=killing)
    assert contents(tmp_path / "out") == contents(place / "whole")
    assert killed[0] not in pool.executor.pids


def test_one_call_is_done_again_for_a_process_that_dies(tmp_path):
    files = [tmp_path / f"{number}" for number in range(8)]
    with Processes(2) as pool:
        # Functions of a test can't be imported elsewhere.
        futures = [pool.submit(subprocess.run, ["sh", "-c", f"echo >> {file}; sleep 0.2"]) for file in files]
        futures[1].result(timeout=60)
        os.kill(pool.pids[0], signal.SIGKILL)
        assert [future.result(timeout=60).returncode for future in futures] == [0] * 8
    counts = sorted(len(file.read_text()) for file in files)
    assert counts[:7] == [1] * 7
    assert counts[7] <= 2


def test_a_call_that_kills_again_and_again_fails_and_the_pool_lives():
    with Processes(1) as pool:
        with pytest.raises(BrokenExecutor, match=f"died {ATTEMPTS} times.*signal 9"):
            pool.submit(signal.raise_signal, signal.SIGKILL).result()
        assert pool.submit(divmod, 17, 5).result() == (3, 2)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()


def test_processes_end_at_once_when_told(tmp_path):
    pool = Processes(1)
    pid = pool.submit(os.getpid).result(timeout=60)
    futures = [pool.submit(time.sleep, 60) for _ in range(3)]
    begun = time.perf_counter()
    pool.shutdown(cancel_futures=True)
    assert time.perf_counter() - begun < 10
    assert all(future.done() for future in futures)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_refuse_another_model_and_another_runtime(place, engine, tmp_path, write_convolutions):
    job = job_of(place, tmp_path / "out", engine)
    assert do_window(job, 3, terms_of(engine)) == 3
    with pytest.raises(ModelError, match="other bytes"):
        do_window(job, 3, terms_of(engine, digest="0" * 64))
    with pytest.raises(ModelError, match=r"onnxruntime 0\.1"):
        do_window(job, 3, terms_of(engine, engine="onnxruntime (onnxruntime 0.1)"))
    elsewhere = Job(**(vars(job) | {"model": tmp_path / "gone.onnx"}))
    with pytest.raises(ModelError, match="must reach the model"):
        do_window(elsewhere, 3, terms_of(engine))


def test_workers_refuse_another_scene_and_what_was_begun_anew(place, engine, tmp_path):
    job = job_of(place, tmp_path / "out", engine)
    other = Job(**(vars(job) | {"image": write_scene(tmp_path / "scene.tif", 400, seed=9)}))
    with pytest.raises(SceneError, match="must see the scene"):
        do_window(other, 3, terms_of(engine))
    do_window(job, 4, terms_of(engine))
    manifest = job.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"none"', '"all"'))
    assert do_window(job, 5, terms_of(engine)) == 5  # opened again
    shutil.rmtree(job.folder)
    with pytest.raises(SceneError, match="must find what was begun"):
        do_window(job, 4, terms_of(engine))


def test_a_cluster_writes_the_same_also_when_a_worker_is_killed(place, engine, tmp_path):
    distributed = pytest.importorskip("distributed")
    # Ports of its own choice, no dashboard.
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_pool(scheduler=cluster.scheduler_address) as pool,
    ):
        assert pool.count_lanes() == 2
        spread, killed = pool.spread(engine), []

        def killing(job, numbers):
            for number in spread(job, numbers):
                if not killed:
                    killed.append(cluster.workers[0].pid)
                    os.kill(killed[0], signal.SIGKILL)
                yield number

        predict_scene(engine, place / "scene.tif", tmp_path / "out", size=SIZE, spread=killing)
        # The model was sent: no worker needs to see its file.
        job = job_of(place, tmp_path / "begun", engine)
        elsewhere = Job(**(vars(job) | {"model": tmp_path / "nowhere" / "model.onnx"}))
        assert pool.executor.submit(do_window, elsewhere, 7, Terms(identify_model(engine))).result() == 7
        found = dict(predict_over(pool, engine, sorted(place.glob("tile*.tif")), tmp_path / "tiles"))
    assert contents(tmp_path / "out") == contents(place / "whole")
    assert len(found) == 8
    assert contents(tmp_path / "tiles") == contents(place / "tiles")


def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("satmask.pools.PATIENCE_S", 0.5)
    with pytest.raises(SettingError, match="Scheduler must answer"), open_pool(scheduler="tcp://127.0.0.1:9"):
        pass


def test_jobs_and_terms_can_be_sent(place, engine, tmp_path):
    job = job_of(place, tmp_path / "out", engine)
    assert pickle.loads(pickle.dumps((job, terms_of(engine)))) == (job, terms_of(engine))  # noqa: S301  # ours


def test_a_worker_waits_for_the_claim_of_another(place, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ASK_AGAIN_S", 0.05)
    monkeypatch.setattr(workers, "_dask_lanes", lambda: 1)
    terms = Terms(identify_model(engine))
    task = SceneTask(place / "model.onnx", "onnxruntime", place / "tile0.tif", str(tmp_path), {})
    with ThreadPoolExecutor(1) as pool:
        with Claim(tmp_path, "tile0"):
            waiting = pool.submit(do_scene, task, terms)
            assert not wait([waiting], timeout=0.5).done
        assert waiting.result(timeout=60).megapixels == pytest.approx(0.0036)
    with Claim(tmp_path, "tile0"):
        assert isinstance(do_scene(task, terms_of(engine)).found, ClaimedError)  # of this machine: at once
        monkeypatch.setattr(workers, "PATIENCE_S", 0.2)
        assert isinstance(do_scene(task, terms).found, ClaimedError)


def test_networks_that_are_blended_are_spread_too(pool, tmp_path, write_convolutions):
    model = write_convolutions(tmp_path / "model.onnx", ("river",), layers=1, sees_all=True)
    opened = open_engine(model, threads=1)
    scene = write_scene(tmp_path / "scene.tif", 200)
    predict_scene(opened, scene, tmp_path / "whole", size=64)
    ((_, found),) = predict_over(pool, opened, [scene], tmp_path / "out", size=64)
    assert found.objects > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_pool_is_asked_for_in_one_way():
    for wrong in ({}, {"workers": 1, "scheduler": "tcp://127.0.0.1:1"}, {"workers": 0}, {"workers": 1, "threads": 0}):
        with pytest.raises(SettingError), open_pool(**wrong):
            pass


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InstallError, match=r"satmask\[cluster\]"), open_pool(scheduler="tcp://127.0.0.1:1"):
        pass


def test_the_command_line_spreads_work_over_processes(place, tmp_path):
    command = ["predict", place / "model.onnx", place / "scene.tif", "--out", tmp_path / "out", "--window", SIZE]
    assert main([*map(str, command), "--workers", "2", "--threads", "1", "--quiet"]) == 0
    assert contents(tmp_path / "out") == contents(place / "whole")
    assert main([*map(str, command), "--workers", "2", "--scheduler", "tcp://127.0.0.1:9"]) == 2
