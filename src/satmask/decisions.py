"""Decisions: from probabilities to one mask a class, by thresholds, smallest areas and rules between classes, as data.

The steps come in this order: a pixel has a class where its probability reaches the class's threshold; masks are opened
and closed, and their small holes filled; of each class, groups of pixels that share edges are dropped where they are too
small; then the merging rules are applied, first to last: where one class is, others are cleared. Objects that have grown
together are parted when polygons are made.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.merges import Merge, merge
from satmask.refinements import KEYS as _REFINEMENT
from satmask.refinements import Refinement, refine
from satmask.shapes import Shape, choose_objects

__all__ = ["TAG", "Decision", "Merge", "Shape", "choose_objects", "merge", "read_decision"]

TAG = "DECISION"


@dataclass(frozen=True)
class Decision:
    """How probabilities become classes.

    Attributes:
        legend: The classes.
        thresholds: Probability from which a pixel has each class, 0 to 1; 0.5 for all where left out.
        min_area_px: Pixels from which a group of pixels is kept, for each class; 0 for all where left out.
        min_area_m2: The same on the ground, in square metres; it counts only where a pixel's size is known.
        merges: Rules between classes, in the order in which they are applied; only where classes overlap.
        shapes: What groups of some classes must look like; only where classes overlap.
        refinements: What is done to the masks of some classes; where classes exclude each other, objects can only be
            parted.

    Raises:
        SettingError: If there isn't one number a class, one is out of range, or a rule names a class that isn't there.

    Examples:
        >>> legend = Legend.of(["river", "pond"])
        >>> decision = Decision(legend, merges=(Merge("river", ("pond",)),))
        >>> masks = decision.masks(np.array([[[0.9, 0.8], [0.2, 0.7]]]))
        >>> masks[..., 0].tolist(), masks[..., 1].tolist()
        ([[True, False]], [[False, True]])
    """

    legend: Legend
    thresholds: tuple[float, ...] = ()
    min_area_px: tuple[float, ...] = ()
    min_area_m2: tuple[float, ...] = ()
    merges: tuple[Merge, ...] = ()
    shapes: tuple[Shape, ...] = ()
    refinements: tuple[Refinement, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what was left out, and hold the rules of the docstring."""
        count = len(self.legend)
        for name, usual, most in (("thresholds", 0.5, 1.0), ("min_area_px", 0.0, np.inf), ("min_area_m2", 0.0, np.inf)):
            values = tuple(map(float, getattr(self, name))) or (usual,) * count
            if len(values) != count or not all(0 <= value <= most for value in values):
                msg = f"Decision must have {count} {name.replace('_', ' ')} from 0 to {most:g}, got {values}."
                raise SettingError(msg)
            object.__setattr__(self, name, values)
        _check_merges(self.merges, self.legend)
        _check_shapes(self.shapes, self.legend)
        _check_refinements(self.refinements, self.legend)

    @property
    def local(self) -> bool:
        """Whether what a pixel gets depends on nothing but its own probabilities, so that windows can be decided apart."""
        widened = any(refinement.changes_masks for refinement in self.refinements)
        return not (any((*self.min_area_px, *self.min_area_m2)) or self.shapes or widened)

    def smallest_px(self, gsd_m: float | None = None) -> np.ndarray:
        """Pixels from which a group of each class is kept, float64, `(classes,)`.

        Args:
            gsd_m: Side of a pixel in metres; without it, areas in square metres are left aside.
        """
        on_the_ground = np.asarray(self.min_area_m2) / gsd_m**2 if gsd_m else np.zeros(len(self.legend))
        return np.maximum(self.min_area_px, on_the_ground)

    def refinement(self, name: str) -> Refinement:
        """What is done to the masks of a class; nothing where nothing is said."""
        return next((entry for entry in self.refinements if entry.name == name), Refinement(name))

    def depths_px(self, gsd_m: float | None = None) -> np.ndarray:
        """Depth at which objects of each class are parted, in pixels, float64, `(classes,)`; 0 where they aren't.

        Args:
            gsd_m: Side of a pixel in metres; without it, depths in metres are left aside.
        """
        return np.array([self.refinement(name).depth_px(gsd_m) for name in self.legend.names])

    def masks(self, probabilities: np.ndarray | Iterable[np.ndarray], *, gsd_m: float | None = None) -> np.ndarray:
        """Decide a whole image.

        Args:
            probabilities: What the network says, `(height, width, classes)`; or one array `(height, width)` after another,
                in channel order, so that they needn't be in memory together. NaN, which stands for nodata, reaches no
                threshold, as masks of 0 and 1 reach every one above 0.
            gsd_m: Side of a pixel in metres, where known.

        Returns:
            One mask a class, bool, `(height, width, classes)`.

        Raises:
            SettingError: If there isn't one probability a class.
        """
        if isinstance(probabilities, np.ndarray):
            probabilities = np.moveaxis(probabilities, -1, 0)
        smallest = self.smallest_px(gsd_m)
        # As the network's numbers are: in float32, where 0.7 is a little less than 0.7.
        limits = np.asarray(self.thresholds, np.float32)
        try:
            shapes = {shape.name: shape for shape in self.shapes}
            kept = [
                choose_objects(refine(band >= limit, self.refinement(name), gsd_m=gsd_m), least, shapes.get(name))
                for band, limit, least, name in zip(probabilities, limits, smallest, self.legend.names, strict=True)
            ]
        except ValueError as error:
            msg = f"Probabilities must be of {len(self.legend)} classes, got others."
            raise SettingError(msg) from error
        return merge(np.stack(kept, axis=-1), self.legend, self.merges)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain values, for JSON."""
        classes = [
            {"name": name, "threshold": self.thresholds[at]}
            | {key: getattr(self, key)[at] for key in ("min_area_px", "min_area_m2") if getattr(self, key)[at]}
            | {key: getattr(shape, key) for shape in self.shapes if shape.name == name for key in _SHAPE}
            | self.refinement(name).to_dict()
            for at, name in enumerate(self.legend.names)
        ]
        return {"class": classes, "merge": [{"where": rule.where, "clears": list(rule.clears)} for rule in self.merges]}

    def tags(self) -> dict[str, str]:
        """What a raster says of how its classes were decided."""
        return {TAG: json.dumps(self.to_dict(), ensure_ascii=False)}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], legend: Legend) -> Decision:
        """Read what `tags` wrote, or the thresholds `THRESHOLD_<id>`; 0.5 where nothing is said.

        Raises:
            SettingError: If the tags don't fit the classes.
        """
        try:
            limits = [float(tags.get(f"THRESHOLD_{id_}", 0.5)) for id_ in legend.ids]
            return cls(legend, thresholds=tuple(limits)).updated(json.loads(tags.get(TAG, "{}")))
        except (ValueError, AttributeError) as error:
            msg = f"Raster's tags must say how to decide {', '.join(legend.names)}, got {str(error)!r:.120}."
            raise SettingError(msg) from error

    def with_thresholds(self, thresholds: Sequence[float] | None) -> Decision:
        """The same decision with other thresholds: one for each class, or one for all; itself without any.

        Raises:
            SettingError: If their number or size is wrong.
        """
        if not thresholds:
            return self
        count = len(self.legend)
        given = tuple(thresholds) * count if len(thresholds) == 1 else tuple(thresholds)
        if len(given) != count or not all(0 <= value <= 1 for value in given):
            msg = f"Thresholds must be 1 or {count} numbers from 0 to 1, got {', '.join(map(str, thresholds))}."
            raise SettingError(msg)
        return replace(self, thresholds=given)

    def updated(self, content: Mapping[str, Any]) -> Decision:
        """The same decision with some of its numbers, and its rules where there are new ones, replaced.

        Args:
            content: As `to_dict` writes and `decision.toml` holds: a list `class` of `name`, `threshold`, `min_area_px`,
                `min_area_m2`, `large_px`, `slender`, `edge_px` and the numbers of `Refinement`, and a list `merge` of
                `where` and `clears`; all may be left out.

        Raises:
            SettingError: If a key or a class isn't known, or a number is out of range.
        """
        if strange := sorted(set(content) - {"class", "merge"}):
            msg = f"Decision must hold [[class]] and [[merge]], got {strange[0]!r}."
            raise SettingError(msg)
        columns: dict[str, list[float]] = {key: list(getattr(self, key)) for key in _COLUMNS.values()}
        shapes: dict[str, dict[str, float | None]] = {name: {} for name in self.legend.names}
        for shape in self.shapes:
            shapes[shape.name] = {key: value for key, value in asdict(shape).items() if key != "name"}
        refined: dict[str, dict[str, float]] = {name: self.refinement(name).to_dict() for name in self.legend.names}
        for entry in _tables(content, "class"):
            at = _place(entry.get("name"), self.legend)
            for key, value in entry.items():
                if key in _COLUMNS:
                    columns[_COLUMNS[key]][at] = _number(value, key)
                elif key in _SHAPE:
                    shapes[entry["name"]][key] = None if value is None else _number(value, key)
                elif key in _REFINEMENT:
                    refined[entry["name"]][key] = _number(value, key)
                elif key != "name":
                    msg = f"Class of a decision must have {', '.join((*_COLUMNS, *_SHAPE, *_REFINEMENT))}, got {key!r}."
                    raise SettingError(msg)
        looks = tuple(Shape(name, **conditions) for name, conditions in shapes.items() if any(conditions.values()))
        refinements = (Refinement(name, **values) for name, values in refined.items())
        merges = self.merges
        if "merge" in content:
            merges = tuple(_merge(entry) for entry in _tables(content, "merge"))
        numbers = {key: tuple(values) for key, values in columns.items()}
        return Decision(
            self.legend,
            **numbers,
            merges=merges,
            shapes=looks,
            refinements=tuple(one for one in refinements if one.any),
        )


_COLUMNS = {"threshold": "thresholds", "min_area_px": "min_area_px", "min_area_m2": "min_area_m2"}
_SHAPE = ("large_px", "slender", "edge_px")


def read_decision(path: str | Path, start: Decision) -> Decision:
    """Read a decision from TOML or JSON; what the file leaves out is as in another decision.

    Args:
        path: The file, see `Decision.updated`.
        start: The decision to start from, such as that of a model file.

    Returns:
        The decision.

    Raises:
        SettingError: If the file can't be read or doesn't fit the classes.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        msg = f"Decision file must be TOML or JSON, got {str(error)!r:.120} for {path.name}."
        raise SettingError(msg) from error
    if not isinstance(content, dict):
        msg = f"Decision file must hold tables, got a {type(content).__name__} in {path.name}."
        raise SettingError(msg)
    try:
        return start.updated(content)
    except SettingError as error:
        msg = f"{str(error).removesuffix('.')} in {path.name}."
        raise SettingError(msg) from error


