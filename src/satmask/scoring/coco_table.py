"""The full COCO table: average precision and recall over ten IoU thresholds, and by size of object.

The rule is that of `satmask.scoring.coco`, at the IoU thresholds 0.5, 0.55 … 0.95. Sizes are areas in pixels: small is
below 32², large is 96² and more. An object of the truth has the area that its annotation tells, or that of its pixels
where it tells none; a detection has that of its pixels. Where there is no truth, of a size or at all, the number is -1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from satmask.scoring.coco import collector_paused, run_evaluator
from satmask.scoring.coco_checks import MOST_DETECTIONS, Json, check_pair

SIZES = ("all", "small", "medium", "large")
DETECTIONS = (1, 10, MOST_DETECTIONS)
AT_50, AT_75 = 0, 5


@dataclass(frozen=True)
class CocoTable:
    """The twelve numbers of COCO's table, each 0 to 1, or -1 where there is no truth.

    Attributes:
        ap: Average precision over the ten thresholds.
        ap50: At IoU 0.5.
        ap75: At IoU 0.75.
        ap_small: Over the ten thresholds, of objects below 32² pixels.
        ap_medium: Of objects of 32² to 96² pixels.
        ap_large: Of objects of 96² pixels and more.
        ar1: Average recall over the ten thresholds, with the best detection of each tile.
        ar10: With the ten best.
        ar100: With the hundred best.
        ar_small: With the hundred best, of objects below 32² pixels.
        ar_medium: Of objects of 32² to 96² pixels.
        ar_large: Of objects of 96² pixels and more.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float

    def to_dict(self) -> dict[str, float]:
        """The table as plain values, for JSON."""
        return asdict(self)

    def table(self) -> list[tuple[str, ...]]:
        """Rows for printing; a dash where there is no truth."""
        rows: list[tuple[str, ...]] = [("IoU 0.5:0.95", *SIZES, "0.5", "0.75", "1 best", "10 best")]
        precision = (self.ap, self.ap_small, self.ap_medium, self.ap_large, self.ap50, self.ap75)
        recall = (self.ar100, self.ar_small, self.ar_medium, self.ar_large)
        rows.append(("AP", *map(_text, precision), "", ""))
        rows.append(("AR", *map(_text, recall), "", "", _text(self.ar1), _text(self.ar10)))
        return rows


def score_coco_table(predictions: Json, truth: Json, *, keep_best: bool = False) -> CocoTable:
    """Score detections with COCO's whole table, to the bit as pycocotools does from run-length codes.

    Args:
        predictions: See `score_coco`.
        truth: See `score_coco`.
        keep_best: See `score_coco`.

    Returns:
        The table.

    Raises:
        DataError: If an entry is unusable; the message names it.

    Examples:
        >>> tile = {"id": 1, "file_name": "000000000001.jpg", "width": 9, "height": 9}
        >>> house = {"image_id": 1, "category_id": 100, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        >>> truth = {"images": [tile], "categories": [{"id": 100}], "annotations": [{"id": 7} | house]}
        >>> table = score_coco_table([house | {"score": 0.9}], truth)
        >>> round(table.ap, 6), round(table.ap_small, 6), table.ap_large
        (1.0, 1.0, -1.0)

    References:
        Lin et al., "Microsoft COCO: Common Objects in Context", 2014, https://arxiv.org/abs/1405.0312
        COCO, "Detection evaluation", https://cocodataset.org/#detection-eval
    """
    with collector_paused():
        _, cleaned, detections = check_pair(predictions, truth, keep_best=keep_best)
        run = run_evaluator(cleaned, detections, max_dets=list(DETECTIONS))
    # (thresholds, recalls, categories, sizes, detections) and the same without recalls.
    precision, recall = (np.asarray(run.eval[key]) for key in ("precision", "recall"))
    every = len(DETECTIONS) - 1
    return CocoTable(
        _mean(precision[..., 0, every]),
        _mean(precision[[AT_50]][..., 0, every]),
        _mean(precision[[AT_75]][..., 0, every]),
        *(_mean(precision[..., size, every]) for size in (1, 2, 3)),
        *(_mean(recall[..., 0, most]) for most in range(len(DETECTIONS))),
        *(_mean(recall[..., size, every]) for size in (1, 2, 3)),
    )


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else -1.0


def _text(value: float) -> str:
    return "–" if value < 0 else f"{value:.4f}"
