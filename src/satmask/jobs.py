"""Jobs: some windows of a scene done in whatever process.

`satmask.prediction.predict_scene` describes what is to be done as a `Job` and hands it to its `spread`, which sends it with
numbers of windows to other processes. There `open_work` opens it, and `Work.do` does windows; what it did is in the store.
Windows may be done in any order, by any number of processes, twice even: the bytes are the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from satmask.engines import ENGINES, open_engine
from satmask.prediction.store import WindowStore
from satmask.prediction.tiling import lay_out
from satmask.prediction.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from satmask.engines import Engine
    from satmask.prediction.work import Job


@contextlib.contextmanager
def open_work(job: Job, *, engine: Engine | None = None, threads: int | None = None, **settings: Any) -> Iterator[Work]:
    """Open all that a job needs, in whatever process.

    Args:
        job: The job; its store must be there.
        engine: Its model where that is open already.
        threads: Processor threads for the network that is opened otherwise.
        **settings: Other arguments of `Work`.

    Yields:
        The open job: call `do` with the numbers of windows.
    """
    engine = engine or open_model(job.model, job.engine, threads=threads)
    with job.reading.opened(engine, job.image) as (fitted, scene):
        tiling = lay_out(fitted.info, scene.shape, size=job.size)
        store = WindowStore(job.folder, tiling, len(fitted.info.legend), new=False)
        yield Work(fitted, scene, tiling, seeing=job.seeing, store=store, **settings)


def open_model(path: Path, name: str, *, threads: int | None = None) -> Engine:
    """Open a model as it was opened before, by the name that its engine has; those of assemblies and rules go by their file.

    Args:
        path: The file.
        name: `Engine.name` of whoever opened it before.
        threads: Processor threads to use.
    """
    return open_engine(path, engine=name if name in ENGINES else "auto", threads=threads)  # type: ignore[arg-type]  # it was just checked
