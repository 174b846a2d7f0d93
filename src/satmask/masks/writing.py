"""Codes written: rows of CSV tables as on Kaggle, and annotations in COCO's format."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely

from satmask.legend import Legend
from satmask.masks.coco_codes import write_coco
from satmask.masks.kaggle_codes import write_kaggle
from satmask.masks.runs import Order, Runs
from satmask.masks.tracing import outlines

COLUMNS = ("image", "class", "code", "height", "width")


def kaggle_rows(
    name: str, masks: np.ndarray, legend: Legend, *, order: Order = "row", objects: bool = False
) -> Iterator[tuple[str, str, str, int, int]]:
    """Rows of a CSV table for one image: `COLUMNS`.

    Args:
        name: The image.
        masks: A mask a class, `(height, width, classes)`.
        legend: The classes.
        order: How pixels are counted.
        objects: A row for each group of pixels that share edges, rather than one for each class.

    Yields:
        Rows by class; a class without a pixel has a row without a code, unless there is a row for each object.
    """
    runs, labels = _runs_of(masks, legend, order, objects=objects)
    for code, label in zip(write_kaggle(runs), labels, strict=True):
        yield name, legend.names[legend.channel(label)], code, *runs.shape


def coco_annotations(
    masks: np.ndarray, legend: Legend, *, objects: bool = False, compressed: bool = True
) -> list[dict[str, Any]]:
    """Annotations of one image in run-length codes: category, area, bounding box and code.

    Args:
        masks: A mask a class, `(height, width, classes)`.
        legend: The classes.
        objects: An annotation for each group of pixels that share edges, rather than one for each class.
        compressed: See `masks.encode_coco`.

    Returns:
        Annotations without ids, for `coco_content`; none for classes without a pixel.
    """
    runs, labels = _runs_of(masks, legend, "column", objects=objects)
    parts = zip(labels, runs.areas.tolist(), runs.boxes.tolist(), write_coco(runs, compressed=compressed), strict=True)
    return [_annotation(label, area, box, code) for label, area, box, code in parts if area]


def coco_outlines(masks: np.ndarray, legend: Legend) -> list[dict[str, Any]]:
    """Annotations of one image in polygons: one for each group of pixels that share edges.

    COCO's polygons know no holes, so regions with holes are written as run-length codes: nothing is lost.

    Args:
        masks: A mask a class, `(height, width, classes)`.
        legend: The classes.

    Returns:
        Annotations without ids, for `coco_content`.
    """
    found = coco_annotations(masks, legend, objects=True)
    for annotation, polygon in zip(found, _traced(_regions(masks)), strict=True):
        if not len(polygon.interiors):
            # The last point of a ring repeats the first, which readers close a ring with themselves.
            annotation["segmentation"] = [shapely.get_coordinates(polygon)[:-1].astype(int).ravel().tolist()]
    return found


def coco_content(
    tiles: Iterable[tuple[str, tuple[int, int], list[dict[str, Any]]]], legend: Legend
) -> dict[str, list[dict[str, Any]]]:
    """Put the annotations of several images together as COCO has them; ids count from 1.

    Args:
        tiles: Name, `(height, width)` and annotations of each image.
        legend: The classes.

    Returns:
        `categories`, `images` and `annotations`, fit for JSON.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, (height, width), entries) in enumerate(tiles, start=1):
        images.append({"id": number, "file_name": name, "height": int(height), "width": int(width)})
        for entry in entries:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    return {
        "categories": [{"id": entry.id, "name": entry.name} for entry in legend],
        "images": images,
        "annotations": annotations,
    }


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV table under `COLUMNS`, as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, which appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _runs_of(masks: np.ndarray, legend: Legend, order: Order, *, objects: bool) -> tuple[Runs, list[int]]:
    """Runs of each class or each object, and the class id of each."""
    if not objects:
        return Runs.of(masks, order=order), list(legend.ids)
    regions = _regions(masks)
    found = [Runs.of_labels(numbered, count, order=order) for numbered, count in regions]
    labels = [id_ for id_, (_, count) in zip(legend.ids, regions, strict=True) for _ in range(count)]
    starts, lengths, numbers = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("starts", "lengths", "numbers")
    )
    return Runs(starts, lengths, numbers, found[0].shape, order), labels


def _regions(masks: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Of each class, the groups of pixels that share edges, numbered from 1, and how many there are."""
    planes = [np.ascontiguousarray(masks[..., channel] != 0).view(np.uint8) for channel in range(masks.shape[2])]
    numbered = [cv2.connectedComponents(plane, connectivity=4, ltype=cv2.CV_32S) for plane in planes]
    return [(labels, count - 1) for count, labels in numbered]


def _traced(regions: Iterable[tuple[np.ndarray, int]]) -> Iterator[shapely.Polygon]:
    """The polygon of each region, in the order of their numbers."""
    for labels, _ in regions:
        polygons, values = outlines(labels)
        yield from polygons[np.argsort(values)]


def _annotation(label: int, area: int, box: list[int], code: dict[str, Any]) -> dict[str, Any]:
    return {"category_id": label, "iscrowd": 0, "area": area, "bbox": box, "segmentation": code}
