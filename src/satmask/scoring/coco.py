"""Object scores as the crowdAI Mapping Challenge counts them: AP and AR at IoU 0.5.

The rule is COCO's: in every tile, detections by falling score take the free truth that they overlap most, if the IoU
reaches 0.5. All tiles are pooled; precision, made non-increasing, is read off at 101 recalls: AP is its mean, AR the last
recall reached. At most 100 detections count in a tile; tiles without any count too; without any truth both are -1.

Everything is checked before it is counted, since evaluators of this format crash, or count wrongly, on broken entries.
"""

from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from satmask.errors import DataError

Json: TypeAlias = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
IOU = 0.5
MOST_DETECTIONS = 100
# Polygons may reach over their tile's edge, but work and memory grow with their length.
FARTHEST_PX = 100_000


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

    Example:
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
    counted = sum(min(count, MOST_DETECTIONS) for count in Counter(_keys(detections)).values())
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


def check_pair(
    predictions: Json, truth: Json, *, keep_best: bool = False
) -> tuple[dict[int, tuple[int, int]], dict[str, Any], list[dict[str, Any]]]:
    """Check truth and detections, and keep of them what counts.

    Args:
        predictions: See `score_coco`.
        truth: See `score_coco`.
        keep_best: See `score_coco`.

    Returns:
        `(height, width)` of each tile by image id, the content of the annotation file, and the detections.

    Raises:
        DataError: If an entry is unusable; the message names it.
    """
    tiles, cleaned = _clean_truth(read_json(truth, "Truth"))
    categories = {entry["id"] for entry in cleaned["categories"]}
    return (
        tiles,
        cleaned,
        check_detections(read_json(predictions, "Predictions"), tiles, categories, keep_best=keep_best),
    )


def check_detections(
    entries: Any, tiles: Mapping[int, tuple[int, int]], categories: Iterable[int], *, keep_best: bool = False
) -> list[dict[str, Any]]:
    """Check the entries of a result file, and keep of each what counts.

    Args:
        entries: The content of a result file.
        tiles: `(height, width)` of each tile, by image id.
        categories: Category ids that may occur.
        keep_best: Allow more than 100 detections in a tile.

    Returns:
        Entries with `image_id`, `category_id`, `segmentation` and `score`, in the order given.

    Raises:
        DataError: If an entry is unusable; the message names it.
    """
    if not isinstance(entries, list | tuple):
        msg = f"Predictions must be a list of detections, got {type(entries).__name__}."
        raise DataError(msg)
    known = frozenset(categories)
    cleaned = []
    for index, entry in enumerate(entries):
        name = f"Detection {index}"
        kept = _clean_object(entry, name, tiles, known)
        score = _key(entry, "score", name)
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            msg = f"{name} must have a finite score, got {score!r} in tile {kept['image_id']}."
            raise DataError(msg)
        cleaned.append(kept | {"score": float(score)})
    crowded = [(tile, count) for (tile, _), count in Counter(_keys(cleaned)).items() if count > MOST_DETECTIONS]
    if crowded and not keep_best:
        tile, count = crowded[0]
        msg = f"Tile must have at most {MOST_DETECTIONS} detections, got {count} in tile {tile}. Keep the best of them."
        raise DataError(msg)
    return cleaned


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


