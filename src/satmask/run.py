"""The run folder: what training writes and what can be read from it, without Keras."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from satmask.recipe import Recipe

# Columns of history.csv, in order.
COLUMNS = ("epoch", "loss", "iou", "val_loss", "val_iou", "learning_rate", "images_per_s", "seconds")


@dataclass(frozen=True)
class Run:
    """The folder that a training run writes.

    Attributes:
        folder: Holds `recipe.json`, `history.csv`, `checkpoints/`, `tensorboard/`, `train.log`, `augmented.png` and,
            at the end, `model.keras`, `model.onnx`, `model.stac.json` and `report.html`; with a start also `start.json`.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """The model file."""
        return self.folder / "model.onnx"

    @property
    def recipe(self) -> Path:
        """The settings."""
        return self.folder / "recipe.json"

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch, see `COLUMNS`."""
        path = self.folder / "history.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def checkpoint(self, epoch: int) -> Path:
        """The state after an epoch, counted from 1."""
        return self.folder / "checkpoints" / f"epoch-{epoch:04d}.weights.h5"

    def average(self, epoch: int) -> Path:
        """The averaged weights after an epoch, where they are averaged."""
        return self.folder / "checkpoints" / f"average-{epoch:04d}.weights.h5"

    @property
    def checkpoints(self) -> list[int]:
        """Epochs whose state is kept."""
        return sorted(int(path.name[6:10]) for path in self.folder.glob("checkpoints/epoch-*.weights.h5"))

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write all epochs to history.csv, and the last one for TensorBoard."""
        from tensorboard.summary import Writer

        lines = [",".join(COLUMNS), *(",".join(repr(row[key]) for key in COLUMNS) for row in history)]
        write_text(self.folder / "history.csv", "\n".join(lines) + "\n")
        writer = Writer(str(self.folder / "tensorboard"))
        for key in COLUMNS[1:]:
            writer.add_scalar(key, history[-1][key], len(history))
        writer.close()


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The epoch of the highest validation IoU, counted from 1; the first of equals, 0 without history."""
    scores = [row["val_iou"] for row in history]
    return int(np.argmax(scores)) + 1 if scores else 0


def plateau_rate(recipe: Recipe, history: Sequence[Mapping[str, float]]) -> float:
    """The learning rate of the next epoch: lowered each time validation IoU hasn't risen for `patience` epochs."""
    rate, best, waited = recipe.learning_rate, -math.inf, 0
    for row in history:
        waited = 0 if row["val_iou"] > best else waited + 1
        best = max(best, row["val_iou"])
        if waited >= recipe.schedule.patience:
            rate, waited = rate * recipe.schedule.factor, 0
    return rate


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
