"""Map tiles of the viewer: how long the first and the usual one take, and what memory does while somebody pans.

python benchmarks/tiles.py SCENE.tif [--tiles 300] [--kind image]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from measure import arguments, begin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from satmask.viewing.map_view import MapView


def resident_mb() -> float:
    """Memory of this process, as Linux counts it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def wander(view: MapView, count: int, *, seed: int = 0) -> Iterator[tuple[int, int, int]]:
    """Tiles as somebody sees them who zooms and pans: steps to a neighbour, and now and then another zoom or place."""
    random = np.random.default_rng(seed)
    (south, west), (north, east) = view.bounds
    zoom, place = view.min_zoom, random.random(2)
    for number in range(count):
        if number % 12 == 0:
            zoom = int(random.integers(view.min_zoom, view.max_zoom + 1))
            place = random.random(2)
        point = view.to_world(np.array([(west + place[0] * (east - west), south + place[1] * (north - south))]))[0]
        column, row = np.floor(point * 2.0**zoom / 256).astype(int) + random.integers(-1, 2, 2)
        yield zoom, int(column), int(row)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument("--kind", default="image")
    options = parser.parse_args()
    begin("Map tiles")
    start = time.perf_counter()
    from satmask.viewing.files import NotFoundError
    from satmask.viewing.shelf import open_shelf
    from satmask.viewing.tiles import render_tile

    place = next(
        one for one in open_shelf(options.scene).places if one.files.stem == options.scene.stem.partition(".")[0]
    )
    layer = place.first(options.kind)
    seconds, memory, sizes = [], [], []
    for tile in wander(place.view, options.tiles):
        begun = time.perf_counter()
        try:
            sizes.append(len(render_tile(place, layer, tile)))
        except NotFoundError:
            continue
        seconds.append(time.perf_counter() - begun)
        memory.append(resident_mb())
        if len(seconds) == 1:
            print(f"first tile {begun - start + seconds[0]:.2f} s from nothing, imports included (aim ≤ 2)")
    low, median, high = np.percentile(seconds, (5, 50, 95)) * 1000
    print(f"{len(seconds)} tiles: median {median:.0f} ms (aim ≤ 150), 5 % below {low:.0f}, 5 % above {high:.0f}")
    quarter = len(memory) // 4
    print(f"memory {memory[0]:.0f} MB at first, {memory[quarter]:.0f} after a quarter, {memory[-1]:.0f} at the end")
    print(f"{np.mean(sizes) / 1024:.0f} KiB a picture")


if __name__ == "__main__":
    main()
