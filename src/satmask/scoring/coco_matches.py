"""Which detections found something at IoU 0.5, tile by tile: what AP and AR need when tiles are drawn again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from satmask.scoring.coco import IOU, collector_paused, run_evaluator
from satmask.scoring.coco_checks import MOST_DETECTIONS, Json, check_pair

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Category:
    """Detections of a category by falling score, and its truths.

    Attributes:
        tiles: Place of each detection's tile, int64, `(detections,)`.
        found: Whether each found an object of the truth, bool, `(detections,)`.
        truths: Objects of the truth in each tile, int64, `(tiles,)`.
    """

    tiles: np.ndarray
    found: np.ndarray
    truths: np.ndarray


@dataclass(frozen=True, eq=False)
class CocoMatches:
    """Matches of a result file at IoU 0.5.

    Attributes:
        tiles: Image ids, ascending.
        categories: Detections and truths of each category.
    """

    tiles: tuple[int, ...]
    categories: tuple[Category, ...]

    def scores(self, weights: np.ndarray) -> tuple[float, float]:
        """AP and AR at IoU 0.5 when each tile counts as often as its weight says.

        Detections of a tile that counts twice follow one another; detections of equal score keep their order.

        Args:
            weights: How often each tile counts, int64, `(tiles,)`.

        Returns:
            The means over the categories that the tiles hold, 0 to 1; NaN where they hold none.
        """
        found = [_precision_recall(category, weights) for category in self.categories if weights @ category.truths]
        if not found:
            return float("nan"), float("nan")
        precision, recall = np.mean(found, axis=0).tolist()
        return precision, recall


def match_coco(predictions: Json, truth: Json, *, keep_best: bool = False) -> CocoMatches:
    """Find which detections match an object of the truth, as `satmask.scoring.coco.score_coco` does.

    Args:
        predictions: See `score_coco`.
        truth: See `score_coco`.
        keep_best: See `score_coco`.

    Returns:
        The matches.

    Raises:
        DataError: If an entry is unusable; the message names it.

    Examples:
        >>> tile = {"id": 1, "file_name": "000000000001.jpg", "width": 9, "height": 9}
        >>> house = {"image_id": 1, "category_id": 100, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        >>> truth = {"images": [tile], "categories": [{"id": 100}], "annotations": [{"id": 7} | house]}
        >>> match_coco([house | {"score": 0.9}], truth).scores(np.array([1]))
        (1.0, 1.0)
    """
    with collector_paused():
        sizes, cleaned, detections = check_pair(predictions, truth, keep_best=keep_best)
        plain = cleaned | {"annotations": [entry | {"area": 1.0} for entry in cleaned["annotations"]]}
        every = {"area_rng": [[0.0, 1e10]], "area_rng_lbl": ["all"]}
        entries = run_evaluator(plain, detections, iou_thrs=[IOU], max_dets=[MOST_DETECTIONS], **every).eval_imgs
    tiles = tuple(sorted(sizes))
    places = {id_: place for place, id_ in enumerate(tiles)}
    by_category: dict[int, list[tuple[int, dict[str, list[list[bool]]]]]] = {}
    for entry in entries:
        if entry is not None:
            by_category.setdefault(entry["category_id"], []).append((places[entry["image_id"]], entry))
    return CocoMatches(tiles, tuple(_category(by_category[id_], len(tiles)) for id_ in sorted(by_category)))


def _category(entries: list[tuple[int, dict[str, list[list[bool]]]]], tiles: int) -> Category:
    """Pool the tiles of a category, in their order; what lies in a crowd counts on neither side."""
    entries = sorted(entries, key=lambda pair: pair[0])
    truths = np.zeros(tiles, np.int64)
    for place, entry in entries:
        truths[place] = len(entry["gtIgnore"]) - sum(map(int, np.ravel(entry["gtIgnore"])))
    owners = np.concatenate([np.full(len(entry["dtScores"]), place) for place, entry in entries])
    scores = np.concatenate([np.asarray(entry["dtScores"], np.float64) for _, entry in entries])
    found, left_out = (
        np.concatenate([np.asarray(entry[key][0], bool) for _, entry in entries]) for key in ("dtMatched", "dtIgnore")
    )
    order = np.argsort(-scores, kind="stable")
    order = order[~left_out[order]]
    return Category(owners[order].astype(np.int64), found[order], truths)


def _precision_recall(category: Category, weights: np.ndarray) -> tuple[float, float]:
    """AP, the mean over 101 recalls of the precision made non-increasing, and the last recall."""
    counted = weights[category.tiles]
    true, all_ = np.cumsum(counted * category.found), np.cumsum(counted)
    recall = true / (weights @ category.truths)
    precision = np.divide(true, all_, out=np.zeros(len(true)), where=all_ > 0)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(recall, RECALLS, side="left")
    values = np.append(falling, 0.0)[reached]
    return float(values.mean()), float(recall[-1]) if len(recall) else 0.0
