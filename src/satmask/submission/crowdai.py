"""The result file of the crowdAI Mapping Challenge: predicted masks to a list of detections."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely

from satmask.decisions import Decision
from satmask.errors import DataError, SettingError
from satmask.masks import encode_coco, outlines
from satmask.rasters import read_legend_tags
from satmask.scene import Scene
from satmask.scoring.coco_checks import MOST_DETECTIONS, check_detections, read_json, tile_sizes
from satmask.separation import separate
from satmask.windows import Window

BUILDING = 100
Scoring = Literal["mean", "mean_sqrt_area"]


@dataclass(frozen=True)
class PredictedTile:
    """What was predicted for one tile.

    Attributes:
        image_id: The tile's id in the challenge.
        mask: Where buildings are, bool, `(height, width)`.
        probabilities: Probability of a building, float, `(height, width)`, 0 to 1; None where only the mask is known.
        depth_px: Depth at which buildings that touch are parted, see `satmask.separation`; 0 where they aren't.
    """

    image_id: int
    mask: np.ndarray
    probabilities: np.ndarray | None = None
    depth_px: float = 0.0


def crowdai_results(
    tiles: Iterable[PredictedTile], *, score: Scoring = "mean", segmentation: Literal["rle", "polygons"] = "rle"
) -> list[dict[str, Any]]:
    """List the buildings of tiles as detections; a building is a group of pixels that share edges, or a part of one.

    Args:
        tiles: The predictions.
        score: `mean` probability over a building's pixels; or `mean_sqrt_area`, that times the square root of its
            pixels, with which the challenge was won: large buildings are surer than their probability says.
        segmentation: `rle` holds every building to the pixel; `polygons` are outlines without their holes.

    Returns:
        The entries of a result file: of each tile the 100 best at most, by falling score.

    Examples:
        >>> mask = np.array([[1, 1, 0], [0, 0, 1]], bool)
        >>> [(entry["bbox"], entry["score"]) for entry in crowdai_results([PredictedTile(7, mask)])]
        [([0, 0, 2, 1], 1.0), ([2, 1, 1, 1], 1.0)]

    References:
        neptune.ai, "open-solution-mapping-challenge", https://github.com/neptune-ai/open-solution-mapping-challenge
    """
    if score not in ("mean", "mean_sqrt_area") or segmentation not in ("rle", "polygons"):
        msg = f"Score must be mean or mean_sqrt_area and segmentation rle or polygons, got {score!r}, {segmentation!r}."
        raise SettingError(msg)
    return [entry for tile in tiles for entry in _detections(tile, score=score, polygons=segmentation == "polygons")]


def write_crowdai(
    path: str | Path,
    tiles: Iterable[PredictedTile],
    *,
    truth: str | Path | Mapping[str, Any] | None = None,
    score: Scoring = "mean",
    segmentation: Literal["rle", "polygons"] = "rle",
) -> int:
    """Write the challenge's result file; it is read again and checked before it gets its name.

    Args:
        path: The file to write, usually named `.json`.
        tiles: The predictions, as `find_tiles` finds them.
        truth: Annotation file of the tiles, or its content: ids and sizes are then checked against it.
        score: See `crowdai_results`.
        segmentation: See `crowdai_results`.

    Returns:
        Detections written.

    Raises:
        DataError: If a tile isn't in the truth or has another size there, or occurs twice.
    """
    path = Path(path)
    known = None if truth is None else tile_sizes(read_json(truth, "Truth"))
    sizes: dict[int, tuple[int, int]] = {}
    entries = crowdai_results(_noted(tiles, sizes, known), score=score, segmentation=segmentation)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(entries, separators=(",", ":")), encoding="utf-8")
        checked = check_detections(read_json(partial, "Result file"), sizes, (BUILDING,))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(checked)


def find_tiles(
    folder: str | Path,
    *,
    truth: str | Path | Mapping[str, Any] | None = None,
    class_id: int | None = None,
    channel: int | None = None,
) -> Iterator[PredictedTile]:
    """Find the tiles that `satmask predict` wrote, one at a time: `<name>.classes.tif`, `<name>.probabilities.tif`.

    A tile's id is looked up by name in the annotation file; without one, the name has to be the id in 12 digits, as the
    challenge's are.

    Args:
        folder: Where the predictions are.
        truth: Annotation file with the tiles' names and ids, or its content.
        class_id: The class that stands for buildings; by default the only one that a raster holds.
        channel: Its band among several in the probabilities, from 0.

    Yields:
        The tiles in order of name; without probabilities where that file isn't there.

    Raises:
        DataError: If there are no tiles, one has no id, or it isn't clear which class or band is meant.
    """
    ids = None if truth is None else _ids_by_name(read_json(truth, "Truth"))
    paths = sorted(Path(folder).glob("*.classes.tif"))
    if not paths:
        msg = f"Folder must hold tiles named <name>.classes.tif, got none in {str(folder)!r}."
        raise DataError(msg)
    for path in paths:
        name = path.name.removesuffix(".classes.tif")
        mask = _read_mask(path, class_id, channel)
        probabilities = path.with_name(f"{name}.probabilities.tif")
        said = _read_probabilities(probabilities, channel) if probabilities.exists() else None
        yield PredictedTile(_image_id(name, ids), mask, said, _read_depth(path, class_id))


def _detections(tile: PredictedTile, *, score: Scoring, polygons: bool) -> list[dict[str, Any]]:
    labels, boxes = _objects(np.asarray(tile.mask, bool), tile.depth_px)
    count = len(boxes)
    if count == 1:
        return []
    pixels = np.bincount(labels.ravel(), minlength=count)
    scores = np.ones(count)
    if tile.probabilities is not None:
        if tile.probabilities.shape != labels.shape:
            msg = f"Probabilities must be {labels.shape}, got {tile.probabilities.shape} in tile {tile.image_id}."
            raise DataError(msg)
        sums = np.bincount(labels.ravel(), tile.probabilities.ravel().astype(np.float64), minlength=count)
        scores = sums / np.maximum(pixels, 1)
    if score == "mean_sqrt_area":
        scores = scores * np.sqrt(pixels)
    best = np.argsort(-scores[1:], kind="stable")[:MOST_DETECTIONS] + 1
    drawn = _rings(labels) if polygons else {}
    return [
        {
            "image_id": int(tile.image_id),
            "category_id": BUILDING,
            "bbox": boxes[label].tolist(),
            "segmentation": drawn[label] if polygons else encode_coco(labels == label),
            "score": float(scores[label]),
        }
        for label in best.tolist()
    ]


def _objects(mask: np.ndarray, depth_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Number the buildings of a mask from 1; and the box of each, and of number 0: column, row, width, height."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    if not depth_px or count == 1:
        return labels, stats[:, :4]
    labels = separate(mask, depth=depth_px)
    rows, columns = np.nonzero(labels)
    numbers, points = labels[rows, columns], np.stack([columns, rows], axis=1)
    low = np.full((int(labels.max()) + 1, 2), max(mask.shape))
    high = np.zeros_like(low)
    np.minimum.at(low, numbers, points)
    np.maximum.at(high, numbers, points + 1)
    return labels, np.concatenate([low, high - low], axis=1)


def _rings(labels: np.ndarray) -> dict[int, list[list[int]]]:
    polygons, values = outlines(labels)
    shells = shapely.get_exterior_ring(polygons)
    return {
        label: [shapely.get_coordinates(shell).astype(int).ravel().tolist()]
        for label, shell in zip(values.tolist(), shells, strict=True)
    }


def _noted(
    tiles: Iterable[PredictedTile], sizes: dict[int, tuple[int, int]], known: Mapping[int, tuple[int, int]] | None
) -> Iterator[PredictedTile]:
    """Pass tiles on, note their sizes, and refuse what doesn't fit the truth."""
    for tile in tiles:
        size = (int(tile.mask.shape[0]), int(tile.mask.shape[1]))
        if tile.image_id in sizes:
            msg = f"Tile must be predicted once, got {tile.image_id} a second time."
            raise DataError(msg)
        if known is not None and known.get(tile.image_id) != size:
            want = known.get(tile.image_id, "no such tile")
            msg = f"Tile must be as in the truth ({want}), got {size} for tile {tile.image_id}."
            raise DataError(msg)
        sizes[tile.image_id] = size
        yield tile


