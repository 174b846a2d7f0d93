"""Speed and fit of right angles: satmask's regularisation against the package buildingregulariser, in turn.

pip install --target /tmp/peer --no-deps buildingregulariser
PYTHONPATH=/tmp/peer python benchmarks/regularise.py [MASKS]

Polygons are the outlines of drawn houses at any angle, or of the masks `*_mask.tif` in the folder MASKS, 0.15 m a pixel.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas
import numpy as np
import shapely
from shapely import affinity

from measure import Ratio, arguments, begin, compare, interleave, show
from satmask import Scene, Window
from satmask.masks import outlines, rasterise
from satmask.regularisation import iou_of, regularise
from satmask.simplification import simplify

GSD_M = 0.15
SPACING = 100
# Fewer pixels are no building: 1.35 m².
SMALLEST_PX = 60
# Settings of the peer: its own, and those that suit pixels of 0.15 m better.
PEER = {
    "buildingregulariser, its defaults": {},
    "buildingregulariser, tolerances of 0.3 m": {"simplify_tolerance": 0.3, "parallel_threshold": 0.3},
}


def draw_houses(count: int) -> np.ndarray:
    """Outlines of houses, in pixels: rectangles, L-shapes and courts of 20 to 80 pixels at any angle, with ragged edges."""
    random = np.random.default_rng(1)
    ell = shapely.Polygon([(0, 0), (1, 0), (1, 0.45), (0.5, 0.45), (0.5, 1), (0, 1)])
    court = shapely.box(0, 0, 1, 1).difference(shapely.box(0.3, 0.3, 0.7, 0.7))
    across = int(np.ceil(np.sqrt(count)))
    shapes = []
    for place in range(count):
        plan = (shapely.box(0, 0, 1, 1), shapely.box(0, 0, 1, 1), ell, court)[random.integers(4)]
        house = affinity.rotate(
            affinity.scale(plan, *random.uniform(20, 60, 2)), random.uniform(0, 90), origin="centroid"
        )
        x, y = house.centroid.coords[0]
        shapes.append(
            affinity.translate(house, SPACING * (place % across + 0.5) - x, SPACING * (place // across + 0.5) - y)
        )
    mask = rasterise(shapes, SPACING * across, SPACING * across) > 0
    # One pixel in ten of those at an edge is taken for its neighbour.
    edge = mask ^ np.roll(mask, 1, 0) | mask ^ np.roll(mask, 1, 1)
    mask ^= edge & (random.random(mask.shape) < 0.1)
    return large(outlines(mask.astype(np.int32))[0])


def read_outlines(folder: Path) -> np.ndarray:
    """Outlines of real masks, in pixels; images lie side by side."""
    found, left = [], 0
    for path in sorted(folder.glob("*_mask.tif")):
        with Scene(path) as scene:
            mask = scene.raw(Window(0, 0, *scene.shape))[..., 0] > 0
        found.append(
            shapely.transform(outlines(mask.astype(np.int32))[0], lambda points, x=left: points + np.array([x, 0]))
        )
        left += mask.shape[1] + SPACING
    return large(np.concatenate(found))


def large(polygons: np.ndarray) -> np.ndarray:
    """Without specks."""
    return np.asarray(polygons[shapely.area(polygons) >= SMALLEST_PX], object)


def peer(frame: geopandas.GeoDataFrame, **settings: float) -> tuple[np.ndarray, np.ndarray]:
    """What the peer makes of polygons, and which they were."""
    from buildingregulariser import regularize_geodataframe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each polygon that it leaves
        made = regularize_geodataframe(frame, num_cores=1, **settings)
    return np.asarray(made.geometry.array, object), made["place"].to_numpy()


def tell(name: str, polygons: np.ndarray, made: np.ndarray, places: np.ndarray) -> None:
    """Print how well polygons fit; places say which of the polygons they were."""
    iou = iou_of(shapely.make_valid(made), polygons[places])
    vertices = shapely.get_num_coordinates(made).sum() / shapely.get_num_coordinates(polygons).sum()
    square = np.mean([right_angled(polygon) for polygon in made])
    print(
        f"{name}: mean IoU {iou.mean():.4f}, lowest {iou.min():.3f}, vertices {vertices:.1%}, right angles alone in"
        f" {square:.1%}, invalid {np.count_nonzero(~shapely.is_valid(made))}, lost {len(polygons) - len(made)}"
    )


def right_angled(polygon: shapely.Polygon) -> bool:
    """Whether all angles are right ones, to a hundredth of a degree."""
    for ring in shapely.get_rings(polygon):
        points = shapely.get_coordinates(ring) @ [1, 1j]
        edges = np.diff(np.append(points, points[1]))
        if np.any(np.abs(np.angle((edges[1:] / edges[:-1]) ** 2 * -1)) > np.radians(0.02)):
            return False
    return True


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("masks", type=Path, nargs="?", help="folder of real masks")
    parser.add_argument("--count", type=int, default=5000, help="houses to draw")
    options = parser.parse_args()
    begin("Right angles")
    pixels = read_outlines(options.masks) if options.masks else draw_houses(options.count)
    polygons = np.asarray(shapely.transform(pixels, lambda points: points * GSD_M), object)
    print(f"{len(polygons):,} polygons of {shapely.get_num_coordinates(polygons).mean():.0f} vertices")
    frame = geopandas.GeoDataFrame({"place": np.arange(len(polygons))}, geometry=polygons, crs="EPSG:32633")
    few = frame.iloc[:: max(1, len(frame) // 500)]
    cases = {"satmask": lambda: regularise(polygons, tolerance=1.5 * GSD_M)}
    made, squared = cases["satmask"]()
    everything = np.arange(len(polygons))
    print(f"satmask squares {squared.mean():.1%}")
    tell("satmask", polygons, made, everything)
    simple = simplify(polygons, tolerance=0.3)
    tell("satmask, what isn't squared simplified", polygons, np.where(squared, made, simple), everything)
    try:
        for name, settings in PEER.items():
            done, places = peer(few, **settings)
            tell(name, polygons[few["place"]], done, np.searchsorted(few["place"], places))
            cases[name] = lambda settings=settings: peer(few, **settings)
    except ImportError:
        print("buildingregulariser isn't installed; satmask alone is measured.")
    timings = interleave(cases, options.rounds)
    ours = timings.pop("satmask")
    show({"satmask": ours}, amount=len(polygons), unit="polygons")
    if timings:
        show(timings, amount=len(few), unit="polygons")
        each = ours.median / len(polygons)
        compare(
            [
                Ratio(f"polygons/s, satmask / {name}", other.median / len(few) / each, "≥ 20")
                for name, other in timings.items()
            ]
        )


if __name__ == "__main__":
    main()
