"""Finishing: what a network said about a scene becomes the files that a GIS opens, piece by piece.

Pieces come in row order, from the network or from a store. No step holds a whole scene in memory: rasters are written to
drafts on disk, objects are found and polygons traced strip by strip, while later pieces come.
"""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from satmask import __version__
from satmask.decisions import merge
from satmask.masks import flatten
from satmask.prediction.following import Follower
from satmask.prediction.outlining import OutlinedDrafts, Outlines
from satmask.prediction.pieces import decide
from satmask.rasters import RasterKind, RasterWriter, legend_tags
from satmask.strips import STRIP_PX, Decided, rules_of
from satmask.uncertainty import entropy
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from satmask.decisions import Decision
    from satmask.legend import Legend
    from satmask.prediction.following import Known
    from satmask.prediction.pieces import Piece
    from satmask.scene import Imagery


@dataclass(frozen=True)
class Layer:
    """One raster of the outputs that follows from each pixel's probabilities alone.

    Attributes:
        name: What its file is called after the scene: `<scene>.<name>.tif`.
        kind: What the raster holds.
        values: Turns probabilities of a window, `(height, width, classes)`, NaN where unknown, into the raster's values,
            `(height, width)` or `(height, width, bands)`.
    """

    name: str
    kind: RasterKind
    values: Callable[[np.ndarray], np.ndarray]


def probability_layer(decision: Decision) -> Layer:
    """One band a class, as the network says; NaN where unknown."""
    names = [f"{entry.name} probability" for entry in decision.legend]
    kind = RasterKind(np.dtype(np.float32), names, math.nan, tags=tags_of(decision))
    return Layer("probabilities", kind, lambda probabilities: probabilities)


def uncertainty_layer(decision: Decision) -> Layer:
    """One band: how unsure the network is, 0 to 1, see `satmask.uncertainty`; NaN where unknown."""
    kind = RasterKind(np.dtype(np.float32), ("uncertainty",), math.nan, tags={"SOFTWARE": f"satmask {__version__}"})
    return Layer("uncertainty", kind, partial(entropy, exclusive=decision.legend.exclusive))


def class_kind(decision: Decision) -> RasterKind:
    """One band of class ids with a colour table."""
    legend = decision.legend
    colours = legend.colour_table() if legend.dtype == np.uint8 else None
    return RasterKind(legend.dtype, ("class",), legend.nodata, colours, "mode", tags_of(decision))


def tags_of(decision: Decision) -> dict[str, str]:
    """What rasters say of their classes and how these were decided."""
    return {
        **legend_tags(decision.legend, decision.thresholds),
        **decision.tags(),
        "SOFTWARE": f"satmask {__version__}",
    }


