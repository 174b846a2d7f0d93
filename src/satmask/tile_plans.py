"""Which tiles make which scene, by their names."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from pyproj import CRS

from satmask.datasets.grouping import join
from satmask.datasets.tile_names import NAME, tile_bounds
from satmask.errors import DataError
from satmask.grid import Grid
from satmask.scene import Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.datasets.dataset import Sample

EQUATOR_M = 2 * math.pi * 6_378_137.0  # side of the square that web maps show, in metres of EPSG:3857
ROWS_COLUMNS = re.compile(r"^(.+?)[-_. ]r(\d+)[-_. ]?c(\d+)$")
SEAMS = 16  # edges between tiles of rows and columns that are looked at
ROUGHEST = 2.0  # by how much pixels across an edge may differ more than inside; it was 0.9 to 1.3 where tiles meet


@dataclass(frozen=True)
class Tile:
    """A tile and its place.

    Attributes:
        sample: The image with its labels.
        column: In tiles, from the scene's left edge.
        row: In tiles, from its upper edge.
    """

    sample: Sample
    column: int = 0
    row: int = 0

    @property
    def window(self) -> Window:
        """Where it lies in the scene."""
        height, width = self.sample.shape
        return Window(self.row * height, self.column * width, height, width)


@dataclass(frozen=True)
class JoinPlan:
    """A scene to be made of tiles.

    Attributes:
        name: Of its files, without suffix.
        tiles: Row by row; all of one size.
        grid: Where it lies; None for a tile without a place in its name, whose file is left as it is.
    """

    name: str
    tiles: tuple[Tile, ...]
    grid: Grid | None = None


def plan_scenes(samples: Sequence[Sample]) -> list[JoinPlan]:
    """Say which tiles make which scene.

    Args:
        samples: Images of one split.

    Returns:
        Scenes by name; those of one series are numbered from the north-west on.

    Raises:
        DataError: If two tiles claim one place, or two scenes one name.
    """
    series: dict[tuple[str, int | None, tuple[int, int]], dict[tuple[int, int], Sample]] = defaultdict(dict)
    plans = []
    for sample in samples:
        key, spot = _spot(sample.name)
        if spot is None:
            plans.append(JoinPlan(sample.name, (Tile(sample),)))
            continue
        there = series[(*key, sample.shape)].setdefault(spot, sample)
        if there is not sample:
            msg = f"Tiles must have places of their own, got {there.name!r} and {sample.name!r} at one."
            raise DataError(msg)
    sizes = Counter((prefix, zoom) for prefix, zoom, _ in series)
    for (prefix, zoom, shape), tiles in series.items():
        if zoom is None and not _fit(tiles):
            plans += [JoinPlan(sample.name, (Tile(sample),)) for sample in tiles.values()]
            continue
        title = prefix if zoom is None else f"{prefix}_z{zoom}"
        title += f"_{shape[1]}px" if sizes[prefix, zoom] > 1 else ""
        groups = _connected(tiles)
        digits = len(str(len(groups) - 1))
        plans += [
            _plan(f"{title}_{number:0{digits}}", zoom, {spot: tiles[spot] for spot in group})
            for number, group in enumerate(groups)
        ]
    if twice := [name for name, count in Counter(plan.name for plan in plans).items() if count > 1]:
        msg = f"Scenes must have names of their own, got {twice[0]!r} twice. Rename the tile of this name."
        raise DataError(msg)
    return sorted(plans, key=lambda plan: plan.name)


def _spot(name: str) -> tuple[tuple[str, int | None], tuple[int, int] | None]:
    """Beginning of a tile's name, its zoom, and its column and row; None for these if the name has none."""
    if tile_bounds(name) and (found := NAME.search(name)):
        return (name[: found.start()] or "tiles", int(found[4])), (int(found[1]), int(found[3]))
    if found := ROWS_COLUMNS.match(name):
        return (found[1], None), (int(found[3]), int(found[2]))
    return (name, None), None


def _connected(spots: dict[tuple[int, int], Sample]) -> list[list[tuple[int, int]]]:
    """Groups of spots that share edges, directly or through others."""
    ordered = sorted(spots, key=lambda spot: spot[::-1])
    index = {spot: number for number, spot in enumerate(ordered)}
    beside = ((index[x, y], index.get(other)) for x, y in ordered for other in ((x + 1, y), (x, y + 1)))
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for spot, first in zip(ordered, join(len(ordered), [(a, b) for a, b in beside if b is not None]), strict=True):
        groups[first].append(spot)
    return list(groups.values())


def _fit(tiles: dict[tuple[int, int], Sample]) -> bool:
    """Whether tiles of rows and columns meet without overlap or gap: names don't say.

    Across their edges pixels then differ about as much as inside; what lies some pixels apart differs more.
    """
    beside = [(sample, tiles[x + 1, y]) for (x, y), sample in tiles.items() if (x + 1, y) in tiles]
    ratios = []
    for west, east in beside[:: -(-len(beside) // SEAMS) or 1]:
        left, right = (_edge(sample, from_right=sample is west) for sample in (west, east))
        inside = np.abs(left[:, 1] - left[:, 0]).mean() + np.abs(right[:, 1] - right[:, 0]).mean()
        ratios.append(2 * np.abs(right[:, 0] - left[:, 1]).mean() / max(inside, 1e-9))
    return not ratios or float(np.median(ratios)) <= ROUGHEST


def _edge(sample: Sample, *, from_right: bool) -> np.ndarray:
    """The first or last two columns of a tile, float64, `(height, 2, bands)`."""
    with Scene(image_file(sample)) as scene:
        height, width = scene.shape
        return scene.read(Window(0, width - 2 if from_right else 0, height, 2)).values.astype(np.float64)


def _plan(name: str, zoom: int | None, tiles: dict[tuple[int, int], Sample]) -> JoinPlan:
    west, north = (min(spot[axis] for spot in tiles) for axis in (0, 1))
    east, south = (max(spot[axis] for spot in tiles) + 1 for axis in (0, 1))
    height, width = next(iter(tiles.values())).shape
    grid = Grid((south - north) * height, (east - west) * width)
    if zoom is not None:
        side = EQUATOR_M / 2**zoom
        corner = Affine.translation(west * side - EQUATOR_M / 2, EQUATOR_M / 2 - north * side)
        grid = Grid(*grid.shape, corner @ Affine.scale(side / width, -side / height), CRS("EPSG:3857"))
    placed = tuple(Tile(sample, x - west, y - north) for (x, y), sample in tiles.items())
    return JoinPlan(name, placed, grid)


def image_file(sample: Sample) -> Path:
    """The image file of a tile; these layouts have one each."""
    assert isinstance(sample.image, Path)  # noqa: S101  # stacks are of the layout dstl, which is refused
    return sample.image
