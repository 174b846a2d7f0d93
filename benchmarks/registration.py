"""Registration of products with known shifts: how many are accepted, how far off those are, how long it takes.

Example: `python benchmarks/registration.py --cases 120 --data DIR`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from measure import arguments, begin
from satmask.bands import Registration, reduce, register, resample
from satmask.datasets.town.dstl import write_dstl
from satmask.scene import Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

# Largest error of each product that counts as recovered, and the spread of the shifts tried, both in pixels of RGB.
LAWS = {"P": (0.3, 1.5), "M": (0.3, 4.0), "A": (1.0, 25.0)}


@dataclass(frozen=True)
class Case:
    """A product, another one, and by how much they are off each other.

    Attributes:
        kind: What is measured together.
        moving: The one to register.
        fixed: The one it is registered to.
        shift: The truth, in pixels of `fixed`; None where declining is right.
    """

    kind: str
    moving: np.ndarray
    fixed: np.ndarray
    shift: tuple[float, float] | None


@dataclass(frozen=True)
class Outcome:
    """What came of a case: its truth, the registration, and the seconds of processor time."""

    case: Case
    found: Registration
    seconds: float

    @property
    def errors(self) -> tuple[float, float]:
        """Distance from the truth before and after, in pixels of the fixed product."""
        dx, dy = self.case.shift or (0.0, 0.0)
        return float(np.hypot(dx, dy)), float(np.hypot(self.found.dx - dx, self.found.dy - dy))


def read(path: Path) -> np.ndarray:
    """All bands of a raster, `(height, width, bands)`."""
    with Scene(path) as scene:
        return scene.raw(Window(0, 0, *scene.shape))


def cut(
    random: np.random.Generator, moving: np.ndarray, fixed: np.ndarray, spread: float, share: float
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Cut a piece out of both, each on its own pixels and off each other at random, and say by how much more.

    A piece of the coarse product covers no whole number of fine pixels: it is compared in its middle.
    """
    offset, pieces = [], []
    for axis in (0, 1):
        coarse, fine = moving.shape[axis], fixed.shape[axis]
        ratio, length = fine / coarse, int(coarse * share)
        reach = round(length * ratio)
        at = int(random.integers(0, coarse - length + 1))
        there = int(np.clip(round(at * ratio + random.normal(0, spread)), 0, fine - reach))
        offset.append(there - at * ratio + (reach - length * ratio) / 2)
        pieces.append((slice(at, at + length), slice(there, there + reach)))
    (rows, fixed_rows), (columns, fixed_columns) = pieces
    return moving[rows, columns], fixed[fixed_rows, fixed_columns], (offset[1], offset[0])


def town_cases(folder: Path, options: argparse.Namespace) -> Iterator[Case]:
    """Pieces of synthetic DSTL sets: every product has noise, blur and spectra of its own."""
    made = write_dstl(folder, images=options.images, size=(options.size, options.size), seed=options.seed)
    random = np.random.default_rng(options.seed)
    for number in range(options.cases):
        image = made.images[number % len(made.images)]
        fixed = read(folder / "three_band" / f"{image}.tif")
        # Two places on: the first two images show the same place.
        stranger = read(folder / "three_band" / f"{made.images[(number + 2) % len(made.images)]}.tif")
        for name, (_, spread) in LAWS.items():
            product = read(folder / "sixteen_band" / f"{image}_{name}.tif")
            moving, part, more = cut(random, product, fixed, spread, 0.9 if name == "A" else 0.7)
            dx, dy = made.shifts[image][name]
            yield Case(f"town, {name} to RGB", moving, part, (dx + more[0], dy + more[1]))
            if name == "A":
                yield by_way_of_m(random, folder, image, product, made.shifts[image])
            if number < options.images:
                yield Case(f"town, {name} of another place", product, stranger, None)


def by_way_of_m(
    random: np.random.Generator, folder: Path, image: str, product: np.ndarray, shifts: dict[str, tuple[float, float]]
) -> Case:
    """The same for A against M, in pixels of M: the nearer of two steps to RGB."""
    middle = read(folder / "sixteen_band" / f"{image}_M.tif")
    moving, part, more = cut(random, product, middle, LAWS["A"][1] / 4, 0.9)
    dx, dy = ((a - m) / 4 for a, m in zip(shifts["A"], shifts["M"], strict=True))
    return Case("town, A to M, in pixels of M (4 of RGB)", moving, part, (dx + more[0], dy + more[1]))