def _ids_by_name(truth: Any) -> dict[str, int]:
    tile_sizes(truth)  # refuses broken entries by name
    return {Path(str(entry.get("file_name", entry["id"]))).stem: int(entry["id"]) for entry in truth["images"]}


def _image_id(name: str, ids: Mapping[str, int] | None) -> int:
    if ids is not None:
        if name not in ids:
            msg = f"Tile must be among the {len(ids)} of the annotation file, got {name!r}."
            raise DataError(msg)
        return ids[name]
    if not re.fullmatch(r"[0-9]{12}", name):
        msg = f"Tile must be named by its id in 12 digits, got {name!r}. Give the annotation file to look it up."
        raise DataError(msg)
    return int(name)


def _read_mask(path: Path, class_id: int | None, channel: int | None) -> np.ndarray:
    with Scene(path) as scene:
        values = scene.read(Window(0, 0, *scene.grid.shape)).values
    if values.shape[2] > 1:
        return np.asarray(_band(values, channel, path) != 0)
    ids = values[..., 0]
    if class_id is None:
        found = np.setdiff1d(ids, 0).tolist()
        if len(found) > 1:
            msg = f"Class must be chosen where there are several, got {found[:9]} in {path.name}. Give its id."
            raise DataError(msg)
        return np.asarray(ids != 0)
    return np.asarray(ids == class_id)


def _read_depth(path: Path, class_id: int | None) -> float:
    """The depth at which buildings are parted, as the raster says; 0 where it isn't clear which class they are."""
    legend = read_legend_tags(path)
    if (
        legend is None
        or (class_id is None and len(legend) > 1)
        or (class_id is not None and class_id not in legend.ids)
    ):
        return 0.0
    with Scene(path) as scene:
        depths = Decision.from_tags(scene.tags, legend).depths_px(scene.grid.gsd_m)
    return float(depths[0 if class_id is None else legend.channel(class_id)])


def _read_probabilities(path: Path, channel: int | None) -> np.ndarray:
    with Scene(path) as scene:
        values = _band(scene.read(Window(0, 0, *scene.grid.shape)).values, channel, path)
    if values.dtype.kind in "ui":
        return np.asarray(values / np.iinfo(values.dtype).max)
    return values


def _band(values: np.ndarray, channel: int | None, path: Path) -> np.ndarray:
    count = values.shape[2]
    if count == 1:
        return values[..., 0]
    if channel is None or not 0 <= channel < count:
        msg = f"Channel must be 0 to {count - 1} where there are several bands, got {channel} for {path.name}."
        raise DataError(msg)
    return values[..., channel]
