"""Jobs: some windows of a scene done in whatever process.

`satmask.prediction.predict_scene` describes what is to be done as a `Job` and hands it to its `spread`, which sends it with
numbers of windows to other processes. There `open_work` opens it, and `Work.do` does windows; what it did is in the store.
Windows may be done in any order, by any number of processes, twice even: the bytes are the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from satmask.engines import ENGINES, EngineName, open_engine
from satmask.fitting import open_for
from satmask.prediction.store import WindowStore
from satmask.prediction.tiling import lay_out
from satmask.prediction.work import Job, Work

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def open_work(job: Job, *, threads: int | None = None, **settings: Any) -> Iterator[Work]:
    """Open all that a job needs, in whatever process.

    Args:
        job: The job; its store must be there.
        threads: Processor threads for the network.
        **settings: Other arguments of `Work`.

    Yields:
        The open job: call `do` with the numbers of windows.
    """
    engine = open_engine(job.model, engine=_engine(job), threads=threads)
    with open_for(engine.info, job.image, **job.reading.settings) as scene:
        tiling = lay_out(engine.info, scene.shape, size=job.size)
        store = WindowStore(job.folder, tiling, len(engine.info.legend), new=False)
        yield Work(engine, scene, tiling, seeing=job.seeing, store=store, **settings)


def _engine(job: Job) -> EngineName:
    """The engine by name; those of assemblies and rules go by their file."""
    return "auto" if job.engine not in ENGINES else job.engine  # type: ignore[return-value]  # it was just checked
