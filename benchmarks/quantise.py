"""Quantised models: float32 against int8, in ONNX Runtime and in OpenVINO, and OpenVINO's bfloat16 beside them.

Whether accuracy is kept is told by `satmask quantize`; this command only times, on one window and on the usual windows.

Example: `python benchmarks/quantise.py --networks unet,encoder --threads 1 --rounds 5`
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from materials import FULL, model_info
from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.engines import Engine, EngineName, OpenVinoEngine, open_engine
from satmask.model_file import check, export, write
from satmask.prediction import choose_window
from satmask.quantisation import fold, measure_ranges, quantise
from satmask.windows import Size, sides_of

HALF = tuple(width // 2 for width in FULL)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"filters": FULL}),
    "half": ("unet", {"filters": HALF}),
    "cnn": ("cnn", {}),
    "dilated": ("dilated", {"window": 256}),
    "encoder": ("encoder", {"weights": None}),
}


def make_network(name: str, folder: Path) -> Path:
    """Export an untrained network: its arithmetic costs what a trained one's does."""
    from satmask.models import build, measure_reach

    kind, options = NETWORKS[name]
    network = build(kind, bands=3, classes=1, **({"activation": "sigmoid"} | options))
    reach = measure_reach(network)
    info = model_info(reach, network=kind)
    return export(network, folder / f"{name}.onnx", info)


def open_all(path: Path, threads: int | None) -> dict[str, Engine]:
    """Every engine with the model as it is, and quantised for it."""
    info, graph = check(path), fold(path)
    images = list(np.random.default_rng(0).uniform(0, 255, (2, 256, 256, len(info.bands))).astype(np.float32))
    ranges = measure_ranges(graph, images)
    found: dict[str, Engine] = {}
    engines: tuple[EngineName, ...] = ("onnxruntime", "openvino")
    for name in engines:
        whole = path.with_name(f"{path.stem}.{name}.onnx")
        write(quantise(graph, ranges, fused=name == "openvino"), whole, info)
        found[f"{name} float32"] = open_engine(path, engine=name, threads=threads)
        found[f"{name} int8"] = open_engine(whole, engine=name, threads=threads)
    half = open_engine(path, engine="openvino", threads=threads)
    if isinstance(half, OpenVinoEngine):
        half._settings["INFERENCE_PRECISION_HINT"] = "bf16"  # noqa: SLF001 - satmask itself never rounds like this
        found["openvino bfloat16"] = half
    return found


def measure(path: Path, size: Size, *, batch: int, threads: int | None, rounds: int) -> None:
    """Time all of them on the same images."""
    engines = open_all(path, threads)
    info = engines["onnxruntime float32"].info
    sides = sides_of(size)
    images = np.random.default_rng(0).uniform(0, 255, (batch, *sides, len(info.bands))).astype(np.float32)
    print(f"\n{path.stem}: {batch} of {sides[0]} × {sides[1]} pixels")
    timings = interleave({name: partial(engine.run, images) for name, engine in engines.items()}, rounds)
    show(timings, amount=batch * sides[0] * sides[1] / 1e6, unit="MP")
    medians = {name: timing.median for name, timing in timings.items()}
    pairs = [
        ("onnxruntime int8", "onnxruntime float32", ""),
        ("openvino int8", "openvino float32", "≥ 2.5"),
        ("openvino bfloat16", "openvino float32", ""),
        ("openvino int8", "onnxruntime float32", ""),
    ]
    compare([Ratio(f"{one} / {other}, MP/s", medians[other] / medians[one], aim) for one, other, aim in pairs])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of these, separated by commas")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="model files to time in their place")
    parser.add_argument("--side", type=int, help="side of the windows; those of satmask predict by default")
    parser.add_argument("--batch", type=int, default=1, help="windows at a time")
    parser.add_argument("--threads", type=int, help="processor threads; all by default")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin("Quantised models: float32 against int8")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        paths = [folder / path.parent.name / path.name for path in options.models]
        for source, target in zip(options.models, paths, strict=True):
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())
        for path in paths or [make_network(network, folder) for network in options.networks.split(",")]:
            info = check(path)
            size = options.side or choose_window(info, (4096, 4096))
            measure(path, size, batch=options.batch, threads=options.threads, rounds=options.rounds)


if __name__ == "__main__":
    main()
