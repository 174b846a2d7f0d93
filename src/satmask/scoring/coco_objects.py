"""Objects of a result file: found, missed, split and merged, tile by tile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.datasets.repair import polygonal, repair
from satmask.legend import Legend
from satmask.masks import decode_coco, polygonise
from satmask.scoring.coco_checks import Json, check_pair, read_json
from satmask.scoring.comparisons import Objects
from satmask.scoring.objects import ObjectScore, score_objects


def compare_coco(predictions: Json, truth: Json, *, keep_best: bool = False) -> dict[str, ObjectScore]:
    """Score the objects of each tile of a result file. All detections count alike, whatever their score; crowds don't.

    Args:
        predictions: See `satmask.scoring.coco.score_coco`.
        truth: See `satmask.scoring.coco.score_coco`.
        keep_best: See `satmask.scoring.coco.score_coco`.

    Returns:
        The counts of each tile, by the name of its file without suffix, or else by its id.

    Raises:
        DataError: If an entry is unusable; the message names it.

    Examples:
        >>> tile = {"id": 1, "file_name": "000000000001.jpg", "width": 9, "height": 9}
        >>> house = {"image_id": 1, "category_id": 100, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        >>> truth = {"images": [tile], "categories": [{"id": 100}], "annotations": [{"id": 7} | house]}
        >>> compare_coco([house | {"score": 0.9}], truth)["000000000001"].f1().tolist()
        [1.0]
    """
    content = read_json(truth, "Truth")
    tiles, cleaned, detections = check_pair(predictions, content, keep_best=keep_best)
    names = {tile["id"]: Path(tile.get("file_name", "")).stem or str(tile["id"]) for tile in content["images"]}
    titles = {entry["id"]: str(entry.get("name", entry["id"])) for entry in content["categories"]}
    legend = Legend.of(dict(sorted(titles.items())))
    true = _by_tile([entry for entry in cleaned["annotations"] if not entry["iscrowd"]], tiles)
    said = _by_tile(detections, tiles)
    return {
        names[id_]: score_objects(true.get(id_, {}), said.get(id_, {}), legend, shape=shape)
        for id_, shape in tiles.items()
    }


def _by_tile(entries: list[dict[str, Any]], tiles: Mapping[int, tuple[int, int]]) -> dict[int, Objects]:
    """Objects by tile and category; parts beyond the tile are cut off, and what has no area falls away."""
    found: dict[int, Objects] = {}
    for entry in entries:
        height, width = tiles[entry["image_id"]]
        shape = shapely.intersection(_outline(entry["segmentation"]), shapely.box(0, 0, width, height))
        if parts := polygonal(shape):
            whole = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
            found.setdefault(entry["image_id"], {}).setdefault(entry["category_id"], []).append(whole)
    return found


def _outline(segmentation: Any) -> BaseGeometry:
    if isinstance(segmentation, dict):
        return shapely.MultiPolygon(polygonise(decode_coco(segmentation)))
    rings = [shapely.Polygon(np.asarray(ring, np.float64).reshape(-1, 2)) for ring in segmentation]
    return repair(shapely.MultiPolygon(rings)).geometry
