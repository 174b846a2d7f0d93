"""Outlining: polygons of a scene are traced from its drafts while the network goes on with later windows.

A thread of its own follows what has been written, strip by strip, and waits where a strip isn't complete yet. Which strips
it reads doesn't depend on when they came, so neither do the bytes.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from satmask.errors import SceneError
from satmask.features import shaping_of, stream_features
from satmask.polygon_writer import PolygonWriter, stream_polygons
from satmask.vector_io import pyogrio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import geopandas

    from satmask.decisions import Decision
    from satmask.rasters import RasterWriter
    from satmask.scene import Imagery
    from satmask.windows import Window


class Known:
    """Rows of a scene that are complete, from the top; who needs more waits.

    Examples:
        >>> known = Known()
        >>> known.tell(3)
        >>> known.wait(2)
    """

    def __init__(self) -> None:
        self._rows, self._ended, self._changed = 0, False, threading.Condition()

    def tell(self, rows: int) -> None:
        """So many rows are complete."""
        with self._changed:
            self._rows = rows
            self._changed.notify_all()

    def end(self) -> None:
        """No more will come: whoever waits for more gives up."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, rows: int) -> None:
        """Wait until so many rows are complete.

        Raises:
            GivenUpError: If they never will be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._rows >= rows)
            if self._rows < rows:
                raise GivenUpError


class GivenUpError(Exception):
    """What was to be outlined doesn't come any more; whoever ended it says why."""


@dataclass(frozen=True)
class OutlinedDrafts:
    """What polygons follow from.

    Attributes:
        classes: The draft of class ids.
        said: That of probabilities.
        masks: That of masks, one a class, where classes overlap.
    """

    classes: RasterWriter
    said: RasterWriter
    masks: RasterWriter | None


class Outlines:
    """The polygons of a scene, traced and written by a thread of its own; leaving the `with` block ends it.

    Args:
        path: The file to write.
        scene: The scene.
        decision: How probabilities become classes.
        drafts: What is outlined.

    Attributes:
        known: Is told how much of the drafts is complete.
    """

    def __init__(self, path: Path, scene: Imagery, decision: Decision, drafts: OutlinedDrafts) -> None:
        self.known = Known()
        self._scene, self._decision, self._drafts = scene, decision, drafts
        with contextlib.ExitStack() as undo:
            undo.enter_context(_timeless())
            self._writer = undo.enter_context(PolygonWriter(path, layer="polygons"))
            pool = undo.enter_context(ThreadPoolExecutor(1, thread_name_prefix="satmask-polygons"))
            undo.callback(self.known.end)
            self._written = pool.submit(self._write)
            self._open = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._open.__exit__(*details)  # type: ignore[arg-type]  # what Python hands over

    def tell(self, rows: int) -> None:
        """So many rows of the drafts are complete.

        Raises:
            SceneError: If polygons can't be written.
        """
        self.known.tell(rows)
        if self._written.done():
            self._written.result()

    def finish(self) -> tuple[Path, int]:
        """Wait for the rest; the file, and how many polygons it holds."""
        self.known.tell(self._scene.shape[0])
        return self._written.result(), self._writer.rows

    def _write(self) -> Path:
        try:
            for frame in self._frames():
                self._writer.write(frame)
            return self._writer.finish()
        except pyogrio.errors.DataSourceError as error:
            where, reason = self._writer.path, str(error)
            msg = f"Polygons must be written whole, got {reason!r:.160} for {where}. Is there room on the disk?"
            raise SceneError(msg) from error

    def _frames(self) -> Iterator[geopandas.GeoDataFrame]:
        decision, grid = self._decision, self._scene.grid
        if self._drafts.masks:
            return self._frames_by_class(self._drafts.masks)

        def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
            self.known.wait(window.row + window.height)
            return self._drafts.classes.read(window)[..., 0], self._drafts.said.read(window)

        shaping = shaping_of(decision, grid)
        if shaping.parts:
            return stream_features(read, grid, decision.legend, shaping=shaping)
        frames = stream_polygons(read, grid, decision.legend)
        if not decision.legend.exclusive:
            return frames
        smallest = dict(zip(decision.legend.ids, decision.smallest_px(grid.gsd_m), strict=True))
        return (frame[frame["area_px"] >= frame["class_id"].map(smallest)] for frame in frames)

    def _frames_by_class(self, masks: RasterWriter) -> Iterator[geopandas.GeoDataFrame]:
        """Polygons of classes that overlap, one class after the other."""
        legend, grid = self._decision.legend, self._scene.grid
        shaping = shaping_of(self._decision, grid)
        stream = partial(stream_features, shaping=shaping) if shaping.parts else stream_polygons
        for number, (id_, name) in enumerate(zip(legend.ids, legend.names, strict=True), start=1):

            def read(window: Window, *, number: int = number, id_: int = id_) -> tuple[np.ndarray, np.ndarray]:
                self.known.wait(window.row + window.height)
                drawn = masks.read(window, [number])[..., 0] * np.asarray(id_, legend.dtype)
                return drawn, self._drafts.said.read(window, [number])

            yield from stream(read, grid, legend.subset([name]))


_DATE = "OGR_CURRENT_DATE"
_DATING = threading.Lock()
_dated: list[str | None] = []


@contextlib.contextmanager
def _timeless() -> Iterator[None]:
    """Let GeoPackages say a fixed date: the same scene then gives the same bytes, whenever its polygons are written.

    The setting is the process's: it stays until the last of several scenes is done.
    """
    with _DATING:
        _dated.append(_dated[0] if _dated else pyogrio.get_gdal_config_option(_DATE))
        pyogrio.set_gdal_config_options({_DATE: "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        with _DATING:
            before = _dated.pop()
            if not _dated:
                pyogrio.set_gdal_config_options({_DATE: before})
