"""The shelf: what can be shown of one folder, by ids that say nothing of paths.

What isn't on the shelf when the folder is walked can't be asked for at all. Nothing in the folder puts more on it: no
VRT, no list, no STAC item, no sidecar, no link that leads out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from satmask.assembly import FILE as ASSEMBLY
from satmask.errors import SatmaskError, SettingError
from satmask.grid import Grid
from satmask.labels import Labels
from satmask.legend import Legend
from satmask.rasters import read_legend_tags
from satmask.run import Run
from satmask.scene import Scene
from satmask.scene_lists import MARKS
from satmask.scoring.rasters import same_grid
from satmask.viewing.files import RASTERS, NotFoundError, ShelfFile, walk
from satmask.viewing.handles import HANDLES
from satmask.viewing.layers import ID_DIGITS, Content, Kind, Layer
from satmask.viewing.map_view import MapView
from satmask.viewing.sorting import Found, Sorted, sort_files
from satmask.viewing.truths import Truths

__all__ = ["Layer", "MapView", "NotFoundError", "Place", "Shelf", "open_shelf"]


About: TypeAlias = tuple[Grid, tuple[str, ...], np.dtype[Any], float]
"""Grid, bands, data type, and how coarse tiles of a raster may be."""


@dataclass(frozen=True, eq=False)
class Place:
    """A scene and what can be shown of it; its files are opened when something of them is asked for.

    Attributes:
        id: What requests call it: letters and digits that say nothing.
        name: What people call it.
        files: Its files.
        truths: Where its truth comes from.
    """

    id: str
    name: str
    files: Found
    truths: Truths

    @cached_property
    def content(self) -> Content:
        """What was found in its files.

        Raises:
            SatmaskError: If none of its rasters can be opened.
        """
        return _content(self)

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        return self.content.grid

    @property
    def legend(self) -> Legend | None:
        """The classes of its prediction, else of its truth."""
        return self.content.legend

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What can be shown of it, the lowest on the map first."""
        return self.content.layers

    @property
    def view(self) -> MapView:
        """How it lies on the map."""
        return self.content.view

    @property
    def problems(self) -> tuple[str, ...]:
        """What of it can't be shown, a sentence each."""
        return self.content.problems

    def layer(self, id_: str) -> Layer:
        """The layer of an id.

        Raises:
            NotFoundError: If there is none.
        """
        return self.content.layer(id_)

    def first(self, kind: Kind) -> Layer | None:
        """The first layer of a kind, or None."""
        return self.content.first(kind)


