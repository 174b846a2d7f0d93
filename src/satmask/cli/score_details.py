"""What `satmask score` prints when asked for: boundaries, objects, and how far the scores may be trusted."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satmask.cli.score_errors import ErrorList
    from satmask.legend import Legend
    from satmask.scoring.boundaries import BoundaryScore
    from satmask.scoring.coco_table import CocoTable
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.intervals import Interval
    from satmask.scoring.objects import ObjectScore
    from satmask.scoring.rasters import FolderScore

Rows = list[tuple[str, ...]]
UNITS = {"%": "ratio", "px": "distance_px", "m": "distance_m"}
TOLD, LISTED = 10, 1000  # worst objects of each kind in tables, and in JSON


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        distance: Setting of `compare_boundaries`; None where boundaries weren't asked for.
        objects: Whether objects were.
        intervals: What to draw from, `images` or `groups`; None where intervals weren't asked for.
        by: Pattern that groups images.
        polygons: Vector file of the predicted objects, or folder of them; None where they are to be traced.
        errors: Whether objects are to be told one by one.
    """

    distance: dict[str, Any] | None
    objects: bool
    intervals: str | None
    by: str | None
    polygons: Path | None = None
    errors: bool = False

    def refuse(self, what: str) -> None:
        """Say that it can't be had.

        Raises:
            SettingError: If anything was asked for.
        """
        from satmask import SettingError

        if self.distance or self.objects or self.intervals or self.errors:
            msg = (
                f"--boundary, --objects, --errors and --intervals must come with rasters or a result file, got {what}."
            )
            raise SettingError(msg)

    def refuse_rasters(self, what: str) -> None:
        """Say that what needs rasters can't be had.

        Raises:
            SettingError: If boundaries, polygons of a file or single objects were asked for.
        """
        from satmask import SettingError

        if self.distance or self.polygons or self.errors:
            msg = f"--boundary, --errors and --polygons must come with rasters, got {what}."
            raise SettingError(msg)

    def polygons_of(self, name: str) -> Path | None:
        """The vector file of an image.

        Raises:
            DataError: If the folder holds none of that name, or several.
        """
        from satmask import DataError
        from satmask.polygons import SUFFIXES

        if self.polygons is None or not self.polygons.is_dir():
            return self.polygons
        found = [path for suffix in SUFFIXES if (path := self.polygons / f"{name}{suffix}").is_file()]
        if len(found) != 1:
            listed = ", ".join(path.name for path in found) or "none"
            msg = f"Folder of polygons must hold one vector file named {name}, got {listed} in {self.polygons}."
            raise DataError(msg)
        return found[0]


