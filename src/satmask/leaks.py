"""Leaks: images that a data set holds twice, and ground that is seen in two of its splits."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from satmask.datasets.dataset import Problem
from satmask.errors import SatmaskError
from satmask.fingerprints import Fingerprint, Twin, digest, find_twins, fingerprint, mark_copies
from satmask.stack import open_imagery
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.dataset import Dataset, Sample

SIDE = 300  # larger images are read at a fraction of their size
WHOLE = 2**28  # values of an image up to which it is read whole to say whether a copy is exact
LEAST_SHARE = 0.01  # of the smaller footprint: neighbours overlap by less, in what rounding leaves


@dataclass(frozen=True)
class Duplicate:
    """Two images that show the same picture.

    Attributes:
        splits: Split of each.
        names: Name of each.
        symmetry: How the second is made from the first, such as "turned 90° left".
        likeness: Correlation of their fingerprints, up to 1.
        exact: Whether all pixels are the same.
    """

    splits: tuple[str, str]
    names: tuple[str, str]
    symmetry: str
    likeness: float
    exact: bool


@dataclass(frozen=True)
class Overlap:
    """Two images that see the same ground.

    Attributes:
        splits: Split of each.
        names: Name of each.
        share: Share of the smaller footprint that the other one covers, above 0 and up to 1.
    """

    splits: tuple[str, str]
    names: tuple[str, str]
    share: float


@dataclass(frozen=True)
class SharedPlace:
    """A place that several splits have images of, by the images' names.

    Attributes:
        place: Its name.
        images: Number of its images in each split.
    """

    place: str
    images: Mapping[str, int]


@dataclass(frozen=True)
class Leaks:
    """What a data set holds twice.

    Attributes:
        duplicates: Images that show the same picture, within and across splits.
        overlaps: Images of two splits that see the same ground.
        places: Places that several splits have images of.
        problems: Images that couldn't be read, and were left out.
    """

    duplicates: tuple[Duplicate, ...]
    overlaps: tuple[Overlap, ...]
    places: tuple[SharedPlace, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def across(self) -> tuple[Duplicate, ...]:
        """Duplicates in two splits, which make scores flatter."""
        return tuple(pair for pair in self.duplicates if pair.splits[0] != pair.splits[1])

    @property
    def within(self) -> tuple[Duplicate, ...]:
        """Duplicates in one split."""
        return tuple(pair for pair in self.duplicates if pair.splits[0] == pair.splits[1])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Bonds:
    """What ties the samples of a list together, each by index.

    Attributes:
        twins: Samples that show the same picture.
        overlaps: Samples that see the same ground: smaller index, larger index, share of the smaller footprint.
        footprints: Where each sample lies, in degrees; None where unknown.
        problems: What is wrong with samples that couldn't be read and aren't compared, by index.
    """

    twins: tuple[Twin, ...]
    overlaps: tuple[tuple[int, int, float], ...]
    footprints: tuple[BaseGeometry | None, ...]
    problems: Mapping[int, Problem]


def find_leaks(data: Dataset, *, progress: Callable[[int], None] = lambda _: None) -> Leaks:
    """Find what a data set holds twice.

    Args:
        data: The data set.
        progress: Called with 1 after each image.

    Returns:
        Duplicates within and across splits, and what is seen in two splits.

    Examples:
        >>> find_leaks(read_dataset("data")).across  # doctest: +SKIP
        (Duplicate(splits=('train', 'val'), names=('a_1', 'b_7'), symmetry='turned 180°', likeness=0.99, exact=False),)
    """
    owners = [(split, sample) for split, samples in data.splits.items() for sample in samples]
    found = find_bonds([sample for _, sample in owners], progress=progress)

    def splits(first: int, second: int) -> tuple[str, str]:
        return owners[first][0], owners[second][0]

    def names(first: int, second: int) -> tuple[str, str]:
        return owners[first][1].name, owners[second][1].name

    duplicates = tuple(
        Duplicate(splits(*pair), names(*pair), twin.symmetry, twin.likeness, twin.exact)
        for twin in found.twins
        if (pair := (twin.first, twin.second))
    )
    overlaps = tuple(
        Overlap(splits(*pair), names(*pair), round(share, 4))
        for *pair, share in found.overlaps
        if owners[pair[0]][0] != owners[pair[1]][0]
    )
    return Leaks(duplicates, overlaps, _shared_places(data), tuple(found.problems.values()))


def find_bonds(samples: Sequence[Sample], *, progress: Callable[[int], None] = lambda _: None) -> Bonds:
    """Find what ties samples together: the same picture, or the same ground.

    Args:
        samples: The samples; each image is read once, those that seem to be copies once more.
        progress: Called with 1 after each sample.
    """

    def look(sample: Sample) -> tuple[Fingerprint, shapely.Polygon | None] | Problem:
        try:
            return _look(sample)
        except SatmaskError as error:
            return Problem(sample.name, f"Image {sample.name!r} can't be compared with others: {error}")
        finally:
            progress(1)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(look, samples))
        seen = [index for index, entry in enumerate(found) if not isinstance(entry, Problem)]
        prints = [entry[0] for entry in found if not isinstance(entry, Problem)]
        twins = find_twins(prints)
        twins = mark_copies(twins, _digests([samples[index] for index in seen], prints, twins, pool))
    places = [None if isinstance(entry, Problem) else entry[1] for entry in found]
    problems = {index: entry for index, entry in enumerate(found) if isinstance(entry, Problem)}
    original = [Twin(seen[twin.first], seen[twin.second], twin.symmetry, twin.likeness, twin.exact) for twin in twins]
    return Bonds(tuple(original), tuple(find_overlaps(places)), tuple(places), problems)


def _look(sample: Sample) -> tuple[Fingerprint, shapely.Polygon | None]:
    """A sample's fingerprint and footprint, in degrees."""
    with open_imagery(sample.image) as scene:
        pixels = scene.shrunk(SIDE)
        corners = scene.grid.corners_degrees
    whole = fingerprint(pixels.values, pixels.valid)
    known = Fingerprint(sample.shape, whole.detail, whole.known)
    if corners:
        return known, shapely.Polygon(corners)
    return known, shapely.box(*sample.bounds) if sample.bounds else None