def real_cases(data: Path, options: argparse.Namespace) -> Iterator[Case]:
    """Real images made coarse after a known shift: mosaics, with bands mixed to others; SWIR bands against others."""
    random = np.random.default_rng(options.seed)
    mosaics = [path for path in sorted((data / "scenes").glob("*.tif")) if not path.stem.endswith("_mask")]
    swir = sorted((data / "dstl" / "sixteen_band").glob("*_A.tif"))
    for number in range(options.cases):
        image = read(mosaics[number % len(mosaics)]).astype(np.float32)
        yield degraded(random, "mosaic 4 times coarser, contrasts reversed in part", image, (4, 3.0))
        bands = read(swir[number % len(swir)]).astype(np.float32)
        yield degraded(random, "SWIR 5–8, twice coarser, mixed, to SWIR 5–8", bands[..., 4:], (2, 2.0), fold=False)


def degraded(
    random: np.random.Generator, kind: str, image: np.ndarray, how: tuple[int, float], *, fold: bool = True
) -> Case:
    """Shift an image, mix its bands, blur it, make it coarser and noisy."""
    factor, spread = how
    shift = (float(random.normal(0, spread)), float(random.normal(0, spread)))
    moved = resample(image, (image.shape[0], image.shape[1]), shift=(-shift[0], -shift[1]))
    level = moved / max(float(moved.max()), 1.0)
    mixed = level @ random.uniform(-0.5, 1.0, (image.shape[2], 2)).astype(np.float32)
    if fold:
        # Contrast reverses between dark and bright things, as between visible light and near infrared.
        mixed = np.concatenate([mixed, np.abs(mixed - np.quantile(mixed, 0.4)) ** 0.8], axis=-1)
    soft = cv2.GaussianBlur(mixed, (0, 0), 0.5 * factor)
    coarse = reduce(soft, (image.shape[0] // factor, image.shape[1] // factor))
    noisy = coarse + random.normal(0, 0.004, coarse.shape).astype(np.float32)
    edge = max(16 // factor, 2)
    inner = (slice(edge, -edge), slice(edge, -edge))
    height, width = coarse.shape[0] * factor, coarse.shape[1] * factor
    fixed = image[edge * factor : height - edge * factor, edge * factor : width - edge * factor]
    # What `reduce` averages is a little more than whole pixels where the factor doesn't divide the sides.
    stretch = image.shape[1] / width, image.shape[0] / height
    middle = ((shift[0] + width / 2 * (1 - stretch[0])), (shift[1] + height / 2 * (1 - stretch[1])))
    return Case(kind, noisy[inner], fixed, middle)


def show(outcomes: list[Outcome]) -> None:
    """Print a line for each kind of case."""
    print(f"{'':52} cases accepted  error px: median   95 %    max  worse  uncertainty holds  s: median   max")
    for kind in dict.fromkeys(outcome.case.kind for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.case.kind == kind]
        taken = [outcome for outcome in mine if outcome.found.accepted]
        seconds = [outcome.seconds for outcome in mine]
        line = f"{kind:52} {len(mine):5} {len(taken) / len(mine):8.0%}  "
        if taken and mine[0].case.shift is not None:
            errors = np.array([outcome.errors for outcome in taken])
            held = np.mean([outcome.errors[1] <= outcome.found.uncertainty_px for outcome in taken])
            worse = int((errors[:, 1] > errors[:, 0] + 1e-9).sum())
            middle, high = np.quantile(errors[:, 1], (0.5, 0.95))
            line += f"{middle:16.3f} {high:6.3f} {errors[:, 1].max():6.3f} {worse:6} {held:17.0%}"
        else:
            line += " " * 55
        print(f"{line}  {np.median(seconds):9.2f} {max(seconds):5.2f}")


def run(case: Case) -> Outcome:
    """Register one case."""
    begun = time.process_time()
    found = register(case.moving, case.fixed)
    return Outcome(case, found, time.process_time() - begun)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, default=40, help="cases of each kind")
    parser.add_argument("--images", type=int, default=5, help="synthetic places that pieces are cut from, 4 or more")
    parser.add_argument("--size", type=int, default=2400, help="sides of their RGB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of real data with `scenes` and `dstl`")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    begin("Registration with known shifts, one thread")
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [strip(run(case)) for case in town_cases(Path(folder) / "set", options)]
    if options.data:
        outcomes += [strip(run(case)) for case in real_cases(options.data, options)]
    show(outcomes)


def strip(outcome: Outcome) -> Outcome:
    """Forget the pixels."""
    nothing = np.zeros(0)
    return Outcome(Case(outcome.case.kind, nothing, nothing, outcome.case.shift), outcome.found, outcome.seconds)


if __name__ == "__main__":
    main()
