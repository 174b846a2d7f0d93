"""Scenes predicted and written, one or many; a run that ended too soon goes on where it was."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rasterio

from satmask.addresses import as_address
from satmask.buckets import Bucket, as_folder
from satmask.errors import SatmaskError, SettingError
from satmask.fitting import Reading
from satmask.prediction.claim import Claim
from satmask.prediction.finishing import Drafts, uncertainty_layer
from satmask.prediction.remote_claim import RemoteClaim
from satmask.prediction.resuming import prepare
from satmask.prediction.tiling import LARGEST
from satmask.prediction.walking import Seeing, ahead
from satmask.prediction.work import Job, Spread, Work
from satmask.scene_lists import stem_of
from satmask.stack import Stack, open_imagery
from satmask.symmetry import ways

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from satmask.decisions import Decision
    from satmask.engines import Engine
    from satmask.prediction.pieces import Piece
    from satmask.scene import Imagery
    from satmask.scene_lists import SceneSource
    from satmask.symmetry import Mean, Symmetries
    from satmask.windows import Size

# What GDAL keeps of rasters being read and written; it would take a twentieth of the machine's memory.
CACHE_BYTES = 64 << 20
# Engines of scenes with more windows than this rest before outputs are made: memory that windows took is given back. To take
# it again for the next scene costs as much as some percent of one window a worker, which would be felt in smaller ones.
RESTING = 16


@dataclass(frozen=True)
class Outputs:
    """The files written for a scene.

    Attributes:
        classes: One band of class ids with a colour table, or None.
        probabilities: One band a class, or None.
        polygons: GeoPackage, or None.
        objects: Number of polygons.
        uncertainty: One band, see `satmask.uncertainty`, or None.
    """

    classes: Path | Bucket
    probabilities: Path | Bucket | None
    polygons: Path | Bucket | None
    objects: int
    uncertainty: Path | Bucket | None = None


def predict_scene(
    engine: Engine,
    image: str | SceneSource,
    out: str | Path | Bucket,
    *,
    bands: Sequence[int | str] | None = None,
    scaled: bool = False,
    resample_to_gsd: float | Literal["model"] | None = None,
    stretch: tuple[float, float] | None = None,
    upsampling: int | None = None,
    size: Size | None = None,
    largest: int | None = None,
    at_once: int | None = None,
    symmetries: Symmetries = "none",
    mean: Mean = "geometric",
    thresholds: Sequence[float] | None = None,
    decision: Decision | None = None,
    probabilities: bool = True,
    polygons: bool | None = None,
    uncertainty: bool = False,
    restart: bool = False,
    spread: Spread | None = None,
    progress: Callable[[float], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Outputs:
    """Predict one scene and write what a GIS opens.

    What is known so far lies in a hidden folder beside the outputs. If this is stopped, killed or fails, the same call goes
    on from there, and ends with the same bytes. Files get their names when they are whole. Memory doesn't grow with the
    scene.

    Args:
        engine: The network.
        image: The scene: a raster, an address, a stack file or a stack.
        out: Folder for `<scene>.classes.tif`, `<scene>.probabilities.tif` and `<scene>.gpkg`.
        bands: Bands by number from 1 or by name, in the model's order.
        scaled: Whether to apply the file's tags of scale and offset, see `satmask.fitting.open_for`.
        resample_to_gsd: Size of a pixel in metres that the scene is resampled to, and the outputs have; "model" for the
            nearest that the model was trained on.
        stretch: Two percentiles of each band that become the ends of the model's values.
        upsampling: 2 has the network see each pixel as four, 1 as it is; by default what the model file says of the size of the
            scene's pixels, see `satmask.upsampling`.
        size: Sides of a window at most, in pixels.
        largest: Side of the largest square that the network sees, where windows are chosen for memory's sake; a scene that was begun goes on with its windows.
        at_once: Windows run at a time; as many as the engine gains by, by default.
        symmetries: Ways in which the network sees the scene, see `walk`.
        mean: How what it says is joined.
        thresholds: One for each class, or one for all; those of the decision by default.
        decision: How probabilities become classes; as the model file says by default.
        probabilities: Whether to keep them.
        polygons: Whether to write polygons; by default where the scene has a CRS.
        uncertainty: Whether to write how unsure the network is, `<scene>.uncertainty.tif`, see `satmask.uncertainty`.
        restart: Throw away what is known of the scene from an earlier run.
        spread: Has windows done by other processes, see `satmask.jobs`; threads of this one do them by default.
        progress: Called with the megapixels of each piece.
        tell: Called with notes: that work goes on, that something was damaged, what is kept.

    Returns:
        What was written.

    Raises:
        SceneError: If the scene can't be read, the outputs can't be written, another run is writing them, or what was
            begun is of another model, scene or settings.
        ModelError: If the scene doesn't fit the model.
    """
    out, stem, seeing = as_folder(out), stem_of(image), Seeing(symmetries, mean)
    decision = (decision or engine.info.decision).with_thresholds(thresholds)
    ways(symmetries)  # refuses others
    out.mkdir(parents=True, exist_ok=True)
    reading = Reading(None if bands is None else tuple(bands), scaled, resample_to_gsd, stretch, upsampling)
    with reading.opened(engine, image) as (fitted, scene), _claim(out, stem) as claim:
        if restart:
            claim.clear()
        wanted = scene.grid.crs is not None if polygons is None else polygons
        with _kept(claim, scene, tell) as holder:
            tiling, store = prepare(claim, fitted, image, scene, size=size, largest=largest, seeing=seeing, tell=tell)
            work = Work(fitted, scene, tiling, seeing=seeing, store=store, tell=tell)
            holder.append(work)
            elsewhere = _spread(work, image, reading, claim.folder, spread) if spread else None
            pieces = _told(work.pieces(elsewhere, at_once=at_once), progress)
            drafts = claim.drafts
            written: dict[str, Any] = {"probabilities": probabilities, "polygons": wanted}
            written["extra"] = [uncertainty_layer(decision)] if uncertainty else []
            made, objects = _make(work, pieces, drafts, stem, decision, **written)
            files = {name: _publish(claim, path, out, sure=store is not None) for name, path in made.items()}
        claim.remove()
    more = {name: files.get(name) for name in ("probabilities", "polygons", "uncertainty")}
    return Outputs(files["classes"], objects=objects, **more)


def _make(
    work: Work, pieces: Iterator[Piece], drafts: Path, stem: str, decision: Decision, **wanted: Any
) -> tuple[dict[str, Path], int]:
    """Make all outputs in the job's folder; what an earlier run left of them is made again."""
    shutil.rmtree(drafts, ignore_errors=True)
    drafts.mkdir()
    # A tile or two need no bound; entering and leaving would only disturb other threads.
    bounded = rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES) if len(work.tiling) > 1 else contextlib.nullcontext()
    with bounded, Drafts(drafts, stem, work.scene, decision, **wanted) as made:
        for piece in pieces:
            made.take(piece)
        if len(work.tiling) > RESTING:
            work.engine.rest()  # outputs take memory of their own
        return made.finish()


