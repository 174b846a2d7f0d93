"""Outlining: polygons of a scene are traced from its drafts while the network goes on with later windows."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from satmask.errors import SceneError
from satmask.features import shaping_of, stream_features
from satmask.polygon_writer import PolygonWriter, stream_polygons
from satmask.prediction.following import Follower
from satmask.vector_io import pyogrio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import geopandas

    from satmask.decisions import Decision
    from satmask.prediction.following import Known
    from satmask.rasters import RasterWriter
    from satmask.scene import Imagery
    from satmask.windows import Window


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
    """

    def __init__(self, path: Path, scene: Imagery, decision: Decision, drafts: OutlinedDrafts) -> None:
        self._scene, self._decision, self._drafts = scene, decision, drafts
        with contextlib.ExitStack() as undo:
            undo.enter_context(_timeless())
            self._writer = undo.enter_context(PolygonWriter(path, layer="polygons"))
            self._follower = undo.enter_context(Follower(self._write, "polygons"))
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
        self._follower.tell(rows)

    def finish(self) -> tuple[Path, int]:
        """Wait for the rest; the file, and how many polygons it holds."""
        return self._follower.finish(), self._writer.rows

    def _write(self, known: Known) -> Path:
        try:
            for frame in self._frames(known):
                self._writer.write(frame)
            return self._writer.finish()
        except pyogrio.errors.DataSourceError as error:
            where, reason = self._writer.path, str(error)
            msg = f"Polygons must be written whole, got {reason!r:.160} for {where}. Is there room on the disk?"
            raise SceneError(msg) from error

    def _frames(self, known: Known) -> Iterator[geopandas.GeoDataFrame]:
        decision, grid = self._decision, self._scene.grid
        if self._drafts.masks:
            return self._frames_by_class(self._drafts.masks, known)

        def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
            known.wait(window.row + window.height)
            return self._drafts.classes.read(window)[..., 0], self._drafts.said.read(window)

        shaping = shaping_of(decision, grid)
        if shaping.parts:
            return stream_features(read, grid, decision.legend, shaping=shaping)
        frames = stream_polygons(read, grid, decision.legend)
        if not decision.legend.exclusive:
            return frames
        smallest = dict(zip(decision.legend.ids, decision.smallest_px(grid.gsd_m), strict=True))
        return (frame[frame["area_px"] >= frame["class_id"].map(smallest)] for frame in frames)

    def _frames_by_class(self, masks: RasterWriter, known: Known) -> Iterator[geopandas.GeoDataFrame]:
        """Polygons of classes that overlap, one class after the other."""
        legend, grid = self._decision.legend, self._scene.grid
        shaping = shaping_of(self._decision, grid)
        stream = partial(stream_features, shaping=shaping) if shaping.parts else stream_polygons
        for number, (id_, name) in enumerate(zip(legend.ids, legend.names, strict=True), start=1):

            def read(window: Window, *, number: int = number, id_: int = id_) -> tuple[np.ndarray, np.ndarray]:
                known.wait(window.row + window.height)
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
