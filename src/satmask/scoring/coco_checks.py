"""What an annotation file and a result file of COCO's format must hold, and what of it counts.

Everything is checked before it is counted, since evaluators of this format crash, or count wrongly, on broken entries.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from satmask.errors import DataError

Json: TypeAlias = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
MOST_DETECTIONS = 100
# Polygons may reach over their tile's edge, but work and memory grow with their length.
FARTHEST_PX = 100_000


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
    crowded = [
        (tile, count) for (tile, _), count in Counter(tile_categories(cleaned)).items() if count > MOST_DETECTIONS
    ]
    if crowded and not keep_best:
        tile, count = crowded[0]
        msg = f"Tile must have at most {MOST_DETECTIONS} detections, got {count} in tile {tile}. Keep the best of them."
        raise DataError(msg)
    return cleaned


def tile_categories(entries: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
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

    Examples:
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
