"""What every layout of data is read into: named samples in splits, a legend, and the problems found."""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from satmask.datasets.grouping import choose_groups
from satmask.errors import DataError, SettingError
from satmask.labels import choose_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from satmask.labels import Labels
    from satmask.legend import Legend
    from satmask.stack import Stack


METRES_A_DEGREE = 111_195  # of latitude, on a sphere of 6371 km


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data.

    Attributes:
        where: File, tile or annotation.
        what: One sentence that says what is wrong.
        severity: `"error"` for what can't be used and is left out with `--skip-invalid`; `"warning"` for what can.
        kind: What problems of a kind share, so that they can be counted: `"unusable"`, `"bbox"`, `"unknown class"` or
            `"no labels"`.
    """

    where: str
    what: str
    severity: Literal["error", "warning"] = "error"
    kind: str = "unusable"


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    Attributes:
        name: Name of the image file without suffix; unique in its split.
        image: The file, or several products of one place.
        shape: `(height, width)`.
        labels: Its truth.
        place: Name of the place it shows; what shows one place stays on one side of a split.
        bounds: West, south, east, north in degrees, where known.
    """

    name: str
    image: Path | Stack
    shape: tuple[int, int]
    labels: Labels
    place: str = ""
    bounds: tuple[float, float, float, float] | None = None

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance by the bounds, for images that don't say it themselves; a degree is 111.2 km."""
        if self.bounds is None:
            return None
        west, south, east, north = self.bounds
        width_m = (east - west) * METRES_A_DEGREE * math.cos(math.radians((south + north) / 2))
        return math.sqrt(width_m / self.shape[1] * (north - south) * METRES_A_DEGREE / self.shape[0]) or None


@dataclass(frozen=True)
class Dataset:
    """Images with labels, in splits.

    Attributes:
        root: The folder.
        layout: `"coco"`, `"pairs"`, `"scenes"` or `"dstl"`.
        legend: The classes.
        splits: Samples of `"train"`, and of `"val"` where the folder has it.
        problems: What was found wrong; what is an error is already left out of the splits.
    """

    root: Path
    layout: str
    legend: Legend
    splits: Mapping[str, tuple[Sample, ...]]
    problems: tuple[Problem, ...] = field(default=())

    def require_sound(self, *, skip_invalid: bool = False) -> None:
        """Refuse data with errors, unless they are to be left out.

        Raises:
            DataError: With the first error and the number of all.
        """
        refuse(self.problems, skip_invalid=skip_invalid)
        if not self.splits.get("train"):
            msg = f"Data set must hold at least one usable image for training, got none in {self.root}."
            raise DataError(msg)

    def with_classes(self, classes: Sequence[int | str]) -> Dataset:
        """The same images with some of the classes only.

        Args:
            classes: Ids or names.

        Raises:
            SettingError: If one isn't there, or the classes exclude each other.
        """
        legend = self.legend.subset(classes)
        splits = {
            name: tuple(replace(sample, labels=choose_classes(sample.labels, legend)) for sample in samples)
            for name, samples in self.splits.items()
        }
        return replace(self, legend=legend, splits=splits)

    def with_validation(self, held_out: float | Sequence[str]) -> tuple[Dataset, str]:
        """Set places aside for validation, unless the folder already has a `val` split.

        Args:
            held_out: Share of the images, between 0 and 1, or patterns of image names such as `tile6_*`.

        Returns:
            The data set with both splits, and a sentence that says how it was split.

        Raises:
            SettingError: If a pattern matches no image, or all of them.
        """
        if self.splits.get("val"):
            return self, "Validation: the folder's own split."
        samples = self.splits["train"]
        if isinstance(held_out, float):
            chosen, how = _hold_out_places(samples, held_out)
        else:
            chosen = {s.name for s in samples if any(fnmatch.fnmatch(s.name, pattern) for pattern in held_out)}
            how = f"Validation: images named {', '.join(held_out)}."
        train = tuple(sample for sample in samples if sample.name not in chosen)
        val = tuple(sample for sample in samples if sample.name in chosen)
        if not train or not val:
            msg = (
                f"Validation must hold out some images but not all, got {len(val)} of {len(samples)} for {held_out!r}."
            )
            raise SettingError(msg)
        return replace(self, splits={"train": train, "val": val}), how


def refuse(problems: Iterable[Problem], *, skip_invalid: bool) -> None:
    """Raise a `DataError` for the first of the problems that is an error, unless errors are to be skipped."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors and not skip_invalid:
        more = f" {len(errors) - 1:,} more like it." if len(errors) > 1 else ""
        msg = f"{errors[0].what}{more} --skip-invalid leaves out what can't be used."
        raise DataError(msg)


def place_of(name: str) -> str:
    """Guess the place from an image's name: its first parts, up to the one that is only a number.

    Examples:
        >>> place_of("zanzibar_tz-OAM-1277168-1083840-21"), place_of("tile1_image_part_001"), place_of("000000012345")
        ('zanzibar_tz-OAM', 'tile1_image_part', '')
    """
    return re.sub(r"(?:^|[-_. ])(?:z|r|c)?\d+(?:[-_. ].*)?$", "", name)


def _hold_out_places(samples: Sequence[Sample], share: float) -> tuple[set[str], str]:
    """Choose whole places, smallest first, until about `share` of the images is held out."""
    places: dict[str, list[Sample]] = {}
    for sample in samples:
        places.setdefault(sample.place, []).append(sample)
    if len(places) > 1:
        names = sorted(places)
        chosen = [names[index] for index in choose_groups([len(places[name]) for name in names], share)]
        held = {sample.name for name in chosen for sample in places[name]}
        return held, f"Validation: held out {len(held)} of {len(samples)} images, all of {', '.join(chosen)}."
    want = max(1, round(share * len(samples)))
    if all(sample.bounds for sample in samples):
        ordered = sorted(samples, key=lambda sample: (sample.bounds or (0.0,))[0])
        how = "Validation: the easternmost part; only one place was found."
    else:
        ordered = sorted(samples, key=lambda sample: sample.name)
        how = "Validation: the last images by name; no places were found, so scores may flatter. Hold out by name instead."
    return {sample.name for sample in ordered[-want:]}, how
