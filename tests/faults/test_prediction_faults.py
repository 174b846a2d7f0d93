"""Predictions killed at a hundred random moments, and fifty times while outputs are made: the same bytes in the end.

`make faults` runs this; `tests/test_prediction_durable.py` holds a few of each.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noisy_scenes import make_place

SETTINGS = {"size": 96}


class Killer:
    """A process that predicts and is killed, see `tests/predicting.py`."""

    def __init__(self):
        script = Path(__file__).parent.parent / "predicting.py"
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, place, out, **order):
        order |= {"model": str(place / "model.onnx"), "scene": str(place / "scene.tif"), "out": str(out)}
        self.process.stdin.write(json.dumps(order | {"settings": SETTINGS}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def killer():
    killer = Killer()
    yield killer
    killer.process.communicate()


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    return make_place(tmp_path_factory.mktemp("faults"), write_convolutions, side=500, width=12)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".scene.job"}


@pytest.mark.parametrize(("phase", "kills"), [("start", 100), ("finish", 50)])
def test_killed_often_and_continued_the_bytes_are_the_same(killer, place, tmp_path, phase, kills):
    moments, killed, finished = np.random.default_rng(kills), 0, 0
    seconds = killer.ask(place, tmp_path / "whole")["seconds"][phase]
    wanted, out = contents(tmp_path / "whole"), tmp_path / "out0"
    while killed < kills:
        answer = killer.ask(place, out, phase=phase, kill_after_s=moments.uniform(0.001, seconds))
        assert not answer["error"]
        killed += answer["killed"]
        # What lies under a final name is whole, at any moment.
        there = contents(out) if out.is_dir() else {}
        assert all(wanted[name] == content for name, content in there.items())
        if not answer["killed"]:
            finished += 1
            assert there == wanted
            out = tmp_path / f"out{finished}"
    assert not killer.ask(place, out)["error"]
    assert contents(out) == wanted
    assert not (out / ".scene.job").exists()