def _digests(
    samples: Sequence[Sample], prints: Sequence[Fingerprint], twins: Iterable[Twin], pool: ThreadPoolExecutor
) -> dict[int, bytes]:
    """Digests of what may be an exact copy: twins, and flat images, which only their pixels tell apart."""
    wanted = {index for twin in twins for index in (twin.first, twin.second)}
    wanted |= {index for index, entry in enumerate(prints) if not entry.known}

    def read(index: int) -> bytes | None:
        try:
            with open_imagery(samples[index].image) as scene:
                if scene.shape[0] * scene.shape[1] * len(scene.bands) > WHOLE:
                    return None
                pixels = scene.read(Window(0, 0, *scene.shape))
                return digest(pixels.values, pixels.valid)
        except SatmaskError:  # nothing exact can be said of what breaks at full size; a survey reports it
            return None

    order = sorted(wanted)
    return {index: name for index, name in zip(order, pool.map(read, order), strict=True) if name}


def find_overlaps(places: Sequence[BaseGeometry | None]) -> Iterator[tuple[int, int, float]]:
    """Find footprints that overlap by more than `LEAST_SHARE` of the smaller one; shared edges don't count.

    Args:
        places: Footprints, in any one system; None where unknown.

    Yields:
        Smaller index, larger index, and the share of the smaller footprint that is shared.

    Examples:
        >>> boxes = [shapely.box(0, 0, 2, 2), None, shapely.box(2, 0, 4, 2), shapely.box(1, 0, 2, 1)]
        >>> list(find_overlaps(boxes))
        [(0, 3, 1.0)]
    """
    known = [index for index, place in enumerate(places) if place is not None and place.is_valid and place.area > 0]
    shapes = np.array([places[index] for index in known], object)
    if not len(shapes):
        return
    areas = shapely.area(shapes)
    for first, second in _touching(shapes):
        shared = shapely.area(shapely.intersection(shapes[first], shapes[second]))
        shares = shared / np.minimum(areas[first], areas[second])
        for one, other, share in zip(
            first[shares > LEAST_SHARE], second[shares > LEAST_SHARE], shares[shares > LEAST_SHARE], strict=True
        ):
            yield known[one], known[other], float(min(share, 1.0))


def _touching(shapes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of shapes whose boxes touch, smaller index first, for some thousand shapes at a time."""
    tree = shapely.STRtree(shapes)
    for start in range(0, len(shapes), 4096):
        first, second = tree.query(shapes[start : start + 4096])
        first = first + start
        yield first[second > first], second[second > first]


def _shared_places(data: Dataset) -> tuple[SharedPlace, ...]:
    """Places named in more than one split."""
    counts: dict[str, dict[str, int]] = {}
    for split, samples in data.splits.items():
        for sample in samples:
            if sample.place:
                count = counts.setdefault(sample.place, {})
                count[split] = count.get(split, 0) + 1
    return tuple(SharedPlace(place, count) for place, count in sorted(counts.items()) if len(count) > 1)
