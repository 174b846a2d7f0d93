"""Prediction: a scene and a model file in, rasters and polygons out; exactly as if the network saw the scene at once."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from satmask import __version__
from satmask.decisions import merge
from satmask.errors import SatmaskError, SettingError
from satmask.fitting import open_for
from satmask.masks import flatten
from satmask.mirroring import read_mirrored, unframe
from satmask.polygon_writer import PolygonWriter, stream_polygons
from satmask.polygons import find_polygons
from satmask.rasters import RasterKind, RasterWriter, legend_tags
from satmask.stack import SUFFIX, Stack, open_imagery
from satmask.symmetry import Mean, Symmetries, Symmetry, place, ways
from satmask.symmetry import run as run_symmetric
from satmask.windows import Tile, Window, cover, round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import geopandas

    from satmask.decisions import Decision
    from satmask.engines import Engine
    from satmask.legend import Legend
    from satmask.model_file import ModelInfo
    from satmask.scene import Imagery, Pixels


T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Piece:
    """What the network says about one window.

    Attributes:
        tile: Its core is the part of the scene that this is about.
        probabilities: float32, `(height, width, classes)` of the core; NaN where not valid.
        valid: False for nodata, bool, `(height, width)` of the core.
    """

    tile: Tile
    probabilities: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Outputs:
    """The files written for a scene.

    Attributes:
        classes: One band of class ids with a colour table, or None.
        probabilities: One band a class, or None.
        polygons: GeoPackage, or None.
        objects: Number of polygons.
    """

    classes: Path
    probabilities: Path | None
    polygons: Path | None
    objects: int


# Windows are no larger than this, for memory's sake, unless the halo asks for more: a window of six halos computes
# 2.25 times what it keeps, one of four halos four times.
LARGEST = 1280
HALOS = 6


def choose_window(info: ModelInfo, shape: tuple[int, int], *, workers: int = 1) -> int:
    """Choose the largest side of a scene's windows so that the network computes least, halos included.

    Small windows repeat more halo, large ones take more memory, and with several workers as many windows as make whole
    rounds are best: a scene that would fit one window is cut in two for two workers where that pays.

    Args:
        info: Gives halo and stride.
        shape: `(height, width)` of the scene.
        workers: Windows that are run at the same time.

    Returns:
        A size for `satmask.windows.cover`: at most `LARGEST`, or `HALOS` halos where that is more.
    """
    margin, stride = round_up(info.halo, info.stride), info.stride
    shape = frame(shape, info)
    limit = min(max(LARGEST, HALOS * margin), max(*shape, 2 * margin + stride))

    def cost(size: int) -> tuple[int, int]:
        tiles = cover(*shape, size=size, halo=info.halo, stride=stride)
        rounds = -(-len(tiles) // workers)
        return rounds * tiles[0].read.height * tiles[0].read.width, len(tiles)

    return min(range(2 * margin + stride, round_up(limit, stride) + 1, stride), key=cost)


def frame(shape: tuple[int, int], info: ModelInfo) -> tuple[int, int]:
    """Sides of what the network sees of a scene: the scene, and what is mirrored around it."""
    return shape[0] + 2 * info.margin, shape[1] + 2 * info.margin


def walk(
    engine: Engine,
    scene: Imagery,
    *,
    size: int | None = None,
    symmetries: Symmetries = "none",
    mean: Mean = "geometric",
    within: Window | None = None,
) -> Iterator[Piece]:
    """Run a network over a scene, window by window, in row order.

    Windows are read with the model's halo, aligned to its stride, and end where the scene ends; only the core is kept.
    The result equals, bit for bit, the network run over the whole scene. Reading, the network, and what the caller does
    with a piece overlap; at most a few windows are in memory. Windows without a valid pixel are not run. A network with
    a margin sees the scene with so many pixels mirrored around it: that is then the whole scene.

    Args:
        engine: The network.
        scene: The scene, opened by `open_for`.
        size: Side of a window at most, in pixels; a multiple of the stride.
        symmetries: Ways in which the network sees the scene: "none", as it is; "flips", also flipped, four times the
            work; "all", also turned, eight times. See `satmask.symmetry`.
        mean: How what it says is joined, "geometric" or "arithmetic".
        within: Only the pieces that reach into this part of the scene; all by default.

    Yields:
        Pieces whose cores cover the scene exactly once.

    Raises:
        SettingError: If the size breaks the rules of `satmask.windows.cover`.
        SceneError: If the scene can't be decoded.
    """
    info = engine.info
    size = size or choose_window(info, scene.shape, workers=engine.workers)
    framed = frame(scene.shape, info)
    chosen, whole = ways(symmetries), Window(0, 0, *scene.shape)
    tiles = [
        (tile, inner)
        for tile in cover(*framed, size=size, halo=info.halo, stride=info.stride)
        if (inner := unframe(tile, info.margin, scene.shape)).core.shared_with(within or whole)
    ]

    def work(tiles: tuple[Tile, Tile]) -> Piece:
        tile, inner = tiles
        places = [(way, place(tile, way, framed, halo=info.halo, stride=info.stride)) for way in chosen]
        places = [(way, window.moved(-info.margin, -info.margin)) for way, window in places]
        return _run(engine, scene, inner, places, mean=mean)

    yield from ahead(work, tiles, workers=engine.workers)


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


def _run(engine: Engine, scene: Imagery, tile: Tile, places: Sequence[tuple[Symmetry, Window]], *, mean: Mean) -> Piece:
    """Read one window and run the network on it, in one way or several."""
    info = engine.info
    pixels = _read(scene, tile.read, info)
    valid = pixels.valid[tile.core.seen_from(tile.read).slices]
    if not valid.any():
        return Piece(tile, np.full((*valid.shape, len(info.legend)), np.nan, np.float32), valid)

    def read(window: Window) -> np.ndarray:
        return (pixels if window == tile.read else _read(scene, window, info)).filled(info.fill)

    exclusive = info.legend.exclusive
    probabilities = run_symmetric(engine.run, read, places, tile.core, mean=mean, exclusive=exclusive)
    probabilities[~valid] = np.nan
    return Piece(tile, probabilities, valid)


def _read(scene: Imagery, window: Window, info: ModelInfo) -> Pixels:
    return read_mirrored(scene, window) if info.margin else scene.read(window)


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


def decide(probabilities: np.ndarray, legend: Legend, thresholds: Sequence[float]) -> np.ndarray:
    """Turn probabilities into class ids.

    Exclusive classes: the most probable one. Overlapping classes: the last in draw order whose probability reaches its
    threshold; 0 where none does.

    Args:
        probabilities: `(height, width, classes)`; NaN where unknown.
        legend: The classes.
        thresholds: One for each class, 0 to 1.

    Returns:
        Ids in the legend's data type, `(height, width)`; the legend's nodata where unknown.
    """
    ids = np.asarray(legend.ids, legend.dtype)
    unknown = np.isnan(probabilities[..., 0])
    if legend.exclusive:
        classes = ids[np.argmax(probabilities, axis=-1)]
    else:
        classes = np.zeros(probabilities.shape[:2], legend.dtype)
        for channel, id_ in enumerate(ids):
            classes[probabilities[..., channel] >= np.float32(thresholds[channel])] = id_
    return np.where(unknown, np.asarray(legend.nodata, legend.dtype), classes)


def predict_scene(
    engine: Engine,
    image: str | Path | Stack,
    out: str | Path,
    *,
    bands: Sequence[int | str] | None = None,
    size: int | None = None,
    symmetries: Symmetries = "none",
    mean: Mean = "geometric",
    thresholds: Sequence[float] | None = None,
    decision: Decision | None = None,
    probabilities: bool = True,
    polygons: bool | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Outputs:
    """Predict one scene and write what a GIS opens.

    Args:
        engine: The network.
        image: The scene: a raster, a stack file or a stack.
        out: Folder for `<scene>.classes.tif`, `<scene>.probabilities.tif` and `<scene>.gpkg`.
        bands: Bands by number from 1 or by name, in the model's order.
        size: Side of a window at most, in pixels.
        symmetries: Ways in which the network sees the scene, see `walk`.
        mean: How what it says is joined.
        thresholds: One for each class, or one for all; those of the decision by default.
        decision: How probabilities become classes; as the model file says by default. Smallest areas of classes that
            overlap need all masks of the scene in memory.
        probabilities: Whether to keep them.
        polygons: Whether to write polygons; by default where the scene has a CRS.
        progress: Called with the megapixels of each piece.

    Returns:
        What was written.

    Raises:
        SceneError: If the scene can't be read or the outputs can't be written.
        ModelError: If the scene doesn't fit the model.
    """
    info, out, stem = engine.info, Path(out), stem_of(image)
    decision = (decision or info.decision).with_thresholds(thresholds)
    out.mkdir(parents=True, exist_ok=True)
    names = {kind: out / f"{stem}.{kind}.tif" for kind in ("classes", "probabilities")}
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(open_for(info, image, bands=bands))
        kept = stack.enter_context(RasterWriter(names["probabilities"], scene, _probability_kind(decision)))
        decided = stack.enter_context(RasterWriter(names["classes"], scene, _class_kind(decision)))
        for piece in walk(engine, scene, size=size, symmetries=symmetries, mean=mean):
            core = piece.tile.core
            kept.write(piece.probabilities, core)
            decided.write(_classes(piece.probabilities, decision), core)
            progress(core.height * core.width / 1e6)
        wanted = scene.grid.crs is not None if polygons is None else polygons
        if not (decision.local or decision.legend.exclusive):
            _decide_whole(kept, decided, scene, decision)
        writer = stack.enter_context(PolygonWriter(out / f"{stem}.gpkg", layer="polygons")) if wanted else None
        frames = _outline(stack, kept, decided, scene, decision) if wanted else iter(())
        # Compression takes one core a raster, and goes on while polygons are traced and written.
        with ThreadPoolExecutor(2) as pool:
            finished = [pool.submit(raster.finish) for raster in (decided, *([kept] if probabilities else []))]
            if writer:
                for frame in frames:
                    writer.write(frame)
        files = [future.result() for future in finished]
        written, objects = (writer.finish(), writer.rows) if writer else (None, 0)
        return Outputs(files[0], files[1] if probabilities else None, written, objects)


def predict_scenes(
    engine: Engine, images: Sequence[str | Path | Stack], out: str | Path, **settings: Any
) -> Iterator[tuple[Path | Stack, Outputs | SatmaskError | OSError]]:
    """Predict scene after scene; one that can't be predicted doesn't stop the others.

    A large scene keeps all workers busy by itself. Tiles that fit a window are predicted side by side.

    Args:
        engine: The network.
        images: The scenes; their names without suffix must differ.
        out: See `predict_scene`.
        **settings: Other settings of `predict_scene`.

    Yields:
        Each scene, in order, with what was written or why it failed.

    Raises:
        SettingError: If a setting is wrong, which it would be for every scene.
    """

    def attempt(image: Path | Stack) -> tuple[Path | Stack, Outputs | SatmaskError | OSError]:
        try:
            return image, predict_scene(engine, image, out, **settings)
        except SettingError:
            raise
        except (SatmaskError, OSError) as error:
            return image, error

    files = [image if isinstance(image, Stack) else Path(image) for image in images]
    yield from ahead(attempt, files, workers=engine.workers if all(map(_is_small, files)) else 1)


def stem_of(image: str | Path | Stack) -> str:
    """What the outputs of a scene are called after.

    Example:
        >>> stem_of("data/north.tif"), stem_of("data/south.stack.json")
        ('north', 'south')
    """
    if isinstance(image, Stack):
        return image.name
    path = Path(image)
    return path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem


def _is_small(image: Path | Stack) -> bool:
    """Whether a scene fits one window; what can't be opened fails soon enough."""
    try:
        with open_imagery(image) as scene:
            return bool(max(scene.shape) <= LARGEST // 2)
    except SatmaskError:
        return True


def check_thresholds(thresholds: Sequence[float] | None, info: ModelInfo) -> tuple[float, ...]:
    """One threshold for each class, from what the user gave or the model file says.

    Raises:
        SettingError: If their number or size is wrong.
    """
    return info.decision.with_thresholds(thresholds).thresholds


def _class_kind(decision: Decision) -> RasterKind:
    legend = decision.legend
    colours = legend.colour_table() if legend.dtype == np.uint8 else None
    return RasterKind(legend.dtype, ("class",), legend.nodata, colours, "mode", _tags(decision))


def _probability_kind(decision: Decision) -> RasterKind:
    names = [f"{entry.name} probability" for entry in decision.legend]
    return RasterKind(np.dtype(np.float32), names, math.nan, tags=_tags(decision))


def _tags(decision: Decision) -> dict[str, str]:
    told = {} if decision.legend.exclusive else decision.tags()
    return {**legend_tags(decision.legend, decision.thresholds), **told, "SOFTWARE": f"satmask {__version__}"}


def _classes(probabilities: np.ndarray, decision: Decision) -> np.ndarray:
    """Class ids of a window; smallest areas are left for when all of the scene is known."""
    legend = decision.legend
    if not decision.merges:
        return decide(probabilities, legend, decision.thresholds)
    masks = merge(probabilities >= np.asarray(decision.thresholds, np.float32), legend, decision.merges)
    return _painted(masks, np.isnan(probabilities[..., 0]), legend)


def _painted(masks: np.ndarray, unknown: np.ndarray, legend: Legend) -> np.ndarray:
    return np.where(unknown, np.asarray(legend.nodata, legend.dtype), flatten(masks, legend))


def _decide_whole(kept: RasterWriter, decided: RasterWriter, scene: Imagery, decision: Decision) -> None:
    """Decide again, now that objects are known in full."""
    masks = decision.masks(kept.read_bands(), gsd_m=scene.grid.gsd_m)
    unknown = np.isnan(next(kept.read_bands()))
    decided.write(_painted(masks, unknown, decision.legend), Window(0, 0, *scene.shape))


def _outline(
    stack: contextlib.ExitStack, kept: RasterWriter, decided: RasterWriter, scene: Imagery, decision: Decision
) -> Iterator[geopandas.GeoDataFrame]:
    """Polygons of the drafts, which hold the whole scene; the drafts are opened at once and stay open with the stack."""
    legend = decision.legend
    if not legend.exclusive and len(legend) > 1:
        probabilities = np.moveaxis(kept.read(), 0, -1)
        masks = decision.masks(probabilities, gsd_m=scene.grid.gsd_m)
        return iter([find_polygons(masks, scene.grid, legend, probabilities=probabilities)])
    classes, said = stack.enter_context(decided.reader()), stack.enter_context(kept.reader())
    frames = stream_polygons(lambda window: (classes(window)[..., 0], said(window)), scene.grid, legend)
    if not legend.exclusive:
        return frames
    smallest = dict(zip(legend.ids, decision.smallest_px(scene.grid.gsd_m), strict=True))
    return (frame[frame["area_px"] >= frame["class_id"].map(smallest)] for frame in frames)