def _told(pieces: Iterator[Piece], progress: Callable[[float], None]) -> Iterator[Piece]:
    """Tell of each piece when it has been taken."""
    with contextlib.closing(pieces):  # type: ignore[type-var]  # a generator
        for piece in pieces:
            yield piece
            progress(piece.tile.core.height * piece.tile.core.width / 1e6)


def _spread(
    work: Work, image: str | SceneSource, reading: Reading, folder: Path | Bucket, spread: Spread
) -> Iterator[int] | None:
    """Have the windows that aren't done yet done elsewhere; None where there is nothing to share."""
    store, path = work.store, work.engine.path
    if store is None or path is None:
        return None
    source = image if isinstance(image, Stack) else as_address(image)
    job = Job(path, work.engine.name, source, reading, work.tiling.size, work.seeing, folder)
    missing = store.missing()
    done = sorted(set(range(len(work.tiling))) - set(missing))
    return itertools.chain(done, spread(job, missing)) if missing else None


def _claim(out: Path | Bucket, stem: str) -> Claim | RemoteClaim:
    return RemoteClaim(out, stem) if isinstance(out, Bucket) else Claim(out, stem)


def _publish(claim: Claim | RemoteClaim, path: Path, out: Path | Bucket, *, sure: bool) -> Path | Bucket:
    """Give a finished file its name; on the disk for sure, where what it was made of is about to go."""
    if isinstance(claim, RemoteClaim):
        return claim.publish(path)
    if sure:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    assert isinstance(out, Path)  # noqa: S101  # it has a local claim
    return path.replace(out / path.name)


@contextlib.contextmanager
def _kept(claim: Claim | RemoteClaim, scene: Imagery, tell: Callable[[str], None]) -> Iterator[list[Work]]:
    """Say what is kept if the block ends too soon; where nothing is, leave nothing behind."""
    holder: list[Work] = []
    begun = (claim.folder / "manifest.json").exists()
    try:
        yield holder
    except BaseException as error:
        shutil.rmtree(claim.drafts, ignore_errors=True)
        store = holder[0].store if holder else None
        count = store.count() if store is not None else 0
        if not count:
            if holder or not begun:
                claim.remove()
            raise
        line = (
            f"{count} of {len(holder[0].tiling)} windows of {scene.name} are kept; the same command goes on from there."
        )
        if isinstance(error, SatmaskError) and not isinstance(error, SettingError):
            msg = f"{error} {line}"
            raise type(error)(msg) from error
        tell(line)
        raise


def predict_scenes(
    engine: Engine, images: Sequence[str | SceneSource], out: str | Path | Bucket, **settings: Any
) -> Iterator[tuple[SceneSource, Outputs | SatmaskError | OSError]]:
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

    def attempt(image: SceneSource) -> tuple[SceneSource, Outputs | SatmaskError | OSError]:
        try:
            return image, predict_scene(engine, image, out, **settings)
        except SettingError:
            raise
        except (SatmaskError, OSError) as error:
            return image, error

    files = [image if isinstance(image, Stack) else as_address(image) for image in images]
    # A large scene is predicted in this thread: it is the one that Ctrl-C reaches.
    side_by_side = engine.workers > 1 and all(map(_is_small, files))
    yield from ahead(attempt, files, workers=engine.workers) if side_by_side else map(attempt, files)


def _is_small(image: SceneSource) -> bool:
    """Whether a scene fits one window; what can't be opened fails soon enough."""
    try:
        with open_imagery(image) as scene:
            return bool(max(scene.shape) <= LARGEST // 2)
    except SatmaskError:
        return True
