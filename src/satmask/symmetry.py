"""Flips and turns at prediction: a network sees a scene in up to eight ways, and the mean of what it says is taken.

The mean is the same for a scene and its mirror image, to the last bit: each way of seeing works on the scene as if that
had been flipped as a whole, strides counted from its own corner, and logarithms are added as whole numbers, whose
sum has no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from satmask.errors import SettingError
from satmask.windows import Tile, Window, round_up

Symmetries = Literal["none", "flips", "all"]
Mean = Literal["geometric", "arithmetic"]

# Steps of the whole numbers that are added: 2⁻⁴⁰ of a probability, or of its logarithm.
_STEPS = float(1 << 40)
# Stands for the logarithm of 0: a mean of eight with one of these is 0, and eight of them still fit into 64 bits.
_NEVER = -1e6


@dataclass(frozen=True)
class Symmetry:
    """One way of seeing a scene: rows flipped, then columns, then rows and columns exchanged.

    Attributes:
        rows: Whether the last row comes first.
        columns: Whether the last column comes first.
        exchanged: Whether rows become columns.

    Examples:
        >>> Symmetry(rows=False, columns=True, exchanged=True).apply(np.array([[1, 2], [3, 4]])).tolist()
        [[2, 4], [1, 3]]
    """

    rows: bool
    columns: bool
    exchanged: bool

    def apply(self, image: np.ndarray) -> np.ndarray:
        """See an image `(height, width, …)` in this way; a view of the same memory."""
        seen = image[:: -1 if self.rows else 1, :: -1 if self.columns else 1]
        return np.swapaxes(seen, 0, 1) if self.exchanged else seen

    def undo(self, image: np.ndarray) -> np.ndarray:
        """Bring back what `apply` gave, or what a network said about it."""
        seen = np.swapaxes(image, 0, 1) if self.exchanged else image
        return seen[:: -1 if self.rows else 1, :: -1 if self.columns else 1]


_ALL = tuple(Symmetry(*flags) for flags in product((False, True), repeat=3))


def ways(symmetries: Symmetries) -> tuple[Symmetry, ...]:
    """The ways of seeing that a setting stands for.

    Args:
        symmetries: "none": as it is; "flips": also rows, columns or both flipped; "all": also turned by 90°.

    Returns:
        1, 4 or 8 ways; together they are a group, so that the mean over them doesn't depend on how the scene lies.

    Raises:
        SettingError: If there is no such setting.
    """
    chosen = {"none": _ALL[:1], "flips": tuple(way for way in _ALL if not way.exchanged), "all": _ALL}
    if symmetries not in chosen:
        msg = f"Symmetries must be none, flips or all, got {symmetries!r}."
        raise SettingError(msg)
    return chosen[symmetries]


def place(tile: Tile, way: Symmetry, shape: tuple[int, int], *, halo: int, stride: int) -> Window:
    """The part of a scene that a network has to see in one way, so that the tile's core is exact.

    Strides are counted from the corner of the scene as it is seen. Where a flipped side isn't a multiple of the stride,
    the blocks of the network lie otherwise than in the scene as it is, and the window is shifted and a stride longer.

    Args:
        tile: A step of `satmask.windows.cover`.
        way: The way of seeing.
        shape: `(height, width)` of the scene.
        halo: Pixels of context that the network needs.
        stride: Total stride of the network.

    Returns:
        A window of the scene as it is, with sides that are multiples of the stride; it may reach over the scene's edge.
    """
    read, core = tile.read, tile.core
    margin = round_up(halo, stride)
    row, height = read.row, read.height
    column, width = read.column, read.width
    if way.rows:
        row, height = _flipped((core.row, core.row + core.height), shape[0], height, (margin, stride))
    if way.columns:
        column, width = _flipped((core.column, core.column + core.width), shape[1], width, (margin, stride))
    return Window(row, column, height, width)


def _flipped(core: tuple[int, int], length: int, side: int, reach: tuple[int, int]) -> tuple[int, int]:
    """Start and side of a window along a flipped axis, counted in the axis as it is."""
    margin, stride = reach
    padded = round_up(length, stride)
    side = min(side + (stride if length % stride else 0), padded)
    first = length - core[1]  # of the core, as it is seen
    start = min(max(first // stride * stride - margin, 0), padded - side)
    return length - start - side, side


def run(
    network: Callable[[np.ndarray], np.ndarray],
    read: Callable[[Window], np.ndarray],
    places: Sequence[tuple[Symmetry, Window]],
    core: Window,
    *,
    mean: Mean = "geometric",
    exclusive: bool = False,
) -> np.ndarray:
    """Run a network on a part of a scene in several ways, and take the mean of what it says.

    Args:
        network: Turns images `(1, height, width, bands)` into probabilities.
        read: Gives a window's pixels as the network wants them, `(height, width, bands)`.
        places: The ways, and what has to be seen in each, see `place`.
        core: The part of the scene that is wanted.
        mean: "geometric", with which a pixel needs all ways to agree; or "arithmetic".
        exclusive: Whether probabilities of the classes add up to 1: they will again.

    Returns:
        Probabilities of the core, float32, `(height, width, classes)`.

    Raises:
        SettingError: If there is no such mean.
    """
    if mean not in ("geometric", "arithmetic"):
        msg = f"Mean must be geometric or arithmetic, got {mean!r}."
        raise SettingError(msg)
    said = _see(network, read, places, core)
    if len(places) == 1:
        return np.ascontiguousarray(next(said))
    total = _steps(next(said), mean)
    for values in said:
        total += _steps(values, mean)
    found = total / (_STEPS * len(places))
    if mean == "geometric":
        np.exp(found, out=found)
    return _shared(found) if exclusive else found.astype(np.float32)


def _see(
    network: Callable[[np.ndarray], np.ndarray],
    read: Callable[[Window], np.ndarray],
    places: Sequence[tuple[Symmetry, Window]],
    core: Window,
) -> Iterator[np.ndarray]:
    """What the network says about the core, way after way; a window that comes twice running is read once."""
    last: tuple[Window, np.ndarray] | None = None
    for way, window in places:
        if last is None or last[0] != window:
            last = window, read(window)
        said = way.undo(network(np.ascontiguousarray(way.apply(last[1]))[None])[0])
        yield said[core.seen_from(window).slices]


def _steps(said: np.ndarray, mean: Mean) -> np.ndarray:
    """Probabilities, or their logarithms, as whole numbers, int64."""
    values = np.ascontiguousarray(said, np.float64)
    if mean == "geometric":
        values = np.log(values, out=np.full(values.shape, _NEVER), where=values > 0)
    return np.rint(values * _STEPS).astype(np.int64)


def _shared(found: np.ndarray) -> np.ndarray:
    """Let the classes of a pixel add up to 1; where none is left, each gets the same."""
    total = found[..., :1].copy()
    for channel in range(1, found.shape[-1]):
        total += found[..., channel : channel + 1]
    share = np.divide(found, total, out=np.full(found.shape, 1 / found.shape[-1]), where=total > 0)
    return np.asarray(share, np.float32)
