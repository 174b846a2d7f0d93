"""What cleaning, separating, simplifying and squaring do to predictions of real images: scores with the truth, step by step.

python benchmarks/shaping.py PREDICTIONS TRUTH

PREDICTIONS holds `<name>.classes.tif` and `<name>.probabilities.tif` as predict writes them; TRUTH either a COCO annotation
file of the images `<name>.*`, or a folder with `<name>_mask.tif` and `<place>.geojson`, where names begin with the place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import numpy as np
import shapely

from measure import arguments, begin
from satmask import Scene, Window
from satmask.cleaning import Cleaning
from satmask.features import Shaping, find_features
from satmask.masks import encode_coco, rasterise
from satmask.rasters import read_legend_tags
from satmask.scoring.coco import score_coco

CLEAN = Cleaning(opening_m=0.3, min_hole_m2=2, min_area_m2=4)
CASES = {
    "as traced": Shaping(),
    "cleaned": Shaping(CLEAN),
    "cleaned, closing 0.5 m": Shaping(Cleaning(0.3, 0.5, 2, 4)),
    "cleaned, separated by 0.25 m": Shaping(CLEAN, separate_depth=0.25),
    "cleaned, separated by 0.5 m": Shaping(CLEAN, separate_depth=0.5),
    "cleaned, separated by 1 m": Shaping(CLEAN, separate_depth=1.0),
    "cleaned, separated by 0.1 of probability": Shaping(CLEAN, "probability", 0.1),
    "cleaned, separated by 0.3 of probability": Shaping(CLEAN, "probability", 0.3),
    "cleaned, simplified by 0.15 m": Shaping(CLEAN, simplify_m=0.15),
    "cleaned, simplified by 0.3 m": Shaping(CLEAN, simplify_m=0.3),
    "cleaned, simplified by 0.6 m": Shaping(CLEAN, simplify_m=0.6),
    "cleaned, simplified by 0.3 m, squared": Shaping(CLEAN, simplify_m=0.3, square=True),
    "the same, IoU at least 0.9": Shaping(CLEAN, simplify_m=0.3, square=True, min_iou=0.9),
    "cleaned, separated by 0.5 m, simplified by 0.3 m, squared": Shaping(
        CLEAN, separate_depth=0.5, simplify_m=0.3, square=True
    ),
}


def in_pixels(shaping: Shaping, pixel_m: float) -> Shaping:
    """The same for images without a place, where a pixel counts as a metre."""
    rule = shaping.cleaning
    depth = shaping.separate_depth / (1 if shaping.separate_by == "probability" else pixel_m)
    return replace(
        shaping,
        cleaning=Cleaning(
            rule.opening_m / pixel_m,
            rule.closing_m / pixel_m,
            rule.min_hole_m2 / pixel_m**2,
            rule.min_area_m2 / pixel_m**2,
        ),
        separate_depth=depth,
        simplify_m=shaping.simplify_m / pixel_m,
    )


@dataclass(frozen=True)
class Image:
    """One predicted image and its truth: polygons in pixels."""

    name: str
    path: Path
    truth: np.ndarray
    shape: tuple[int, int]


@dataclass
class Tally:
    """Counts over all images."""

    polygons: int = 0
    vertices: int = 0
    truths: int = 0
    found: int = 0
    both: int = 0
    either: int = 0


def read_images(predictions: Path, truth: Path) -> list[Image]:
    """Pair predictions with their truth."""
    content = json.loads(truth.read_text(encoding="utf-8")) if truth.is_file() else None
    images = []
    for path in sorted(predictions.glob("*.classes.tif")):
        name = path.name.removesuffix(".classes.tif")
        with Scene(path) as scene:
            shape, grid = scene.shape, scene.grid
        if content:
            ids = [entry["id"] for entry in content["images"] if Path(entry["file_name"]).stem == name]
            rings = [
                part for entry in content["annotations"] if entry["image_id"] in ids for part in entry["segmentation"]
            ]
            polygons = [shapely.make_valid(shapely.Polygon(np.reshape(ring, (-1, 2)))) for ring in rings]
        else:
            frame = geopandas.read_file(truth / f"{name.rsplit('_z', 1)[0]}.geojson").to_crs(grid.crs)
            a, b, c, d, e, f = tuple(~grid.transform)[:6]
            polygons = shapely.transform(
                frame.geometry.array, lambda points, m=((a, d), (b, e)), t=(c, f): points @ np.array(m) + t
            )
        inside = shapely.intersection(shapely.make_valid(np.asarray(polygons, object)), shapely.box(0, 0, *shape[::-1]))
        images.append(Image(name, path, inside[shapely.area(inside) > 1], shape))
    return images


def measure(image: Image, shaping: Shaping, tally: Tally) -> list[dict[str, object]]:
    """Count one image; its detections, for the evaluator."""
    with Scene(image.path) as scene, Scene(str(image.path).replace(".classes.", ".probabilities.")) as said:
        whole = Window(0, 0, *scene.shape)
        legend = read_legend_tags(image.path)
        features = find_features(
            scene.raw(whole)[..., 0], scene.grid, legend, probabilities=said.raw(whole), shaping=shaping
        )
        frame = features.frame
        a, b, c, d, e, f = tuple(~scene.grid.transform)[:6]
    found = shapely.transform(frame.geometry.array, lambda points: points @ np.array([[a, d], [b, e]]) + (c, f))
    found = np.asarray(found, object)
    one, other = shapely.STRtree(image.truth).query(found, predicate="intersects")
    common = shapely.area(shapely.intersection(found[one], image.truth[other]))
    iou = common / (shapely.area(found)[one] + shapely.area(image.truth)[other] - common)
    # Above one half, an object has one partner at most.
    tally.found += len(np.unique(other[iou > 0.5]))
    tally.truths += len(image.truth)
    tally.polygons += features.steps[-1].polygons
    tally.vertices += features.steps[-1].vertices
    drawn, true = (rasterise(list(shapes), *image.shape) > 0 for shapes in (found, image.truth))
    tally.both += int((drawn & true).sum())
    tally.either += int((drawn | true).sum())
    return [
        {"segmentation": encode_coco(rasterise([polygon], *image.shape)), "score": float(score), "category_id": 1}
        for polygon, score in zip(found, frame["mean_probability"], strict=True)
    ]


def average_precision(images: list[Image], detections: list[list[dict[str, object]]]) -> float:
    """AP at IoU 0.5 with at most 100 detections an image, as crowdAI counts."""
    truth = {
        "images": [
            {"id": at, "file_name": "", "height": image.shape[0], "width": image.shape[1]}
            for at, image in enumerate(images)
        ],
        "categories": [{"id": 1}],
        "annotations": [
            {"image_id": at, "category_id": 1, "segmentation": encode_coco(rasterise([polygon], *image.shape))}
            for at, image in enumerate(images)
            for polygon in image.truth
        ],
    }
    entries = [entry | {"image_id": at} for at, mine in enumerate(detections) for entry in mine]
    return score_coco(entries, truth, keep_best=True).ap50


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--pixel-m", type=float, default=1.0, help="side of a pixel of images without a place")
    parser.add_argument("--only", default="", help="images whose names begin so")
    parser.add_argument("--ap", action="store_true", help="also AP at 0.5, for tiles of at most 100 objects")
    options = parser.parse_args()
    begin("What shaping does to predictions")
    images = [image for image in read_images(options.predictions, options.truth) if image.name.startswith(options.only)]
    print(f"{len(images)} images, {sum(len(image.truth) for image in images):,} objects")
    print(
        "| shaping | polygons | vertices | IoU | precision | recall | F1 at 0.5 | AP at 0.5 |\n|---|---|---|---|---|---|---|---|"
    )
    for name, shaping in CASES.items():
        tally = Tally()
        detections = [measure(image, in_pixels(shaping, options.pixel_m), tally) for image in images]
        precision, recall = tally.found / max(tally.polygons, 1), tally.found / max(tally.truths, 1)
        f1 = 2 * tally.found / max(tally.polygons + tally.truths, 1)
        ap = f"{average_precision(images, detections):.3f}" if options.ap else ""
        scores = f"{tally.both / tally.either:.4f} | {precision:.3f} | {recall:.3f} | {f1:.3f}"
        print(f"| {name} | {tally.polygons:,} | {tally.vertices:,} | {scores} | {ap} |", flush=True)


if __name__ == "__main__":
    main()
