"""Object scores as the crowdAI Mapping Challenge counts them: AP and AR at IoU 0.5.

The rule is COCO's: in every tile, detections by falling score take the free truth that they overlap most, if the IoU
reaches 0.5. All tiles are pooled; precision, made non-increasing, is read off at 101 recalls: AP is its mean, AR the last
recall reached. At most 100 detections count in a tile; tiles without any count too; without any truth both are -1.
What the files must hold is said in `satmask.scoring.coco_checks`.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satmask.scoring.coco_checks import MOST_DETECTIONS, Json, check_pair, read_json, tile_categories

IOU = 0.5


@dataclass(frozen=True)
class CocoScore:
    """How well detections match the truth.

    Attributes:
        ap50: Average precision at IoU 0.5, 0 to 1; -1 where there is no truth.
        ar50: Recall at IoU 0.5 of all detections together, 0 to 1; -1 where there is no truth.
        tiles: Tiles of the truth, with or without detections.
        truths: Objects of the truth, crowds left out.
        detections: Detections counted, at most 100 a tile.
        matched: Objects of the truth that a detection found.
    """

    ap50: float
    ar50: float
    tiles: int
    truths: int
    detections: int
    matched: int

    def to_dict(self) -> dict[str, float | int]:
        """The score as plain values, for JSON."""
        return asdict(self)


def score_coco(predictions: Json, truth: Json, *, keep_best: bool = False) -> CocoScore:
    """Score detections with AP and AR at IoU 0.5, to the bit as the challenge's evaluator does.

    Args:
        predictions: The result file or its content: a list of `image_id`, `category_id`, `segmentation` (rings, or a
            run-length code) and `score`.
        truth: The annotation file or its content: `images`, `categories` and `annotations`.
        keep_best: Count the 100 best detections of a tile that has more, rather than refusing them.

    Returns:
        The score.

    Raises:
        DataError: If an entry is unusable; the message names it.

    Examples:
        >>> tile = {"id": 1, "file_name": "000000000001.jpg", "width": 9, "height": 9}
        >>> house = {"image_id": 1, "category_id": 100, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        >>> truth = {"images": [tile], "categories": [{"id": 100}], "annotations": [{"id": 7} | house]}
        >>> round(score_coco([house | {"score": 0.9}], truth).ap50, 6)
        1.0

    References:
        Lin et al., "Microsoft COCO: Common Objects in Context", 2014, https://arxiv.org/abs/1405.0312
    """
    with collector_paused():
        tiles, cleaned, detections = check_pair(predictions, truth, keep_best=keep_best)
        categories = {entry["id"] for entry in cleaned["categories"]}
        precision, recall = _evaluate(cleaned, detections)
    truths = sum(not entry["iscrowd"] for entry in cleaned["annotations"])
    counted = sum(min(count, MOST_DETECTIONS) for count in Counter(tile_categories(detections)).values())
    recalls = recall[recall > -1]
    # Only categories that occur have a recall; each is the share of its own truths that was found.
    found = _matched(recall, cleaned["annotations"], sorted(categories))
    return CocoScore(
        ap50=float(np.mean(precision[precision > -1])) if (precision > -1).any() else -1.0,
        ar50=float(np.mean(recalls)) if len(recalls) else -1.0,
        tiles=len(tiles),
        truths=truths,
        detections=counted,
        matched=found,
    )


def score_groups(predictions: Json, truth: Json, group: Callable[[str], str]) -> dict[str, CocoScore]:
    """Score groups of tiles, such as places or zoom levels, each by itself.

    Args:
        predictions: See `score_coco`.
        truth: See `score_coco`.
        group: Name of the group from the name of a tile's file without suffix.

    Returns:
        The score of each group, by name.

    Raises:
        DataError: If an entry is unusable; the message names it.
    """
    entries, content = read_json(predictions, "Predictions"), read_json(truth, "Truth")
    score_coco(entries, content)  # says what is wrong with the whole before parts of it are looked at
    owner = {tile["id"]: group(Path(tile.get("file_name", "")).stem) for tile in content["images"]}
    return {
        name: score_coco(
            [entry for entry in entries if owner[entry["image_id"]] == name],
            content
            | {
                "images": [tile for tile in content["images"] if owner[tile["id"]] == name],
                "annotations": [entry for entry in content["annotations"] if owner.get(entry["image_id"]) == name],
            },
        )
        for name in sorted(set(owner.values()))
    }


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from looking for reference cycles in a `with` block.

    Annotations are lists and dicts by the hundred thousand, none of them in a cycle; looking through them again and again
    took a third of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def run_evaluator(truth: dict[str, Any], detections: list[dict[str, Any]], **settings: Any) -> Any:
    """Match detections with the truth, and accumulate.

    Outlines become run-length codes first, many in one call, by the evaluator's own rule: it draws them one by one and
    slower. The area of a detection is that of its pixels, and so is an annotation's that doesn't tell its own.

    Args:
        truth: What `check_pair` made of the annotation file.
        detections: What it made of the detections.
        settings: Parameters of the evaluator; by default those of COCO.

    Returns:
        The evaluator, an object of hotcoco's.
    """
    from hotcoco import COCO, COCOeval
    from hotcoco.mask import area

    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in truth["images"]}
    codes = _codes([*truth["annotations"], *detections], sizes)
    count = len(truth["annotations"])
    annotations = [
        entry | {"segmentation": code, "area": float(area(code)) if entry["area"] is None else entry["area"]}
        for entry, code in zip(truth["annotations"], codes[:count], strict=True)
    ]
    found = [entry | {"segmentation": code} for entry, code in zip(detections, codes[count:], strict=True)]
    ground = COCO(truth | {"annotations": annotations})
    run = COCOeval(ground, ground.load_res(found), "segm")
    chosen = run.params
    for name, value in settings.items():
        setattr(chosen, name, value)
    run.params = chosen  # reading `params` gave a copy
    run.evaluate()
    run.accumulate()
    return run


def _evaluate(truth: dict[str, Any], detections: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Run the evaluator: precision at 101 recalls, `(101, categories)`, and last recall, `(categories,)`."""
    # What an annotation says of its area doesn't matter here, but a wrong one could leave the range.
    plain = truth | {"annotations": [entry | {"area": 1.0} for entry in truth["annotations"]]}
    every = {"area_rng": [[0.0, 1e10]], "area_rng_lbl": ["all"]}
    run = run_evaluator(plain, detections, iou_thrs=[IOU], max_dets=[MOST_DETECTIONS], **every)
    return np.asarray(run.eval["precision"])[0, :, :, 0, 0], np.asarray(run.eval["recall"])[0, :, 0, 0]


def _codes(entries: Sequence[Mapping[str, Any]], sizes: Mapping[int, tuple[int, int]]) -> list[Any]:
    """Run-length codes of checked entries, by the rule by which COCO draws outlines."""
    from hotcoco.mask import fr_py_objects, merge

    codes: list[Any] = [entry["segmentation"] for entry in entries]
    single: dict[tuple[int, int], list[int]] = {}
    for place, entry in enumerate(entries):
        outline, size = codes[place], sizes[entry["image_id"]]
        if isinstance(outline, dict):
            if not isinstance(outline["counts"], str | bytes):
                codes[place] = fr_py_objects(outline, *size)
        elif len(outline) > 1:
            codes[place] = merge(fr_py_objects(outline, *size))
        else:
            single.setdefault(size, []).append(place)
    for size, places in single.items():
        rings = [codes[place][0] for place in places]
        for place, code in zip(places, fr_py_objects(rings, *size), strict=True):
            codes[place] = code
    return codes


def _matched(recall: np.ndarray, annotations: list[dict[str, Any]], categories: list[int]) -> int:
    counts = Counter(entry["category_id"] for entry in annotations if not entry["iscrowd"])
    return sum(round(share * counts[id_]) for share, id_ in zip(recall.tolist(), categories, strict=True) if share > 0)
