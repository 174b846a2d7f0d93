"""Truth of scenes on the shelf: masks, vector files and COCO's annotations, read as data sets are."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from satmask.datasets.coco import read_coco
from satmask.datasets.legend_file import read_legend
from satmask.datasets.pairs import read_masks
from satmask.datasets.scenes import LABELS, read_labels
from satmask.errors import SatmaskError
from satmask.grid import Grid
from satmask.labels import Labels, PolygonLabels
from satmask.legend import Legend
from satmask.viewing.files import NotFoundError, ShelfFile
from satmask.viewing.layers import FileLabels
from satmask.viewing.sorting import Found, Sorted, truth_mask, truth_vectors


@dataclass(frozen=True)
class Truths:
    """Where truth comes from.

    Attributes:
        files: The files, sorted.
        legend: The classes, instead of what legend files say.
    """

    files: Sorted
    legend: Legend | None = None
    _guessed: dict[Path, Legend | None] = field(default_factory=dict)
    _coco: dict[ShelfFile, dict[Path, Labels]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def of(self, scene: Found, grid: Grid, legend: Legend | None) -> tuple[Labels | None, ShelfFile | None, list[str]]:
        """Find the truth of a scene.

        Args:
            scene: Its files.
            grid: Its grid.
            legend: The classes of its prediction, if there is one.

        Returns:
            The labels and their file, and what is wrong with them; None where there are none.
        """
        legend = legend or self.legend or self._legend(scene)
        vectors = truth_vectors(scene, self.files.vectors)
        own = bool(vectors) and vectors[0].path.stem.endswith(LABELS)
        try:
            mask = None if own else truth_mask(scene, self.files.masks)
            if mask and scene.rasters:
                return self._from_mask(scene.rasters[0], mask, legend)
            if vectors:
                return self._from_vectors(vectors, grid, legend)
            return self._from_coco(scene)
        except NotFoundError:
            return None, None, []
        except SatmaskError as error:
            return None, None, [str(error)]

    def _legend(self, scene: Found) -> Legend | None:
        """What a legend file in the scene's folder, or above it, says."""
        for folder in (scene.folder, *scene.folder.parents):
            if file := self.files.legends.get(folder):
                return file.open(read_legend)
        return None

    def _from_mask(
        self, raster: ShelfFile, mask: ShelfFile, legend: Legend | None
    ) -> tuple[Labels | None, ShelfFile | None, list[str]]:
        legend = legend or self._guess(mask.path.parent)
        pairs = [(raster.real(), mask.real())]
        samples, _, problems = mask.open(lambda _: read_masks(pairs, legend, []))
        if not samples:
            return None, None, [problem.what for problem in problems]
        return FileLabels(samples[0].labels, mask), mask, []

    def _guess(self, folder: Path) -> Legend | None:
        """The classes of all masks of a folder: one of them may lack some."""
        with self._lock:
            if folder not in self._guessed:
                pairs = []
                for scene in self.files.scenes:
                    mask = truth_mask(scene, self.files.masks)
                    if mask and mask.path.parent == folder and scene.rasters:
                        pairs.append((scene.rasters[0].real(), mask.real()))
                self._guessed[folder] = read_masks(pairs, None, [])[1]
            return self._guessed[folder]

    def _from_vectors(
        self, files: list[ShelfFile], grid: Grid, legend: Legend | None
    ) -> tuple[Labels | None, ShelfFile | None, list[str]]:
        found = [file.open(lambda path: read_labels(path, grid, legend))[0] for file in files]
        legend = legend or found[0].legend
        # Several files of a folder number their classes apart: names tell.
        geometries = [geometry for labels in found for geometry in labels.geometries]
        channels = [
            -1 if channel < 0 else legend.names.index(labels.legend.names[channel])
            for labels in found
            for channel in labels.channels
            if channel < 0 or labels.legend.names[channel] in legend.names
        ]
        if len(channels) < len(geometries):
            return None, None, [f"{len(files)} vector files must share their classes. Add a legend.toml."]
        return PolygonLabels(legend, grid.shape, geometries, channels), files[0], []

    def _from_coco(self, scene: Found) -> tuple[Labels | None, ShelfFile | None, list[str]]:
        if scene.image is None:
            return None, None, []
        for file in self.files.annotations:
            if scene.image.path.parent == file.path.parent / "images":
                with self._lock:
                    if file not in self._coco:
                        samples, *_ = file.open(lambda path: read_coco(path.parent))
                        self._coco[file] = {one.image: one.labels for one in samples if isinstance(one.image, Path)}
                return self._coco[file].get(scene.image.path), file, []
        return None, None, []
