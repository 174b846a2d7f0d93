"""Memory of predicting scenes of several sizes, each in a process of its own, with the curve over time.

python benchmarks/scene_memory.py [--sizes 5000 20000] [--classes 1] [--filled 0.25] [--folder DIR] [--kills 0]
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as Place

from materials import GSD_M
from measure import arguments, begin

BLOCK = 512


def write_scene(path: Path, side: int, *, filled: float) -> Path:
    """Write a scene block by block: some blocks hold a synthetic town, the others nothing at all."""
    from satmask.datasets.town import draw_town

    town = np.moveaxis(draw_town(BLOCK, BLOCK, seed=1, gsd_m=GSD_M).image, -1, 0)
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32637",
        "transform": from_origin(500_000, 4_600_000, GSD_M, GSD_M), "nodata": 0, "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "sparse_ok": True, "bigtiff": "if_safer",
    }  # fmt: skip
    chosen = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile) as file:
        for row in range(0, side, BLOCK):
            for column in range(0, side, BLOCK):
                if chosen.random() < filled:
                    height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                    file.write(town[:, :height, :width], window=Place(column, row, width, height))
    return path


def write_model(path: Path, classes: int) -> Path:
    """Write a network of one 5 × 5 convolution: what is measured is everything else."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from satmask.legend import Legend
    from satmask.model_file import KEY, BandInfo, ModelInfo

    weights = np.random.default_rng(0).normal(0, 0.004, (classes, 3, 5, 5)).astype(np.float32)
    node, tensor, sides = helper.make_node, helper.make_tensor_value_info, [None] * 3
    nodes = [
        node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"], pads=[2] * 4),
        node("Transpose", ["c"], ["u"], perm=[0, 2, 3, 1]),
        node("Sigmoid", ["u"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [tensor("image", TensorProto.FLOAT, [*sides, 3])],
        [tensor("probabilities", TensorProto.FLOAT, [*sides, classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    info = ModelInfo(
        legend=Legend.of([f"class {number}" for number in range(1, classes + 1)]),
        bands=tuple(BandInfo(name=name) for name in ("red", "green", "blue")),
        dtype="uint8", value_range=((0, 255),) * 3, fill=(0,) * 3, stride=1, halo=2, activation="sigmoid", network="tiny",
        thresholds=(0.9,) * classes, min_area_px=(20,) * classes,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key=KEY, value=info.model_dump_json())
    onnx.save(model, path)
    return path


def rss_mb(pid: int, key: str = "VmRSS") -> float:
    """Memory of a process in MB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{key}:")), 0.0)


def predict(
    model: Path, scene: Path, out: Path, *, more: list[str], kills: int = 0, within: float = 0
) -> tuple[float, list[float], float, int]:
    """Predict in a process, killed at random moments; peak and curve of memory in MB, seconds, and kills that came in time."""
    command = [sys.executable, "-m", "satmask", "predict", model, scene, "--out", out, "--quiet", *more]
    moments, peak, curve, begun, left = np.random.default_rng(1), 0.0, [], time.perf_counter(), kills
    while True:
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
        end = time.perf_counter() + moments.uniform(2, max(within, 2)) if left else float("inf")
        while process.poll() is None:
            peak = max(peak, rss_mb(process.pid, "VmHWM"))
            curve.append(rss_mb(process.pid))
            if time.perf_counter() > end:
                process.kill()
                left -= 1
                break
            time.sleep(0.25)
        if process.wait() == 0:
            return peak, curve, time.perf_counter() - begun, kills - left
        if process.returncode != -9:
            sys.exit(f"satmask predict ended with {process.returncode}")


def outputs_mb(model: Path, scene: Path, peak_mb: float, more: list[str]) -> float:
    """What of a peak neither the process, its windows nor waiting pieces explain, in MB, as `--dry-run` measures these."""
    from satmask.prediction.planning import FINISHING_BYTES

    command = [sys.executable, "-m", "satmask", "predict", model, scene, "--out", scene.parent, "--dry-run", "--json"]
    ended = subprocess.run([*map(str, command), *more], capture_output=True, text=True, check=True)
    return float(peak_mb - (json.loads(ended.stdout)["plans"][0]["memory_bytes"] - FINISHING_BYTES) / 1e6)


def digest(out: Path) -> str:
    """One digest of all outputs."""
    whole = hashlib.sha256()
    for path in sorted(out.iterdir()):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def draw(curve: list[float], *, columns: int = 60) -> str:
    """A curve as a row of blocks, from 0 to its highest."""
    parts = np.array_split(np.asarray(curve), min(columns, len(curve)))
    highest = max(curve)
    return "".join("▁▂▃▄▅▆▇█"[min(int(8 * part.max() / highest), 7)] for part in parts)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 20000], help="sides of the scenes, in pixels")
    parser.add_argument("--classes", type=int, default=1, help="classes, which overlap and have a smallest area")
    parser.add_argument("--filled", type=float, default=0.25, help="share of blocks that hold anything")
    parser.add_argument("--kills", type=int, default=0, help="predict each again, killed so often, and compare bytes")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("more", nargs="*", help="more flags for satmask predict, after --")
    options = parser.parse_args()
    begin("Prediction: memory by the size of the scene")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-", dir=options.folder) as name:
        folder, peaks = Path(name), []
        model = write_model(folder / "model.onnx", options.classes)
        for side in options.sizes:
            scene = write_scene(folder / f"{side}.tif", side, filled=options.filled)
            peak, curve, seconds, _ = predict(model, scene, folder / "out", more=options.more)
            peaks.append(peak)
            print(f"{side:,}²: peak {peak:,.0f} MB, {seconds:.0f} s, {side * side / 1e6 / seconds:.1f} MP/s")
            print(f"  {draw(curve)}", flush=True)
            print(f"  of this, for outputs: {outputs_mb(model, scene, peak, options.more):,.0f} MB", flush=True)
            whole = digest(folder / "out")
            if options.kills:
                settings = {"kills": options.kills, "within": 2 * seconds / options.kills, "more": options.more}
                peak, curve, seconds, killed = predict(model, scene, folder / "again", **settings)
                same = "the same bytes" if digest(folder / "again") == whole else "OTHER BYTES"
                print(f"  killed {killed} times: peak {peak:,.0f} MB, {seconds:.0f} s, {same}", flush=True)
        print(f"largest minus smallest scene: {peaks[-1] - peaks[0]:,.0f} MB  (aim ≤ 64 MB)")


if __name__ == "__main__":
    main()
