"""Pools: a prediction is spread over processes of this machine, or over the workers of a Dask cluster.

Both are executors as `concurrent.futures` has them, and all else is the same code. What is known of a scene goes from the
workers to its store, and from there to who makes the files. Order, number and deaths of workers change no byte.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

from satmask.addresses import as_address
from satmask.engines import available_cores
from satmask.errors import InstallError, SatmaskError, SceneError, SettingError
from satmask.permissions import Permission, allowed
from satmask.prediction.identity import identify_model, model_files
from satmask.prediction.scenes import predict_scene
from satmask.processes import Processes
from satmask.stack import Stack
from satmask.workers import SceneReport, SceneTask, Terms, do_scene, do_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from satmask.buckets import Bucket
    from satmask.engines import Engine
    from satmask.prediction.scenes import Outputs
    from satmask.prediction.work import Job
    from satmask.scene_lists import SceneSource

# Work sent for each lane: one piece that it does, and others that wait there, so that it never waits itself.
AHEAD = 3
# With so many scenes for each lane, every lane gets scenes of its own; with fewer, all lanes share each scene.
SCENES_PER_LANE = 2
# Seconds that a scheduler and its first worker are given to answer.
PATIENCE_S = 30


@dataclass(frozen=True)
class Pool:
    """Who does the work.

    Attributes:
        executor: Takes calls.
        count_lanes: Says how many calls are done at a time, now: a cluster grows and shrinks.
        lanes: Calls that each process does at a time; None where the worker knows.
        ship: Brings a model, by its file and digest, to where the workers find it.
    """

    executor: Executor
    count_lanes: Callable[[], int]
    lanes: int | None = None
    ship: Callable[[Path, str], None] = lambda *_: None

    def spread(self, engine: Engine) -> Callable[[Job, Sequence[int]], Iterator[int]]:
        """What `satmask.prediction.predict_scene` takes to have windows done by these workers."""
        terms = self._terms(engine)

        def spread(job: Job, numbers: Sequence[int]) -> Iterator[int]:
            return self._windows(job, numbers, terms)

        return spread

    def _windows(self, job: Job, numbers: Sequence[int], terms: Terms) -> Iterator[int]:
        ahead, running = iter(numbers), set[Future[int]]()
        try:
            while True:
                most = AHEAD * max(self.count_lanes(), 1)
                for number in islice(ahead, max(most - len(running), 0)):
                    running.add(self.executor.submit(do_window, job, number, terms))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield _result(future)
        finally:
            for future in running:
                future.cancel()

    def scenes(self, engine: Engine, images: Sequence[SceneSource], out: str, **settings: Any) -> Iterator[Any]:
        """Have whole scenes predicted, each by one lane; see `predict_over`."""
        assert engine.path is not None  # noqa: S101  # `predict_over` has seen to it
        terms, path = self._terms(engine), engine.path
        progress, tell = settings.pop("progress", lambda _: None), settings.pop("tell", lambda _: None)
        ahead, running = iter(images), deque[tuple[Any, Future[Any]]]()
        try:
            while True:
                most = AHEAD * max(self.count_lanes(), 1)
                for image in islice(ahead, max(most - len(running), 0)):
                    task = SceneTask(path, engine.name, image, out, settings)
                    running.append((image, self.executor.submit(do_scene, task, terms)))
                if not running:
                    return
                image, future = running.popleft()
                report = _report(future)
                for note in report.notes:
                    tell(note)
                progress(report.megapixels)
                yield image, report.found
        finally:
            for _, future in running:
                future.cancel()

    def _terms(self, engine: Engine) -> Terms:
        model = identify_model(engine)
        if model is None:
            msg = "Workers must open the model from a file, got an engine without one. Use satmask.open_engine."
            raise SettingError(msg)
        assert engine.path is not None  # noqa: S101  # or it had no identity
        self.ship(engine.path, model["digest"])
        return Terms(model, tuple(what for what in get_args(Permission) if allowed(what)), self.lanes)


def predict_over(
    pool: Pool, engine: Engine, images: Sequence[str | SceneSource], out: str | Path | Bucket, **settings: Any
) -> Iterator[tuple[SceneSource, Outputs | SatmaskError | OSError]]:
    """Predict scene after scene with a pool; one that can't be predicted doesn't stop the others.

    With many scenes each lane gets scenes of its own, and all that belongs to them. With few, the windows of each scene are
    shared among all lanes, and this process makes the files.

    Args:
        pool: Who does the work.
        engine: The network, open in this process, too.
        images: The scenes; their names without suffix must differ.
        out: See `satmask.prediction.predict_scene`.
        **settings: Other settings of that function.

    Yields:
        Each scene, in order, with what was written or why it failed.

    Raises:
        SettingError: If a setting is wrong, which it would be for every scene.
    """
    files = [image if isinstance(image, Stack) else as_address(image) for image in images]
    if len(files) >= SCENES_PER_LANE * max(pool.count_lanes(), 1):
        yield from pool.scenes(engine, files, str(out), **settings)
        return
    spread = pool.spread(engine)
    for image in files:
        try:
            yield image, predict_scene(engine, image, out, **settings, spread=spread)
        except SettingError:
            raise
        except (SatmaskError, OSError) as error:
            yield image, error


@contextlib.contextmanager
def open_pool(
    *, workers: int | None = None, threads: int | None = None, scheduler: str | None = None
) -> Iterator[Pool]:
    """Open processes of this machine, or a Dask cluster; what isn't done when the block ends with an error is dropped.

    Scripts that call this must be importable, `if __name__ == "__main__":` and so on: new processes import them.

    Args:
        workers: Processes on this machine.
        threads: Windows, or scenes, that each does at a time, in as many threads; cores divided by workers by default.
        scheduler: Address of a Dask scheduler, such as `tcp://10.0.0.5:8786`; its workers say how many threads they have.

    Yields:
        The pool.

    Raises:
        SettingError: If it's neither or both, or the scheduler can't be reached.
        InstallError: If Dask is asked for and isn't installed.
    """
    if (workers is None) == (scheduler is None):
        msg = f"Pool must be either workers or a scheduler, got {workers} and {scheduler!r}. Give one."
        raise SettingError(msg)
    for name, number in (("Workers", workers), ("Threads", threads)):
        if number is not None and number < 1:
            msg = f"{name} must be at least 1, got {number}."
            raise SettingError(msg)
    if scheduler is not None:
        with _cluster(scheduler) as pool:
            yield pool
        return
    assert workers is not None  # noqa: S101  # seen to above
    lanes = threads or max(available_cores() // workers, 1)
    executor = Processes(workers, lanes=lanes)
    try:
        yield Pool(executor, lambda: workers * lanes, lanes)
    finally:
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Pool]:
    if importlib.util.find_spec("distributed") is None:
        msg = "Clusters must be reached by Dask, got no distributed. Run pip install 'satmask[cluster]'."
        raise InstallError(msg)
    import distributed
    from satmask.shipping import ModelPlugin

    try:
        client = distributed.Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        msg = f"Scheduler must answer, got {str(error).splitlines()[0]!r:.200} from {address!r}. Start dask scheduler there."
        raise SettingError(msg) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError as error:
            msg = f"Scheduler must have workers, got none at {address} within {PATIENCE_S} s. Start dask worker {address}."
            raise SettingError(msg) from error
        # Calls have effects, so that two of the same aren't one.
        executor = client.get_executor(pure=False)
        shipped: list[str] = []

        def ship(model: Path, digest: str) -> None:
            plugin = ModelPlugin(model, model_files(model), digest)
            client.register_plugin(plugin)
            shipped.append(plugin.name)

        try:
            yield Pool(executor, lambda: sum(client.nthreads().values()), ship=ship)
        finally:
            for name in shipped:
                with contextlib.suppress(Exception):  # the scheduler may be gone
                    client.unregister_worker_plugin(name)


def _result(future: Future[Any]) -> Any:
    """What a worker gave; where it died again and again, say so."""
    try:
        return future.result()
    except SatmaskError:
        raise
    except CancelledError as error:
        msg = "Work must not be cancelled by others, got that. The same command goes on."
        raise SceneError(msg) from error
    except Exception as error:
        # Dask's own error for this has no base class of Python's, and Dask may not be there.
        if not isinstance(error, BrokenExecutor) and type(error).__name__ != "KilledWorker":
            raise
        reason = str(error).splitlines()[0]
        msg = (
            f"Workers must live to the end of their work, got {reason!r:.300}. Mostly that is memory: take fewer workers, "
            "or smaller windows (--window, --memory)."
        )
        raise SceneError(msg) from error


def _report(future: Future[SceneReport]) -> SceneReport:
    try:
        return _result(future)  # type: ignore[no-any-return]  # as the future says
    except SettingError:
        raise
    except SatmaskError as error:
        return SceneReport(error)
