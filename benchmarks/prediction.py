"""Predicting a scene, against the bare network and against a blend of half-overlapping windows.

python benchmarks/prediction.py [--model model.onnx] [--scene scene.tif] [--data DIR] [--size 4096] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyogrio
import rasterio

from materials import add_model, add_scene, chosen_model, chosen_scene
from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.engines import Engine, open_engine, open_session, run_session
from satmask.fitting import open_for
from satmask.grid import Grid
from satmask.prediction import Piece, choose_window, decide, predict_array, predict_scene
from satmask.prediction.work import Work
from satmask.scene import Scene
from satmask.windows import Size, Tile, Window, cover, round_up, sides_of


def blend(engine: Engine, scene: Scene, *, size: Size | None = None) -> Iterator[Piece]:
    """Run a network over a scene as is usual: windows that overlap by half, averaged with Hann weights.

    A drop-in for `satmask.prediction.walk`, with its reading, its threads and its overlap of the two, so that nothing
    but the windows differs. It does no needless work: the weights are a product of two vectors made once, sums are
    float32 and added in place, the last window of a row is moved back instead of padded, and rows that no further
    window touches are handed on at once.
    """
    info, (height, width) = engine.info, scene.grid.shape
    tall, wide = sides_of(size or choose_window(info, scene.shape, workers=engine.workers))
    rows = min(tall, round_up(height, info.stride))
    columns = min(wide, round_up(width, info.stride))
    weights = np.outer(_hann(rows), _hann(columns))
    sums = np.zeros((round_up(height, info.stride), round_up(width, info.stride), len(info.legend)), np.float32)
    total, valid = np.zeros(sums.shape[:2], np.float32), np.zeros(sums.shape[:2], bool)
    tops = _starts(len(sums), rows)
    places = [Window(top, left, rows, columns) for top in tops for left in _starts(sums.shape[1], columns)]
    done = 0
    for place, known, probabilities in _run_all(engine, scene, places):
        if place.row > done:
            yield _strip(sums, total, valid, Window(done, 0, place.row - done, width))
            done = place.row
        sums[place.slices] += probabilities * weights[..., None]
        total[place.slices] += weights
        valid[place.slices] = known
    yield _strip(sums, total, valid, Window(done, 0, height - done, width))


def _blended_pieces(work: Work, *_: object, **__: object) -> Iterator[Piece]:
    """A drop-in for `Work.pieces`; nothing is stored on the way, which is in the blend's favour."""
    return blend(work.engine, work.scene, size=work.tiling.size)


