"""Workers killed at random moments, many of them, and runs into an object store killed at random moments."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.buckets import Bucket
from satmask.cli import main
from satmask.engines import open_engine
from satmask.pools import open_pool, predict_over
from satmask.prediction import predict_scene

KILLS = int(os.environ.get("SATMASK_KILLS", "20"))
SIZE = 64
UTM = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    """A scene of some 400 windows, a model, and what one thread makes of them."""
    folder = tmp_path_factory.mktemp("workers")
    write_convolutions(folder / "model.onnx", ("river", "house"), min_area_px=(9, 0), layers=3, width=8)
    image = np.random.default_rng(1).integers(1, 255, (3, 1000, 1000), dtype=np.uint8)
    profile = {"driver": "GTiff", "height": 1000, "width": 1000, "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", **profile, **UTM) as file:
        file.write(image)
    predict_scene(open_engine(folder / "model.onnx"), folder / "scene.tif", folder / "whole", size=SIZE)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_workers_killed_at_random_change_no_byte(place, tmp_path):
    moments, killed, ended = random.Random(1), [], threading.Event()  # noqa: S311  # no secret
    engine = open_engine(place / "model.onnx", threads=1)
    with open_pool(workers=2, threads=1) as pool:

        def kill():
            while not ended.wait(moments.uniform(0.05, 0.6)) and len(killed) < KILLS:
                pids = pool.executor.pids
                if pids:
                    killed.append(moments.choice(pids))
                    os.kill(killed[-1], signal.SIGKILL)

        runs = 0
        killer = threading.Thread(target=kill)
        killer.start()
        while len(killed) < KILLS:
            ((_, found),) = predict_over(pool, engine, [place / "scene.tif"], tmp_path / "out", size=SIZE)
            # One window may meet three deaths; what was done is kept, and gone on with.
            runs += 1
            if not isinstance(found, Exception):
                assert contents(tmp_path / "out") == contents(place / "whole")
        ended.set()
        killer.join()
        list(predict_over(pool, engine, [place / "scene.tif"], tmp_path / "out", size=SIZE))
    assert contents(tmp_path / "out") == contents(place / "whole")


def test_runs_into_an_object_store_killed_at_random_are_gone_on_with(place, monkeypatch):
    obstore = pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/faults", method="PUT")).close()
    moments, out = random.Random(2), Bucket("s3://faults/out")  # noqa: S311  # no secret
    command = ["predict", place / "model.onnx", place / "scene.tif", "--out", out, "--window", SIZE, "--threads", "1"]
    command = [*map(str, command), "--quiet"]
    for _ in range(max(KILLS // 4, 2)):
        process = subprocess.Popen([sys.executable, "-m", "satmask", *command])
        time.sleep(moments.uniform(1.5, 6))
        process.kill()
        process.wait()
    assert main(command) == 0
    store = obstore.store.from_url(out.url, client_options={"allow_http": True})
    names = [entry["path"] for batch in obstore.list(store) for entry in batch]
    assert {name: bytes(obstore.get(store, name).bytes()) for name in names} == contents(place / "whole")
    server.stop()
