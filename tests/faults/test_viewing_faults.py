"""Labels that are being saved when the viewer is killed: whole, with what was last saved or is being saved."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio

from satmask.datasets import read_dataset
from satmask.legend import Legend
from satmask.polygons import read_polygons

# Draws one square after another, and says after each save how many there are.
CHILD = """
import sys
import numpy as np
from satmask.legend import Legend
from satmask.viewing.corrections import Corrections
from satmask.viewing.shelf import open_shelf
place = open_shelf(sys.argv[1]).places[0]
corrections = Corrections(place, legend=Legend.of(["house"]))
print(len(corrections.labels), flush=True)
for number in range(1000):
    left, top = 10 * (number % 20), 10 * (number // 20)
    corners = np.array([(left, top), (left + 8, top), (left + 8, top + 8), (left, top)])
    corrections.draw({"type": "Polygon", "coordinates": [place.view.to_map(corners).tolist()]}, 1)
    print(len(corrections.labels), flush=True)
"""


@pytest.mark.parametrize("kill", range(12))
def test_killed_while_saving_labels(tmp_path, kill):
    with rasterio.open(tmp_path / "town.png", "w", driver="PNG", height=500, width=200, count=1, dtype="uint8") as file:
        file.write(np.full((1, 500, 200), 90, np.uint8))
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(2 + kill % 4):
            saved = int(child.stdout.readline())
        time.sleep(0.005 * kill)
        child.send_signal(signal.SIGKILL)
        rest = [int(line) for line in child.stdout.read().splitlines()]
    saved = max([saved, *rest])
    frame = read_polygons(tmp_path / "town.labels.gpkg")
    assert len(frame) in (saved, saved + 1)
    (sample,) = read_dataset(tmp_path, legend=Legend.of(["house"])).splits["train"]
    assert len(sample.labels.geometries) == len(frame)
    # What the killed one was writing lies under a hidden name, in nobody's way.
    left = [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert set(left) == {"town.png", "town.labels.gpkg"}, json.dumps(left)