def _check_merges(rules: Sequence[Merge], legend: Legend) -> None:
    if rules and legend.exclusive:
        msg = (
            f"Merging rules must come with classes that overlap, got {len(rules)} for classes that exclude each other."
        )
        raise SettingError(msg)
    for rule in rules:
        for name in (rule.where, *rule.clears):
            _place(name, legend)
        if rule.where in rule.clears or not rule.clears:
            msg = f"Merging rule must clear classes other than its own, got {rule.where!r} that clears {rule.clears}."
            raise SettingError(msg)


def _check_shapes(shapes: Sequence[Shape], legend: Legend) -> None:
    if shapes and legend.exclusive:
        msg = f"Shapes must come with classes that overlap, got {len(shapes)} for classes that exclude each other."
        raise SettingError(msg)
    for shape in shapes:
        _place(shape.name, legend)
        conditions = [value for value in (shape.large_px, shape.slender, shape.edge_px) if value is not None]
        if not conditions or not all(0 <= value < np.inf for value in conditions):
            msg = f"Shape must have large_px, slender or edge_px of 0 or more, got {shape}."
            raise SettingError(msg)


def _check_refinements(refinements: Sequence[Refinement], legend: Legend) -> None:
    for refinement in refinements:
        _place(refinement.name, legend)
        if refinement.changes_masks and legend.exclusive:
            msg = "Classes that exclude each other must not be opened, closed or filled by a decision, got that for "
            msg += f"{refinement.name}: pixels would have to go to another class."
            raise SettingError(msg)


def _place(name: Any, legend: Legend) -> int:
    if name not in legend.names:
        msg = f"Class must be one of {', '.join(legend.names)}, got {name!r}."
        raise SettingError(msg)
    return legend.names.index(name)


def _tables(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    tables = content.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(entry, dict) for entry in tables):
        msg = f"Decision must have tables [[{key}]], got {tables!r:.80}."
        raise SettingError(msg)
    return tables


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"Class of a decision must have a number as {key}, got {value!r:.40}."
        raise SettingError(msg)
    return float(value)


def _merge(entry: Mapping[str, Any]) -> Merge:
    where, clears = entry.get("where"), entry.get("clears")
    if set(entry) != {"where", "clears"} or not isinstance(where, str) or not isinstance(clears, list):
        msg = f"Merging rule must have `where`, a class, and `clears`, a list of classes, got {dict(entry)!r:.80}."
        raise SettingError(msg)
    return Merge(where, tuple(map(str, clears)))
