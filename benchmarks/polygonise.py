"""Polygons: `satmask.vectorise` against GDAL's tracer, by way of rasterio and shapely; and the memory that it takes.

Example: `python benchmarks/polygonise.py --rounds 5`
"""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import cv2
import numpy as np
import shapely
from affine import Affine
from pyproj import CRS
from rasterio.features import shapes

from measure import Ratio, arguments, begin, compare, interleave, show
from satmask import Grid, Legend, Window
from satmask.cleaning import Cleaning
from satmask.features import Shaping, stream_features
from satmask.masks import outlines
from satmask.vectorise import trace, trace_raster


def buildings(side: int, count: int) -> np.ndarray:
    """Turned rectangles that don't touch, of 0.3 to 0.5 of the distance between them."""
    random, mask = np.random.default_rng(0), np.zeros((side, side), np.uint8)
    across = int(np.ceil(np.sqrt(count)))
    step = side / across
    for place in random.permutation(across * across)[:count]:
        centre = (np.array(divmod(place, across)) + 0.5 + random.uniform(-0.1, 0.1, 2)) * step
        box = cv2.boxPoints((tuple(centre), tuple(random.uniform(0.3, 0.5, 2) * step), random.uniform(0, 90)))
        cv2.fillPoly(mask, [np.round(box).astype(np.int32)], 1)
    return mask


def ragged(side: int) -> np.ndarray:
    """Half of the pixels, in patches with ragged outlines and thousands of holes, as an uncertain network gives them."""
    noise = np.random.default_rng(0).random((side, side), np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 2.0) > 0.5).astype(np.uint8)


def by_rasterio(mask: np.ndarray) -> list[Any]:
    """What rasterio's documentation shows: a shapely object from each GeoJSON."""
    return [shapely.geometry.shape(geometry) for geometry, _ in shapes(mask, mask=mask != 0)]


def compare_speed(name: str, mask: np.ndarray, rounds: int) -> None:
    """Time all ways on one mask, and check that they say the same."""
    ours, theirs = shapely.to_wkb(trace(mask).polygons), shapely.to_wkb(by_rasterio(mask))
    same = sorted(ours) == sorted(theirs)
    vertices = int(shapely.get_num_coordinates(trace(mask).polygons).sum())
    print(f"\n{name}: {len(ours):,} polygons, {vertices:,} vertices; the same as GDAL's to the byte: {same}")
    cases = {
        "satmask trace": lambda: trace(mask),
        "rasterio shapes + shapely": lambda: by_rasterio(mask),
        "rasterio shapes, all at once": lambda: outlines(mask.astype(np.int32)),
    }
    timings = interleave(cases, rounds)
    show(timings, amount=len(ours), unit="polygons")
    medians = {case: timing.median for case, timing in timings.items()}
    compare(
        [
            Ratio(
                "as fast as rasterio shapes + shapely",
                medians["rasterio shapes + shapely"] / medians["satmask trace"],
                "≥ 5",
            ),
            Ratio(
                "as fast as rasterio shapes, all at once",
                medians["rasterio shapes, all at once"] / medians["satmask trace"],
            ),
        ]
    )


def peak_mb(strip: np.ndarray, strips: int) -> float:
    """Most memory held while a raster that repeats a strip is traced, its polygons thrown away."""
    height, width = strip.shape
    tracemalloc.start()
    for _ in trace_raster(lambda _: strip, height * strips, width, block=strip.shape):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def shaped_peak_mb(strip: np.ndarray, strips: int) -> tuple[float, int, float]:
    """The same while polygons are cleaned, parted, simplified and squared; their number, and seconds."""
    height, width = strip.shape
    grid = Grid(height * strips, width, Affine(0.3, 0, 500_000, 0, -0.3, 4_000_000), CRS("EPSG:32633"))
    shaping = Shaping(Cleaning(0.3, 0, 2, 4), separate_depth=0.6, simplify_m=0.6, square=True)

    def read(window: Window) -> tuple[np.ndarray, None]:
        return strip[np.arange(window.row, window.row + window.height) % height, window.column :][
            :, : window.width
        ], None

    tracemalloc.start()
    began = time.perf_counter()
    count = sum(map(len, stream_features(read, grid, Legend.of(["building"]), shaping=shaping, rows=height)))
    seconds, most = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6, count, seconds


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--side", type=int, default=4096, help="pixels")
    parser.add_argument("--count", type=int, default=5000, help="buildings")
    chosen = parser.parse_args()
    begin("Polygons")
    compare_speed("Buildings", buildings(chosen.side, chosen.count), chosen.rounds)
    compare_speed("Ragged", ragged(chosen.side), chosen.rounds)
    strip = buildings(chosen.side, chosen.count)[:512]
    print(f"\nMemory of a raster {chosen.side:,} wide, read in rows of 512, buildings everywhere")
    for strips in (2, 8, 32):
        print(f"{512 * strips:>8,} high  {peak_mb(strip, strips):.1f} MB")
    part = (strip[:, : chosen.side // 2] != 0).astype(np.uint8)
    print(f"The same for polygons that are shaped, {part.shape[1]:,} wide, the strip among it")
    for strips in (2, 8):
        most, count, seconds = shaped_peak_mb(part, strips)
        print(f"{512 * strips:>8,} high  {most:.1f} MB, {count:,} polygons in {seconds:.1f} s")


if __name__ == "__main__":
    main()
