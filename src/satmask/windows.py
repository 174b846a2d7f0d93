"""Rectangles of a scene: exact tilings with a halo, and draws for training. Integers only, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# `(height, width)` of a window, or one side for both.
Size: TypeAlias = "int | tuple[int, int]"


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels; it may reach over the edge of its scene.

    Attributes:
        row: First row.
        column: First column.
        height: Rows, at least 0.
        width: Columns, at least 0.

    Examples:
        >>> Window(0, 0, 4, 6).clip(3, 5)
        Window(row=0, column=0, height=3, width=5)
    """

    row: int
    column: int
    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse negative sides."""
        if self.height < 0 or self.width < 0:
            msg = f"Window sides must not be negative, got {self.height} × {self.width}."
            raise SettingError(msg)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in a `(height, width, …)` array of the whole scene."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)

    def clip(self, height: int, width: int) -> Window:
        """The part that lies in a scene of the given sides; it may be empty."""
        top, left = min(max(self.row, 0), height), min(max(self.column, 0), width)
        bottom = max(min(self.row + self.height, height), top)
        right = max(min(self.column + self.width, width), left)
        return Window(top, left, bottom - top, right - left)

    def seen_from(self, other: Window) -> Window:
        """The same rectangle with rows and columns counted from another window's corner."""
        return Window(self.row - other.row, self.column - other.column, self.height, self.width)

    def moved(self, rows: int, columns: int) -> Window:
        """The same rectangle so many rows and columns on."""
        return Window(self.row + rows, self.column + columns, self.height, self.width)

    def shared_with(self, other: Window) -> Window | None:
        """The rectangle that two windows share; None if they share no pixel.

        Examples:
            >>> Window(0, 0, 4, 4).shared_with(Window(2, 3, 9, 9))
            Window(row=2, column=3, height=2, width=1)
        """
        top, left = max(self.row, other.row), max(self.column, other.column)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.column + self.width, other.column + other.width)
        return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None


@dataclass(frozen=True, slots=True)
class Tile:
    """One step of an exact tiling: what to read, and which part of it to keep.

    Attributes:
        read: What the network sees: the core and its halo.
        core: What is kept; the cores of a tiling touch every pixel exactly once.
    """

    read: Window
    core: Window


