"""Splits for training and validation, such that nothing seen on one side is seen on the other."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from satmask.datasets.dataset import Problem
from satmask.datasets.grouping import choose_groups, join
from satmask.errors import DataError, SatmaskError, SettingError
from satmask.labels import PolygonLabels
from satmask.leaks import find_bonds
from satmask.scoring.rasters import group_of
from satmask.windows import cover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.dataset import Dataset, Sample
    from satmask.leaks import Bonds

PLACE = "place"
READ = 2048  # side of the windows in which masks are counted, in pixels


@dataclass(frozen=True)
class Group:
    """Samples that belong together.

    Attributes:
        name: The place or the match that most of them share, else the name of the first.
        members: Indexes of the samples.
        why: What joins them, in words; empty for a sample of its own.
        split: `"train"` or `"val"`.
    """

    name: str
    members: tuple[int, ...]
    why: str
    split: str


@dataclass(frozen=True)
class Plan:
    """A split that could be written.

    Attributes:
        data: The data set.
        samples: All its usable samples, those of its own splits joined.
        origins: The split of the data set that each came from.
        groups: What stays together, and on which side.
        amounts: Labelled area of each class in each sample, in pixels, float64, `(samples, classes)`.
        problems: Samples that can't be used, and are left out.
        notes: What to know about it.
    """

    data: Dataset
    samples: tuple[Sample, ...]
    origins: tuple[str, ...]
    groups: tuple[Group, ...]
    amounts: np.ndarray
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def members(self, split: str) -> list[int]:
        """Indexes of the samples of a side, in order."""
        return sorted(index for group in self.groups if group.split == split for index in group.members)

    def shares(self) -> dict[str, float]:
        """Share of the images and of each class that validation gets; classes that no label holds are left out."""
        val = self.members("val")
        total = self.amounts.sum(axis=0)
        classes = {
            name: float(self.amounts[val, channel].sum() / total[channel])
            for channel, name in enumerate(self.data.legend.names)
            if total[channel]
        }
        return {"images": len(val) / sum(len(group.members) for group in self.groups)} | classes

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        groups = [
            {"name": group.name, "split": group.split, "images": len(group.members), "why": group.why}
            for group in self.groups
        ]
        return {
            "images": {split: len(self.members(split)) for split in ("train", "val")},
            "val_shares": {name: round(share, 4) for name, share in self.shares().items()},
            "groups": groups,
            "notes": list(self.notes),
            "problems": [problem.what for problem in self.problems],
        }


def plan_split(
    data: Dataset,
    *,
    by: str = PLACE,
    share: float = 0.2,
    val: Sequence[str] = (),
    seed: int = 0,
    neighbours: bool = True,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Plan:
    """Plan a split of a data set; splits that it has are joined first.

    What belongs together stays on one side: samples of one place, samples that see the same ground, samples that show the
    same picture, also turned or flipped, and samples side by side whose names tell no place.

    Args:
        data: The data set.
        by: `"place"` for the places that the names tell, or a regular expression: samples are of one group if its first
            brackets match the same in their names, or the whole of it without brackets.
        share: Share of the images, and where it can be of each class, that validation gets, between 0 and 1.
        val: Patterns of image names that validation gets instead, such as `tile6_*`, with all that belongs to them.
        seed: Of the choice of groups.
        neighbours: Whether samples side by side whose names tell no place stay together.
        progress: Called with what is being done, and 1 after each image.

    Raises:
        SettingError: If `share` or a pattern can't be used.
        DataError: If there aren't two groups.
    """
    if not 0 < share < 1:
        msg = f"Share must lie between 0 and 1, got {share}."
        raise SettingError(msg)
    owners = [(split, sample) for split, samples in data.splits.items() for sample in samples]
    samples = [sample for _, sample in owners]
    bonds = find_bonds(samples, progress=lambda done: progress("Comparing images", done))
    amounts, broken = _amounts(samples, len(data.legend), lambda done: progress("Counting labels", done))
    problems = {**bonds.problems, **broken}
    kept = [index for index in range(len(samples)) if index not in problems]
    ties = _Ties.of(samples, bonds, by, neighbours=neighbours)
    members = ties.groups(kept)
    if len(members) < 2:
        raise DataError(ties.only_one(kept))
    chosen = _matching(members, samples, val) if val else _chosen(members, amounts, share, seed)
    groups = tuple(
        Group(ties.title(group), tuple(group), ties.why(group), "val" if number in chosen else "train")
        for number, group in enumerate(members)
    )
    origins = tuple(split for split, _ in owners)
    return Plan(data, tuple(samples), origins, groups, amounts, tuple(problems.values()), tuple(ties.notes(groups)))


@dataclass(frozen=True)
class _Ties:
    """What samples have in common.

    Attributes:
        samples: The samples.
        names: Place or match of each; empty where there is none.
        what: What such a name is: "place" or "match".
        overlaps: Samples that see the same ground.
        twins: Samples that show the same picture.
        neighbours: Samples without a name that lie side by side.
    """

    samples: Sequence[Sample]
    names: tuple[str, ...]
    what: str
    overlaps: tuple[tuple[int, int], ...]
    twins: tuple[tuple[int, int], ...]
    neighbours: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], bonds: Bonds, by: str, *, neighbours: bool) -> _Ties:
        if by == PLACE:
            names = [sample.place for sample in samples]
        else:
            found = [group_of(sample.name, by) for sample in samples]
            names = ["" if name == "other" else name for name in found]
            if not any(names):
                msg = f"--by must match some image names, got {by!r} for {samples[0].name!r} and {len(samples) - 1:,} more."
                raise SettingError(msg)
        overlaps = tuple((one, other) for one, other, _ in bonds.overlaps)
        twins = tuple((twin.first, twin.second) for twin in bonds.twins)
        beside = tuple(_beside(names, bonds.footprints)) if neighbours else ()
        return cls(samples, tuple(names), "place" if by == PLACE else "match", overlaps, twins, beside)

    def groups(self, kept: Sequence[int]) -> list[list[int]]:
        """What belongs together of the samples that are kept, by first member."""
        first: dict[str, int] = {}
        named = [(first.setdefault(name, index), index) for index, name in enumerate(self.names) if name]
        roots = join(len(self.names), [*named, *self.overlaps, *self.twins, *self.neighbours])
        found: dict[int, list[int]] = {}
        for index in kept:
            found.setdefault(roots[index], []).append(index)
        return list(found.values())

    def title(self, group: Sequence[int]) -> str:
        counts = Counter(self.names[index] for index in group if self.names[index])
        return counts.most_common(1)[0][0] if counts else self.samples[group[0]].name

    def why(self, group: Sequence[int]) -> str:
        """What joins a group, in words."""
        inside = set(group)
        names = sorted({self.names[index] for index in group} - {""})
        parts = [f"{self.what}{'s' * (len(names) > 1)} {', '.join(names[:4])}{', …' * (len(names) > 4)}"] * bool(names)
        for pairs, noun in ((self.overlaps, "overlaps"), (self.twins, "duplicates"), (self.neighbours, "shared edges")):
            count = sum(one in inside for one, _ in pairs)
            parts += [f"{count:,} {noun if count > 1 else noun[:-1]}"] * bool(count)
        return "; ".join(parts) if len(group) > 1 else ""

    def only_one(self, kept: Sequence[int]) -> str:
        if not kept:
            return "Data set must hold usable images, got none."
        why = self.why(kept) or "it is alone"
        return (
            f"Data set must hold at least two groups of images, got one of {len(kept):,}: {why}. --by REGEX joins by "
            "other parts of the names, --part-neighbours lets images side by side be parted; those that overlap or are "
            "duplicates stay together in any case."
        )

    def notes(self, groups: Sequence[Group]) -> Iterator[str]:
        """What to know about the groups."""
        alone = [group for group in groups if not self.names[group.members[0]] and len(group.members) == 1]
        placeless = sum(not self.samples[group.members[0]].bounds for group in alone)
        if placeless:
            yield (
                f"{placeless:,} images have neither a {self.what} nor a position, and each is a group of its own. If neighbours "
                "are among them, say by --by REGEX what belongs together."
            )
        mixed = [group for group in groups if len({self.names[index] for index in group.members} - {""}) > 1]
        if mixed:
            yield f"{len(mixed):,} groups hold several {self.what}s, because images overlap or are duplicates."


def _beside(names: Sequence[str], footprints: Sequence[BaseGeometry | None]) -> Iterator[tuple[int, int]]:
    """Samples without a name whose footprints touch, or nearly, by a hundredth of their size."""
    indexes = [index for index, place in enumerate(footprints) if place is not None and not names[index]]
    if indexes:
        shapes = np.array([footprints[index] for index in indexes], object)
        wide = shapely.buffer(shapes, 0.01 * np.sqrt(shapely.area(shapes)), join_style="mitre")
        first, second = shapely.STRtree(wide).query(wide, predicate="intersects")
        for one, other in zip(first[first < second].tolist(), second[first < second].tolist(), strict=True):
            yield indexes[one], indexes[other]


def _chosen(members: Sequence[Sequence[int]], amounts: np.ndarray, share: float, seed: int) -> set[int]:
    table = np.array([amounts[list(group)].sum(axis=0) for group in members])
    return set(choose_groups([len(group) for group in members], share, amounts=table, seed=seed))


def _matching(members: Sequence[Sequence[int]], samples: Sequence[Sample], patterns: Sequence[str]) -> set[int]:
    """Groups with an image that one of the patterns names."""
    hit = [any(fnmatch.fnmatch(sample.name, pattern) for pattern in patterns) for sample in samples]
    chosen = {number for number, group in enumerate(members) if any(hit[index] for index in group)}
    if not 0 < len(chosen) < len(members):
        msg = f"--val must match some groups of images but not all, got {len(chosen)} of {len(members)} for {', '.join(patterns)}."
        raise SettingError(msg)
    return chosen


def _amounts(
    samples: Sequence[Sample], classes: int, progress: Callable[[int], None]
) -> tuple[np.ndarray, dict[int, Problem]]:
    """Labelled area of each class in each sample, in pixels; and what is wrong with labels that can't be read."""

    def count(sample: Sample) -> np.ndarray | Problem:
        try:
            return _amount(sample, classes)
        except SatmaskError as error:
            return Problem(sample.name, f"Labels of {sample.name!r} can't be read: {error}")
        finally:
            progress(1)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(count, samples))
    problems = {index: entry for index, entry in enumerate(found) if isinstance(entry, Problem)}
    return np.array([np.zeros(classes) if isinstance(entry, Problem) else entry for entry in found]), problems


def _amount(sample: Sample, classes: int) -> np.ndarray:
    if isinstance(sample.labels, PolygonLabels):
        channels = np.asarray(sample.labels.channels, int)
        areas = shapely.area(np.asarray(list(sample.labels.geometries), object))
        return np.bincount(channels[channels >= 0], weights=areas[channels >= 0], minlength=classes)
    tiles = cover(*sample.shape, size=READ, halo=0, stride=64)
    return sum(
        (sample.labels.read(tile.core).classes.sum(axis=(0, 1), dtype=np.int64) for tile in tiles),
        np.zeros(classes, np.int64),
    )
