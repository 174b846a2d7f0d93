"""Sorting files by what they are: which belong to one scene, by their names and folders; nothing is opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from satmask.datasets.coco import ANNOTATIONS
from satmask.datasets.legend_file import NAMES
from satmask.datasets.pairs import FOLDERS, key_of
from satmask.datasets.scenes import LABELS, is_mask
from satmask.scene_lists import MARKS
from satmask.viewing.files import RASTERS, VECTORS, ShelfFile


@dataclass(frozen=True)
class Found:
    """The files of a scene.

    Attributes:
        name: What it is called, unique on the shelf.
        folder: Where its first file lies.
        image: The scene itself.
        classes: What `satmask predict` wrote, as are the next three.
        probabilities: One band a class.
        uncertainty: One band.
        polygons: A vector file.
    """

    name: str
    folder: Path
    image: ShelfFile | None = None
    classes: ShelfFile | None = None
    probabilities: ShelfFile | None = None
    uncertainty: ShelfFile | None = None
    polygons: ShelfFile | None = None

    @property
    def stem(self) -> str:
        """The scene's name without its folder: what labels are called after."""
        return self.image.path.stem if self.image else self.name.rpartition("/")[2]

    @property
    def rasters(self) -> tuple[ShelfFile, ...]:
        """Its rasters, the image first."""
        files = (self.image, self.classes, self.probabilities, self.uncertainty)
        return tuple(file for file in files if file is not None)


@dataclass(frozen=True)
class Sorted:
    """What files are, see `sort_files`.

    Attributes:
        scenes: Scenes, by name.
        masks: Rasters of class ids or colours that are the truth of a scene.
        vectors: Vector files that may be truth.
        annotations: COCO's files.
        legends: Legend files by their folder.
    """

    scenes: tuple[Found, ...]
    masks: tuple[ShelfFile, ...]
    vectors: tuple[ShelfFile, ...]
    annotations: tuple[ShelfFile, ...]
    legends: dict[Path, ShelfFile]


def sort_files(files: Iterable[ShelfFile], *, more_images: Sequence[ShelfFile] = ()) -> Sorted:
    """Sort files by what they are.

    `NAME.classes.tif`, `NAME.probabilities.tif`, `NAME.uncertainty.tif` and a vector file of the same name in the same
    folder are a prediction; it is of the image `NAME` in its folder, else of one of that name anywhere. Images without a
    prediction are scenes by themselves. Masks are told as data sets tell them: by name, or by a folder such as `masks/`.

    Args:
        files: Files.
        more_images: Images that predictions may be of, which are no scenes by themselves.
    """
    files = list(files)
    rasters = [file for file in files if file.path.suffix.lower() in RASTERS]
    folders = {file.path.parent for file in rasters}
    masks = [file for file in rasters if is_mask(file.path) or _in_mask_folder(file.path, folders)]
    marked = {file: mark for file in rasters for mark in MARKS if file.path.stem.endswith(mark)}
    images = [file for file in rasters if file not in marked and file not in masks]
    vectors = [file for file in files if file.path.suffix.lower() in VECTORS]
    predictions = _predictions(marked, vectors)
    scenes = [replace(one, image=_image_of(one, [*images, *more_images])) for one in predictions]
    used = {one.image for one in scenes}
    scenes += _alone([image for image in images if image not in used], images)
    taken = {one.polygons for one in scenes}
    return Sorted(
        tuple(sorted(scenes, key=lambda one: one.name)),
        tuple(masks),
        tuple(file for file in vectors if file not in taken),
        tuple(file for file in files if file.path.name in ANNOTATIONS),
        {file.path.parent: file for file in reversed(files) if file.path.name in NAMES},
    )


def _in_mask_folder(path: Path, folders: set[Path]) -> bool:
    return any(path.parent.name == masks and path.parent.with_name(images) in folders for images, masks in FOLDERS)


def _predictions(marked: dict[ShelfFile, str], vectors: Sequence[ShelfFile]) -> list[Found]:
    """Predictions, still without their images."""
    found: dict[tuple[Path, str], dict[str, ShelfFile]] = {}
    for file, mark in marked.items():
        stem = file.path.stem.removesuffix(mark)
        found.setdefault((file.path.parent, stem), {}).setdefault(mark.removeprefix("."), file)
    for vector in vectors:
        parts = found.get((vector.path.parent, vector.path.stem))
        if parts is not None:
            parts.setdefault("polygons", vector)
    return [Found(_name(next(iter(parts.values())), stem), folder, **parts) for (folder, stem), parts in found.items()]


def _name(file: ShelfFile, stem: str) -> str:
    folder = file.name.rpartition("/")[0]
    return f"{folder}/{stem}" if folder else stem


def _image_of(scene: Found, images: Sequence[ShelfFile]) -> ShelfFile | None:
    stem = scene.name.rpartition("/")[2]
    named = [image for image in images if image.path.stem == stem]
    beside = [image for image in named if image.path.parent == scene.folder]
    return next(iter([*beside, *named]), None)


def _alone(images: Sequence[ShelfFile], every: Sequence[ShelfFile]) -> list[Found]:
    """Images without a prediction; where two differ in their suffix only, it is part of their names."""
    names = [_name(image, image.path.stem) for image in every]
    found = []
    for image in images:
        name = _name(image, image.path.stem)
        found.append(Found(name if names.count(name) == 1 else image.name, image.path.parent, image))
    return found


def truth_mask(scene: Found, masks: Sequence[ShelfFile]) -> ShelfFile | None:
    """The mask of a scene: of its name, in its folder or beside it, else anywhere; never the scene itself."""
    key, own = key_of(scene.stem), scene.image.path.resolve() if scene.image else None
    named = [mask for mask in masks if key_of(mask.path.stem) == key and mask.path.resolve() != own]
    near = {scene.folder, scene.image.path.parent} if scene.image else {scene.folder}
    beside = [
        mask for mask in named if mask.path.parent in near or mask.path.parent.parent in {at.parent for at in near}
    ]
    return next(iter([*beside, *named]), None)


def truth_vectors(scene: Found, vectors: Sequence[ShelfFile]) -> list[ShelfFile]:
    """The vector files that tell the truth of a scene, as the layout of scenes has it.

    Labels of its own (`NAME.labels.gpkg`) come first, then the file whose name the scene's begins with, then all of its
    folder that aren't another scene's own.
    """
    own = [file for file in vectors if file.path.stem == scene.stem + LABELS]
    if own:
        return own[:1]
    vectors = [file for file in vectors if not file.path.stem.endswith(LABELS)]
    named = [file for file in vectors if scene.stem.startswith(file.path.stem)]
    if named:
        return [max(named, key=lambda file: len(file.path.stem))]
    folder = scene.image.path.parent if scene.image else scene.folder
    return [file for file in vectors if file.path.parent == folder]
