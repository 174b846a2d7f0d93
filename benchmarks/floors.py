"""Floors: what needs no network, on the split that a training run would use.

Always-empty scores 0 for every class that is there. Logistic regression sees one pixel at a time, one class against the
rest, with the threshold that is best on the training pixels.

Example: `python benchmarks/floors.py data/dstl --validation '6010_*' '6120_*' '6170_*'`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from measure import arguments
from satmask.datasets import read_dataset, read_legend
from satmask.scoring.pixels import Confusion, confusion
from satmask.stack import open_imagery
from satmask.windows import Window, cover

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from satmask.datasets import Sample
    from satmask.legend import Legend

READ = 1024  # side of the windows read, in pixels


def main() -> None:
    """Read the arguments and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--legend", type=Path)
    parser.add_argument(
        "--validation", nargs="*", help="patterns of names to hold out, where the data has no val split"
    )
    parser.add_argument("--pixels", type=int, default=200_000, help="training pixels")
    given = parser.parse_args()
    data = read_dataset(given.data, legend=read_legend(given.legend) if given.legend else None)
    data, how = data.with_validation(given.validation or 0.2)
    sys.stdout.write(f"{how}\n")
    score = regress(data.splits["train"], data.splits["val"], data.legend, given.pixels)
    sys.stdout.write(f"{'class':<28}{'always empty':>14}{'regression':>12}{'share of truth':>16}\n")
    share = (score.true_positives + score.false_negatives) / max(score.pixels, 1)
    for channel, entry in enumerate(data.legend):
        empty = f"{0:.4f}" if share[channel] else "–"
        sys.stdout.write(f"{entry.name:<28}{empty:>14}{score.iou[channel]:>12.4f}{share[channel]:>16.2%}\n")
    sys.stdout.write(f"{'mean of those in the truth':<28}{0:>14.4f}{np.mean(score.iou[share > 0]):>12.4f}\n")


def regress(train: Sequence[Sample], val: Sequence[Sample], legend: Legend, pixels: int) -> Confusion:
    """Fit on pixels of the training images, and score whole validation images."""
    drawn = list(_pixels(train))
    values = np.concatenate([bands for bands, _, _ in drawn])
    truth = np.concatenate([classes for _, classes, _ in drawn])
    chosen = np.random.default_rng(0).permutation(len(values))[:pixels]
    models = [_fit(values[chosen], truth[chosen, channel]) for channel in range(len(legend))]
    total = Confusion.empty(legend)
    for bands, classes, shape in _pixels(val):
        said = np.stack([_decide(model, bands) for model in models], axis=-1)
        total += confusion(classes.reshape(*shape, -1), said.reshape(*shape, -1), legend)
    return total


def _fit(values: np.ndarray, truth: np.ndarray) -> tuple[object, float] | None:
    """A regression and its best threshold; None where a class is missing."""
    if not 0 < truth.sum() < len(truth):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(values, truth)
    precision, recall, thresholds = precision_recall_curve(truth, model.predict_proba(values)[:, 1])
    overlap = precision * recall / np.maximum(precision + recall - precision * recall, 1e-12)
    return model, float(thresholds[min(int(np.argmax(overlap)), len(thresholds) - 1)])


def _decide(model: tuple[object, float] | None, values: np.ndarray) -> np.ndarray:
    if model is None:
        return np.zeros(len(values), np.uint8)
    found, threshold = model
    return (found.predict_proba(values)[:, 1] >= threshold).astype(np.uint8)  # type: ignore[attr-defined]


def _pixels(samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    """Bands `(pixels, bands)` and classes `(pixels, classes)` of every window; unlabelled rows are left out whole."""
    for sample in samples:
        with open_imagery(sample.image) as scene:
            for tile in cover(*sample.shape, size=READ, halo=0, stride=1):
                window: Window = tile.core
                pixels, truth = scene.read(window), sample.labels.read(window)
                rows = (pixels.valid & truth.labelled).all(axis=1)
                values, classes = pixels.values[rows], truth.classes[rows]
                yield (
                    values.reshape(-1, values.shape[-1]).astype(np.float32),
                    classes.reshape(-1, classes.shape[-1]),
                    (int(rows.sum()), window.width),
                )


if __name__ == "__main__":
    main()
