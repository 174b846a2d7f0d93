"""Alignment: labels are moved by known amounts, and `measure_shift` has to find out.

The labels count as aligned as they are, so what is flagged unmoved is called an alarm; look at those before you believe
that they are false.

Example: `python benchmarks/alignment.py --data data/buildings --tiles 400`
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from materials import open_data
from measure import arguments, begin
from satmask.alignment import Alignment, combine, measure_shift
from satmask.datasets import read_dataset, read_legend
from satmask.labels import Truth
from satmask.scene import open_scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from satmask.datasets import Dataset, Sample

MISSED = 2.0  # a flag is wrong if its shift is further than this from the truth, in pixels


@dataclass(frozen=True)
class Trial:
    """One tile whose labels were moved.

    Attributes:
        place: What it shows.
        window: Name of the image, and where in it.
        length: How far labels were moved, in pixels; 0 for not at all.
        truth: `(dx, dy)` by which they should be moved back.
        common: Whether all tiles of the place were moved so.
        found: What was measured.
        seconds: Processor time that took.
    """

    place: str
    window: str
    length: int
    truth: tuple[int, int]
    common: bool
    found: Alignment
    seconds: float

    @property
    def error(self) -> float:
        """Distance of the estimate from the truth, in pixels."""
        return math.hypot(self.found.dx - self.truth[0], self.found.dy - self.truth[1])


def move(truth: Truth, dx: int, dy: int) -> Truth:
    """Move labels so that they would have to be moved by `dx` and `dy` to lie right; what comes in is unlabelled."""
    height, width = truth.labelled.shape
    to = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    source = slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx))
    classes, labelled = np.zeros_like(truth.classes), np.zeros_like(truth.labelled)
    classes[to], labelled[to] = truth.classes[source], truth.labelled[source]
    return Truth(classes, labelled)


def windows(data: Dataset, side: int) -> Iterator[tuple[Sample, Window]]:
    """Cut all images into whole windows; an image smaller than that is one."""
    for sample in (sample for samples in data.splits.values() for sample in samples):
        tall, wide = min(side, sample.shape[0]), min(side, sample.shape[1])
        for row in range(0, sample.shape[0] - tall + 1, tall):
            for column in range(0, sample.shape[1] - wide + 1, wide):
                yield sample, Window(row, column, tall, wide)


def try_all(data: Dataset, options: argparse.Namespace) -> list[Trial]:
    """Move the labels of some windows, each in a direction of its own and once more in one that its place shares."""
    chance = np.random.default_rng(options.seed)
    everything = list(windows(data, options.side))
    directions: dict[str, tuple[int, int]] = {}
    trials = []
    for index in chance.permutation(len(everything))[: options.tiles]:
        sample, window = everything[index]
        pixels, truth = open_scene(sample.image).read(window), sample.labels.read(window)
        if not truth.classes.any():
            continue
        shared = directions.setdefault(sample.place, direction(chance, options.together))
        for length, offset, common in [
            *((length, direction(chance, length), False) for length in (0, *options.shifts)),
            (options.together, shared, True),
        ]:
            moved = move(truth, *offset)
            begun = time.thread_time()
            found = measure_shift(pixels.values, moved.classes, moved.labelled, valid=pixels.valid)
            took = time.thread_time() - begun
            name = f"{sample.name} at row {window.row}, column {window.column}"
            trials.append(Trial(sample.place, name, length, offset, common, found, took))
    return trials


def direction(chance: np.random.Generator, length: int) -> tuple[int, int]:
    """Draw whole pixels `(dx, dy)` whose distance is within 0.3 of a length."""
    steps = range(-length - 1, length + 2)
    near = [(dx, dy) for dx in steps for dy in steps if abs(math.hypot(dx, dy) - length) <= 0.3]
    return near[int(chance.integers(len(near)))]


def tabulate(trials: list[Trial]) -> None:
    """Print how many were flagged, how well the shift was found, and what is said of the rest."""
    print("   moved  tiles  shifted  aligned can't tell  error, px  wrong flags")
    for length in sorted({trial.length for trial in trials if not trial.common}):
        here = [trial for trial in trials if trial.length == length and not trial.common]
        flags = [trial for trial in here if trial.found.is_shifted]
        shares = [
            sum(trial.found.verdict == verdict for trial in here) / len(here)
            for verdict in ("shifted", "aligned", "can't tell")
        ]
        error = f"{statistics.median(trial.error for trial in flags):.2f}" if flags else "-"
        wrong = sum(trial.error > MISSED for trial in flags)
        told = " ".join(f"{share:8.1%}" for share in shares)
        print(f"{length:5} px {len(here):6} {told}   {error:>9}  {wrong} of {len(flags)}")


def tabulate_places(trials: list[Trial]) -> None:
    """Print what the tiles of a place say together."""
    groups: dict[tuple[int, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.common or trial.length == 0:
            groups[trial.length, trial.place].append(trial)
    print("\nAll tiles of a place together, each place moved in one direction:")
    for (length, place), group in sorted(groups.items()):
        found = combine(trial.found for trial in group)
        error = math.hypot(found.dx - group[0].truth[0], found.dy - group[0].truth[1])
        told = f"{found.verdict:10}  error {error:.2f} px, significance {found.significance:4.1f}"
        print(f"{length:5} px {len(group):6} tiles  {told}  {place or 'no place'}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="folder of imagery with labels; without it, a synthetic town")
    parser.add_argument("--legend", type=Path, help="legend of the data, where the folder has none")
    parser.add_argument("--tiles", type=int, default=200, help="windows to draw")
    parser.add_argument("--side", type=int, default=256, help="side of a window, in pixels")
    parser.add_argument("--shifts", type=lambda text: [int(part) for part in text.split(",")], default=[2, 4, 8])
    parser.add_argument("--together", type=int, default=3, help="how far whole places are moved, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    cv2.setNumThreads(1)
    begin("Alignment, one thread")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        legend = read_legend(options.legend) if options.legend else None
        data = read_dataset(options.data, legend=legend) if legend else open_data(options.data, Path(name))
        trials = try_all(data, options)
    tabulate(trials)
    tabulate_places(trials)
    milliseconds = statistics.median(trial.seconds for trial in trials) * 1e3
    print(f"\n{milliseconds:.1f} ms of one core a window (median), reading not counted")
    for trial in sorted(trials, key=lambda trial: -trial.found.significance):
        if trial.length == 0 and trial.found.is_shifted:
            print(f"flagged unmoved: {trial.window}, by {trial.found.dx:+.1f}, {trial.found.dy:+.1f} px")


if __name__ == "__main__":
    main()