def cover(height: int, width: int, *, size: Size, halo: int, stride: int) -> list[Tile]:
    """Cut a scene into windows whose cores come out as if the network had seen the whole scene at once.

    Every `read` has the same sides, begins at a multiple of the stride, and shows each core pixel its full halo, except
    at the edge of the scene, where the window ends as the scene does. Sides that aren't multiples of the stride are
    rounded up: the windows then reach over the scene's edge by less than one stride; cores never do.

    Args:
        height: Rows of the scene.
        width: Columns of the scene.
        size: `(height, width)` of a window at most, or one side for both (all are made as small as their number allows); multiples of
            the stride, more than twice the halo (rounded up to the stride).
        halo: Pixels of context that a network needs around each pixel.
        stride: Total stride of the network.

    Returns:
        Tiles in row order.

    Raises:
        SettingError: If size, halo or stride break the rules above.

    Examples:
        >>> [(t.read.column, t.core.column, t.core.width) for t in cover(16, 100, size=48, halo=8, stride=16)]
        [(0, 0, 32), (16, 32, 16), (32, 48, 16), (48, 64, 16), (64, 80, 20)]
    """
    if stride < 1 or halo < 0 or height < 1 or width < 1:
        msg = f"Stride and sides must be at least 1 and the halo 0, got {stride}, {height} × {width} and {halo}."
        raise SettingError(msg)
    sides = sides_of(size)
    for side in sides:
        if side < 1 or side % stride:
            below = max(side // stride, 1) * stride
            msg = f"Window size must be a multiple of {stride}, got {side}. Use {below} or {below + stride}."
            raise SettingError(msg)
    margin = round_up(halo, stride)
    (tall, rows), (wide, columns) = (
        _axis(length, side, margin, stride) for length, side in zip((height, width), sides, strict=True)
    )
    return [
        Tile(Window(top, left, tall, wide), Window(first, begin, last - first, end - begin))
        for top, first, last in rows
        for left, begin, end in columns
    ]


def sides_of(size: Size) -> tuple[int, int]:
    """`(height, width)` of a window."""
    return (size, size) if isinstance(size, int) else size


def round_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that isn't below `value`."""
    return -(-value // step) * step


def _axis(length: int, size: int, margin: int, stride: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Cut one axis.

    Returns:
        Side of the windows; and of each its start, the first pixel of its core, and the one behind its last.
    """
    padded = round_up(length, stride)
    if size >= padded:
        return padded, [(0, 0, length)]
    if size <= 2 * margin:
        need = 2 * margin + stride
        msg = f"Window size must be more than twice the halo of {margin}, got {size}. Use {need} or more."
        raise SettingError(msg)
    count = 1 + -(-(padded - size) // (size - 2 * margin))
    # As many windows as the size asks for, but no larger than they need to be: the last one repeats less.
    side = round_up(-(-(padded + 2 * margin * (count - 1)) // count), stride)
    spans, begin = [], 0
    for place in range(count):
        start = min(place * (side - 2 * margin), padded - side)
        end = length if start == padded - side else min(start + side - margin, length)
        # Rounding up can leave a last window whose core is empty: the scene ended in the one before.
        if end > begin:
            spans.append((start, begin, end))
        begin = end
    return side, spans


def draw(
    shapes: Sequence[tuple[int, int]],
    *,
    size: int,
    count: int,
    seed: Sequence[int],
    weights: np.ndarray | None = None,
) -> Iterator[tuple[int, Window]]:
    """Draw training windows at random, every image as often as its area asks.

    Images are taken by systematic sampling over their areas in shuffled order, so tiles of one size all come up equally
    often (once, where `count` is their number); positions are uniform. A side shorter than the window begins at 0.

    Args:
        shapes: `(height, width)` of each image.
        size: Side of a window, in pixels.
        count: Windows to draw.
        seed: Integers that fix the draw: the same seed gives the same windows.
        weights: What a pixel of each image counts, `(images,)`; by default all count alike.

    Yields:
        Image index and window.
    """
    random = np.random.default_rng(list(seed))
    areas = np.asarray([height * width for height, width in shapes], dtype=np.float64)
    areas *= 1 if weights is None else weights
    order = random.permutation(len(shapes))
    ends = np.cumsum(areas[order])
    points = (np.arange(count) + random.random()) * (ends[-1] / count)
    picks = order[np.minimum(np.searchsorted(ends, points, side="right"), len(shapes) - 1)]
    for index in random.permutation(picks):
        height, width = shapes[index]
        row = int(random.integers(max(height - size, 0) + 1))
        column = int(random.integers(max(width - size, 0) + 1))
        yield int(index), Window(row, column, size, size)


@dataclass(frozen=True)
class ClassBlocks:
    """Where the classes are: pixels of each class in the blocks of each image, kept sparse.

    Attributes:
        side: Side of a block, in pixels.
        image: Image index of each entry, int32, `(entries,)`.
        row: Block row, int32, `(entries,)`.
        column: Block column, int32, `(entries,)`.
        pixels: Pixels of each class, int64, `(entries, classes)`.
    """

    side: int
    image: np.ndarray
    row: np.ndarray
    column: np.ndarray
    pixels: np.ndarray

    def weighted(self, weights: np.ndarray | None) -> np.ndarray:
        """The pixels times what a pixel of their image counts, `(entries, classes)`."""
        return self.pixels if weights is None else self.pixels * weights[self.image][:, None]


def draw_balanced(
    blocks: ClassBlocks,
    shapes: Sequence[tuple[int, int]],
    *,
    size: int,
    count: int,
    seed: Sequence[int],
    weights: np.ndarray | None = None,
) -> Iterator[tuple[int, Window]]:
    """Draw training windows so that every class is met equally often.

    A class is taken in turn, then a block by its share of the class's pixels, then a window that holds the block at a
    random place, or a random part of it where windows are smaller than blocks. Classes that occur nowhere are left out.

    Args:
        blocks: Where the classes are.
        shapes: `(height, width)` of each image.
        size: Side of a window, in pixels.
        count: Windows to draw.
        seed: Integers that fix the draw.
        weights: What a pixel of each image counts, `(images,)`; by default all count alike.

    Yields:
        Image index and window.
    """
    random = np.random.default_rng(list(seed))
    present = np.flatnonzero(blocks.weighted(weights).sum(axis=0))
    if not len(present):
        yield from draw(shapes, size=size, count=count, seed=seed, weights=weights)
        return
    ends = np.cumsum(blocks.weighted(weights), axis=0)
    for channel in random.permutation(np.resize(random.permutation(present), count)):
        entry = _pick(ends[:, channel], random.random())
        yield _window_at(blocks, entry, shapes, size=size, random=random)


def draw_mixed(
    blocks: ClassBlocks,
    shapes: Sequence[tuple[int, int]],
    *,
    size: int,
    count: int,
    seed: Sequence[int],
    weights: np.ndarray | None = None,
) -> Iterator[tuple[int, Window]]:
    """Draw half of the training windows as `draw` does, the other half where classes and the rest meet.

    There a block is taken by its mixture `Σ p·(1 − p)`, with `p` the share of each class in it: that of half-covered
    blocks is the largest, that of empty and of full ones 0. Where no block is mixed, all windows are drawn at random.

    Args:
        blocks: Where the classes are.
        shapes: `(height, width)` of each image.
        size: Side of a window, in pixels.
        count: Windows to draw.
        seed: Integers that fix the draw.
        weights: What a pixel of each image counts, `(images,)`; by default all count alike.

    Yields:
        Image index and window.
    """
    random = np.random.default_rng([*seed, 1])
    tops, lefts = blocks.row * blocks.side, blocks.column * blocks.side
    sides = np.asarray(shapes, np.int64)[blocks.image]
    areas = (np.minimum(tops + blocks.side, sides[:, 0]) - tops) * (
        np.minimum(lefts + blocks.side, sides[:, 1]) - lefts
    )
    mixture = (blocks.pixels * (1 - blocks.pixels / np.maximum(areas, 1)[:, None])).sum(axis=1)
    ends = np.cumsum(mixture * (1 if weights is None else weights[blocks.image]))
    wanted = 0 if not len(ends) or ends[-1] <= 0 else count // 2
    drawn = list(draw(shapes, size=size, count=count - wanted, seed=seed, weights=weights))
    shares = random.random(wanted)
    drawn += [_window_at(blocks, _pick(ends, share), shapes, size=size, random=random) for share in shares]
    yield from (drawn[place] for place in random.permutation(len(drawn)))


def _pick(ends: np.ndarray, share: float) -> int:
    """The entry at a share of a running sum; entries that add nothing to it are never picked."""
    return min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(ends) - 1)


def _window_at(
    blocks: ClassBlocks, entry: int, shapes: Sequence[tuple[int, int]], *, size: int, random: np.random.Generator
) -> tuple[int, Window]:
    """Image and window of a size that holds a block at a random place, or lies in it where it is the smaller one."""
    index = int(blocks.image[entry])
    row, column = (
        _around(int(at) * blocks.side, min((int(at) + 1) * blocks.side, side), side, size, random.random())
        for at, side in zip((blocks.row[entry], blocks.column[entry]), shapes[index], strict=True)
    )
    return index, Window(row, column, size, size)


def _around(begin: int, end: int, side: int, size: int, share: float) -> int:
    """Where a window begins that holds `begin` to `end` whole (or lies inside, if it is smaller) and stays in `side`."""
    low, high = sorted((max(end - size, 0), min(begin, max(side - size, 0))))
    return low + int(share * (high - low + 1))