def _keys(entries: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Tile and category: the hundred detections that count are counted for each category."""
    return [(entry["image_id"], entry["category_id"]) for entry in entries]


def _clean_truth(content: Any) -> tuple[dict[int, tuple[int, int]], dict[str, Any]]:
    """Check a truth, and keep of it what counts.

    Annotations are numbered anew from 1: evaluators take id 0 for "unmatched", and ids need not be unique in the wild.
    """
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list | tuple) for key in ("images", "categories", "annotations")
    ):
        msg = f"Truth must be a dict of images, categories and annotations, got {content!r:.60}."
        raise DataError(msg)
    tiles = tile_sizes(content)
    categories = sorted({_integer(entry, "id", f"Category {i}") for i, entry in enumerate(content["categories"])})
    if not categories:
        msg = "Truth must name at least one category, got none."
        raise DataError(msg)
    known = frozenset(categories)
    annotations = []
    for index, entry in enumerate(content["annotations"]):
        name = f"Annotation {entry.get('id', f'at place {index}') if isinstance(entry, dict) else index}"
        kept = _clean_object(entry, name, tiles, known)
        crowd = int(bool(entry.get("iscrowd", 0)))
        annotations.append(kept | {"id": index + 1, "iscrowd": crowd, "area": _area(entry)})
    named = [{"id": id_, "name": str(id_)} for id_ in categories]
    images = [{"id": id_, "height": height, "width": width, "file_name": ""} for id_, (height, width) in tiles.items()]
    return tiles, {"images": images, "categories": named, "annotations": annotations}


def tile_sizes(truth: Any) -> dict[int, tuple[int, int]]:
    """Find `(height, width)` of each tile of an annotation file, by image id.

    Raises:
        DataError: If a size is missing or impossible, or an id occurs twice.

    Example:
        >>> tile_sizes({"images": [{"id": 7, "file_name": "000000000007.jpg", "height": 300, "width": 200}]})
        {7: (300, 200)}
    """
    tiles: dict[int, tuple[int, int]] = {}
    for index, entry in enumerate(_key(truth, "images", "Truth")):
        name = f"Tile {entry.get('file_name', index) if isinstance(entry, dict) else index}"
        id_, height, width = (_integer(entry, key, name) for key in ("id", "height", "width"))
        if not (0 < height <= FARTHEST_PX and 0 < width <= FARTHEST_PX):
            msg = f"{name} must have sides of 1 to {FARTHEST_PX} pixels, got {height} × {width}."
            raise DataError(msg)
        if id_ in tiles:
            msg = f"{name} must have an id of its own, got {id_} a second time."
            raise DataError(msg)
        tiles[id_] = (height, width)
    return tiles


def _clean_object(
    entry: Any, name: str, tiles: Mapping[int, tuple[int, int]], categories: frozenset[int]
) -> dict[str, Any]:
    image_id = _integer(entry, "image_id", name)
    if image_id not in tiles:
        msg = f"{name} must lie in a tile of the truth, got image_id {image_id}."
        raise DataError(msg)
    category_id = _integer(entry, "category_id", name)
    if category_id not in categories:
        msg = f"{name} must have a category of {sorted(categories)}, got {category_id} in tile {image_id}."
        raise DataError(msg)
    segmentation = _key(entry, "segmentation", name)
    if isinstance(segmentation, dict):
        problem = _rle_problem(segmentation, tiles[image_id])
    else:
        problem = _rings_problem(segmentation)
    if problem:
        msg = f"{name} must have {problem} in tile {image_id}."
        raise DataError(msg)
    return {"image_id": image_id, "category_id": category_id, "segmentation": segmentation}


def _area(entry: Mapping[str, Any]) -> float | None:
    """The area that an annotation tells of itself, in pixels; None if it tells none that can be."""
    value = entry.get("area")
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= FARTHEST_PX**2
    return float(value) if known and value is not None else None


def _rings_problem(rings: Any) -> str:
    """Say what is wrong with a segmentation of rings; nothing if it is right."""
    if not isinstance(rings, list | tuple) or not rings:
        return f"rings or a run-length code, got {rings!r:.60}"
    for ring in rings:
        if not isinstance(ring, list | tuple) or len(ring) < 6 or len(ring) % 2:
            size = f"{len(ring)} numbers" if isinstance(ring, list | tuple) else f"{ring!r:.60}"
            return f"rings of x and y in turn, three points or more, got {size}"
        try:
            # A sum shows NaN, which comparisons can hide.
            good = math.isfinite(sum(ring)) and min(ring) >= -FARTHEST_PX and max(ring) <= FARTHEST_PX
        except (TypeError, OverflowError):
            good = False
        if not good:
            worst = next((value for value in ring if not _near(value)), None)
            return f"finite coordinates within {FARTHEST_PX:,} pixels, got {worst!r:.40}"
    return ""


def _near(value: Any) -> bool:
    return isinstance(value, int | float) and -FARTHEST_PX <= value <= FARTHEST_PX


def _rle_problem(code: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Say what is wrong with a run-length code; nothing if it is right."""
    import hotcoco.mask

    counts = code.get("counts")
    try:
        if list(code.get("size", ())) != list(size):
            return f"a run-length code of its tile's size {list(size)}, got {code.get('size')!r:.40}"
        if isinstance(counts, str | bytes):
            hotcoco.mask.area({"size": list(size), "counts": counts})
            return ""
        if isinstance(counts, list | tuple) and all(isinstance(run, int) and run >= 0 for run in counts):
            return (
                ""
                if sum(counts) == size[0] * size[1]
                else f"runs that add up to {size[0] * size[1]}, got {sum(counts)}"
            )
    except (TypeError, ValueError, OverflowError) as error:
        return f"a run-length code that can be read, got {str(error)!r:.80}"
    return f"a run-length code of text or whole numbers, got {counts!r:.40}"


def _key(entry: Any, key: str, name: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        found = ", ".join(map(str, entry)) if isinstance(entry, dict) else repr(entry)[:40]
        msg = f"{name} must have a {key}, got {found or 'nothing'}."
        raise DataError(msg)
    return entry[key]


def _integer(entry: Any, key: str, name: str) -> int:
    value = _key(entry, key, name)
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer) or value != value // 1:
        msg = f"{name} must have a whole number as {key}, got {value!r:.40}."
        raise DataError(msg)
    return int(value)


def read_json(source: Json, what: str) -> Any:
    """Read a JSON file; content that is loaded already passes through.

    Raises:
        DataError: If the file can't be read; `what` says what it was to be.
    """
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        msg = f"{what} must be a file that can be read, got {error.strerror or error} for {str(path)!r}."
        raise DataError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{what} must be JSON, got {str(error)!r:.80} in {path.name}."
        raise DataError(msg) from error
