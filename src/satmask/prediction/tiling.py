"""Tilings: which windows of a scene a network is run on, chosen so that it computes least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from satmask.mirroring import unframe
from satmask.windows import Tile, Window, cover, round_up, sides_of

if TYPE_CHECKING:
    from satmask.model_file import ModelInfo
    from satmask.windows import Size

# Windows have no more pixels than a square of this side, for memory's sake, unless the halo asks for more: a square of six
# halos computes 2.25 times what it keeps, one of four halos four times.
LARGEST = 1280
HALOS = 6
# With a memory that somebody named, windows may be so many halos: they then compute 1.44 times what they keep.
MOST_HALOS = 12
# What a window costs besides its pixels, reckoned in pixels. Without it a scene whose sides no window divides would best be
# cut into single pixels, for a network without a halo.
WINDOW_PX = 4096
# Of the side of a window, what those of a network that isn't local share with each neighbour.
OVERLAP = 1 / 4


@dataclass(frozen=True)
class Step:
    """One window of a scene.

    Attributes:
        number: Its place in row order, from 0.
        tile: What is read and what is kept, counted from the scene's corner.
        seen: The same counted from the corner of what the network sees, see `frame`.
    """

    number: int
    tile: Tile
    seen: Tile


@dataclass(frozen=True)
class Tiling:
    """All windows of a scene, in row order; a grid of rows and columns.

    Attributes:
        shape: `(height, width)` of the scene.
        steps: The windows.
        size: `(height, width)` of a window at most that it was made for, in pixels.
        halo: Context that is read around each and thrown away, in pixels; 0 where windows are blended.
        blended: Whether windows overlap and are blended, for a network that isn't local.
    """

    shape: tuple[int, int]
    steps: tuple[Step, ...]
    size: tuple[int, int]
    halo: int
    blended: bool = False

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.steps)

    @cached_property
    def columns(self) -> int:
        """Windows in a row."""
        first = self.steps[0].tile.read.row
        return sum(step.tile.read.row == first for step in self.steps)

    @property
    def rows(self) -> int:
        """Windows in a column."""
        return len(self.steps) // self.columns

    @property
    def side(self) -> tuple[int, int]:
        """`(height, width)` of what the network sees at a time; all windows are alike."""
        read = self.steps[0].tile.read
        return read.height, read.width

    @property
    def largest_core(self) -> tuple[int, int]:
        """Largest `(height, width)` of what is kept of a window."""
        cores = [step.tile.core for step in self.steps]
        return max(core.height for core in cores), max(core.width for core in cores)

    @property
    def cost(self) -> float:
        """Pixels that the network computes for each pixel of the scene."""
        height, width = self.side
        return len(self) * height * width / (self.shape[0] * self.shape[1])

    def near(self, window: Window) -> list[Step]:
        """Windows of which something is kept of a part of the scene."""
        return [step for step in self.steps if step.tile.core.shared_with(window)]


def lay_out(info: ModelInfo, shape: tuple[int, int], *, size: Size | None = None, workers: int = 1) -> Tiling:
    """Cut a scene into the windows that a network is run on.

    Args:
        info: What the model file says.
        shape: `(height, width)` of the scene.
        size: `(height, width)` of a window at most, or one side for both, in pixels, multiples of the stride; chosen by
            `choose_window` by default.
        workers: Windows that are run at the same time.

    Returns:
        The windows: with a halo and exact for a network that is local, overlapping and to be blended otherwise.

    Raises:
        SettingError: If the size breaks the rules of `satmask.windows.cover`.
    """
    size = sides_of(size or choose_window(info, shape, workers=workers))
    framed, whole = frame(shape, info), Window(0, 0, *shape)
    halo = info.halo if info.local else _shared(min(size), info.stride) // 2
    tiles = cover(*framed, size=size, halo=halo, stride=info.stride)
    if not info.local:
        tiles = [Tile(tile.read, tile.read.clip(*framed)) for tile in tiles]
    pairs = [(unframe(tile, info.margin, shape), tile) for tile in tiles]
    kept = [pair for pair in pairs if pair[0].core.shared_with(whole)]
    steps = tuple(Step(number, tile, seen) for number, (tile, seen) in enumerate(kept))
    return Tiling(shape, steps, size, info.halo if info.local else 0, blended=not info.local and len(steps) > 1)


def frame(shape: tuple[int, int], info: ModelInfo) -> tuple[int, int]:
    """Sides of what the network sees of a scene: the scene, and what is mirrored around it."""
    return shape[0] + 2 * info.margin, shape[1] + 2 * info.margin


def choose_window(
    info: ModelInfo, shape: tuple[int, int], *, workers: int = 1, largest: int | None = None
) -> tuple[int, int]:
    """Choose the largest sides of a scene's windows so that the network computes least, halos included.

    Small windows repeat more halo and cost something each, large ones take more memory, and with several workers as many
    windows as make whole rounds are best: a scene that would fit one window is cut in two for two workers where that pays.
    Windows needn't be square: 8 in 2 columns may be better than 9 in 3.

    Args:
        info: Gives halo and stride.
        shape: `(height, width)` of the scene.
        workers: Windows that are run at the same time.
        largest: Side of the square, in pixels as the network sees them, that windows mustn't exceed, however large the halo, and may reach; see
            `satmask.prediction.planning`.

    Returns:
        `(height, width)` for `satmask.windows.cover`: without `largest` at most the pixels of a square of `LARGEST`, or of
        `HALOS` halos where that is more; neither side more than twice that of the square.
    """
    stride = info.stride
    if not info.local:
        # Each window is seen differently, so there is nothing to gain by cutting what could be seen at once.
        most = (largest or LARGEST) // info.upsampling
        side = min(round_up(max(frame(shape, info)), stride), max(most // stride, 1) * stride)
        return side, side
    margin = round_up(info.halo, stride)
    least = 2 * margin + stride
    limit = max(largest // info.upsampling if largest else round_up(largest_window(info), stride), least)
    sizes = np.arange(least, 2 * limit + 1, stride)
    # What windows of so many sizes come to is much less: their sides once made as small as their number allows.
    tall, wide = (np.unique(_cut(length, sizes, margin, stride)[0]) for length in frame(shape, info))
    work, windows, pixels = _work(info, shape, (tall[:, None], wide[None]), margin, workers)
    work = np.where(pixels <= limit**2, work, np.iinfo(work.dtype).max)
    # Of equals those that are fewest, then the lowest: outputs follow a row of windows behind.
    row, column = np.unravel_index(np.lexsort((windows.ravel(), work.ravel()))[0], work.shape)
    return int(tall[row]), int(wide[column])


def work_px(info: ModelInfo, shape: tuple[int, int], size: tuple[int, int], *, workers: int = 1) -> int:
    """Pixels that each worker computes of a scene, and what its windows cost besides, reckoned in pixels.

    Args:
        info: Gives halo and stride.
        shape: `(height, width)` of the scene.
        size: `(height, width)` of a window at most, in pixels.
        workers: Windows that are run at the same time.
    """
    margin = round_up(info.halo, info.stride) if info.local else _shared(min(size), info.stride) // 2
    return int(_work(info, shape, (np.array([size[0]]), np.array([size[1]])), margin, workers)[0][0])


def _work(
    info: ModelInfo, shape: tuple[int, int], sizes: tuple[np.ndarray, np.ndarray], margin: int, workers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each worker computes, windows, and pixels of a window, for many sizes at once."""
    (tall, rows), (wide, columns) = (
        _cut(length, size, margin, info.stride) for length, size in zip(frame(shape, info), sizes, strict=True)
    )
    windows, pixels = rows * columns, tall * wide
    return -(-windows // workers) * (pixels + WINDOW_PX), windows, pixels


def largest_window(info: ModelInfo, *, halos: int = HALOS) -> int:
    """Side of the largest window that is worth its memory."""
    return max(LARGEST // info.upsampling, halos * round_up(info.halo, info.stride))


def least_window(info: ModelInfo) -> int:
    """Smallest side of a window that keeps anything."""
    return 2 * round_up(info.halo, info.stride) + info.stride if info.local else info.stride


def _shared(size: int, stride: int) -> int:
    """What neighbouring windows share where they are blended, in pixels; twice a multiple of the stride."""
    return 2 * max(int(size * OVERLAP / 2 / stride), 1) * stride if size >= 3 * stride else 0


def _cut(length: int, sizes: np.ndarray, margin: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Side and number of windows along an axis as `satmask.windows.cover` makes them, for many sizes at once."""
    padded = round_up(length, stride)
    step = np.maximum(sizes - 2 * margin, 1)
    count = np.maximum(1 + -(-(padded - sizes) // step), 1)
    share = -(-(padded + 2 * margin * (count - 1)) // count)
    side = -(-share // stride) * stride
    side = np.where(sizes >= padded, padded, side)
    inner = np.maximum(side - 2 * margin, 1)
    # Rounding up can leave the last windows nothing to do.
    return side, np.where(side >= padded, 1, 1 + -(-(padded - side) // inner))