@dataclass(frozen=True)
class Details:
    """What was found.

    Attributes:
        boundaries: Boundary counts of each image, by name.
        objects: Object counts of each image, by name.
        coco: COCO's table, where the truth is of its kind.
        intervals: Names of scores, with an interval that has an entry for each.
        groups: The group of each image, by name.
        errors: Objects one by one; None where they weren't asked for.
    """

    boundaries: Mapping[str, BoundaryScore] = field(default_factory=dict)
    objects: Mapping[str, ObjectScore] = field(default_factory=dict)
    coco: CocoTable | None = None
    intervals: tuple[tuple[tuple[str, ...], Interval], ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    errors: ErrorList | None = None

    @property
    def heads(self) -> tuple[str, ...]:
        """Columns of the table of groups."""
        return (*(["boundary IoU"] if self.boundaries else []), *(["object F1"] if self.objects else []))

    def cells(self, group: str) -> tuple[str, ...]:
        """Their entries for a group: means over the classes."""
        edges, found = _sum(_part(self.boundaries, self.groups, group)), _sum(_part(self.objects, self.groups, group))
        values = [edges.mean] if edges else [float("nan")] if self.boundaries else []
        values += [_mean(found.f1())] if found else [float("nan")] if self.objects else []
        return tuple(map(_text, values))

    def tables(self) -> Iterator[Rows]:
        """Tables for printing."""
        if edges := _sum(self.boundaries):
            yield _boundary_rows(edges)
        if found := _sum(self.objects):
            yield _object_rows(found)
            yield from (
                table for channel in range(len(found.legend)) for table in (_bin_rows(found, channel), _error_rows(found, channel))
            )  # fmt: skip
            yield _quality_rows(found)
        if self.coco:
            yield self.coco.table()
        if self.errors:
            yield from self.errors.tables(count=TOLD)
        if self.intervals:
            yield _interval_rows(self.intervals)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON; only what was asked for."""
        content: dict[str, Any] = {}
        if edges := _sum(self.boundaries):
            content["boundary"] = edges.to_dict()
        if found := _sum(self.objects):
            content["objects"] = found.to_dict()
        if self.coco:
            content["coco"] = self.coco.to_dict()
        if self.errors:
            content["errors"] = self.errors.to_dict(count=LISTED)
        if self.intervals:
            content["intervals"] = [
                {"score": name, "value": _plain(value), "low": _plain(low), "high": _plain(high), "drawn": one.drawn}
                for names, one in self.intervals
                for name, value, low, high in zip(names, one.value, one.low, one.high, strict=True)
            ]
        if self.heads and self.groups:
            content["group_details"] = {
                group: dict(zip(self.heads, self.cells(group), strict=True))
                for group in sorted(set(self.groups.values()))
            }
        return content


def asked_for(
    *,
    boundary: str | None,
    objects: bool,
    intervals: str | None,
    by: str | None,
    polygons: Path | None = None,
    errors: bool = False,
) -> Asked:
    """Read the flags.

    Raises:
        SettingError: If one can't be used.

    Examples:
        >>> asked_for(boundary="5px", objects=False, intervals=None, by=None).distance
        {'distance_px': 5}
    """
    from satmask import SettingError

    if intervals not in (None, "images", "groups") or (intervals == "groups" and not by):
        msg = f"--intervals must be images, or groups together with --by, got {intervals!r}."
        raise SettingError(msg)
    drawn = polygons is not None and not errors
    return Asked(_distance(boundary) if boundary else None, objects or drawn, intervals, by, polygons, errors)


def _distance(text: str) -> dict[str, Any]:
    from satmask import SettingError

    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(%|px|m)", text.strip())
    value = float(found.group(1)) if found else 0
    if not found or value <= 0 or (found.group(2) == "px" and value != int(value)):
        msg = f"--boundary must be a distance such as 2%, 5px or 1.5m, got {text!r}."
        raise SettingError(msg)
    unit = found.group(2)
    return {UNITS[unit]: value / 100 if unit == "%" else int(value) if unit == "px" else value}


def find_details(
    asked: Asked,
    pixels: FolderScore | None,
    comparisons: Mapping[str, Comparison],
    coco: tuple[list[dict[str, Any]] | Path, Path] | None,
) -> Details:
    """Score what was asked for.

    Args:
        asked: The flags.
        pixels: Pixel scores, already found.
        comparisons: What they were found from, by name of the image.
        coco: Detections and annotation file, where there are such.
    """
    from satmask.cli.score_errors import find_errors
    from satmask.scoring.coco_objects import compare_coco
    from satmask.scoring.coco_table import score_coco_table
    from satmask.scoring.comparisons import compare_boundaries, compare_objects
    from satmask.scoring.rasters import group_of

    distance = asked.distance
    edges = {name: compare_boundaries(one, **distance) for name, one in comparisons.items()} if distance else {}
    some = asked.objects or asked.errors
    wanted = {name: replace(one, polygons=asked.polygons_of(name)) for name, one in comparisons.items()} if some else {}
    objects = {name: compare_objects(one) for name, one in wanted.items()} if asked.objects else {}
    errors = find_errors(wanted) if asked.errors and wanted else None
    if coco and asked.objects and not comparisons:
        objects = compare_coco(*coco)
    table = score_coco_table(*coco) if coco and asked.objects else None
    groups = {name: group_of(name, asked.by) for name in comparisons or objects} if asked.by else {}
    intervals = tuple(_intervals(asked, pixels.parts if pixels else {}, (edges, objects), coco))
    return Details(edges, objects, table, intervals, groups, errors)


def _intervals(
    asked: Asked,
    pixels: Mapping[str, Any],
    counted: tuple[Mapping[str, BoundaryScore], Mapping[str, ObjectScore]],
    coco: tuple[list[dict[str, Any]] | Path, Path] | None,
) -> Iterator[tuple[tuple[str, ...], Interval]]:
    from satmask.scoring.intervals import interval_of_sums
    from satmask.scoring.rasters import group_of

    if asked.intervals is None:
        return
    measures: tuple[tuple[Mapping[str, Any], Any], ...] = (
        (pixels, lambda sums: {"IoU": sums.iou, "F1": sums.f1}),
        (counted[0], lambda sums: {"boundary IoU": sums.iou}),
        (
            counted[1],
            lambda sums: {f"object {name}": getattr(sums, name.lower())() for name in ("precision", "recall", "F1")},
        ),
    )
    for parts, measure in measures:
        if parts:
            names = list(parts)
            groups = [group_of(name, asked.by or "") for name in names] if asked.intervals == "groups" else None
            found = interval_of_sums(
                [parts[name] for name in names], functools.partial(_values, measure=measure), groups=groups
            )
            yield _titles(measure(parts[names[0]]), parts[names[0]].legend), found
    if coco:
        yield _coco_interval(asked, *coco)


def _coco_interval(
    asked: Asked, predictions: list[dict[str, Any]] | Path, truth: Path
) -> tuple[tuple[str, ...], Interval]:
    from satmask.scoring.coco_checks import read_json
    from satmask.scoring.coco_matches import match_coco
    from satmask.scoring.intervals import interval
    from satmask.scoring.rasters import group_of

    content = read_json(truth, "Truth")
    matches = match_coco(predictions, content)
    stems = {tile["id"]: Path(tile.get("file_name", "")).stem for tile in content["images"]}
    groups = None
    if asked.intervals == "groups":
        groups = [group_of(stems[id_], asked.by or "") for id_ in matches.tiles]
    return ("AP@0.5", "AR@0.5"), interval(matches.scores, len(matches.tiles), groups=groups)


def _values(sums: Any, measure: Any) -> list[float]:
    return [float(value) for values in measure(sums).values() for value in values]


def _titles(measures: Mapping[str, Any], legend: Legend) -> tuple[str, ...]:
    several = len(legend) > 1
    return tuple(f"{name} {title}" if several else title for title in measures for name in legend.names)


def _boundary_rows(edges: BoundaryScore) -> Rows:
    rows: Rows = [("class", "boundary IoU")]
    rows += [(name, _text(value)) for name, value in zip(edges.legend.names, edges.iou, strict=True)]
    return [*rows, ("mean", _text(edges.mean))] if len(edges.legend) > 1 else rows


def _object_rows(found: ObjectScore) -> Rows:
    rows: Rows = [("objects", "true", "predicted", "precision", "recall", "F1", "F1 0.5:0.95")]
    for channel, name in enumerate(found.legend.names):
        rows.append((name, *_object_cells(found, channel, 0)))
    return rows


def _bin_rows(found: ObjectScore, channel: int) -> Rows:
    from satmask.scoring.objects import BINS

    rows: Rows = [(found.legend.names[channel], "true", "predicted", "precision", "recall", "F1", "F1 0.5:0.95")]
    return [*rows, *((name, *_object_cells(found, channel, place)) for place, name in enumerate(BINS) if place)]


def _object_cells(found: ObjectScore, channel: int, bin_: int) -> tuple[str, ...]:
    true, said = found.counts[channel, bin_, :, 0].tolist()
    measures = found.precision(bin_=bin_), found.recall(bin_=bin_), found.f1(bin_=bin_), found.mean_f1(bin_=bin_)
    return (f"{true:,}", f"{said:,}", *(_text(values[channel]) for values in measures))


def _error_rows(found: ObjectScore, channel: int) -> Rows:
    titles = {"missed": "missed / invented"}
    rows: Rows = [(f"errors, {found.legend.names[channel]}", "true", "predicted")]
    errors = found.errors(channel)
    return [*rows, *((titles.get(kind, kind), f"{true:,}", f"{said:,}") for kind, (true, said) in errors.items())]


def _quality_rows(found: ObjectScore) -> Rows:
    rows: Rows = [("matched polygons", "pairs", "C-IoU", "PoLiS, px", "max tangent angle, °")]
    for channel, name in enumerate(found.legend.names):
        quality = found.mean_quality(channel)
        pairs = int(found.quality[channel, 0, 1])
        rows.append((name, f"{pairs:,}", *(_text(value) for value in quality.values())))
    return rows


def _interval_rows(intervals: tuple[tuple[tuple[str, ...], Interval], ...]) -> Rows:
    level, drawn = intervals[0][1].level, intervals[0][1].drawn
    rows: Rows = [(f"{level:.0%} interval, n = {drawn:,}", "score", "low", "high")]
    for names, found in intervals:
        ends = zip(names, found.value, found.low, found.high, strict=True)
        rows += [(name, *map(_text, values)) for name, *values in ends]
    return rows


def _part(scores: Mapping[str, Any], groups: Mapping[str, str], group: str) -> dict[str, Any]:
    return {name: score for name, score in scores.items() if groups.get(name) == group}


def _sum(scores: Mapping[str, Any]) -> Any:
    return functools.reduce(operator.add, scores.values()) if scores else None


def _mean(values: Any) -> float:
    known = [value for value in values.tolist() if value == value]  # noqa: PLR0124  # NaN isn't itself
    return sum(known) / len(known) if known else float("nan")


def _text(value: float) -> str:
    return "–" if value != value else f"{value:.4f}"  # noqa: PLR0124  # NaN isn't itself


def _plain(value: float) -> float | None:
    return float(value) if value == value else None  # noqa: PLR0124  # NaN isn't itself
