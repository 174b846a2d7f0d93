"""What each ingredient of the building model brings on places that it hasn't seen.

    satmask join DATA/buildings joined
    python benchmarks/building_folds.py joined --weights WEIGHTS --out folds [--variants encoder gsd] [--windows 2400]

Each variant of `recipes/building-folds.toml` is trained once for each place that is held out, on as many windows as all
others, but for those whose `share` says otherwise; its last weights count, so that nothing is chosen on the place that
judges. How sure a network is on ground that it hasn't seen differs from run to run, and short runs say too much; so IoU is told
at 0.5, and at the one threshold for the whole place that hindsight chooses, which says how well it ranks. What lies in OUT already isn't trained again: the command goes on where it was stopped. The validation split is
used as a place to judge, and never trains anything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import rasterio

from satmask.datasets import read_dataset
from satmask.windows import Window

VARIANTS = Path(__file__).parent.parent / "recipes" / "building-folds.toml"
PLACES = ("zanzibar", "kampala", "banepa", "catanduanes")
ZOOMS = ("19", "20", "21")
CUTS = np.linspace(0.02, 0.98, 49)
MOST_JUDGED = 20_000_000  # bytes of one place's scenes at one zoom: enough to judge by


@dataclass(frozen=True)
class Fold:
    """One variant with one place held out, and where its files are."""

    variant: str
    place: str
    folder: Path

    @property
    def scores(self) -> Path:
        """What `satmask score` said of the place."""
        return self.folder / "scores.json"

    @property
    def predicted(self) -> Path:
        """Rasters and polygons of the place."""
        return self.folder / "predicted"


def settings_of(name: str, variants: dict[str, dict[str, Any]], weights: Path | None) -> dict[str, Any]:
    """All settings of a variant, those that it builds on included."""
    own = dict(variants[name])
    base = settings_of(own.pop("from"), variants, weights) if "from" in own else {}
    placed = {key: str(weights) if value == "{weights}" else value for key, value in own.items()}
    return base | placed


def lay_out(joined: Path, target: Path) -> None:
    """Put each place under `PLACE/judged`, and what may train where it is held out under `PLACE/learned/train`.

    Training wants a split to look at while it goes on: one small scene of the place, on which nothing depends.
    """
    files = sorted(path for path in (joined / "train").iterdir())
    for place in PLACES:
        judged = [path for path in (*files, *(joined / "val").iterdir()) if path.name.startswith(place)]
        if not judged:
            sys.exit(f"DATA must hold scenes of {place}, got none in {joined}.")
        judged = _enough(judged)
        taught = [path for path in files if not path.name.startswith(place)]
        smallest = min((path for path in judged if path.suffix == ".tif"), key=lambda path: path.stat().st_size)
        glance = [path for path in judged if path.stem == smallest.stem]
        for split, chosen in (("learned/train", taught), ("learned/val", glance), ("judged", judged)):
            folder = target / place / split
            folder.mkdir(parents=True, exist_ok=True)
            for path in chosen:
                target_path = folder / _renamed(path.name)
                if not target_path.exists():
                    os.link(path, target_path)
        for folder in ("learned", "judged"):
            shutil.copyfile(joined / "legend.toml", target / place / folder / "legend.toml")


def _enough(files: list[Path]) -> list[Path]:
    """The scenes of a place with their labels, small ones first, until there is enough of each zoom."""
    taken: dict[str, int] = {}
    kept: list[Path] = []
    scenes = [path for path in files if path.suffix == ".tif"]
    for scene in sorted(scenes, key=lambda path: path.stat().st_size):
        zoom = re.sub(r".*_z(\d+)_.*", r"\1", _renamed(scene.name))
        if taken.get(zoom, 0) and taken[zoom] + scene.stat().st_size > MOST_JUDGED:
            continue
        taken[zoom] = taken.get(zoom, 0) + scene.stat().st_size
        kept += [path for path in files if path.stem == scene.stem]
    return kept


def _renamed(name: str) -> str:
    """The name that tells the size of the pixels as zooms do: tiles of 512² show the pixels of one zoom further in."""
    if "512" not in name:
        return name
    return name.replace("_z19_", "_z20_") if "_z19_" in name else name.replace("-bn_", "-bn_z20_")


def run(fold: Fold, data: Path, settings: dict[str, Any], options: argparse.Namespace) -> None:
    """Train, predict and score one fold, in processes of their own that take one core each."""
    if fold.scores.exists():
        return
    shutil.rmtree(fold.folder, ignore_errors=True)
    fold.folder.mkdir(parents=True)
    settings = dict(settings)
    windows = round(options.windows * settings.pop("share", 1))
    told = {"windows_per_epoch": windows, "epochs": 1, "seed": options.seed}
    told |= {"mixed_precision": options.mixed, "batch": 8, "window": options.window} | settings
    given = [text for key, value in told.items() for text in ("--set", f"{key}={json.dumps(value)}")]
    _satmask(fold, "train", data / "learned", "--out", fold.folder / "run", "--quiet", *given)
    _satmask(fold, "predict", fold.folder / "run", data / "judged", "--out", fold.predicted, "--quiet")
    by = ("--by", r"_z(\d+)_", "--objects", "--boundary", "2%", "--json")
    fold.scores.write_text(_satmask(fold, "score", fold.predicted, data / "judged", *by))
    print(f"{fold.variant:12} {fold.place}", flush=True)


def _satmask(fold: Fold, *words: object) -> str:
    single = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "satmask", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ | single, check=False)
    with (fold.folder / "log.txt").open("a") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"{' '.join(call)}\n{done.stderr[-2000:]}")
    return done.stdout


def best_iou(fold: Fold, judged: Path) -> float:
    """IoU, as a mean of the zooms, at the threshold that is best for the place."""
    counts = {zoom: np.zeros((2, len(CUTS) + 1)) for zoom in ZOOMS}
    for samples in read_dataset(judged).splits.values():
        for sample in samples:
            truth = sample.labels.read(Window(0, 0, *sample.shape))
            with rasterio.open(fold.predicted / f"{sample.name}.probabilities.tif") as file:
                said, shown = file.read(1, masked=True), truth.labelled
            shares = np.asarray(said.filled(0), np.float32)
            zoom = re.sub(r".*_z(\d+)_.*", r"\1", sample.name)
            for kind in (0, 1):
                chosen = shares[shown & (truth.classes[..., 0] == kind)]
                counts[zoom][kind] += np.bincount(np.searchsorted(CUTS, chosen, side="right"), minlength=len(CUTS) + 1)
    ious = []
    for invented, hit in counts.values():
        above = np.cumsum([hit[::-1], invented[::-1]], axis=1)[:, -2::-1]
        ious.append(above[0] / np.maximum(hit.sum() + above[1], 1))
    return float(np.mean(ious, axis=0).max())


def row(fold: Fold, judged: Path) -> tuple[str, ...]:
    """Scores of a place: IoU by zoom, their mean, that at the best threshold, then boundary IoU and the F1 of objects."""
    scores = json.loads(fold.scores.read_text())
    ious = [scores["groups"][zoom]["pixels"]["pooled"]["iou"] for zoom in ZOOMS]
    details = [scores["group_details"][zoom] for zoom in ZOOMS]
    others = [mean(float(part[key]) for part in details) for key in ("boundary IoU", "object F1")]
    numbers = [*ious, mean(ious), best_iou(fold, judged), *others]
    return fold.variant, fold.place, *(f"{number:.3f}" for number in numbers)


def show(folds: list[Fold], data: Path) -> None:
    """Print each variant's places, and the mean over them."""
    head = ("variant", "held out", "zoom 19", "20", "21", "IoU", "at the best threshold", "boundary IoU", "object F1")
    table = [head]
    for variant, members in groupby((fold for fold in folds if fold.scores.exists()), key=lambda fold: fold.variant):
        told = [row(fold, data / fold.place / "judged") for fold in members]
        means = (f"{mean(map(float, column)):.3f}" for column in list(zip(*told, strict=True))[2:])
        table += [*told, (variant, f"mean of {len(told)}", *means)]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in table))


def main() -> None:
    """Train what isn't there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("joined", type=Path, help="what satmask join wrote")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2 that has seen ImageNet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", help="by default all")
    parser.add_argument("--places", nargs="+", default=PLACES)
    parser.add_argument("--windows", type=int, default=2400, help="that each variant is trained on")
    parser.add_argument("--window", type=int, default=256, help="their side, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed", action="store_true", help="train in 16 bits, on processors that have units for them")
    parser.add_argument("--processes", type=int, default=2, help="folds at once, one core each")
    options = parser.parse_args()
    variants = tomllib.loads(VARIANTS.read_text(encoding="utf-8"))
    lay_out(options.joined, options.out / "data")
    names = options.variants or list(variants)
    folds = [Fold(name, place, options.out / name / place) for name in names for place in options.places]
    with ThreadPoolExecutor(options.processes) as pool:
        list(
            pool.map(
                lambda fold: run(
                    fold,
                    options.out / "data" / fold.place,
                    settings_of(fold.variant, variants, options.weights.resolve()),
                    options,
                ),
                folds,
            )
        )
    show(folds, options.out / "data")


if __name__ == "__main__":
    main()
