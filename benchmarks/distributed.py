"""Distribution: one scene by one worker, by two workers of one thread each, and by one thread without any worker.

Workers are processes of this machine; each is started before it is timed. Run it where nothing else runs: two workers
can't be twice as fast as one on cores that are busy. What they take of the processors, in seconds, doesn't depend on that,
and is printed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # comes with the extra `cluster`

from materials import add_model, add_scene, chosen_model, chosen_scene
from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.engines import open_engine
from satmask.pools import open_pool, predict_over
from satmask.prediction import predict_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from satmask.engines import Engine
    from satmask.pools import Pool


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=3)
    add_model(parser, filters=(16, 32, 64, 128))
    add_scene(parser, size=2048)
    parser.add_argument("--window", type=int, default=512, help="side of a window at most")
    parser.add_argument("--workers", type=int, default=2, help="compared with one")
    parser.add_argument("--scheduler", help="Dask scheduler with as many workers of one thread, to be timed as well")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin(f"Prediction: {options.workers} workers against one, a thread each")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        scene = chosen_scene(options, folder)
        model = chosen_model(options, folder, scene)
        measure(open_engine(model, threads=1), scene, folder, options)


def measure(engine: Engine, scene: Path, folder: Path, options: argparse.Namespace) -> None:
    """Time all cases in turn, and compare what they wrote."""
    with contextlib.ExitStack() as open_now:
        pools: dict[str, Pool] = {
            name: open_now.enter_context(open_pool(workers=count, threads=1))
            for name, count in {"one worker": 1, f"{options.workers} workers": options.workers}.items()
        }
        if options.scheduler:
            pools["Dask"] = open_now.enter_context(open_pool(scheduler=options.scheduler))
        cases: dict[str, Callable[[], object]] = {
            name: partial(spread, pool, engine, scene, folder / name, options.window) for name, pool in pools.items()
        }
        cases["one thread"] = partial(predict_scene, engine, scene, folder / "one thread", size=options.window)
        spent: dict[str, list[float]] = {name: [] for name in cases}
        clocked = {name: partial(clock, case, pools.get(name), spent[name]) for name, case in cases.items()}
        timings = interleave(clocked, options.rounds)
    megapixels = options.size**2 / 1e6
    show(timings, amount=megapixels, unit="MP")
    one, several, *_ = (timing.median for timing in timings.values())
    compare([
        Ratio(f"one worker / {options.workers} workers, time", one / several, f"≥ {0.925 * options.workers:.2f}"),
        Ratio("one worker / one thread without a worker, time", one / timings["one thread"].median),
    ])  # fmt: skip
    print(f"Load at the end: {os.getloadavg()[0]:.1f}")
    print(f"Same bytes: {same([folder / name for name in cases])}")
    for name, seconds in spent.items():
        print(f"Processor seconds, {name}: {statistics.median(seconds[1:]):.2f}")


def spread(pool: Pool, engine: Engine, scene: Path, out: Path, window: int) -> None:
    """Predict a scene with a pool; an error is raised."""
    for _, found in predict_over(pool, engine, [scene], out, size=window):
        if isinstance(found, Exception):
            raise found


def clock(case: Callable[[], object], pool: Pool | None, spent: list[float]) -> None:
    """Note what this process and its workers take of the processors."""
    before = taken(pool)
    case()
    spent.append(taken(pool) - before)


def taken(pool: Pool | None) -> float:
    """Processor seconds of this process and of a pool's, so far; those of a cluster aren't seen."""
    pids = [os.getpid(), *getattr(pool.executor if pool else None, "pids", [])]
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


def same(folders: Sequence[Path]) -> bool:
    """Whether all files are equal to the byte."""
    found = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    return all(one == found[0] for one in found)


if __name__ == "__main__":
    main()
