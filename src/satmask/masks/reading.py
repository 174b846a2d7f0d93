"""Files of codes read tile by tile: CSV tables as on Kaggle, and annotations in COCO's format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satmask.errors import DataError
from satmask.legend import Legend
from satmask.masks.classes import class_masks
from satmask.masks.coco_codes import read_coco
from satmask.masks.code_parts import MOST_PX
from satmask.masks.kaggle_codes import read_kaggle
from satmask.masks.runs import Order
from satmask.masks.tracing import rasterise
from satmask.scene import DRIVERS

# What the columns are called elsewhere, in small letters.
NAMES = {
    "image": ("image", "imageid", "image_id", "img", "id"),
    "class": ("class", "classid", "class_id", "classtype", "label", "category"),
    "code": ("code", "encodedpixels", "rle", "rle_mask", "rlemask"),
    "height": ("height",),
    "width": ("width",),
}


@dataclass(frozen=True)
class CodedTile:
    """The masks of one image, as a file of codes has them.

    Attributes:
        name: Name of the image.
        shape: `(height, width)`, or None where the file doesn't say.
        labels: Class id of each mask.
        codes: `start length` pairs as text, COCO codes, or COCO polygons: lists of rings `[x, y, x, y, …]`.
        places: Where in the file each code stands, for errors.
    """

    name: str
    shape: tuple[int, int] | None
    labels: tuple[int, ...]
    codes: tuple[Any, ...]
    places: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The name without folders, and without the suffix of an image file."""
        name = Path(self.name)
        return name.stem if name.suffix.lower() in DRIVERS else name.name


def tile_masks(
    tile: CodedTile, legend: Legend, *, shape: tuple[int, int] | None = None, order: Order = "row"
) -> np.ndarray:
    """Draw the masks of a tile, class by class.

    Args:
        tile: The codes.
        legend: The classes.
        shape: `(height, width)` where the file doesn't say.
        order: How pixels are counted in `start length` pairs.

    Returns:
        bool, `(height, width, classes)`; of polygons, the pixels whose centre they hold.

    Raises:
        DataError: If a code is broken, or the size isn't known.
    """
    size = tile.shape or shape
    if size is None:
        msg = f"Codes must come with a size, got none for image {tile.name!r}. Pass --shape HxW or --images DIR."
        raise DataError(msg)
    masks = np.zeros((*size, len(legend)), np.bool_)
    kinds = [str if isinstance(code, str) else dict if isinstance(code, Mapping) else list for code in tile.codes]
    for kind in dict.fromkeys(kinds):
        chosen = [place for place, found in enumerate(kinds) if found is kind]
        codes, labels = [tile.codes[place] for place in chosen], [tile.labels[place] for place in chosen]
        names = [tile.places[place] for place in chosen]
        if kind is list:
            masks |= _drawn(codes, labels, legend, size, names)
            continue
        runs = read_kaggle(codes, size, order=order, names=names) if kind is str else read_coco(codes, names=names)
        if runs.shape != size:
            msg = (
                f"Run-length code must have the size of its image, {list(size)}, got {list(runs.shape)} in {names[0]}."
            )
            raise DataError(msg)
        masks |= class_masks(runs, labels, legend)
    return masks


def read_code_file(path: str | Path, legend: Legend | None = None) -> tuple[list[CodedTile], Legend]:
    """Read a file of codes: a CSV table, or annotations in COCO's format (`.json`).

    Columns of a CSV are found by name: image, class, code, height and width, or as Kaggle's files call them, such as
    `ImageId` and `EncodedPixels`. Without a class column there is one class.

    Args:
        path: The file.
        legend: The classes, which the file's own are looked up in by name or id; by default they make the legend.

    Returns:
        Tiles in the order of the file, and the legend.

    Raises:
        DataError: If the file can't be read as either, or names a class that the legend doesn't have.
    """
    path = Path(path)
    return _read_json(path, legend) if path.suffix.lower() == ".json" else _read_csv(path, legend)


def _drawn(
    segmentations: Sequence[Any], labels: Sequence[int], legend: Legend, size: tuple[int, int], names: Sequence[str]
) -> np.ndarray:
    """Draw polygons class by class; a broken one is named."""
    masks = np.zeros((*size, len(legend)), np.bool_)
    for label in dict.fromkeys(labels):
        group = [place for place, other in enumerate(labels) if other == label]
        try:
            masks[..., legend.channel(label)] = rasterise([segmentations[place] for place in group], *size) != 0
        except (DataError, TypeError):
            _name_broken([segmentations[place] for place in group], [names[place] for place in group])
            raise
    return masks


def _name_broken(segmentations: Sequence[Any], names: Sequence[str]) -> None:
    """Draw polygons one by one, to find the one that can't be drawn."""
    for segmentation, name in zip(segmentations, names, strict=True):
        try:
            rasterise([segmentation], 1, 1)
        except (DataError, TypeError) as error:
            what = str(error).partition(" in polygon")[0].rstrip(".") if isinstance(error, DataError) else ""
            msg = f"{what or 'Segmentation must be lists of x and y in turn'} in {name}."
            raise DataError(msg) from error


