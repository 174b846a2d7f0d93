"""An inspection of a data set before training: what it holds, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import shapely

from satmask.alignment import combine, measure_shift
from satmask.errors import SatmaskError
from satmask.labels import PolygonLabels
from satmask.leaks import find_leaks
from satmask.stack import open_imagery
from satmask.survey import Survey, survey
from satmask.windows import Window, cover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from satmask.alignment import Alignment
    from satmask.datasets.dataset import Dataset, Sample
    from satmask.labels import Labels
    from satmask.leaks import Leaks
    from satmask.legend import Legend
    from satmask.scene import Imagery

ALIGNED = 2000  # images of a split whose labels are compared with edges; spread evenly where there are more
LOOKED_AT = 512  # side of the windows in which they are, in pixels
PERCENTILES = (1, 2, 5, 25, 50, 75, 95, 98, 99)
COUNTED = 4096  # side of the windows in which connected regions of masks are counted, in pixels


@dataclass(frozen=True)
class Look:
    """What one image and its labels show when looked at together.

    Attributes:
        crs: Name of its coordinate reference system; empty without one.
        objects: Polygons, or connected regions of a mask, of each class, int64, `(classes,)`.
        invalid: What is wrong with polygons that cross themselves, one sentence each.
        alignment: How the labels lie to the image's edges; None where that wasn't measured.
    """

    crs: str
    objects: np.ndarray
    invalid: tuple[str, ...] = ()
    alignment: Alignment | None = None


@dataclass(frozen=True)
class Part:
    """A split, inspected.

    Attributes:
        name: `"train"` or `"val"`.
        survey: What its images and labels hold.
        looks: One for each sample of the survey.
    """

    name: str
    survey: Survey
    looks: tuple[Look, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples that can be used."""
        return self.survey.samples

    @property
    def legend(self) -> Legend:
        """The classes."""
        return self.samples[0].labels.legend

    @property
    def objects(self) -> np.ndarray:
        """Objects of each class in each image, int64, `(images, classes)`."""
        return np.stack([look.objects for look in self.looks])

    @property
    def areas_m2(self) -> np.ndarray:
        """Ground that each class covers, in images whose pixels have a known size, float64, `(classes,)`."""
        known = np.isfinite(self.survey.gsds_m)
        sizes = np.where(known, self.survey.gsds_m, 0) ** 2
        return np.asarray(sizes @ self.survey.class_pixels)

    @property
    def foreground(self) -> list[int]:
        """Channels of what isn't background: all, or all but that with id 0."""
        return [channel for channel, id_ in enumerate(self.legend.ids) if id_]

    @property
    def crs(self) -> dict[str, int]:
        """How many images have each coordinate reference system; those without one under an empty name."""
        return dict(Counter(look.crs for look in self.looks).most_common())

    @property
    def shifted(self) -> list[tuple[Sample, Alignment]]:
        """Samples whose labels look shifted against the image's edges, the surest first."""
        seen = [(sample, look.alignment) for sample, look in zip(self.samples, self.looks, strict=True)]
        found = [(sample, alignment) for sample, alignment in seen if alignment is not None and alignment.is_shifted]
        return sorted(found, key=lambda pair: -pair[1].significance)

    def to_dict(self) -> dict[str, Any]:
        """The split as plain values, for JSON."""
        seen = self.survey
        pixels, objects = seen.class_pixels, self.objects
        rows = zip(self.legend, pixels.T, objects.T, self.areas_m2, strict=True)
        levels = np.percentile(seen.values, PERCENTILES, axis=0)
        return {
            "images": len(self.samples),
            "places": dict(Counter(sample.place for sample in self.samples).most_common()),
            "sizes": {f"{h} × {w}": count for (h, w), count in Counter(seen.shapes).most_common()},
            "dtype": str(seen.dtype),
            "crs": self.crs,
            "gsd_m": seen.gsd_m,
            "pixels": seen.pixels,
            "nodata_share": 1 - int(seen.valid.sum()) / seen.pixels,
            "labelled_share": int(seen.labelled.sum()) / seen.pixels,
            "bands": [
                {
                    "name": name,
                    "smallest": float(seen.smallest[band]),
                    "largest": float(seen.largest[band]),
                    "mean": float(seen.mean[band]),
                    "deviation": float(seen.deviation[band]),
                    "percentiles": {
                        str(key): float(level) for key, level in zip(PERCENTILES, levels[:, band], strict=True)
                    },
                }
                for band, name in enumerate(seen.bands)
            ],
            "classes": [
                {
                    "id": entry.id,
                    "name": entry.name,
                    "pixels": int(found.sum()),
                    "share": int(found.sum()) / max(int(seen.labelled.sum()), 1),
                    "area_m2": float(area) if seen.gsd_m else None,
                    "objects": int(counted.sum()),
                    "images": int(np.count_nonzero(found)),
                }
                for entry, found, counted, area in rows
            ],
        }


@dataclass(frozen=True)
class Inspection:
    """A data set, inspected.

    Attributes:
        data: The data set.
        parts: Its splits.
        leaks: Images that are found twice, and ground that is seen in two splits.
        places: Alignments of each place, added up: labels that lie off all over a place are found so, though no tile of
            its own would tell.
    """

    data: Dataset
    parts: Mapping[str, Part]
    leaks: Leaks
    places: Mapping[str, Alignment]

    def to_dict(self) -> dict[str, Any]:
        """What the data set holds as plain values, for JSON."""
        return {
            "data": str(self.data.root),
            "layout": self.data.layout,
            "legend": self.data.legend.to_dict(),
            "splits": {name: part.to_dict() for name, part in self.parts.items()},
        }


