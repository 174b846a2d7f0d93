"""Scores and masks: AP and AR against pycocotools, boundaries, objects, intervals, rasterise and polygonise.

Example: `python benchmarks/scores.py --tiles 300 --rounds 5`
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.features import rasterize, shapes

from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.legend import Legend
from satmask.masks import encode_coco, outlines, rasterise
from satmask.scoring.boundaries import boundary_distance, near_contour
from satmask.scoring.coco import score_coco
from satmask.scoring.coco_table import score_coco_table
from satmask.scoring.intervals import interval_of_sums
from satmask.scoring.matching import find_overlaps
from satmask.scoring.objects import ObjectScore, score_objects

SIDE = 300  # of a tile, in pixels, as in the crowdAI Mapping Challenge


def draw_houses(random: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Turned rectangles of 8 to 40 pixels, corners `(count, 4, 2)`, float64."""
    centres = random.uniform(0, side, (count, 1, 2))
    halves = random.uniform(4, 20, (count, 1, 2)) * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angles = random.uniform(0, np.pi, count)
    turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    return np.asarray(centres + halves @ turns)


def write_set(folder: Path, *, tiles: int, houses: int) -> tuple[Path, Path]:
    """Write a truth and detections of it: moved a little, some missing, some where nothing is."""
    random = np.random.default_rng(0)
    truth, found = [], []
    for tile in range(tiles):
        corners = draw_houses(random, houses, SIDE)
        moved = corners + random.normal(0, 2, (houses, 1, 2)) + random.normal(0, 1, corners.shape)
        seen = np.concatenate([moved[random.random(houses) < 0.85], draw_houses(random, houses // 5, SIDE)])
        base = {"image_id": tile, "category_id": 100}
        areas = shapely.area(shapely.polygons(corners)).tolist()
        truth += [base | {"segmentation": [r.ravel().tolist()], "area": a} for r, a in zip(corners, areas, strict=True)]
        scores = random.random(len(seen)).tolist()
        pairs = zip(seen, scores, strict=True)
        # pycocotools takes results for polygons only if they have a bbox, too.
        found += [
            base | {"segmentation": [ring.ravel().tolist()], "score": score, "bbox": [0, 0, 1, 1]}
            for ring, score in pairs
        ]
    content = {
        "images": [{"id": tile, "file_name": f"{tile:012d}.jpg", "height": SIDE, "width": SIDE} for tile in range(tiles)],
        "categories": [{"id": 100, "name": "building"}],
        "annotations": [entry | {"id": place + 1, "iscrowd": 0} for place, entry in enumerate(truth)],
    }  # fmt: skip
    paths = folder / "predictions.json", folder / "annotation.json"
    for path, entries in zip(paths, (found, content), strict=True):
        path.write_text(json.dumps(entries), encoding="utf-8")
    return paths


def score_pycocotools(predictions: Path, truth: Path) -> tuple[float, float]:
    """AP and AR at IoU 0.5 as the challenge's evaluator computes them."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped]  # ships no types
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]  # as above

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        ground = COCO(str(truth))
        run = COCOeval(ground, ground.loadRes(str(predictions)), "segm")
        run.params.iouThrs = np.array([0.5])
        run.params.areaRng, run.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        run.params.maxDets = [100]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]
    return float(precision[precision > -1].mean()), float(recall[recall > -1].mean())


def measure_scores(options: argparse.Namespace, folder: Path) -> None:
    """Time both evaluators from the files to the numbers, and compare the numbers."""
    paths = write_set(folder, tiles=options.tiles, houses=options.houses)
    cases: dict[str, Callable[[], object]] = {"satmask score": lambda: score_coco(*paths)}
    if importlib.util.find_spec("pycocotools") is None:
        print("pycocotools isn't installed: that peer is left out. Run `pip install pycocotools`.")
    else:
        cases["pycocotools"] = lambda: score_pycocotools(*paths)
    timings = interleave(cases, options.rounds)
    show(timings, amount=options.tiles, unit="tiles")
    if "pycocotools" in timings:
        ours, theirs = (timing.median for timing in timings.values())
        compare([Ratio("satmask / pycocotools, tiles/s", theirs / ours)])
        score = score_coco(*paths)
        same = (score.ap50, score.ar50) == score_pycocotools(*paths)
        print(f"AP@0.5 {score.ap50:.6f}, AR@0.5 {score.ar50:.6f}: {'equal to the bit' if same else 'DIFFERENT'}\n")


def write_codes(found: Path) -> Path:
    """The same detections as run-length codes without boxes: only so does pycocotools know their areas."""
    entries = json.loads(found.read_text(encoding="utf-8"))
    for entry in entries:
        del entry["bbox"]
        entry["segmentation"] = encode_coco(rasterise(entry["segmentation"], SIDE, SIDE))
    path = found.with_name("codes.json")
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def table_of_pycocotools(predictions: Path, truth: Path) -> list[float]:
    """The twelve numbers of COCO's table."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped]  # ships no types
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]  # as above

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        ground = COCO(str(truth))
        run = COCOeval(ground, ground.loadRes(str(predictions)), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]


def measure_table(options: argparse.Namespace, folder: Path) -> None:
    """Time COCO's whole table from the files to the numbers, and compare the numbers."""
    found, truth = write_set(folder, tiles=options.tiles, houses=options.houses)
    codes = write_codes(found)
    cases: dict[str, Callable[[], object]] = {
        "satmask, whole table, outlines": lambda: score_coco_table(found, truth),
        "satmask, whole table, codes": lambda: score_coco_table(codes, truth),
    }
    if importlib.util.find_spec("pycocotools") is not None:
        cases["pycocotools, whole table, codes"] = lambda: table_of_pycocotools(codes, truth)
    timings = interleave(cases, options.rounds)
    show(timings, amount=options.tiles, unit="tiles")
    if len(timings) == 3:
        ours, theirs = (timing.median for timing in [*timings.values()][1:])
        compare([Ratio("satmask / pycocotools, whole table, tiles/s", theirs / ours, "≥ 10")])
        same = list(score_coco_table(codes, truth).to_dict().values()) == table_of_pycocotools(codes, truth)
        print(f"The twelve numbers are {'equal to the bit' if same else 'DIFFERENT'}.\n")


def near_by_steps(mask: np.ndarray, distance: int) -> np.ndarray:
    """A mask less itself eroded step by step, as boundary IoU's authors do; OpenCV joins the steps into one."""
    import cv2

    inside = np.pad(mask.astype(np.uint8), 1)
    core = cv2.erode(inside, np.ones((3, 3), np.uint8), iterations=distance)
    return np.asarray((inside != core)[1:-1, 1:-1])


def measure_boundaries(random: np.random.Generator, options: argparse.Namespace) -> None:
    """Time keeping what lies near the contours of a large mask."""
    mask = rasterise(list(shapely.polygons(draw_houses(random, 2000, options.side))), options.side, options.side) > 0
    distance = boundary_distance(mask.shape)
    cases: dict[str, Callable[[], Any]] = {
        "satmask.scoring.boundaries": lambda: near_contour(mask, distance),
        "eroded step by step": lambda: near_by_steps(mask, distance),
    }
    timings = interleave(cases, options.rounds)
    show(timings, amount=mask.size / 1e6, unit="Mpixels")
    ours, theirs = timings.values()
    compare([Ratio("satmask / step by step, pixels/s", theirs.median / ours.median)])
    bands = [case() for case in cases.values()]
    print(f"Bands are {'the same' if (bands[0] == bands[1]).all() else 'DIFFERENT'}.\n")


def measure_objects(random: np.random.Generator, options: argparse.Namespace) -> None:
    """Time matching and judging objects, and intervals of the counts of a thousand images."""
    corners = draw_houses(random, 5000, 4096)
    truth = list(shapely.polygons(corners))
    predicted = list(shapely.polygons(corners[:4500] + random.normal(0, 2, (4500, 1, 2))))
    legend = Legend.of(["house"])
    cases: dict[str, Callable[[], Any]] = {
        "find_overlaps": lambda: find_overlaps(truth, predicted),
        "score_objects": lambda: score_objects({1: truth}, {1: predicted}, legend, shape=(4096, 4096), gsd_m=0.3),
    }
    show(interleave(cases, options.rounds), amount=len(truth), unit="true objects")
    counts = score_objects({1: truth[:30]}, {1: predicted[:30]}, legend, shape=(4096, 4096))
    parts = [ObjectScore(legend, counts.counts * (place % 3), counts.quality) for place in range(1000)]
    drawn = {"interval_of_sums, 1,000 images": lambda: interval_of_sums(parts, lambda total: total.f1()[0])}
    show(interleave(drawn, options.rounds), amount=1000, unit="draws")
    print()


def fill_with_opencv(corners: np.ndarray, side: int) -> np.ndarray:
    """Draw polygons as many scripts do; it also takes the pixels that the outline touches."""
    import cv2

    mask = np.zeros((side, side), np.uint8)
    for ring in np.rint(corners).astype(np.int32):
        cv2.fillPoly(mask, [ring], 1)
    return mask


def measure_rasterise(random: np.random.Generator, options: argparse.Namespace) -> None:
    """Time rasterisers on one large mask; OpenCV follows another rule, so its pixels differ."""
    side = options.side
    corners = draw_houses(random, side * side // 2500, side)
    polygons = [shapely.Polygon(ring) for ring in corners]
    cases: dict[str, Callable[[], Any]] = {
        "satmask.masks.rasterise": lambda: rasterise(polygons, side, side),
        "rasterio.features.rasterize": lambda: rasterize(polygons, out_shape=(side, side), dtype="uint8"),
        "cv2.fillPoly, one by one": lambda: fill_with_opencv(corners, side),
    }
    timings = interleave(cases, options.rounds)
    show(timings, amount=len(polygons), unit="polygons")
    ours, *peers = timings
    compare([Ratio(f"satmask / {peer}, polygons/s", timings[peer].median / timings[ours].median) for peer in peers])
    masks = {name: case() > 0 for name, case in cases.items()}
    for peer in peers:
        print(f"{peer}: {int((masks[peer] != masks[ours]).sum()):,} of {side * side:,} pixels differ")
    print()


def plain_polygons(labels: np.ndarray) -> list[Any]:
    """Polygons as rasterio's documentation makes them."""
    found = shapes(labels, mask=labels != 0)
    return [shapely.geometry.shape(geometry) for geometry, _ in found]


def measure_polygonise(random: np.random.Generator, options: argparse.Namespace) -> None:
    """Time tracing the outlines of a mask of houses."""
    side = options.side
    corners = draw_houses(random, side * side // 2500, side)
    labels = rasterise([shapely.Polygon(ring) for ring in corners], side, side).astype(np.int32)
    cases: dict[str, Callable[[], Any]] = {
        "satmask.masks.outlines": lambda: outlines(labels),
        "rasterio shapes + shapely.geometry.shape": lambda: plain_polygons(labels),
    }
    timings = interleave(cases, options.rounds)
    polygons, _ = outlines(labels)
    show(timings, amount=len(polygons), unit="polygons")
    ours, theirs = (timing.median for timing in timings.values())
    compare([Ratio("satmask / rasterio + shapely, polygons/s", theirs / ours)])
    same = len(polygons) == len(plain := plain_polygons(labels)) and shapely.equals(polygons, plain).all()
    print(f"Polygons are {'the same' if same else 'DIFFERENT'}.")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--tiles", type=int, default=300, help="tiles to score")
    parser.add_argument("--houses", type=int, default=30, help="houses a tile")
    parser.add_argument("--side", type=int, default=2048, help="side of the mask for rasterise and polygonise")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin("Scores and masks")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        measure_scores(options, Path(name))
        measure_table(options, Path(name))
    random = np.random.default_rng(1)
    measure_boundaries(random, options)
    measure_objects(random, options)
    measure_rasterise(random, options)
    measure_polygonise(random, options)


if __name__ == "__main__":
    main()
