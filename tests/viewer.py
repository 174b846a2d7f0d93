"""What tests of the viewer share: a folder of predictions, the running server, and a bare HTTP client.

The client sends what it is told, byte by byte: browsers and libraries tidy up paths and headers before they send them.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import rasterio
from scipy import ndimage

from satmask.datasets import town
from satmask.legend import Legend
from satmask.polygons import find_polygons, write_polygons
from satmask.rasters import legend_tags
from satmask.scene import Scene

CHROMIUM = next(
    (str(path) for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None
)
SIZE = 400
BUILDING = Legend.of({1: "building"})


def make_folder(folder, legend=BUILDING, *, name="town"):
    """Write a small town with its labels, and a prediction that is a little off, with what it misses and invents."""
    drawn = town.draw_town(SIZE, SIZE, seed=4, gsd_m=0.5)
    path = town.write_scene(drawn, folder / "scenes", name)
    with Scene(path) as scene:
        grid = scene.grid
    probabilities = predicted(drawn.truth(1))
    classes = np.where(probabilities >= 0.5, legend.ids[0], 0).astype(np.uint8)
    out = folder / "predictions"
    out.mkdir()
    write(out / f"{name}.probabilities.tif", probabilities, grid, legend, f"{legend.names[0]} probability")
    write(out / f"{name}.classes.tif", classes, grid, legend, "class", nodata=255)
    write_polygons(
        find_polygons(classes, grid, legend, probabilities=probabilities[..., None]),
        out / f"{name}.gpkg",
        layer="polygons",
    )
    return folder


def predicted(truth):
    """Probabilities that a network might give: shifted and blurred, one building missed, another invented."""
    labels, _ = ndimage.label(truth)
    said = np.where(labels == 2, 0, truth).astype(np.float32)
    said[-60:-30, -60:-35] = 0.8
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 2, truth.shape), 3)
    return np.clip(ndimage.gaussian_filter(np.roll(said, (2, 1), (0, 1)), 1.5) + noise * 0.2, 0, 1).astype(np.float32)


def write(path, values, grid, legend, band, **options):
    """Write a band with its legend."""
    settings = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "height": grid.height, "width": grid.width}
    settings |= {
        "transform": grid.transform,
        "crs": grid.crs.to_wkt(),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio.open(path, "w", **settings, **options) as file:
        file.write(values, 1)
        file.set_band_description(1, band)
        file.update_tags(**legend_tags(legend, [0.5] * len(legend)))


class Address(str):
    """The address of a running viewer, with its process."""

    __slots__ = ("process",)

    def __new__(cls, text, process):
        """Keep the process beside the text."""
        made = super().__new__(cls, text)
        made.process = process
        return made


@contextlib.contextmanager
def running(folder, *options, cwd=None):
    """Run `satmask view` on a free port; gives its address."""
    command = [sys.executable, "-m", "satmask", "view", str(folder), "--no-browser", "--port", "0", *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI looks for it
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd
    ) as process:
        try:
            ready, _, _ = select.select([process.stdout], [], [], 60)
            address = process.stdout.readline().strip() if ready else ""
            if not address:
                process.kill()
                raise AssertionError(process.communicate()[1])
            _wait(address)
            yield Address(address, process)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def _wait(address):
    """Until it answers: the socket listens before the application is up."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            if ask(address, "/nothing").status:
                return
        time.sleep(0.05)


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value

    @property
    def seen(self):
        """All that tells one answer from another, but for the time."""
        return self.status, {name: value for name, value in self.headers.items() if name != "date"}, self.body


def ask(address, path, *, method="GET", headers=None, body=b"", host=None):
    """Send a request as it is spelt, and read the whole answer."""
    place = urlsplit(address)
    lines = {"Host": host or place.netloc, "Connection": "close"} | (headers or {})
    if body:
        lines["Content-Length"] = str(len(body))
    sent = path if isinstance(path, bytes) else path.encode()
    head = b"".join([method.encode(), b" ", sent, b" HTTP/1.1\r\n"])
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None).encode("latin-1")
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(head + b"\r\n" + body)
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                parts.append(part)
    return Answer(b"".join(parts))


def is_png(answer):
    """Whether an answer is a picture."""
    return answer.status == 200 and answer.body.startswith(b"\x89PNG") and answer.headers["content-type"] == "image/png"