def inspect(data: Dataset, *, progress: Callable[[str, int], None] = lambda *_: None) -> Inspection:
    """Read every image of a data set and its labels, and compare them with each other.

    Args:
        data: The data set.
        progress: Called with what is being done, and 1 after each image.

    Returns:
        What was found; `findings.findings_of` says what of it is wrong.

    Raises:
        DataError: If a split holds no image that can be used.
    """
    surveys: dict[str, Survey] = {}
    for name, samples in data.splits.items():
        if samples:  # all splits are read as the first one is
            bands = next(iter(surveys.values())).indexes if surveys else None
            surveys[name] = survey(samples, bands=bands, progress=partial(progress, "Reading"))
    looking = partial(progress, "Looking at labels")
    parts = {name: Part(name, seen, _look_at_all(seen, looking)) for name, seen in surveys.items()}
    leaks = find_leaks(data, progress=partial(progress, "Looking for duplicates"))
    return Inspection(data, parts, leaks, _by_place(parts.values()))


def steps(data: Dataset) -> dict[str, int]:
    """How many images each step of an inspection reads, by what `progress` is told."""
    images = sum(map(len, data.splits.values()))
    return dict.fromkeys(("Reading", "Looking at labels", "Looking for duplicates"), images)


def count_objects(labels: Labels, shape: tuple[int, int]) -> np.ndarray:
    """Count polygons, or connected regions where labels are a mask, of each class.

    Pixels that share only a corner aren't connected. Masks of more than 4,096 pixels a side are counted in windows of
    that size, so what crosses their edges counts twice.

    Args:
        labels: The labels.
        shape: `(height, width)` of the scene.

    Returns:
        int64, `(classes,)`.
    """
    classes = len(labels.legend)
    if isinstance(labels, PolygonLabels):
        channels = np.asarray(labels.channels, int)
        return np.bincount(channels[channels >= 0], minlength=classes)
    counts = np.zeros(classes, np.int64)
    for tile in cover(*shape, size=COUNTED, halo=0, stride=1):
        truth = labels.read(tile.core)
        for channel in range(classes):
            mask = np.ascontiguousarray(truth.classes[..., channel])
            counts[channel] += cv2.connectedComponents(mask, connectivity=4)[0] - 1
    return counts


def _look_at_all(seen: Survey, progress: Callable[[int], None]) -> tuple[Look, ...]:
    step = -(-len(seen.samples) // ALIGNED)

    def look(index: int) -> Look:
        try:
            return _look(seen.samples[index], seen.indexes, align=index % step == 0)
        finally:
            progress(1)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return tuple(pool.map(look, range(len(seen.samples))))


def _look(sample: Sample, bands: Sequence[int | str], *, align: bool) -> Look:
    labels = sample.labels
    with open_imagery(sample.image, bands=bands) as scene:
        crs = scene.grid.crs
        return Look(
            crs=crs.name if crs else "",
            objects=count_objects(labels, sample.shape),
            invalid=_invalid(sample, labels) if isinstance(labels, PolygonLabels) else (),
            alignment=_align(scene, labels) if align else None,
        )


def _invalid(sample: Sample, labels: PolygonLabels) -> tuple[str, ...]:
    """Say which polygons cross or touch themselves; as pixels they are drawn by the even-odd rule."""
    shapes = np.asarray(labels.geometries, object)
    wrong = shapes[~shapely.is_valid(shapes)] if len(shapes) else shapes
    return tuple(f"Polygon of {sample.name!r} is invalid: {reason}." for reason in shapely.is_valid_reason(wrong))


def _align(scene: Imagery, labels: Labels) -> Alignment | None:
    """Compare labels and edges in the whole of a tile, or in four windows of a scene."""
    found = None
    for window in _spread(*scene.shape):
        try:
            pixels, truth = scene.read(window), labels.read(window)
        except SatmaskError:  # what can't be decoded was left out by the survey; a file may change meanwhile
            return None
        one = measure_shift(pixels.values, truth.classes, truth.labelled, valid=pixels.valid)
        found = one if found is None else found + one
    return found


def _spread(height: int, width: int) -> list[Window]:
    """The whole where it is small; else a window in the middle of each quarter."""
    tall, wide = min(height, LOOKED_AT), min(width, LOOKED_AT)
    rows = [(height - tall) // 2] if height < 2 * LOOKED_AT else [height // 4 - tall // 2, 3 * height // 4 - tall // 2]
    columns = [(width - wide) // 2] if width < 2 * LOOKED_AT else [width // 4 - wide // 2, 3 * width // 4 - wide // 2]
    return [Window(row, column, tall, wide) for row in rows for column in columns]


def _by_place(parts: Iterable[Part]) -> dict[str, Alignment]:
    """Add up the alignments of each place, apart where its images have pixels of different sizes."""
    groups: dict[str, list[Alignment]] = {}
    for part in parts:
        for sample, look, gsd_m in zip(part.samples, part.looks, part.survey.gsds_m, strict=True):
            if look.alignment is not None and sample.place:
                name = f"{sample.place} at {gsd_m:.2g} m" if np.isfinite(gsd_m) else sample.place
                groups.setdefault(name, []).append(look.alignment)
    return {name: combine(found) for name, found in groups.items() if len(found) > 1}