def _run_all(engine: Engine, scene: Scene, places: list[Window]) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Read windows and run the network on them in as many threads as `walk` uses, in order."""

    def run(place: Window) -> tuple[Window, np.ndarray, np.ndarray]:
        pixels = scene.read(place)
        return place, pixels.valid, engine.run(pixels.filled(engine.info.fill)[None])[0]

    pending: deque[Future[tuple[Window, np.ndarray, np.ndarray]]] = deque()
    with ThreadPoolExecutor(engine.workers) as pool:
        for place in places:
            pending.append(pool.submit(run, place))
            if len(pending) > engine.workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _strip(sums: np.ndarray, total: np.ndarray, valid: np.ndarray, rows: Window) -> Piece:
    """Rows that no further window touches, as weighted means."""
    probabilities = sums[rows.slices] / total[rows.slices][..., None]
    probabilities[~valid[rows.slices]] = np.nan
    return Piece(Tile(rows, rows), probabilities, valid[rows.slices])


def _hann(size: int) -> np.ndarray:
    """Hann weights at the pixels' centres, float32, above 0 everywhere, so that the scene's edge has a weight."""
    return (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2).astype(np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin that overlap by half; the last ends where the scene does."""
    return [*range(0, length - side, side // 2), length - side]


def bare_loops(path: Path, engine: Engine, scene_path: Path, size: Size) -> dict[str, Callable[[], object]]:
    """The same ONNX graph over the same windows, which lie in memory; what it says is dropped.

    Once as `walk` does it, a window a thread; once as most scripts do it, one window after the other, each shared among
    as many threads.
    """
    info = engine.info
    with open_for(info, scene_path) as scene:
        tiles = cover(*scene.grid.shape, size=size, halo=info.halo, stride=info.stride)
        windows = [scene.read(tile.read).filled(info.fill)[None] for tile in tiles]
    session = open_session(path, threads=1)
    shared = open_session(path, threads=engine.workers)

    def parallel() -> None:
        with ThreadPoolExecutor(engine.workers) as pool:
            for _ in pool.map(lambda window: run_session(session, window), windows):
                pass

    def serial() -> None:
        for window in windows:
            run_session(shared, window)

    return {"network, a window a thread": parallel, "network, threads share a window": serial}


def whole_scenes(
    engine: Engine, scene: Path, folder: Path, *, size: Size, blend_size: Size
) -> dict[str, Callable[[], object]]:
    """Predicting a scene with all that belongs to it, and the same with blended windows."""

    def ours() -> None:
        predict_scene(engine, scene, folder / "exact", size=size, upsampling=1)

    def blended() -> None:
        with mock.patch.object(Work, "pieces", _blended_pieces):
            predict_scene(engine, scene, folder / "blend", size=blend_size, upsampling=1)

    return {"satmask predict": ours, "blend": blended}


def with_processor_time(
    cases: dict[str, Callable[[], object]],
) -> tuple[dict[str, Callable[[], object]], dict[str, list[float]]]:
    """The same cases, and processor seconds of all threads for each call, which other work on the machine hardly changes."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}

    def counted(name: str) -> None:
        begun = time.process_time()
        cases[name]()
        seconds[name].append(time.process_time() - begun)

    return {name: partial(counted, name) for name in cases}, seconds


def count_differences(engine: Engine, scene_path: Path, *, size: int) -> None:
    """Print how many pixels differ from the network run over the whole scene at once."""
    info = engine.info
    with open_for(info, scene_path) as scene:
        height, width = scene.grid.shape
        seen = Window(0, 0, round_up(height, info.stride), round_up(width, info.stride))
        image = scene.read(seen).filled(info.fill)
        whole = engine.run(image[None])[0][:height, :width]
        exact, _ = predict_array(engine, scene, size=size, upsampling=1)
        with mock.patch("satmask.prediction.walking.walk", blend):
            blended, _ = predict_array(engine, scene, size=size, upsampling=1)
    print(f"Pixels that differ from the whole scene at once, {height} × {width}, windows of {size}:")
    labels = decide(whole, info.legend, info.thresholds)
    for name, values in (("satmask predict", exact), ("blend", blended)):
        other = int((decide(values, info.legend, info.thresholds) != labels).sum())
        differing = int((values != whole).any(axis=-1).sum())
        worst = float(np.abs(values - whole).max())
        print(f"  {name}: {differing:,} probabilities, at most by {worst:.2g}; {other:,} classes")


def crop(scene: Path, path: Path, side: int) -> Path:
    """Copy the upper left of a scene, small enough for the network to see it at once."""
    with rasterio.open(scene) as file:
        place = rasterio.windows.Window(0, 0, min(side, file.width), min(side, file.height))
        profile = file.profile | {"width": place.width, "height": place.height, "driver": "GTiff", "tiled": False}
        for key in ("blockxsize", "blockysize"):
            profile.pop(key, None)
        with rasterio.open(path, "w", **profile) as target:
            target.write(file.read(window=place))
            target.descriptions = file.descriptions
            target.colorinterp = file.colorinterp
    return path


def describe(path: Path, engine: Engine, tiles: int, *, size: Size, blend_size: Size) -> None:
    """Print what is run."""
    info = engine.info
    print(
        f"{path.name}: {info.network} {info.options.get('filters', '')}, halo {info.halo}, stride {info.stride}; "
        f"{engine.name}, {engine.workers} threads; {tiles} windows of {size} at most, blend of {blend_size}"
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=3)
    add_model(parser)
    add_scene(parser, size=4096)
    parser.add_argument("--window", type=int, help="side of a window; chosen as satmask predict does by default")
    parser.add_argument("--blend-window", type=int, help="side of the blend's windows; the same by default")
    parser.add_argument(
        "--check-size", type=int, default=1536, help="side of the part in which differing pixels are counted"
    )
    parser.add_argument("--no-blend", action="store_true", help="only scene against network, which takes half the time")
    parser.add_argument("--threads", type=int, help="processor threads; all by default")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin("Prediction: whole scene against bare network and against 50 % overlap")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        scene = chosen_scene(options, folder)
        model = chosen_model(options, folder, scene)
        engine = open_engine(model, threads=options.threads)
        measure(engine, model, scene, folder, options)


def measure(engine: Engine, model: Path, scene: Path, folder: Path, options: argparse.Namespace) -> None:
    """Time all cases in turn, then count differing pixels."""
    info = engine.info
    with open_for(info, scene) as file:
        grid: Grid = file.grid
    size = options.window or choose_window(info, grid.shape, workers=engine.workers)
    blend_size = options.blend_window or size
    tiles = cover(*grid.shape, size=size, halo=info.halo, stride=info.stride)
    describe(model, engine, len(tiles), size=size, blend_size=blend_size)
    cases = whole_scenes(engine, scene, folder, size=size, blend_size=blend_size)
    if options.no_blend:
        del cases["blend"]
    cases |= (bare := bare_loops(model, engine, scene, size))
    cases, processor = with_processor_time(cases)
    timings = interleave(cases, options.rounds)
    show(timings, amount=grid.height * grid.width / 1e6, unit="MP")
    polygons = folder / "exact" / f"{scene.stem}.gpkg"
    if polygons.is_file():  # a scene without a CRS gets none
        print(f"{pyogrio.read_info(polygons)['features']:,} polygons")
    ours, parallel, serial = (timings[name].median for name in ("satmask predict", *bare))
    # The first of each warmed up.
    spent = [statistics.median(processor[name][1:]) for name in ("satmask predict", *bare)]
    ratios = [
        Ratio("scene time / network time, a window a thread", ours / parallel, "≤ 1.10"),
        Ratio("scene time / network time, threads share a window", ours / serial, "≤ 1.10"),
        Ratio("the same in processor seconds, a window a thread", spent[0] / spent[1]),
    ]
    print(f"processor seconds: {spent[0]:.2f} and {spent[1]:.2f}")
    if options.no_blend:
        compare(ratios)
        return
    ratios.append(Ratio(f"scene time / blend time, windows of {blend_size}", ours / timings["blend"].median, "≤ 0.40"))
    compare(ratios)
    part = crop(scene, folder / "part.tif", options.check_size)
    least = 2 * round_up(info.halo, info.stride) + 4 * info.stride
    count_differences(engine, part, size=max(least, round_up(256, info.stride)))


if __name__ == "__main__":
    main()
