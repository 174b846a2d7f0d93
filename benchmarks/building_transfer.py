"""How a building model does on sensors and places that it wasn't trained on: NAIP's houses, a WorldView scene, Mumbai.

    python benchmarks/building_transfer.py MODEL [MODEL …] --data DATA

DATA holds `naip/val/{img,mask}` (aerial RGB and near infrared, 0.6 m, class 1 is building, some houses aren't labelled),
`rasters/worldview_vegas_{uint16,buildings}.tif` (11 bits, 0.3 m, brought to 8 bits by percentiles) and `mumbai` (RGB of 0.4 to
0.5 m from space; its classes hold buildings and what lies between them, so what is told is how much of each is said to be a
building). None of it may train what ships. Each is seen with pixels as they are and as four each (`--upsampling`), whatever the model
file says.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.warp import Resampling, reproject

from satmask import open_engine
from satmask.assembly import find_model
from satmask.catalogue import find_named
from satmask.fitting import open_for
from satmask.prediction import predict_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.engines import Engine

CUTS = np.linspace(0.05, 0.95, 19)  # thresholds for the best that hindsight could choose


@dataclass(frozen=True)
class Trial:
    """Images of one sensor with the truth of each, and how they are read."""

    name: str
    pairs: tuple[tuple[Path, Path], ...]
    reading: dict[str, Any]


def trials(data: Path) -> list[Trial]:
    """All that is tried."""
    naip = [path for split in ("val",) for path in sorted((data / "naip" / split / "img").glob("*.tif"))]
    if not naip:
        sys.exit(f"DATA must hold naip/val/img, got none in {data}.")
    tiles = tuple((path, path.parent.with_name("mask") / path.name.replace("tile", "mask")) for path in naip)
    vegas = ((data / "rasters/worldview_vegas_uint16.tif", data / "rasters/worldview_vegas_buildings.tif"),)
    return [
        Trial("NAIP, 0.6 m", tiles, {"bands": (1, 2, 3)}),
        Trial("WorldView, Las Vegas, 0.3 m", vegas, {"stretch": (1, 99)}),
    ]


def count(engine: Engine, trial: Trial, upsampling: int) -> np.ndarray:
    """True positives, false positives and false negatives: first as the model decides, then at each of `CUTS`."""
    total = np.zeros((1 + len(CUTS), 3), np.int64)
    for image, mask in trial.pairs:
        with open_for(engine.info, image, **trial.reading) as scene:
            said, valid = predict_array(engine, scene, upsampling=upsampling)
            truth = _truth(mask, scene.grid) & valid
            decided = engine.info.decision.masks(said, gsd_m=scene.grid.gsd_m)[..., 0]
        total += [_tally(truth, chosen & valid) for chosen in (decided, *(said[..., 0] >= cut for cut in CUTS))]
    return total


def shares_by_class(engine: Engine, folder: Path, upsampling: int) -> dict[str, float]:
    """Which part of each class of land use is said to be a building."""
    names = json.loads((folder / "classes.json").read_text())["classes"]
    counts = np.zeros((len(names), 2), np.int64)
    for image in sorted((folder / "val/images").iterdir()):
        with rasterio.open(folder / "val/masks" / f"{image.stem}.png") as file:
            truth = file.read(1)
        with open_for(engine.info, image) as scene:
            said = engine.info.decision.masks(predict_array(engine, scene, upsampling=upsampling)[0])[..., 0]
        counts += np.stack([np.bincount(truth[chosen], minlength=len(names)) for chosen in (truth >= 0, said)], axis=1)
    return {name: float(counts[int(id_), 1] / max(counts[int(id_), 0], 1)) for id_, name in names.items() if id_ != "0"}


def _truth(mask: Path, grid: Any) -> np.ndarray:
    """Where a building is, on another grid of the same place."""
    with rasterio.open(mask) as source:
        found = np.zeros(grid.shape, np.uint8)
        place = {"dst_transform": grid.transform, "dst_crs": grid.crs, "resampling": Resampling.nearest}
        reproject(
            (source.read(1) == 1).astype(np.uint8), found, src_transform=source.transform, src_crs=source.crs, **place
        )
    return found == 1


def _tally(truth: np.ndarray, said: np.ndarray) -> tuple[int, int, int]:
    return int((truth & said).sum()), int((~truth & said).sum()), int((truth & ~said).sum())


def row(name: str, counts: np.ndarray) -> str:
    """A line of the table."""
    hits, invented, missed = counts.T.astype(float)
    ious = hits / np.maximum(hits + invented + missed, 1)
    precision, recall = hits[0] / max(hits[0] + invented[0], 1), hits[0] / max(hits[0] + missed[0], 1)
    best = int(ious[1:].argmax())
    numbers = (
        f"{ious[0]:.3f} | {precision:.3f} | {recall:.3f} | {2 * hits[0] / (2 * hits[0] + invented[0] + missed[0]):.3f}"
    )
    return f"| {name} | {numbers} | {ious[1 + best]:.3f} at {CUTS[best]:.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Try each model on each sensor and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="runs, model files or names")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    print("| model, data | IoU | precision | recall | F1 | best IoU at any threshold |\n|---|---|---|---|---|---|")
    for path in options.models:
        engine = open_engine(find_model(find_named(path)), threads=options.threads)
        for upsampling, how in ((1, "as they are"), (2, "as four")):
            for trial in trials(options.data):
                print(row(f"{path.name}, {trial.name}, pixels {how}", count(engine, trial, upsampling)), flush=True)
            shares = shares_by_class(engine, options.data / "mumbai", upsampling)
            said = " | ".join(f"{name} {share:.3f}" for name, share in shares.items())
            print(f"| {path.name}, Mumbai, pixels {how}: said to be a building | {said} |")


if __name__ == "__main__":
    main()
