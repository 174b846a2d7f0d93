"""Reading training windows from scenes that stay open, against opening the file for each; and decoding JPEG tiles.

Example: `python benchmarks/reading.py --data DIR --size 4096 --rounds 7`
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from materials import add_scene, chosen_scene, open_data
from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.scene import Scene, open_scene
from satmask.windows import Window, draw

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from satmask.datasets import Dataset
    from satmask.datasets.dataset import Sample


def read_plain(file: DatasetReader, window: Window) -> np.ndarray:
    """A window of an open raster as a network wants it, float32, without a look at what is valid."""
    place = rasterio.windows.Window(window.column, window.row, window.width, window.height)
    return np.asarray(np.moveaxis(file.read(window=place), 0, -1), dtype=np.float32)


def measure_scene(scene: Path, options: argparse.Namespace) -> None:
    """Time random windows of one scene; the plain cases don't ask which pixels are valid."""
    with rasterio.open(scene) as file:
        shape = file.shape
    places = [place for _, place in draw([shape], size=options.window, count=options.count, seed=(0,))]

    def kept_open() -> None:
        for place in places:
            open_scene(scene).read(place).filled((0.0, 0.0, 0.0))

    def opened_each_time() -> None:
        for place in places:
            with rasterio.open(scene) as file:
                read_plain(file, place)

    def opened_once() -> None:
        with rasterio.open(scene) as file:
            for place in places:
                read_plain(file, place)

    cases: dict[str, Callable[[], object]] = {
        "satmask, kept open": kept_open,
        "rasterio, opened for each window": opened_each_time,
        "rasterio, opened once": opened_once,
    }
    timings = interleave(cases, options.rounds)
    show(timings, amount=len(places), unit="windows")
    ours, *peers = timings
    compare([Ratio(f"satmask / {peer}, windows/s", timings[peer].median / timings[ours].median) for peer in peers])
    print()


def measure_tiles(samples: list[Sample], rounds: int) -> None:
    """Time decoding whole tiles, opened each time by both."""
    from PIL import Image

    def ours() -> None:
        for sample in samples:
            with Scene(sample.image) as scene:
                scene.read(Window(0, 0, *sample.shape))

    def pillow() -> None:
        for sample in samples:
            with Image.open(sample.image) as image:
                np.asarray(image)

    timings = interleave({"satmask.scene.Scene": ours, "Pillow": pillow}, rounds)
    show(timings, amount=len(samples), unit="tiles")
    mine, theirs = (timing.median for timing in timings.values())
    compare([Ratio("satmask / Pillow, tiles/s", theirs / mine)])


def jpeg_tiles(data: Dataset, most: int) -> list[Sample]:
    """The first JPEG tiles of the training split."""
    return [sample for sample in data.splits["train"] if sample.image.suffix.lower() in (".jpg", ".jpeg")][:most]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=7)
    add_scene(parser, size=4096)
    parser.add_argument("--window", type=int, default=256, help="side of a window, in pixels")
    parser.add_argument("--count", type=int, default=200, help="windows or tiles a round")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin(f"Reading: windows of {options.window}² pixels, and JPEG tiles")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        scene = chosen_scene(options, folder)
        measure_scene(scene, options)
        tiles = jpeg_tiles(open_data(options.data, folder), options.count)
        if not tiles:
            print("The data holds no JPEG tiles: that part is left out.")
        elif importlib.util.find_spec("PIL") is None:
            print("Pillow isn't installed: that part is left out. Run `pip install pillow`.")
        else:
            measure_tiles(tiles, options.rounds)


if __name__ == "__main__":
    main()
