"""Strips: masks of a scene of any size opened, closed, filled and rid of small groups, as if they were in memory.

What a disc reaches is read beside a strip. Groups of pixels are found strip by strip and joined where they go on in the
next one; what is kept of each is a few numbers. So the same pixels come out whatever the strips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from satmask.decisions import Decision
from satmask.legend import Legend
from satmask.merges import Merge, merge
from satmask.refinements import Refinement, reach, widen
from satmask.shapes import Shape, looks_right
from satmask.vectorise.linking import connect
from satmask.windows import Window

# Pixels of a strip, for all classes.
STRIP_PX = 1 << 22
# Strips that are remembered: an object may lie in two.
REMEMBERED = 2

Read = Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """What is done to the masks of a class.

    Attributes:
        refinement: Opening, closing, holes.
        smallest_px: Pixels from which a group is kept.
        shape: What a group must look like.
    """

    refinement: Refinement
    smallest_px: float = 0.0
    shape: Shape | None = None

    @property
    def chooses(self) -> bool:
        """Whether it drops groups."""
        return self.smallest_px > 1 or self.shape is not None


def rules_of(decision: Decision, *, gsd_m: float | None) -> list[Rule]:
    """The rules of a decision, one a class."""
    smallest, shapes = decision.smallest_px(gsd_m), {shape.name: shape for shape in decision.shapes}
    return [
        Rule(decision.refinement(name), float(least), shapes.get(name))
        for name, least in zip(decision.legend.names, smallest, strict=True)
    ]


class Decided:
    """Masks of a scene after what a decision does to them, read window by window.

    Groups of pixels are looked for when this is made, in one pass over the scene, or in two where holes are filled.

    Args:
        read: Gives the masks of a window as thresholds make them, bool, `(height, width, classes)`.
        shape: `(height, width)` of the scene.
        legend: The classes.
        rules: What is done to each.
        gsd_m: Side of a pixel in metres, where known.
        merges: Rules between classes.
        rows: Rows of a strip.

    Examples:
        >>> mask = np.zeros((5, 4, 1), bool)
        >>> mask[1:, 0] = mask[0, 3] = True
        >>> rule = Rule(Refinement("house"), smallest_px=2)
        >>> decided = Decided(lambda at: mask[at.slices], (5, 4), Legend.of(["house"]), [rule], gsd_m=None, rows=2)
        >>> decided.read(Window(0, 0, 5, 4))[..., 0].sum(axis=0).tolist()
        [4, 0, 0, 0]
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, int],
        legend: Legend,
        rules: Sequence[Rule],
        *,
        gsd_m: float | None,
        merges: Sequence[Merge] = (),
        rows: int | None = None,
    ) -> None:
        self._read, self._shape, self._legend, self._rules = read, shape, legend, list(rules)
        self._gsd_m, self._merges = gsd_m, merges
        self._rows = rows or max(STRIP_PX // max(shape[1] * len(legend), 1), 1)
        self._halo = max((reach(rule.refinement, gsd_m=gsd_m) for rule in rules), default=0)
        self._recent: dict[int, np.ndarray] = {}
        # Of each class, which groups of each strip are filled, and which are kept; by their number in the strip.
        self._filled: list[list[np.ndarray] | None] = [None] * len(rules)
        self._kept: list[list[np.ndarray] | None] = [None] * len(rules)
        if any(rule.refinement.hole_px(gsd_m) > 1 for rule in rules):
            self._filled = self._survey(self._fills, holes=True)
        if any(rule.chooses for rule in rules):
            self._kept = self._survey(self._keeps, holes=False)

    def read(self, window: Window) -> np.ndarray:
        """Masks of a window that lies in the scene, bool, `(height, width, classes)`."""
        first, last = window.row // self._rows, (window.row + window.height - 1) // self._rows
        strips = np.concatenate([self._merged(strip) for strip in range(first, last + 1)])
        top = window.row - first * self._rows
        return np.asarray(strips[top : top + window.height, window.column : window.column + window.width])

    def _merged(self, strip: int) -> np.ndarray:
        """Masks of a strip; the last ones are remembered, for windows side by side and one object after the other."""
        if strip not in self._recent:
            while len(self._recent) >= REMEMBERED:
                del self._recent[next(iter(self._recent))]
            self._recent[strip] = merge(self._strip(strip), self._legend, self._merges)
        return self._recent[strip]

    def _strip(self, strip: int) -> np.ndarray:
        """Masks of a strip, as far as groups are known."""
        masks = self._widened(strip)
        for at in range(len(self._rules)):
            if (fill := self._filled[at]) is not None:
                masks[..., at] |= fill[strip][_label(~masks[..., at], holes=True)]
            if (keep := self._kept[at]) is not None:
                masks[..., at] = keep[strip][_label(masks[..., at], holes=False)]
        return masks

    def _widened(self, strip: int) -> np.ndarray:
        """Masks of a strip opened and closed; a disc at its edge sees what lies beyond."""
        top = strip * self._rows
        bottom = min(top + self._rows, self._shape[0])
        above, below = max(top - self._halo, 0), min(bottom + self._halo, self._shape[0])
        masks = np.array(self._read(Window(above, 0, below - above, self._shape[1])) != 0)
        for at, rule in enumerate(self._rules):
            masks[..., at] = widen(masks[..., at], rule.refinement, gsd_m=self._gsd_m)
        return masks[top - above : bottom - above]

    def _survey(
        self, choose: Callable[[Rule, _Groups], np.ndarray | None], *, holes: bool
    ) -> list[list[np.ndarray] | None]:
        """Find the groups of the whole scene, class by class, and choose some."""
        surveys = [_Survey(holes=holes) for _ in self._rules]
        for strip in range(-(-self._shape[0] // self._rows)):
            masks = self._strip(strip)
            for at, survey in enumerate(surveys):
                survey.add(~masks[..., at] if holes else masks[..., at], strip * self._rows)
        found: list[list[np.ndarray] | None] = []
        for rule, survey in zip(self._rules, surveys, strict=True):
            groups = survey.finish()
            chosen = choose(rule, groups)
            found.append(None if chosen is None else groups.by_strip(chosen))
        return found

    def _fills(self, rule: Rule, groups: _Groups) -> np.ndarray | None:
        """Holes to be filled."""
        smallest = rule.refinement.hole_px(self._gsd_m)
        return None if smallest <= 1 else ~groups.at_edge(self._shape) & (groups.pixels < smallest)

    def _keeps(self, rule: Rule, groups: _Groups) -> np.ndarray | None:
        """Objects to be kept."""
        if not rule.chooses:
            return None
        keep = groups.pixels >= rule.smallest_px
        if rule.shape is not None:
            keep &= looks_right(groups.pixels, groups.boxes, rule.shape, self._shape)
        return np.asarray(keep)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Groups of pixels of a scene.

    Attributes:
        pixels: Pixels of each, int64, `(groups,)`.
        boxes: First column, first row, columns and rows of each, int64, `(groups, 4)`.
        numbers: Group of each piece, a group's part in a strip, int64, `(pieces,)`.
        pieces: Pieces of each strip.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    numbers: np.ndarray
    pieces: list[int]

    def at_edge(self, shape: tuple[int, int]) -> np.ndarray:
        """Whether each touches the scene's edge, bool."""
        left, top, width, height = self.boxes.T
        return np.asarray((left == 0) | (top == 0) | (left + width == shape[1]) | (top + height == shape[0]))

    def by_strip(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Whether each piece belongs to a chosen group, strip by strip; by its number, False for number 0."""
        parts = np.split(chosen[self.numbers], np.cumsum(self.pieces)[:-1])
        return [np.append(False, part) for part in parts]


class _Survey:
    """Finds groups of pixels strip by strip."""

    def __init__(self, *, holes: bool) -> None:
        self._holes = holes
        self._stats: list[np.ndarray] = []
        self._joints: list[np.ndarray] = []
        self._count = 0
        self._row: np.ndarray | None = None

    def add(self, mask: np.ndarray, top: int) -> None:
        """Go on with the next strip."""
        import cv2

        labels, stats = _find(mask, holes=self._holes)
        stats = stats[1:].astype(np.int64)
        stats[:, cv2.CC_STAT_TOP] += top
        if self._row is not None:
            self._joints.append(_meeting(self._row, labels[0], self._count, holes=self._holes))
        self._stats.append(stats)
        # Pieces of the scene are numbered from 0; -1 is none.
        self._row = np.where(labels[-1] > 0, labels[-1] - 1 + self._count, -1)
        self._count += len(stats)

    def finish(self) -> _Groups:
        """Join pieces to groups."""
        joints = np.concatenate(self._joints) if self._joints else np.zeros((0, 2), np.int64)
        roots = connect(self._count, joints[:, 0], joints[:, 1])
        first, numbers = np.unique(roots, return_inverse=True)
        stats = np.concatenate(self._stats)
        pixels = np.bincount(numbers, stats[:, 4], minlength=len(first)).astype(np.int64)
        low = np.full((len(first), 2), np.iinfo(np.int64).max)
        high = np.zeros((len(first), 2), np.int64)
        np.minimum.at(low, numbers, stats[:, :2])
        np.maximum.at(high, numbers, stats[:, :2] + stats[:, 2:4])
        return _Groups(pixels, np.concatenate([low, high - low], axis=1), numbers, [len(part) for part in self._stats])


def _meeting(above: np.ndarray, below: np.ndarray, count: int, *, holes: bool) -> np.ndarray:
    """Pieces of two strips that share an edge, or a corner: int64, `(pairs, 2)`."""
    pairs = [(above, below)]
    if holes:
        pairs += [(above[1:], below[:-1]), (above[:-1], below[1:])]
    found = [np.stack([one, other - 1 + count], axis=1)[(one >= 0) & (other > 0)] for one, other in pairs]
    return np.unique(np.concatenate(found).astype(np.int64), axis=0)


def _label(mask: np.ndarray, *, holes: bool) -> np.ndarray:
    return _find(mask, holes=holes)[0]


def _find(mask: np.ndarray, *, holes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Number groups of pixels; holes share edges or corners, as outlines do."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8 if holes else 4, ltype=cv2.CV_32S
    )
    return labels, stats
