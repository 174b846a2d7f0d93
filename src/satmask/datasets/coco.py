"""The crowdAI layout: `images/` and `annotation.json` in COCO's format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import shapely

from satmask.datasets.dataset import Problem, Sample, place_of
from satmask.datasets.tile_names import tile_bounds
from satmask.errors import DataError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.masks import FARTHEST_PX, decode_coco, polygonise

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

ANNOTATIONS = ("annotation.json", "annotations.json", "annotation-small.json")
LARGEST = 1_000_000  # side of a tile, in pixels: more is a slip, and would ask for more memory than there is


def read_coco(folder: Path, legend: Legend | None = None) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Read tiles and their polygons.

    Bounding boxes are not trusted: the polygon counts, and a box that differs is a warning. Annotations with `iscrowd`
    are regions to be ignored.

    Args:
        folder: Holds `images/` and one of `ANNOTATIONS`.
        legend: Colours and names for the categories; by default made from the file's categories.

    Returns:
        Samples, legend and problems. Broken tiles and annotations are left out and reported.

    Raises:
        DataError: If the annotation file isn't COCO's format at all.
    """
    path = next(folder / name for name in ANNOTATIONS if (folder / name).is_file())
    content = _load(path)
    legend = legend or _legend(content["categories"], path)
    problems: list[Problem] = []
    tiles = _tiles(content["images"], folder / "images", problems)
    shapes: dict[int, list[tuple[int, BaseGeometry]]] = {key: [] for key in tiles}
    for annotation in _unique(content["annotations"], "Annotation", problems):
        _read_annotation(annotation, tiles, legend, shapes, problems)
    samples = tuple(
        Sample(
            name=file.stem,
            image=file,
            shape=shape,
            labels=PolygonLabels(
                legend, shape, [geometry for _, geometry in shapes[key]], [channel for channel, _ in shapes[key]]
            ),
            place=place_of(file.stem),
            bounds=tile_bounds(file.stem),
        )
        for key, (file, shape) in tiles.items()
    )
    return samples, legend, problems


def sound_content(folder: Path, legend: Legend) -> dict[str, Any]:
    """Read an annotation file as it is, without the images and annotations that `read_coco` can't use.

    Args:
        folder: Holds `images/` and one of `ANNOTATIONS`.
        legend: The classes.

    Raises:
        DataError: If the annotation file isn't COCO's format at all.
    """
    content = _load(next(folder / name for name in ANNOTATIONS if (folder / name).is_file()))
    problems: list[Problem] = []
    tiles = _tiles(content["images"], folder / "images", problems)
    sound = []
    for annotation in _unique(content["annotations"], "Annotation", problems):
        here: dict[int, list[tuple[int, BaseGeometry]]] = {
            key: [] for key in (annotation.get("image_id"),) if _whole(key)
        }
        _read_annotation(annotation, tiles, legend, here, problems)
        if any(here.values()):
            sound.append(annotation)
    images = [image for image in _unique(content["images"], "Image", []) if image["id"] in tiles]
    return content | {"images": images, "annotations": sound}


