"""Workers: what other processes, on this machine or another, do of a prediction: windows of a large scene, or whole scenes.

A worker opens a model and a scene once and keeps them open. Before it does anything, it sees that they are those that the
one who sent the work has: a worker with another model, another version of what runs it, or another file under the same name
would write other bytes, and nobody would notice.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from satmask import permissions
from satmask.errors import ModelError, SatmaskError, SceneError, SettingError
from satmask.jobs import open_model, open_work
from satmask.prediction.claim import ClaimedError
from satmask.prediction.identity import identify_model, identify_scene
from satmask.prediction.remote_claim import BEAT_S, STALE_S
from satmask.prediction.scenes import predict_scene
from satmask.prediction.store import read_manifest
from satmask.prediction.walking import run_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from satmask.engines import Engine
    from satmask.permissions import Permission
    from satmask.prediction.scenes import Outputs
    from satmask.prediction.work import Job, Work
    from satmask.scene_lists import SceneSource

# Scenes that a worker keeps open although it isn't doing any of their windows.
KEPT = 4
# Seconds that a worker waits for a claim, which is somewhat longer than that of a dead one lasts, and between two tries.
PATIENCE_S = STALE_S + BEAT_S
ASK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Terms:
    """On what terms a worker does something.

    Attributes:
        model: What the sender's model is known by, see `identify_model`.
        granted: What the user allowed, see `satmask.permissions`.
        lanes: Calls that the worker's process does at a time; None where Dask knows.
    """

    model: Mapping[str, str]
    granted: tuple[Permission, ...] = ()
    lanes: int | None = None


@dataclass(frozen=True)
class SceneTask:
    """A whole scene for a worker.

    Attributes:
        model: The file that `satmask.engines.open_engine` opens.
        engine: Which engine runs it.
        image: The scene.
        out: Where its outputs go.
        settings: Of `satmask.prediction.predict_scene`.
    """

    model: Path
    engine: str
    image: SceneSource
    out: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class SceneReport:
    """What came of a scene.

    Attributes:
        found: What was written, or why it wasn't.
        notes: What there is to tell.
        megapixels: What was predicted.
    """

    found: Outputs | SatmaskError | OSError
    notes: tuple[str, ...] = ()
    megapixels: float = 0.0


def do_window(job: Job, number: int, terms: Terms) -> int:
    """Run the network on a window and put what it says into the job's store.

    Args:
        job: The job; its folder, its scene and its model must be within the worker's reach.
        number: The window.
        terms: Those of the sender.

    Returns:
        The number.

    Raises:
        ModelError: If the worker sees another model than the sender.
        SceneError: If it sees another scene, or the store is gone or has been begun anew.
    """
    permissions.allow(*terms.granted)
    with _DESK.at_work(job, terms) as place:
        work = place.work
        step = work.tiling.steps[number]
        piece = run_step(work.engine, work.scene, step, work.tiling, work.seeing)
        if read_manifest(job.folder) != place.manifest:
            raise _stale(job)
        assert work.store is not None  # noqa: S101  # jobs have one
        work.store.save(step, piece)
    return number


def do_scene(task: SceneTask, terms: Terms) -> SceneReport:
    """Predict a whole scene, in one thread.

    Args:
        task: The scene.
        terms: Those of the sender.

    Returns:
        What came of it.

    Raises:
        SettingError: If a setting is wrong, which it would be for every scene.
        ModelError: If the worker sees another model than the sender.
    """
    permissions.allow(*terms.granted)
    engine = _DESK.engine(task.model, task.engine, terms)
    notes: list[str] = []
    megapixels: list[float] = []
    found: Outputs | SatmaskError | OSError
    # Others of this process' lanes predict other scenes meanwhile.
    here = {"at_once": 1, "tell": notes.append, "progress": megapixels.append}
    predict = partial(predict_scene, engine, task.image, task.out, **(dict(task.settings) | here))
    try:
        # Of processes of this machine everybody knows when they have died.
        found = predict() if terms.lanes else _patiently(predict)
    except SettingError:
        raise
    except (SatmaskError, OSError) as error:
        found = error
    return SceneReport(found, tuple(notes), sum(megapixels))


def _patiently(predict: Callable[[], Outputs]) -> Outputs:
    """Predict when nobody else does: the worker that this is instead of may have died with its claim in an object store."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return predict()
        except ClaimedError:
            if time.monotonic() > end:
                raise
            time.sleep(ASK_AGAIN_S)


