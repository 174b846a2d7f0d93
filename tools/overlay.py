"""Draw predicted polygons, or the error against a mask, over a scene: the pictures of docs/real-data.md.

python tools/overlay.py SCENE PREDICTION.gpkg OUT.png [--mask MASK --classes CLASSES]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shapely

from satmask import Legend, Scene, Window
from satmask.figures import save
from satmask.maps import polygons_over
from satmask.polygons import read_polygons
from satmask.sheets import comparison
from satmask.stretching import stretch

LEGEND = Legend.of({1: "building"})


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("polygons", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mask", type=Path, help="truth; draws image, truth, prediction and error instead")
    parser.add_argument("--classes", type=Path, help="class raster that predict wrote")
    parser.add_argument("--part", type=int, nargs=4, help="row, column, height and width of the part to show")
    parser.add_argument("--dpi", type=int, default=110)
    given = parser.parse_args()
    with Scene(given.scene) as scene:
        window = Window(*given.part) if given.part else Window(0, 0, *scene.shape)
        rgb = stretch(scene.raw(window)[..., :3])
        grid = scene.grid.part(window)
    if given.mask:
        truth, said = (_read(path, window) for path in (given.mask, given.classes))
        figure = comparison(rgb, (truth == 255) * 1, ((said != 0) & (said != 255)) * 1, LEGEND, title=given.scene.stem)
    else:
        frame = read_polygons(given.polygons, layer="polygons")
        a, b, c, d, e, f = tuple(~grid.transform)[:6]
        pixels = shapely.transform(frame.geometry.array, lambda points: points @ np.array([[a, d], [b, e]]) + (c, f))
        inside = shapely.intersects(pixels, shapely.box(0, 0, window.width, window.height))
        shown = list(np.asarray(pixels)[inside])
        figure = polygons_over(
            rgb, shown, [1] * len(shown), LEGEND, areas_m2=frame["area_m2"][inside].tolist(), gsd_m=grid.gsd_m
        )
    save(figure, given.out, dpi=given.dpi)


def _read(path: Path, window: Window) -> np.ndarray:
    with Scene(path) as scene:
        return scene.raw(window)[..., 0]


if __name__ == "__main__":
    main()
