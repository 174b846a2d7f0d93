"""Walking: a network is run over a scene window by window, exactly as if it saw the scene at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from satmask.mirroring import read_mirrored
from satmask.prediction.blending import blend
from satmask.prediction.tiling import Step, Tiling, lay_out
from satmask.symmetry import Mean, Symmetries, place, ways
from satmask.symmetry import run as run_symmetric
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from satmask.engines import Engine
    from satmask.model_file import ModelInfo
    from satmask.prediction.pieces import Piece
    from satmask.scene import Imagery, Pixels
    from satmask.windows import Size

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Seeing:
    """How a network sees a scene.

    Attributes:
        symmetries: "none", as it is; "flips", also flipped, four times the work; "all", also turned, eight times. See
            `satmask.symmetry`.
        mean: How what it says is joined, "geometric" or "arithmetic".
    """

    symmetries: Symmetries = "none"
    mean: Mean = "geometric"


def walk(
    engine: Engine,
    scene: Imagery,
    *,
    size: Size | None = None,
    symmetries: Symmetries = "none",
    mean: Mean = "geometric",
    within: Window | None = None,
    upsampling: int | None = None,
) -> Iterator[Piece]:
    """Run a network over a scene, window by window, in row order; nothing is written.

    Windows are read with the model's halo, aligned to its stride, and end where the scene ends; only the core is kept.
    The result equals, bit for bit, the network run over the whole scene. Reading, the network, and what the caller does
    with a piece overlap; at most a few windows are in memory. Windows without a valid pixel are not run. A network with
    a margin sees the scene with so many pixels mirrored around it: that is then the whole scene.

    A network that isn't local sees windows that overlap, and what it says is blended, see `satmask.prediction.blending`;
    two rows of windows are then in memory.

    Args:
        engine: The network.
        scene: The scene, opened by `open_for`.
        size: Sides of a window at most, in pixels; multiples of the stride.
        symmetries: Ways in which the network sees the scene, see `Seeing`.
        mean: How what it says is joined.
        within: Only the pieces that reach into this part of the scene; all by default.
        upsampling: 2 has the network see each pixel as four, 1 as it is; as the model file says by default.

    Yields:
        Pieces whose cores cover the scene exactly once.

    Raises:
        SettingError: If the size breaks the rules of `satmask.windows.cover`.
        SceneError: If the scene can't be decoded.
    """
    engine = engine.at(scene.grid.gsd_m, upsampling)
    tiling = lay_out(engine.info, scene.shape, size=size, workers=engine.workers)
    seeing, part = Seeing(symmetries, mean), within or Window(0, 0, *scene.shape)
    ways(symmetries)  # refuses others
    pieces = ahead(
        lambda step: run_step(engine, scene, step, tiling, seeing), tiling.near(part), workers=engine.workers
    )
    if not tiling.blended:
        yield from pieces
        return
    yield from _blended(pieces, tiling, part)


def _blended(pieces: Iterator[Piece], tiling: Tiling, part: Window) -> Iterator[Piece]:
    """Blend what is held of the last two rows of windows."""
    held: dict[int, Piece] = {}
    for step, piece in zip(tiling.near(part), pieces, strict=True):
        held[step.number] = piece
        for old in [number for number in held if number <= step.number - 2 * tiling.columns]:
            del held[old]
        cell = blend(tiling, step.number, held)
        if cell.tile.core.shared_with(part):
            yield cell


def run_step(engine: Engine, scene: Imagery, step: Step, tiling: Tiling, seeing: Seeing) -> Piece:
    """Read one window and run the network on it: the unit of work, which depends on nothing but its arguments.

    Args:
        engine: The network.
        scene: The scene, opened by `open_for`.
        step: The window.
        tiling: The tiling that it belongs to.
        seeing: How the network sees the scene.

    Returns:
        What the network says; where windows are blended, about all of the window.
    """
    from satmask.prediction.pieces import Piece

    info, tile = engine.info, step.tile
    pixels = _read(scene, tile.read, info)
    valid = pixels.valid[tile.core.seen_from(tile.read).slices]
    if not valid.any():
        return Piece(tile, np.full((*valid.shape, len(info.legend)), np.nan, np.float32), valid)

    def read(window: Window) -> np.ndarray:
        return (pixels if window == tile.read else _read(scene, window, info)).filled(info.fill)

    framed = scene.shape[0] + 2 * info.margin, scene.shape[1] + 2 * info.margin
    places = [
        (way, place(step.seen, way, framed, halo=tiling.halo, stride=info.stride).moved(-info.margin, -info.margin))
        for way in ways(seeing.symmetries)
    ]
    exclusive = info.legend.exclusive
    probabilities = run_symmetric(engine.run, read, places, tile.core, mean=seeing.mean, exclusive=exclusive)
    probabilities[~valid] = np.nan
    return Piece(tile, probabilities, valid)


def _read(scene: Imagery, window: Window, info: ModelInfo) -> Pixels:
    return read_mirrored(scene, window) if info.margin else scene.read(window)


def ahead(work: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Work on items in threads, a few ahead of who takes the results, in order; what is left is dropped at an error."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="satmask") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > workers + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def predict_array(engine: Engine, scene: Imagery, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Run a network over a scene that fits into memory.

    Args:
        engine: The network.
        scene: The scene, opened by `open_for`.
        **settings: Those of `walk`.

    Returns:
        Probabilities, float32, `(height, width, classes)`, NaN where not valid; and validity, bool, `(height, width)`.
    """
    probabilities = np.empty((*scene.shape, len(engine.info.legend)), np.float32)
    valid = np.empty(scene.shape, bool)
    for piece in walk(engine, scene, **settings):
        probabilities[piece.tile.core.slices] = piece.probabilities
        valid[piece.tile.core.slices] = piece.valid
    return probabilities, valid