@dataclass
class _Place:
    """An open job, what its store said when it was opened, on what terms, and how many lanes are using it."""

    work: Work
    terms: Terms
    manifest: dict[str, Any]
    opened: contextlib.ExitStack
    users: int = 0


@dataclass
class _Desk:
    """What this process has open."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    engines: dict[Any, Engine] = field(default_factory=dict)
    places: OrderedDict[Job, _Place] = field(default_factory=OrderedDict)

    def engine(self, model: Path, name: str, terms: Terms) -> Engine:
        """A model, opened once, if it is the sender's."""
        with self.lock:
            return self._engine(model, name, terms)

    def _engine(self, model: Path, name: str, terms: Terms) -> Engine:
        key = model, name, tuple(sorted(terms.model.items()))
        if key not in self.engines:
            shipped = None
            if terms.lanes is None:
                from satmask.shipping import find_shipped

                shipped = find_shipped(model, terms.model["digest"])
            if shipped is None and not model.is_file():
                msg = f"Worker must reach the model file, got none at {str(model)!r}. Put it where all workers see it."
                raise ModelError(msg)
            engine = open_model(shipped or model, name, threads=terms.lanes or _dask_lanes())
            if (mine := identify_model(engine)) != dict(terms.model):
                raise _other_model(model, mine or {}, terms.model)
            self.engines.clear()  # one model at a time; those in use live on while they are used
            self.engines[key] = engine
        return self.engines[key]

    @contextlib.contextmanager
    def at_work(self, job: Job, terms: Terms) -> Iterator[_Place]:
        """An open job; it isn't closed while somebody uses it."""
        with self.lock:
            place = self.places.get(job)
            if place is None or place.terms != terms or read_manifest(job.folder) != place.manifest:
                if place is not None:
                    self._close(job)
                place = self._open(job, terms)
            self.places.move_to_end(job)
            place.users += 1
        try:
            yield place
        finally:
            with self.lock:
                place.users -= 1
                for old in list(self.places)[:-KEPT]:
                    self._close(old)

    def _open(self, job: Job, terms: Terms) -> _Place:
        manifest = read_manifest(job.folder)
        if manifest is None:
            raise _stale(job)
        engine = self._engine(job.model, job.engine, terms)
        seen = identify_scene(job.image)
        if _content(seen) != _content({key: manifest["scene"].get(key) for key in seen}):
            msg = f"Worker must see the scene that was begun, got another at {job.image}. Put one where all workers see it."
            raise SceneError(msg)
        opened = contextlib.ExitStack()
        work = opened.enter_context(open_work(job, engine=engine))
        self.places[job] = _Place(work, terms, manifest, opened)
        return self.places[job]

    def _close(self, job: Job) -> None:
        place = self.places[job]
        if not place.users:
            del self.places[job]
            place.opened.close()


_DESK = _Desk()


def _content(value: Any) -> Any:
    """An identity without times: copies of a file have their own."""
    if isinstance(value, dict):
        return {key: _content(inner) for key, inner in value.items() if key != "changed_ns"}
    return [_content(inner) for inner in value] if isinstance(value, list) else value


def _dask_lanes() -> int:
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _stale(job: Job) -> SceneError:
    return SceneError(
        f"Worker must find what was begun, got nothing, or something else, in {job.folder}. Put --out where all workers "
        "see it; if somebody began anew meanwhile, this run has ended."
    )


def _other_model(path: Path, mine: Mapping[str, str], theirs: Mapping[str, str]) -> ModelError:
    if mine.get("digest") != theirs["digest"]:
        msg = f"Worker must see the same model as who sent the work, got other bytes in {path}. Copy the model there."
    else:
        msg = (
            f"Worker must run the model as who sent the work does, got {mine['engine']} instead of {theirs['engine']}. "
            "Install the same versions."
        )
    return ModelError(msg)
