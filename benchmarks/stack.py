"""Twenty bands of four products, as DSTL has them: the memory that reading takes, and whether it keeps up with training.

Example: `python benchmarks/stack.py --data DIR --rounds 5 --steps 6`
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from materials import FULL
from measure import Ratio, arguments, begin, compare, interleave, show, widths
from training import keras_cases

if TYPE_CHECKING:
    from satmask.training import Job

SHARP = ("sharp_blue", "sharp_green", "sharp_red", "sharp_nir1")
INDICES = ("ndvi", "ndwi", "evi", "savi", "ccci")


def make_set(folder: Path, *, size: int) -> Path:
    """Three synthetic images in the competition's layout, two of them of one place, out of register."""
    from satmask.bands import Registration
    from satmask.datasets.registrations import Registered, write_registrations
    from satmask.datasets.town.dstl import write_dstl

    made = write_dstl(folder / "dstl", images=3, labelled=3, size=(size, size))
    from satmask.datasets.dstl import list_stacks, reference_shape

    known = {}
    for name, stack in list_stacks(made.folder, registration=False).items():
        shifts = {
            product: Registration(*shift, score=1.0, uncertainty_px=0.0, accepted=True, reason="drawn so")
            for product, shift in made.shifts[name].items()
        }
        known[name] = Registered("RGB", reference_shape(stack), shifts)
    write_registrations(made.folder / "registration.json", known)
    return made.folder


def read_alone(folder: Path, bands: tuple[str, ...] | None, window: int, count: int) -> None:
    """Read random windows of one image, then all of it, and print what that took; run in a process of its own."""
    from satmask.datasets.dstl import list_stacks
    from satmask.stack import StackScene
    from satmask.windows import cover, draw

    stack = next(iter(list_stacks(folder).values()))
    before = _peak_mb()
    with StackScene(stack, bands=bands) as scene:
        height, width = scene.shape
        places = [place for _, place in draw([scene.shape], size=window, count=count, seed=(0,))]
        scene.read(places[0])
        begun = time.perf_counter()
        for place in places:
            scene.read(place).filled((0.0,) * len(scene.bands))
        took = time.perf_counter() - begun
        randomly = _peak_mb()
        for tile in cover(height, width, size=512, halo=0, stride=1):
            scene.read(tile.core)
        print(
            f"{height} × {width} × {len(scene.bands)}: {count / took:.0f} windows of {window}² a second; peak RSS "
            f"{before:.0f} MB with the libraries loaded, {randomly:.0f} MB after random windows, {_peak_mb():.0f} MB after all of it"
        )


def _peak_mb() -> float:
    """The most memory that this process ever held, in MB of 10⁶ bytes; Linux counts in KiB, macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def make_job(options: argparse.Namespace, data: Path, folder: Path) -> Job:
    """Set up a training run as `satmask train` does, up to its first step."""
    from satmask.datasets import read_dataset
    from satmask.recipe import Recipe
    from satmask.run import Run
    from satmask.survey import survey
    from satmask.training import Job

    recipe = Recipe.load(options.recipe).model_dump() if options.recipe else {}
    recipe |= {
        "network": {"name": "unet", "filters": options.filters},
        "window": options.window,
        "batch": options.batch,
        "bands": options.bands,
        "windows_per_epoch": options.steps * options.batch,
        "sampling": "balanced",
    }
    settled = Recipe.model_validate(recipe)
    whole, split = read_dataset(data).with_validation(settled.validation)
    seen = survey(whole.splits["train"], bands=settled.bands)
    held = survey(whole.splits["val"][:1], bands=seen.indexes)
    return Job(Run(folder / "run"), settled, whole, surveys=(seen, held), split=split, quiet=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--data", type=Path, help="folder of the DSTL layout; by default a synthetic one")
    parser.add_argument("--size", type=int, default=3400, help="side of the synthetic images, in pixels")
    parser.add_argument("--recipe", type=Path, help="settings of augmentation and loss, such as recipes/dstl.toml")
    parser.add_argument("--bands", type=lambda text: tuple(text.split(",")), help="by default the 20 of the products")
    parser.add_argument("--filters", type=widths, default=FULL, help="of the U-Net; 32,64,128,256,512")
    parser.add_argument("--window", type=int, default=112, help="side of a window, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="windows a step")
    parser.add_argument("--steps", type=int, default=6, help="steps a round")
    parser.add_argument("--count", type=int, default=400, help="random windows read for the memory")
    parser.add_argument("--memory-only", action="store_true", help="leave training out")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.alone:
        read_alone(options.alone, options.bands, options.window, options.count)
        return
    begin(f"Stack: {options.window}² pixels of four products, batches of {options.batch}, U-Net {options.filters}")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        data = options.data or make_set(folder, size=options.size)
        for bands in dict.fromkeys([options.bands, None, SHARP + INDICES]):
            chosen = [f"--bands={','.join(bands)}"] if bands else []
            command = [
                sys.executable,
                __file__,
                f"--alone={data}",
                f"--window={options.window}",
                f"--count={options.count}",
            ]
            sys.stdout.flush()
            subprocess.run([*command, *chosen], check=True)
        if options.memory_only:
            return
        job = make_job(options, data, folder)
        batch = job.batches(0)[0]
        print(f"a batch is {np.asarray(batch[0]).nbytes / 1e6:.1f} MB of images")
        timings = interleave(keras_cases(job, batch, options.steps), options.rounds)
    show(timings, amount=options.steps * options.batch, unit="windows")
    files, resident = (timing.median for timing in timings.values())
    compare([Ratio("from files / one resident batch, windows/s", resident / files, "≥ 0.90")])


if __name__ == "__main__":
    main()