@dataclass(frozen=True, eq=False)
class Shelf:
    """What can be shown of a folder.

    Attributes:
        root: The folder, without links.
        places: Its scenes, by name.
        runs: The run folders among it.
        models: The model files and assemblies among it.
    """

    root: Path
    places: tuple[Place, ...]
    runs: tuple[Run, ...] = ()
    models: tuple[ShelfFile, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.root.name

    @cached_property
    def _by_id(self) -> dict[str, Place]:
        return {place.id: place for place in self.places}

    def place(self, id_: str) -> Place:
        """The place of an id.

        Raises:
            NotFoundError: If there is none, whatever the id looks like.
        """
        try:
            return self._by_id[id_]
        except (KeyError, TypeError):
            raise NotFoundError from None

    def layer(self, id_: str) -> tuple[Place, Layer]:
        """The layer of an id, and its place.

        Raises:
            NotFoundError: If there is none, or its place can't be opened.
        """
        place = self.place(id_[:ID_DIGITS] if isinstance(id_, str) else "")
        try:
            return place, place.layer(id_)
        except SatmaskError:
            raise NotFoundError from None


def open_shelf(
    root: str | Path,
    *,
    scenes: Sequence[str | Path] = (),
    truth: str | Path | None = None,
    legend: Legend | None = None,
) -> Shelf:
    """Put on the shelf what lies in a folder.

    Args:
        root: A folder of predictions, of scenes with labels, of plain images or tiles, or a run, whose pictures are no
            scenes; or a single raster, which stands for those of its name in its folder.
        scenes: Folders or files of the images that predictions in `root` are of, where they lie elsewhere.
        truth: Folder or file of masks or vector files, where they lie elsewhere.
        legend: Classes of the truth of scenes without a prediction, instead of what legend files say.

    Returns:
        The shelf. Files that can't be opened are told of by their places.

    Raises:
        SettingError: If a name isn't that of a folder or file.

    Examples:
        >>> open_shelf("predictions", scenes=["scenes"])  # doctest: +SKIP
    """
    path = Path(root)
    files = _files_of(path)
    elsewhere = [file for name in scenes for file in _files_of(Path(name))]
    images = [scene.image for scene in sort_files(elsewhere).scenes if scene.image]
    found = sort_files(files, more_images=images)
    if truth is not None:
        found = _with_truth(found, _files_of(Path(truth)))
    truths = Truths(found, legend)
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    runs = [Run(at) for at in (folder, *sorted({file.path.parent for file in files} - {folder})) if _is_run(at)]
    reports = {run.folder for run in runs}  # whose pictures are no scenes
    places = tuple(
        Place(_digits(scene.name, ID_DIGITS), scene.name, scene, truths)
        for scene in found.scenes
        if scene.folder not in reports and (path.is_dir() or scene.stem == _bare(path))
    )
    models = tuple(file for file in files if file.path.suffix.lower() == ".onnx" or file.path.name == ASSEMBLY)
    return Shelf(folder, places, tuple(runs), models)


def _files_of(name: Path) -> list[ShelfFile]:
    try:
        path = name.resolve(strict=True)
    except (OSError, RuntimeError):
        msg = f"Folder to be shown must exist, got {str(name)!r}."
        raise SettingError(msg) from None
    if path.is_dir():
        return list(walk(path))
    return [file for file in walk(path.parent) if file.path.parent == path.parent]


def _bare(path: Path) -> str:
    """The name of a scene or of one of the rasters that were predicted of it."""
    mark = next((mark for mark in MARKS if path.stem.endswith(mark)), "")
    return path.stem.removesuffix(mark)


def _with_truth(found: Sorted, files: Sequence[ShelfFile]) -> Sorted:
    """The same scenes with truth from elsewhere only: any raster there is a mask."""
    other = sort_files(files)
    rasters = tuple(file for file in files if file.path.suffix.lower() in RASTERS)
    masks = other.masks or rasters
    return replace(found, masks=masks, vectors=other.vectors, annotations=other.annotations)


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.json").is_file() and ((folder / "history.csv").is_file() or Run(folder).model.is_file())


def _digits(text: str, count: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=count // 2).hexdigest()


def _content(place: Place) -> Content:
    """Open a place's files and say what they show."""
    files, problems = place.files, []
    opened: dict[ShelfFile, About] = {}
    for file in files.rasters:
        try:
            opened[file] = _describe(file)
        except SatmaskError as error:
            problems.append(str(error))
    if not opened:
        msg = problems[0] if problems else f"Scene must have a raster, got none for {place.name}."
        raise SettingError(msg)
    grid = next(iter(opened.values()))[0]
    for file in [file for file, (other, *_) in opened.items() if same_grid(grid, other)]:
        problems.append(f"{file.path.name} must share the scene's grid, got {same_grid(grid, opened[file][0])}.")
        del opened[file]
    legend = next(
        (file.open(read_legend_tags) for file in (files.classes, files.probabilities) if file in opened), None
    )
    labels, origin, wrong = place.truths.of(files, grid, legend)
    legend = legend or (labels.legend if labels is not None else None)
    layers = _raster_layers(place, opened, legend) + _truth_layers(place, labels, origin)
    layers += _computed_layers(place, layers)
    if files.polygons:
        layers.append(_layer(place, "polygons", "Polygons", legend=legend, file=files.polygons))
    coarsest = min(about[3] for about in opened.values())
    return Content(grid, tuple(layers), legend, (*problems, *wrong), coarsest)


def _describe(file: ShelfFile) -> About:
    """Grid, bands, data type, and how coarse its tiles may be."""
    with file.open(Scene, Scene.close) as scene:
        about = scene.grid, scene.bands, scene.dtype
    with HANDLES.use(file) as raster:
        return *about, raster.coarsest


def _raster_layers(place: Place, opened: dict[ShelfFile, About], legend: Legend | None) -> list[Layer]:
    files = place.files
    kinds: list[tuple[Kind, str, ShelfFile | None]] = [
        ("image", "Image", files.image),
        ("classes", "Classes", files.classes),
        ("probabilities", "Probabilities", files.probabilities),
        ("uncertainty", "Uncertainty", files.uncertainty),
    ]
    return [
        _layer(place, kind, title, legend=legend, bands=opened[file][1], dtype=opened[file][2], file=file)
        for kind, title, file in kinds
        if file in opened
    ]


def _truth_layers(place: Place, labels: Labels | None, origin: ShelfFile | None) -> list[Layer]:
    if labels is None:
        return []
    return [_layer(place, "truth", "Truth", legend=labels.legend, file=origin, labels=labels)]


def _computed_layers(place: Place, layers: Sequence[Layer]) -> list[Layer]:
    """Errors, where there are classes and truth; uncertainty, where there is no file of it."""
    first = {layer.kind: layer for layer in reversed(layers)}
    computed = []
    if "uncertainty" not in first and "probabilities" in first and first["probabilities"].legend:
        parts = (first["probabilities"],)
        computed.append(_layer(place, "uncertainty", "Uncertainty", legend=parts[0].legend, parts=parts))
    if "classes" in first and "truth" in first:
        both = (first["classes"], first["truth"])
        computed.append(_layer(place, "error", "Errors", legend=both[1].legend, parts=both))
    return computed


def _layer(place: Place, kind: Kind, title: str, **about: object) -> Layer:
    return Layer(place.id + _digits(f"{place.name}:{kind}", 8), kind, title, **about)  # type: ignore[arg-type]
