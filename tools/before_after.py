"""Draw polygons as traced and as shaped side by side over their scene: the picture of docs/polygons.md.

python tools/before_after.py SCENE PROBABILITIES OUT.png [--part ROW COLUMN HEIGHT WIDTH]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shapely

from satmask import Scene, Window
from satmask.cleaning import Cleaning
from satmask.features import Shaping, find_features
from satmask.figures import blank, save, show
from satmask.grid import Grid
from satmask.polygons import place
from satmask.rasters import read_legend_tags
from satmask.stretching import stretch

COLOUR = "#FFE100"
SHAPING = Shaping(Cleaning(0.3, 0, 2, 4), separate_depth=0.5, simplify_m=0.3, square=True)


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("probabilities", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", type=int, nargs=4, help="row, column, height and width of the part to show")
    parser.add_argument("--dpi", type=int, default=110)
    given = parser.parse_args()
    with Scene(given.probabilities) as said:
        probabilities = said.raw(Window(0, 0, *said.shape))
        grid = said.grid
    part = Window(*given.part) if given.part else Window(0, 0, *grid.shape)
    with Scene(given.scene) as scene:
        rgb = stretch(scene.raw(part)[..., :3])
    legend = read_legend_tags(given.probabilities)
    figure = blank(11, 11 * part.height / part.width / 2)
    axes = figure.subplots(1, 2)
    for axis, (title, shaping) in zip(axes, (("as traced", None), ("shaped", SHAPING)), strict=True):
        frame = find_features(probabilities >= 0.5, grid, legend, shaping=shaping).frame
        shapes = place(np.asarray(frame.geometry.array), Grid(1, 1, ~grid.part(part).transform))
        shapes = shapes[shapely.intersects(shapes, shapely.box(0, 0, part.width, part.height))]
        show(axis, rgb, extent=(0, part.width, part.height, 0))
        rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(np.asarray(shapes))]
        for ring in rings:
            axis.plot(*ring.T, color=COLOUR, linewidth=1.3)
        axis.set(xlim=(0, part.width), ylim=(part.height, 0))
        axis.set_title(
            f"{title}: {len(shapes):,} polygons, {sum(map(len, rings)) - len(rings):,} vertices", fontsize=10
        )
    save(figure, given.out, dpi=given.dpi)


if __name__ == "__main__":
    main()
