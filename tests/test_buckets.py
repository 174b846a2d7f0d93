"""Outputs in an object store: the bytes of a local run, resumed after a kill, written by one run at a time."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

from noisy_scenes import SIZE, make_place
from noisy_scenes import contents as files
from satmask.buckets import Bucket, as_folder
from satmask.cli import main
from satmask.engines import open_engine
from satmask.errors import InstallError, SceneError, SettingError
from satmask.pools import open_pool, predict_over
from satmask.prediction import predict_scene
from satmask.prediction import remote_claim as claims
from satmask.prediction.remote_claim import RemoteClaim
from satmask.scene_lists import refuse_overwriting

obstore = pytest.importorskip("obstore")


@pytest.fixture(scope="module")
def endpoint():
    """A store as S3 is, on this machine, with a bucket `maps`."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            # The same for GDAL.
            "AWS_S3_ENDPOINT": f"{host}:{port}",
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }.items():
            patch.setenv(name, value)
        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/maps", method="PUT")).close()
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def out(endpoint, request):
    """A folder of the bucket, of its own for each test."""
    return Bucket(f"s3://maps/{request.node.name}")


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    """A scene of 25 windows, a model, and what a local run makes of them."""
    return make_place(tmp_path_factory.mktemp("buckets"), write_convolutions)


@pytest.fixture(scope="module")
def engine(place):
    return open_engine(place / "model.onnx", threads=2)


def contents(out):
    """Names and bytes of all objects in a folder."""
    store = obstore.store.from_url(out.url, client_options={"allow_http": True})
    names = [entry["path"] for batch in obstore.list(store) for entry in batch]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def whole(place):
    return files(place / "whole")


def test_writing_on_conditions(out):
    file = out / "note"
    assert not file.exists()
    state = file.write(b"one", new=True)
    with pytest.raises(FileExistsError):
        file.write(b"two", new=True)
    newer = file.write(b"two", expected=state)
    with pytest.raises(FileExistsError):
        file.write(b"three", expected=state)
    assert file.read() == (b"two", newer)
    (out / "other").write(b"")
    out.clear(but="note")
    assert contents(out) == {"note": b"two"}
    file.delete()
    file.delete()
    with pytest.raises(FileNotFoundError):
        file.read()


def test_a_scene_goes_to_the_store_as_it_goes_to_a_folder(place, engine, out):
    found = predict_scene(engine, place / "scene.tif", str(out), size=SIZE)
    assert str(found.classes) == f"{out}/scene.classes.tif"
    assert contents(out) == whole(place)


def test_processes_read_from_and_write_to_the_store(place, engine, out):
    (out / "in" / "scene.tif").write(place / "scene.tif")
    with open_pool(workers=1, threads=2) as pool:
        ((_, found),) = predict_over(pool, engine, [f"{out}/in/scene.tif"], out / "out", size=SIZE)
    assert found.objects > 0
    assert contents(out / "out") == whole(place)


def test_a_killed_run_is_gone_on_with(place, out, capfd):
    command = ["predict", place / "model.onnx", place / "scene.tif", "--out", out, "--window", SIZE, "--threads", 1]
    process = subprocess.Popen([sys.executable, "-m", "satmask", *map(str, command)], stderr=subprocess.PIPE)
    marks = 0
    end = time.monotonic() + 60
    while marks < 3 and time.monotonic() < end:
        with suppress(FileNotFoundError):  # a listed object may be gone
            marks = sum(name.startswith(".scene.job/windows.zarr/marks/") for name in contents(out))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 3 <= marks < 25
    assert main([str(part) for part in command]) == 0
    assert "windows of scene.tif are there already" in capfd.readouterr().err
    assert contents(out) == whole(place)


def test_a_run_that_fails_keeps_what_it_did(place, engine, out):
    def fail(_):
        raise SceneError("stopped")  # noqa: EM101

    with pytest.raises(SceneError, match=r"stopped.*windows of scene.tif are kept"):
        predict_scene(engine, place / "scene.tif", out, size=SIZE, progress=fail)
    notes = []
    predict_scene(engine, place / "scene.tif", out, size=SIZE, tell=notes.append)
    assert "there already" in notes[0]
    assert contents(out) == whole(place)


def test_one_run_at_a_time(out):
    with RemoteClaim(out, "north"):
        with pytest.raises(SceneError, match=rf"one run at a time.*process {os.getpid()} on .*try again in 1[12]\d s"):
            RemoteClaim(out, "north")
        with RemoteClaim(out, "south"):
            pass
    with RemoteClaim(out, "north"):
        pass
    assert contents(out) == {}


def test_a_dead_run_of_this_machine_blocks_nobody_and_one_elsewhere_not_for_long(out, monkeypatch):
    lock, dead = out / ".north.job" / "lock", subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock.write(f'{{"process": {dead.pid}, "host": "here", "machine": "{claims._machine()}"}}'.encode())
    with RemoteClaim(out, "north"):
        pass
    lock.write(b'{"process": 1, "host": "elsewhere", "machine": "another"}')
    with pytest.raises(SceneError, match="process 1 on elsewhere"):
        RemoteClaim(out, "north")
    monkeypatch.setattr(claims, "STALE_S", 1)
    time.sleep(2)
    with RemoteClaim(out, "north"):
        pass


def test_a_run_that_was_taken_for_dead_publishes_nothing(out, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    (tmp_path / "north.gpkg").write_bytes(b"mine")
    with RemoteClaim(out, "north") as claim:
        (claim.folder / "lock").write(b"{}")
        time.sleep(0.5)
        with pytest.raises(SceneError, match="took over"):
            claim.publish(tmp_path / "north.gpkg")
    assert contents(out) == {".north.job/lock": b"{}"}  # it is somebody else's now


def test_a_living_run_gives_signs_of_life(out, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    with RemoteClaim(out, "north") as claim:
        before = claim._written
        time.sleep(0.5)
        assert claim._written > before
        assert not claim._lost


def test_a_store_that_refuses_is_told_in_one_line(place, engine, endpoint):
    with pytest.raises(SceneError, match="Object store must take what is being written"):
        predict_scene(engine, place / "scene.tif", "s3://no-such-bucket/out", size=SIZE)


def test_outputs_do_not_lie_over_a_scene_in_the_store():
    with pytest.raises(SettingError, match="must not lie over a scene"):
        refuse_overwriting([as_scene("s3://maps/a.classes.tif"), as_scene("s3://maps/a.tif")], Bucket("s3://maps"))


def as_scene(url):
    from satmask.addresses import Remote

    return Remote(url)


def test_addresses_are_checked_and_without_obstore_it_is_said_what_to_install(monkeypatch):
    for wrong in ("http://example.org/out", "s3://", "file:///tmp"):
        with pytest.raises(SettingError, match="Output must be a folder"):
            as_folder(wrong)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InstallError, match=r"satmask\[remote\]"):
        Bucket("s3://never-opened/x").write(b"")
