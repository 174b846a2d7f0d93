"""How fast duplicates are found, and how many: time a tile, recall after what files do to a tile, and the search.

python benchmarks/duplicates.py --data /data/buildings --data /data/mumbai
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from materials import open_data
from measure import arguments, begin, interleave
from satmask.datasets import read_dataset
from satmask.fingerprints import SYMMETRIES, find_twins, fingerprint
from satmask.leaks import SIDE
from satmask.scene import Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from satmask.fingerprints import Fingerprint


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """What is left of a tile after JPEG compression."""

    def change(image: np.ndarray) -> np.ndarray:
        code = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))

    return change


def _half(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(image.size).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "JPEG quality 90": jpeg(90),
    "JPEG quality 75": jpeg(75),
    "JPEG quality 60": jpeg(60),
    "JPEG quality 40": jpeg(40),
    "half size": _half,
    "half size, JPEG 75": lambda image: jpeg(75)(_half(image)),
    "15 % darker": lambda image: (image * 0.85).astype(np.uint8),
    "10 % brighter and 10 levels": lambda image: np.clip(image * 1.1 + 10, 0, 255).astype(np.uint8),
    "gamma 0.8": lambda image: (255 * (image / 255.0) ** 0.8).astype(np.uint8),
    "noise of 8 levels": _noisy,
}


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--data", type=Path, action="append", help="Data sets; synthetic tiles by default. Repeatable.")
    parser.add_argument("--every", type=int, default=2, help="Take every n-th tile for the recall.")
    parser.add_argument("--many", type=int, default=20_000, help="Fingerprints to search among.")
    options = parser.parse_args()
    begin("Duplicates")
    with tempfile.TemporaryDirectory() as folder:
        sets = [read_dataset(data) for data in options.data] if options.data else [open_data(None, Path(folder))]
        paths = [sample.image for data in sets for samples in data.splits.values() for sample in samples]
        paths = [path for path in paths if isinstance(path, Path)]
        time_tiles(paths, options.rounds)
        recall([_read(path) for path in paths], options.every)
    search(options.many)


def time_tiles(paths: Sequence[Path], rounds: int) -> None:
    """Print the processor time a tile, decoding included, by its size; one thread."""
    cv2.setNumThreads(1)
    by_size: dict[tuple[int, int], list[Path]] = {}
    for path in paths:
        with Scene(path) as scene:
            by_size.setdefault(scene.shape, []).append(path)
    for size in sorted(by_size, key=lambda size: -len(by_size[size]))[:3]:
        took = np.median([_time(path) for _ in range(rounds) for path in by_size[size][:60]], axis=0) * 1000
        print(
            f"{size[0]} × {size[1]} tiles: decoding {took[0]:.2f} ms, with fingerprint {took[1]:.2f} ms a tile (aim ≤ 5 ms)"
        )


def _time(path: Path) -> tuple[float, float]:
    """Seconds of this thread for reading a tile, and for reading it and taking its fingerprint."""
    begun = time.thread_time()
    with Scene(path) as scene:
        pixels = scene.shrunk(SIDE)
    decoded = time.thread_time()
    fingerprint(pixels.values, pixels.valid)
    return decoded - begun, time.thread_time() - begun


def recall(images: Sequence[np.ndarray], every: int) -> None:
    """Print how many tiles are found again, turned and changed, among all; and what else is reported."""
    random = np.random.default_rng(0)
    known = [fingerprint(image) for image in images]
    print(f"pairs reported among {len(known):,} tiles as they are: {len(find_twins(known))}")
    chosen = range(0, len(images), every)
    ways = [list(SYMMETRIES)[random.integers(8)] for _ in chosen]
    for name, change in CHANGES.items():
        again = [fingerprint(change(SYMMETRIES[way](images[index]))) for index, way in zip(chosen, ways, strict=True)]
        want = {(index, len(known) + number): way for number, (index, way) in enumerate(zip(chosen, ways, strict=True))}
        found = {(twin.first, twin.second): twin for twin in find_twins([*known, *again])}
        hits = [twin for pair, twin in found.items() if want.get(pair) == twin.symmetry]
        least = min((twin.likeness for twin in hits), default=0.0)
        print(f"turned, {name:28}  found {len(hits) / len(want):7.2%} of {len(want):,}, least likeness {least:.2f}, wrong pairs {len(found) - len(hits)}")  # fmt: skip


def search(count: int) -> None:
    """Print how long the search takes among many fingerprints of noise, a tenth of them twins."""
    random = np.random.default_rng(1)
    unlike = [_noise_print(random) for _ in range(count - count // 10)]
    prints = [*unlike, *unlike[: count // 10]]
    timing = interleave({"search": lambda: find_twins(prints)}, 1, warm=False)["search"]
    print(f"search among {count:,} fingerprints: {timing.median:.1f} s, {len(find_twins(prints)):,} pairs")


def _noise_print(random: np.random.Generator) -> Fingerprint:
    return fingerprint(cv2.resize(random.integers(0, 255, (16, 16), np.uint8), (64, 64)))


def _read(path: Path) -> np.ndarray:
    with Scene(path) as scene:
        return scene.read(Window(0, 0, *scene.shape)).values[..., :3]


if __name__ == "__main__":
    main()