def _read_csv(path: Path, legend: Legend | None) -> tuple[list[CodedTile], Legend]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except (OSError, ValueError, pd.errors.ParserError) as error:
        msg = f"Codes must be a CSV table, got {str(error).strip()!r:.160} in {path.name}."
        raise DataError(msg) from error
    columns = {role: next((c for c in table if str(c).strip().lower() in names), None) for role, names in NAMES.items()}
    wanted = ["image", "code", *(["class"] if legend and len(legend) > 1 else [])]
    if any(columns[role] is None for role in wanted):
        found = ", ".join(map(str, table.columns))
        msg = f"Table of codes must have the columns {', '.join(wanted)}, got {found:.200} in {path.name}."
        raise DataError(msg)
    names = table[columns["image"]].tolist()
    codes = table[columns["code"]].tolist()
    classes = table[columns["class"]].str.strip().tolist() if columns["class"] is not None else ["mask"] * len(table)
    legend = legend or _legend_of(classes)
    labels = _labels(classes, legend, path)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    sizes = [columns["height"], columns["width"]]
    sides = [table[column].tolist() for column in sizes if column is not None]
    return [
        CodedTile(
            name,
            _shape(tuple(side[own[0]] for side in sides), f"row {own[0] + 2} of {path.name}")
            if len(sides) == 2
            else None,
            tuple(labels[row] for row in own),
            tuple(codes[row] for row in own),
            tuple(f"row {row + 2} of {path.name}" for row in own),
        )
        for name, own in rows.items()
    ], legend


def _legend_of(classes: Sequence[str]) -> Legend:
    """Classes of a table: their numbers where they are numbers or `class 7`, else numbered as they come."""
    names = list(dict.fromkeys(classes))
    numbers = [re.fullmatch(r"(?:class )?([0-9]{1,5})", name) for name in names]
    ids = {int(found[1]): name for found, name in zip(numbers, names, strict=True) if found}
    if not names or len(ids) < len(names):
        return Legend.of(names or ["mask"])
    return Legend.of(dict(sorted(ids.items())), exclusive=0 in ids and len(ids) > 1)


def _labels(classes: Sequence[str], legend: Legend, path: Path) -> list[int]:
    """Class ids of names, or of ids written as text."""
    known = {str(id_): id_ for id_ in legend.ids} | dict(zip(legend.names, legend.ids, strict=True))
    if len(legend) == 1:
        known.setdefault("mask", legend.ids[0])
    if unknown := [row for row, name in enumerate(classes) if name not in known]:
        names = ", ".join(legend.names)
        msg = f"Class must be one of {names}, got {classes[unknown[0]]!r:.60} in row {unknown[0] + 2} of {path.name}."
        raise DataError(msg)
    return [known[name] for name in classes]


def _shape(sides: Sequence[Any], place: str) -> tuple[int, int]:
    """`(height, width)` of numbers, or of text."""
    try:
        height, width = (int(side) for side in sides)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1 or height * width >= MOST_PX or any(isinstance(side, bool | float) for side in sides):
        msg = (
            f"Image must have a height and a width, of fewer than {MOST_PX} pixels, got {list(sides)!s:.60} in {place}."
        )
        raise DataError(msg)
    return height, width


def _read_json(path: Path, legend: Legend | None) -> tuple[list[CodedTile], Legend]:
    content = _load(path)
    legend = legend or _categories(content["categories"], path)
    images: dict[Any, dict[str, Any]] = {}
    for image in content["images"]:
        key = image.get("id")
        if not isinstance(key, int | str) or key in images:
            msg = f"Image must have an id of its own, got {key!r:.60} in {path.name}."
            raise DataError(msg)
        images[key] = image
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
    for annotation in content["annotations"]:
        where = f"annotation {annotation.get('id')!r:.20} of {path.name}"
        key, category = annotation.get("image_id"), annotation.get("category_id")
        if not isinstance(key, int | str) or key not in found:
            msg = f"Annotation must belong to an image of the file, got image {key!r:.60} in {where}."
            raise DataError(msg)
        if category not in legend.ids:
            known = ", ".join(map(str, legend.ids))
            msg = f"Annotation must have a category of {known}, got {category!r:.60} in {where}."
            raise DataError(msg)
        found[key].append(annotation)
    return [_coded(images[key], annotations, path) for key, annotations in found.items()], legend


def _coded(image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], path: Path) -> CodedTile:
    name = str(image.get("file_name", image["id"]))
    counted = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    return CodedTile(
        name,
        _shape((image.get("height"), image.get("width")), f"image {name!r:.80} of {path.name}"),
        tuple(annotation["category_id"] for annotation in counted),
        tuple(_segmentation(annotation.get("segmentation")) for annotation in counted),
        tuple(f"annotation {annotation.get('id')!r:.20} of {path.name}" for annotation in counted),
    )


def _segmentation(value: Any) -> Any:
    """A code or rings; anything else becomes rings that are refused by name when they are drawn."""
    return value if isinstance(value, Mapping) or (isinstance(value, list) and value) else [[None]]


def _load(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"Codes must be JSON in COCO's format, got {error!s:.160} in {path.name}."
        raise DataError(msg) from error
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            msg = f"Codes must list {key!r} as COCO does, got {type(entries).__name__} in {path.name}."
            raise DataError(msg)
    return dict(content)


def _categories(entries: Sequence[Mapping[str, Any]], path: Path) -> Legend:
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in entries}
        return Legend.of(names, exclusive=0 in names and len(names) > 1)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"Categories must have an id of 0 to 65534 and a name, got {error} in {path.name}."
        raise DataError(msg) from error