def _load(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"Annotation file must be JSON, got {error} in {path}."
        raise DataError(msg) from error
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            msg = f"Annotation file must list {key!r} as COCO does, got {type(entries).__name__} in {path}."
            raise DataError(msg)
    return dict(content)


def _legend(categories: Iterable[dict[str, Any]], path: Path) -> Legend:
    try:
        return Legend.of({int(entry["id"]): str(entry["name"]) for entry in categories})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"Categories must have an id of 1 to 65534 and a name, got {error} in {path}."
        raise DataError(msg) from error


def _whole(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is a whole number: Python counts True as one."""
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(entries: Iterable[dict[str, Any]], noun: str, problems: list[Problem]) -> Iterable[dict[str, Any]]:
    seen: set[Any] = set()
    for entry in entries:
        key = entry.get("id")
        if not _whole(key) or key in seen:
            wrong = "has the id of another" if _whole(key) else "has no whole number as id"
            problems.append(Problem(f"{noun} {key}", f"{noun} {key!r} {wrong}."))
            continue
        seen.add(key)
        yield entry


def _tiles(
    images: list[dict[str, Any]], folder: Path, problems: list[Problem]
) -> dict[int, tuple[Path, tuple[int, int]]]:
    there = {path.name for path in folder.iterdir()}
    tiles: dict[int, tuple[Path, tuple[int, int]]] = {}
    names: set[str] = set()
    for image in _unique(images, "Image", problems):
        name, height, width = image.get("file_name"), image.get("height"), image.get("width")
        if not isinstance(name, str) or name not in there:
            problems.append(Problem(str(name), f"Tile {name!r} of image {image['id']} is missing from {folder.name}/."))
        elif name in names:
            problems.append(Problem(str(name), f"Tile {name!r} is named by two images, the second is {image['id']}."))
        elif not (_whole(height) and 0 < height <= LARGEST and _whole(width) and 0 < width <= LARGEST):
            what = f"Tile {name!r} must have a height and a width of 1 to {LARGEST:,}, got {height!r:.20} and {width!r:.20}."
            problems.append(Problem(name, what))
        else:
            names.add(name)
            tiles[image["id"]] = (folder / name, (height, width))
    return tiles


def _read_annotation(
    annotation: dict[str, Any],
    tiles: dict[int, tuple[Path, tuple[int, int]]],
    legend: Legend,
    shapes: dict[int, list[tuple[int, BaseGeometry]]],
    problems: list[Problem],
) -> None:
    """Add an annotation's polygons to its tile, or say what is wrong with it."""
    key, category = annotation.get("image_id"), annotation.get("category_id")
    tile = tiles.get(key) if _whole(key) else None
    if tile is None:
        where = f"Annotation {annotation['id']} of image {key!r}"
        problems.append(Problem(where, f"{where} has no usable tile."))
        return
    where = f"Annotation {annotation['id']} of tile {tile[0].name}"
    if not _whole(category) or category not in legend.ids:
        known = ", ".join(map(str, legend.ids))
        problems.append(Problem(where, f"{where} has category {category!r}, which isn't one of {known}."))
        return
    geometry = _geometry(annotation.get("segmentation"), tile[1])
    if isinstance(geometry, str):
        problems.append(Problem(where, f"{where} {geometry}."))
        return
    if wrong := _box_problem(annotation.get("bbox"), geometry):
        problems.append(Problem(where, f"{where} {wrong}.", "warning", "bbox"))
    channel = -1 if annotation.get("iscrowd") else legend.channel(category)
    shapes[annotation["image_id"]].append((channel, geometry))


def _geometry(segmentation: Any, shape: tuple[int, int]) -> BaseGeometry | str:
    """Polygons of a segmentation in pixel coordinates, or what is wrong with it."""
    if isinstance(segmentation, dict):
        return _decode(segmentation, shape)
    if not isinstance(segmentation, list) or not segmentation:
        return "has no segmentation"
    rings = []
    for ring in segmentation:
        points = _points(ring, shape)
        if isinstance(points, str):
            return points
        rings.append(shapely.Polygon(points))
    return rings[0] if len(rings) == 1 else shapely.MultiPolygon(rings)


def _points(ring: Any, shape: tuple[int, int]) -> np.ndarray | str:
    if not isinstance(ring, list) or not all(isinstance(value, float) or _whole(value) for value in ring):
        return "has a segmentation that isn't a list of numbers"
    if len(ring) % 2:
        return f"has an odd number of coordinates, {len(ring)}"
    if len(ring) < 6:
        return f"has a ring of {len(ring) // 2} points, fewer than three"
    # Polygons may hang over the edge a little; a tile's width beyond it, the number is broken.
    largest = 2 * max(shape)
    for value in ring:
        if not abs(value) <= largest:  # whole numbers of JSON can be too large for a float, so they are compared first
            if abs(value) <= FARTHEST_PX:
                return f"has a coordinate of {value:g} in a tile of {shape[1]} × {shape[0]}"
            return f"has a {'NaN' if value != value else 'huge or infinite'} coordinate"  # noqa: PLR0124  # only NaN differs from itself
    return np.asarray(ring, np.float64).reshape(-1, 2)


def _decode(code: dict[str, Any], shape: tuple[int, int]) -> BaseGeometry | str:
    """Polygons of a run-length code."""
    if code.get("size") != list(shape):
        return f"has a run-length code of size {code.get('size')!r} in a tile of {shape[0]} × {shape[1]}"
    counts = code.get("counts")
    try:
        if isinstance(counts, list) and sum(counts) != shape[0] * shape[1]:
            return f"has a run-length code of {sum(counts)} pixels in a tile of {shape[0]} × {shape[1]}"
        parts = polygonise(decode_coco(code))
    except (DataError, TypeError, ValueError, MemoryError) as error:
        return f"has a run-length code that can't be decoded ({error})"
    return shapely.MultiPolygon(parts) if parts else "has a run-length code without a pixel"


def _box_problem(box: Any, geometry: BaseGeometry) -> str:
    """What is wrong with a bounding box; empty where it fits to a pixel or is left out."""
    if box is None:
        return ""
    west, north, east, south = geometry.bounds
    want = [west, north, east - west, south - north]
    try:
        fits = len(box) == 4 and np.allclose(np.asarray(box, np.float64), want, atol=1.01)
    except (TypeError, ValueError, OverflowError):
        fits = False
    return "" if fits else f"has bbox {box!s:.80}, but its polygon spans {[round(value, 2) for value in want]}"
