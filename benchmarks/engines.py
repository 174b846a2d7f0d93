"""Running a network: ONNX Runtime, OpenVINO and Keras on the same model file.

Example: `python benchmarks/engines.py --model RUN/model.onnx --rounds 7`
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from materials import add_model, chosen_model
from measure import Ratio, arguments, begin, compare, interleave, show, widths
from satmask.engines import Engine, EngineName, open_engine
from satmask.errors import SatmaskError

PEERS: tuple[EngineName, ...] = ("openvino", "keras")


def open_all(path: Path, threads: int | None) -> list[Engine]:
    """Open every engine that is installed; say which isn't."""
    found = [open_engine(path, engine="onnxruntime", threads=threads)]
    for name in PEERS:
        try:
            found.append(open_engine(path, engine=name, threads=threads))
        except SatmaskError as error:
            print(f"{name} is left out: {error}")
    return found


def measure(engines: list[Engine], side: int, *, batch: int, rounds: int) -> None:
    """Time the engines on the same random images, and compare what they say."""
    info = engines[0].info
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, len(info.bands))).astype(np.float32)
    print(f"\n{side}² pixels, batches of {batch}")
    timings = interleave({engine.name: partial(engine.run, images) for engine in engines}, rounds)
    show(timings, amount=batch, unit="images")
    first, *rest = engines
    base, truth = timings[first.name].median, first.run(images)
    compare([Ratio(f"{engine.name} / {first.name}, images/s", base / timings[engine.name].median) for engine in rest])
    for engine in rest:
        print(f"{engine.name} differs from {first.name} by at most {np.abs(engine.run(images) - truth).max():.2g}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=7)
    add_model(parser)
    parser.add_argument("--sides", type=widths, default=(256, 512), help="sides of the images, in pixels; 256,512")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, help="processor threads; all by default (Keras always takes all)")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin("Engines: the same model file")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        model = chosen_model(options, Path(name))
        engines = open_all(model, options.threads)
        if len(engines) == 1:
            print("No other engine is there to compare with.")
        for side in options.sides:
            measure(engines, side, batch=options.batch, rounds=options.rounds)


if __name__ == "__main__":
    main()
