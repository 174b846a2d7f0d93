"""The score of the DSTL Satellite Imagery Feature Detection challenge: areas that add over images, and their Jaccard.

Of each class, the areas of true positives, false positives and false negatives are summed over all images first; the
class's Jaccard index is TP / (TP + FP + FN) of these sums, and the score is the mean over the classes. Areas are those
of polygons in grid coordinates, as the challenge measures them, or pixels where masks are compared.

Empty classes follow the rule of `satmask.scoring.pixels`. A class that is in only one of truth and prediction scores 0, as
in the challenge. One that is in neither has no score and is left out of the mean; what the challenge would give it
never came up there, since its truth holds all ten.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from satmask.datasets.repair import repair
from satmask.datasets.wkt import GridSize, read_grid_sizes, read_table, read_wkt
from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.scoring.pixels import Confusion
from satmask.scoring.rasters import group_of


@dataclass(frozen=True, eq=False)
class AreaScore:
    """Areas of each class that were found, wrongly given and missed: sums that add over images and machines.

    Attributes:
        legend: The classes.
        areas: True positives, false positives and false negatives, float64, `(classes, 3)`; in square units of grid
            coordinates, or pixels.

    Raises:
        SettingError: If the array doesn't have that shape.

    Examples:
        >>> one, half = shapely.box(0, 0, 2, 1), shapely.box(0, 0, 1, 1)
        >>> score = compare({1: one}, {1: half}, Legend.of(["house"]))
        >>> score.jaccard.tolist(), (score + score).score
        ([0.5], 0.5)

    References:
        Kaggle, "Dstl Satellite Imagery Feature Detection", evaluation,
        https://www.kaggle.com/c/dstl-satellite-imagery-feature-detection
    """

    legend: Legend
    areas: np.ndarray

    def __post_init__(self) -> None:
        """Hold the rule of the docstring."""
        if self.areas.shape != (len(self.legend), 3):
            msg = f"Areas of {len(self.legend)} classes must be ({len(self.legend)}, 3), got {self.areas.shape}."
            raise SettingError(msg)

    @classmethod
    def empty(cls, legend: Legend) -> AreaScore:
        """No area yet: what sums start from."""
        return cls(legend, np.zeros((len(legend), 3)))

    @classmethod
    def of_counts(cls, counts: Confusion) -> AreaScore:
        """The areas of masks, in pixels."""
        found = counts.true_positives, counts.false_positives, counts.false_negatives
        return cls(counts.legend, np.stack(found, axis=-1).astype(np.float64))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> AreaScore:
        """Read what `to_dict` wrote."""
        return cls(Legend.from_dict(content["legend"]), np.asarray(content["areas"], np.float64).reshape(-1, 3))

    def __add__(self, other: AreaScore) -> AreaScore:
        """Sum the areas of both.

        Raises:
            SettingError: If their legends differ.
        """
        if self.legend != other.legend:
            msg = f"Scores must share a legend to be added, got {self.legend.names} and {other.legend.names}."
            raise SettingError(msg)
        return AreaScore(self.legend, self.areas + other.areas)

    @property
    def jaccard(self) -> np.ndarray:
        """TP / (TP + FP + FN) of each class, float64, `(classes,)`, 0 to 1; NaN for a class that nowhere occurs."""
        return self._share(self.areas[:, 0], self.areas.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) of each class, float64, `(classes,)`, 0 to 1 or NaN."""
        return self._share(self.areas[:, 0], self.areas[:, 0] + self.areas[:, 1])

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN) of each class, float64, `(classes,)`, 0 to 1 or NaN."""
        return self._share(self.areas[:, 0], self.areas[:, 0] + self.areas[:, 2])

    @property
    def score(self) -> float:
        """The mean Jaccard of the classes that occur in truth or prediction; NaN if none does."""
        known = self.jaccard[~np.isnan(self.jaccard)]
        return float(known.mean()) if len(known) else float("nan")

    def table(self) -> list[tuple[str, ...]]:
        """Rows for printing: a head, the classes, and their mean."""
        truth, said = self.areas[:, 0] + self.areas[:, 2], self.areas[:, 0] + self.areas[:, 1]
        rows: list[tuple[str, ...]] = [("class", "Jaccard", "precision", "recall", "predicted / true area")]
        for channel, name in enumerate(self.legend.names):
            values = (measure[channel] for measure in (self.jaccard, self.precision, self.recall))
            ratio = f"{said[channel] / truth[channel]:.3f}" if truth[channel] else "–"
            rows.append((name, *map(_text, values), ratio))
        return [*rows, ("mean", _text(self.score), "", "", "")]

    def to_dict(self) -> dict[str, Any]:
        """Areas and scores as plain values for JSON, None in place of NaN."""
        columns = {"jaccard": self.jaccard, "precision": self.precision, "recall": self.recall}
        return {
            "legend": self.legend.to_dict(),
            "areas": self.areas.tolist(),
            "score": _plain(self.score),
            "classes": [
                {"id": entry.id, "name": entry.name} | {key: _plain(found[channel]) for key, found in columns.items()}
                for channel, entry in enumerate(self.legend)
            ],
        }

    def _share(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """A ratio that is 0 where there is nothing to share, but NaN for a class that nowhere occurs."""
        ratio = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
        return np.where(self.areas.sum(axis=1) > 0, ratio, np.nan)


@dataclass(frozen=True)
class SubmissionScore:
    """Scores of a table of polygons.

    Attributes:
        total: Areas of all images together.
        parts: Areas of each image that both tables name.
        left_out: Images that only one of them names; they aren't counted.
        repaired: What was done to polygons that weren't valid, one sentence each.
        failed: Why an image couldn't be scored, by its id.
        doubts: What else is noteworthy.
    """

    total: AreaScore
    parts: Mapping[str, AreaScore]
    left_out: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def by(self, pattern: str) -> dict[str, AreaScore]:
        """Add up the images whose ids belong together, see `satmask.scoring.rasters.group_of`."""
        groups: dict[str, AreaScore] = {}
        for name, part in self.parts.items():
            group = group_of(name, pattern)
            groups[group] = groups[group] + part if group in groups else part
        return dict(sorted(groups.items()))


def compare(
    truth: Mapping[int, MultiPolygon | Polygon], prediction: Mapping[int, MultiPolygon | Polygon], legend: Legend
) -> AreaScore:
    """Measure where the polygons of one image agree.

    Args:
        truth: Valid polygons of each class id; classes left out are empty. Classes may overlap one another.
        prediction: The same of the prediction, in the same coordinates.
        legend: The classes.

    Returns:
        The areas.
    """
    none = MultiPolygon()
    rows = [_areas(truth.get(id_, none), prediction.get(id_, none)) for id_ in legend.ids]
    return AreaScore(legend, np.array(rows))


def score_submission(
    submission: str | Path, truth: str | Path, legend: Legend, *, grid: str | Path | None = None
) -> SubmissionScore:
    """Score a submission, or any table of polygons in grid coordinates, against another of the truth.

    Images that only one table names aren't counted. Where an image is named but a class of it isn't, that class is
    empty there. Polygons that aren't valid are repaired, which the challenge would not do: it refuses the file.

    Args:
        submission: CSV file of image, class and polygons.
        truth: The same of the truth, such as `train_wkt_v4.csv`.
        legend: The classes; ids are those of the tables.
        grid: `grid_sizes.csv`: polygons that reach over the edge of their image are then told. It changes no score.

    Returns:
        The scores; an image with text that is no polygon is reported and left out.

    Raises:
        DataError: If a table can't be read, or they have no image in common.
    """
    said, true = _by_image(submission), _by_image(truth)
    names = [name for name in true if name in said]
    if not names:
        shown = f"{next(iter(said), 'none')} and {next(iter(true), 'none')}"
        msg = f"Tables must have images in common, got {shown} in {Path(submission).name} and {Path(truth).name}."
        raise DataError(msg)
    sizes = read_grid_sizes(grid) if grid else {}
    parts, failed, repaired, doubts = {}, {}, list[str](), list[str]()
    for name in names:
        try:
            there = _polygons(true[name], f"image {name} of {Path(truth).name}", repaired)
            found = _polygons(said[name], f"image {name} of {Path(submission).name}", repaired)
        except DataError as error:
            failed[name] = str(error)
            continue
        parts[name] = compare(there, found, legend)
        doubts += _beyond(found, sizes.get(name), name)
    total = functools.reduce(operator.add, parts.values(), AreaScore.empty(legend))
    alone = tuple(sorted(said.keys() ^ true.keys()))
    return SubmissionScore(total, parts, alone, tuple(repaired), failed, tuple(doubts))


def _areas(truth: MultiPolygon | Polygon, prediction: MultiPolygon | Polygon) -> tuple[float, float, float]:
    common = float(shapely.intersection(truth, prediction).area)
    # Rounding of the last bit may make what is left negative.
    return common, max(prediction.area - common, 0.0), max(truth.area - common, 0.0)


def _by_image(path: str | Path) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for (image_id, class_id), text in read_table(path).items():
        found.setdefault(image_id, {})[class_id] = text
    return found


def _polygons(texts: Mapping[int, str], place: str, repaired: list[str]) -> dict[int, MultiPolygon]:
    """Valid polygons of each class; what had to be repaired is noted."""
    found = {}
    for class_id, text in texts.items():
        done = repair(read_wkt(text, place=f"class {class_id}, {place}"))
        if done.changed:
            ways = ", ".join(f"{count} by {way}" for way, count in done.methods.items()) or "united"
            reasons = ", ".join(done.reasons) or "polygons overlap"
            repaired.append(f"Class {class_id}, {place} has invalid polygons ({reasons}), repaired: {ways}.")
        found[class_id] = done.geometry
    return found


def _beyond(polygons: Mapping[int, MultiPolygon], size: GridSize | None, name: str) -> list[str]:
    """Say which classes reach over the edge of their image: by more than the transform does, a pixel of a coarse product."""
    if size is None:
        return []
    low, high = np.array([0.0, size.ymin]), np.array([size.xmax, 0.0])
    slack = 0.01 * (high - low)
    over = []
    for class_id, geometry in polygons.items():
        points = shapely.get_coordinates(geometry)
        if len(points) and ((points < low - slack) | (points > high + slack)).any():
            over.append(str(class_id))
    return [f"Image {name} has predicted polygons beyond its edge, of class {', '.join(over)}."] if over else []


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"