class Drafts:
    """The outputs of a scene while they are made, in a folder of their own; leaving the `with` block closes them.

    Args:
        folder: Where drafts and finished files lie, until `finish` is done and somebody moves them.
        stem: What the files are called after.
        scene: The scene.
        decision: How probabilities become classes.
        extra: Layers besides classes and probabilities.
        probabilities: Whether to keep these.
        polygons: Whether to write polygons.

    Raises:
        SceneError: If something can't be written.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        scene: Imagery,
        decision: Decision,
        *,
        extra: Sequence[Layer] = (),
        probabilities: bool = True,
        polygons: bool = True,
    ) -> None:
        self._scene, self._decision, self._polygons = scene, decision, polygons
        self._open = contextlib.ExitStack()

        def begin(name: str, kind: RasterKind) -> RasterWriter:
            return self._open.enter_context(RasterWriter(folder / f"{stem}.{name}.tif", scene, kind, verify=True))

        with contextlib.ExitStack() as undo:
            undo.push(self._open)
            said = probability_layer(decision)
            self._said = begin(said.name, said.kind)
            self._classes = begin("classes", class_kind(decision))
            self._extra = [(layer, begin(layer.name, layer.kind)) for layer in extra]
            self._masks = begin("masks", _mask_kind(decision.legend)) if self._needs_masks else None
            drafts = OutlinedDrafts(self._classes, self._said, self._masks)
            path = folder / f"{stem}.gpkg"
            self._outlines = self._open.enter_context(Outlines(path, scene, decision, drafts)) if polygons else None
            self._objects = self._open.enter_context(Follower(self._decide_objects, "objects")) if self._whole else None
            undo.pop_all()
        self._written = [self._said, self._classes, *(file for _, file in self._extra)]
        kept = [("probabilities", self._said)] if probabilities else []
        self._kept = {"classes": self._classes, **dict(kept), **{layer.name: file for layer, file in self._extra}}

    @property
    def _whole(self) -> bool:
        """Whether objects have to be known in full before pixels are decided."""
        return not (self._decision.local or self._decision.legend.exclusive)

    @property
    def _needs_masks(self) -> bool:
        """Whether masks of overlapping classes are needed one by one."""
        several = not self._decision.legend.exclusive and len(self._decision.legend) > 1
        return several and self._polygons

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._open.__exit__(*details)  # type: ignore[arg-type]  # what Python hands over

    def take(self, piece: Piece) -> None:
        """Add what the network says about a part of the scene; each pixel once, in row order of the parts."""
        core = piece.tile.core
        self._said.write(piece.probabilities, core)
        for layer, file in self._extra:
            file.write(layer.values(piece.probabilities), core)
        if not self._whole:
            self._decide(piece.probabilities, core)
        if core.column + core.width == self._scene.shape[1]:
            self._end_row(core.row + core.height)

    def _end_row(self, rows: int) -> None:
        """Go on with what needs whole rows, while the network is at the next."""
        follower = self._objects or self._outlines
        if follower:
            follower.tell(rows)
        if rows < self._scene.shape[0]:
            for file in self._written:
                file.flush()

    def _decide(self, probabilities: np.ndarray, core: Window) -> None:
        """Classes of a part that follow from its pixels alone."""
        decision = self._decision
        if not (decision.merges or self._masks):
            self._classes.write(decide(probabilities, decision.legend, decision.thresholds), core)
            return
        reached = probabilities >= np.asarray(decision.thresholds, np.float32)
        self._paint(merge(reached, decision.legend, decision.merges), np.isnan(probabilities[..., 0]), core)

    def finish(self) -> tuple[dict[str, Path], int]:
        """Make whole files of the drafts.

        Returns:
            Files by name: "classes", "probabilities" if kept, those of extra layers, and "polygons" if there are; and the
            number of polygons.
        """
        if self._objects:
            self._objects.finish()
        # Compression takes one core a raster, and goes on while polygons are traced and written.
        with ThreadPoolExecutor(2) as pool:
            finished = {name: pool.submit(file.finish) for name, file in self._kept.items()}
            polygons, rows = self._outlines.finish() if self._outlines else (None, 0)
            files = {name: future.result() for name, future in finished.items()}
        if polygons:
            files["polygons"] = polygons
        return files, rows

    def _paint(self, masks: np.ndarray, unknown: np.ndarray, window: Window) -> None:
        legend = self._decision.legend
        painted = np.where(unknown, np.asarray(legend.nodata, legend.dtype), flatten(masks, legend))
        self._classes.write(painted, window)
        if self._masks:
            self._masks.write(masks.astype(np.uint8), window)

    def _decide_objects(self, known: Known) -> None:
        """Decide strip by strip, as soon as it is known which objects of a strip are kept."""
        decision, (height, width), gsd_m = self._decision, self._scene.shape, self._scene.grid.gsd_m
        limits, rows = np.asarray(decision.thresholds, np.float32), max(STRIP_PX // (width * len(decision.legend)), 1)

        def read(window: Window) -> np.ndarray:
            known.wait(window.row + window.height)
            return self._said.read(window) >= limits

        decided = Decided(
            read,
            (height, width),
            decision.legend,
            rules_of(decision, gsd_m=gsd_m),
            gsd_m=gsd_m,
            merges=decision.merges,
            rows=rows,
        )
        for row in range(0, height, rows):
            strip = Window(row, 0, min(rows, height - row), width)
            self._paint(decided.read(strip), np.isnan(self._said.read(strip, [1])[..., 0]), strip)
            if self._outlines:
                self._outlines.tell(row + strip.height)


def _mask_kind(legend: Legend) -> RasterKind:
    return RasterKind(np.dtype(np.uint8), legend.names, 0)
