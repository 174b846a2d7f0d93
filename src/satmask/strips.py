"""Strips: masks of a scene of any size opened, closed, filled and rid of small groups, as if they were in memory.

What a disc reaches is read beside a strip. Groups of pixels are found strip by strip and joined where they go on in the
next one; what is kept of each is a few numbers. So the same pixels come out whatever the strips. A strip is decided once it
is sure which of its groups are chosen: mostly a strip later, for a river that crosses the scene at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from satmask.decisions import Decision
from satmask.legend import Legend
from satmask.merges import Merge, merge
from satmask.refinements import Refinement, reach, widen
from satmask.shapes import Shape, looks_right
from satmask.vectorise.linking import connect
from satmask.windows import Window

# Pixels of a strip, for all classes.
STRIP_PX = 1 << 20
# Strips that are remembered at each step: one is decided when the next one or two are known, and an object may lie in two.
REMEMBERED = 3

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
    """Masks of a scene after what a decision does to them, read window by window, from the top.

    Groups of pixels are looked for no farther down than it takes to know which of a window's are filled or kept. So what is
    read may still grow, if `read` waits for it.

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
        filling = [self._filling(rule) for rule in rules]
        keeping = [self._keeping(rule) for rule in rules]
        step: Strips = self._widened
        for surveys in (filling, keeping):
            if any(surveys):
                step = lru_cache(REMEMBERED)(_Chosen(step, surveys, self._top).strip)
        self._merged = lru_cache(REMEMBERED)(lambda strip: merge(step(strip), legend, merges))

    def read(self, window: Window) -> np.ndarray:
        """Masks of a window that lies in the scene, bool, `(height, width, classes)`."""
        first, last = window.row // self._rows, (window.row + window.height - 1) // self._rows
        strips = np.concatenate([self._merged(strip) for strip in range(first, last + 1)])
        top = window.row - first * self._rows
        return np.asarray(strips[top : top + window.height, window.column : window.column + window.width])

    def _top(self, strip: int) -> int:
        """First row of a strip, or the scene's height behind the last."""
        return min(strip * self._rows, self._shape[0])

    def _widened(self, strip: int) -> np.ndarray:
        """Masks of a strip opened and closed; a disc at its edge sees what lies beyond."""
        top, bottom = self._top(strip), self._top(strip + 1)
        above, below = max(top - self._halo, 0), min(bottom + self._halo, self._shape[0])
        masks = np.array(self._read(Window(above, 0, below - above, self._shape[1])) != 0)
        for at, rule in enumerate(self._rules):
            masks[..., at] = widen(masks[..., at], rule.refinement, gsd_m=self._gsd_m)
        return masks[top - above : bottom - above]

    def _filling(self, rule: Rule) -> _Survey | None:
        """Looks for the holes that are filled."""
        smallest = rule.refinement.hole_px(self._gsd_m)

        def judge(groups: _Groups) -> np.ndarray:
            small = ~groups.at_edge(self._shape) & (groups.pixels < smallest)
            return np.asarray(np.where(small, np.where(groups.whole, CHOSEN, OPEN), LEFT))

        return _Survey(judge, self._shape[0], holes=True) if smallest > 1 else None

    def _keeping(self, rule: Rule) -> _Survey | None:
        """Looks for the objects that are kept."""

        def judge(groups: _Groups) -> np.ndarray:
            large = groups.pixels >= rule.smallest_px
            if rule.shape is None:
                return np.asarray(np.where(large, CHOSEN, np.where(groups.whole, LEFT, OPEN)))
            large &= looks_right(groups.pixels, groups.boxes, rule.shape, self._shape)
            return np.asarray(np.where(groups.whole, np.where(large, CHOSEN, LEFT), OPEN))

        return _Survey(judge, self._shape[0], holes=False) if rule.chooses else None


# Masks of a strip by its number, bool, `(rows, width, classes)`.
Strips = Callable[[int], np.ndarray]
# What is known of a group: whether it is chosen, or that this depends on what lies below.
CHOSEN, LEFT, OPEN = np.array([1, 0, -1], np.int8)


class _Chosen:
    """Masks with their chosen holes filled, or with their chosen objects only.

    Args:
        masks: Gives the masks.
        surveys: Chooses, for each class; None leaves a class as it is.
        top: First row of a strip.
    """

    def __init__(self, masks: Strips, surveys: Sequence[_Survey | None], top: Callable[[int], int]) -> None:
        self._masks, self._top = masks, top
        self._surveys = [(at, survey) for at, survey in enumerate(surveys) if survey]
        self._labelled = lru_cache(REMEMBERED)(self._label)
        self._known = 0

    def strip(self, strip: int) -> np.ndarray:
        """Masks of a strip."""
        # All go down together: each strip is read once for all classes.
        while not all(survey.knows(strip) for _, survey in self._surveys):
            _, found = self._labelled(self._known)
            for (_, survey), (labels, stats) in zip(self._surveys, found, strict=True):
                survey.add(labels, stats, self._top(self._known))
            self._known += 1
        masks, found = self._labelled(strip)
        masks = masks.copy()
        for (at, survey), (labels, _) in zip(self._surveys, found, strict=True):
            chosen = survey.chosen(strip)[labels]
            masks[..., at] = masks[..., at] | chosen if survey.holes else chosen
        return masks

    def _label(self, strip: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        masks = self._masks(strip)
        return masks, [survey.find(masks[..., at]) for at, survey in self._surveys]


@dataclass(frozen=True, eq=False)
class _Groups:
    """Groups of pixels, as far as they are known.

    Attributes:
        pixels: Pixels of each, int64, `(groups,)`.
        boxes: First column, first row, columns and rows of each, int64, `(groups, 4)`.
        whole: Whether nothing more can belong to it, bool.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    whole: np.ndarray

    def at_edge(self, shape: tuple[int, int]) -> np.ndarray:
        """Whether each touches the scene's edge, bool."""
        left, top, width, height = self.boxes.T
        return np.asarray((left == 0) | (top == 0) | (left + width == shape[1]) | (top + height == shape[0]))


class _Survey:
    """Follows groups of pixels from strip to strip, and tells which are chosen as soon as that is sure.

    Args:
        judge: Says CHOSEN, LEFT or OPEN of groups; what is whole can't be OPEN, and what isn't OPEN stays as it is.
        height: Rows of the scene.
        holes: Whether groups of pixels that are not in the mask are meant.
    """

    def __init__(self, judge: Callable[[_Groups], np.ndarray], height: int, *, holes: bool) -> None:
        self.holes, self._judge, self._height = holes, judge, height
        # Groups are numbered as they begin; one that meets another goes on under the other's number.
        self._joined, self._judged = np.zeros(0, np.int64), np.zeros(0, np.int8)
        self._pieces: list[np.ndarray] = []
        # Those that reach the last row: their numbers, pixels and boxes, and which of them each pixel of that row is of.
        self._open, self._stats = np.zeros(0, np.int64), np.zeros((0, 5), np.int64)
        self._row = np.zeros(0, np.int64)

    def find(self, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number the groups of a strip from 1, and measure them; holes share edges or corners, as outlines do."""
        import cv2

        drawn, connectivity = (~mask, 8) if self.holes else (mask, 4)
        found = cv2.connectedComponentsWithStats(drawn.astype(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S)
        return found[1], found[2]

    def add(self, labels: np.ndarray, stats: np.ndarray, top: int) -> None:
        """Go on with the next strip."""
        known, count, before = len(self._open), len(stats) - 1, len(self._joined)
        stats = stats[1:].astype(np.int64)
        stats[:, 1] += top
        joints = _meeting(self._row, labels[0], known, holes=self.holes) if top else np.zeros((0, 2), np.int64)
        first, at = np.unique(connect(known + count, joints[:, 0], joints[:, 1]), return_inverse=True)
        numbers = np.append(self._open, np.arange(before, before + count))
        self._joined = np.append(self._joined, numbers[known:])
        self._joined[numbers] = numbers[first][at]
        self._pieces.append(numbers[first][at[known:]])

        together = _sum_up(np.concatenate([self._stats, stats]), at, len(first))
        last = np.where(labels[-1] > 0, np.append(at, -1)[known + labels[-1] - 1], -1)
        goes_on = np.zeros(len(first), bool)
        goes_on[last[last >= 0]] = top + len(labels) < self._height
        self._judged = np.append(self._judged, np.full(count, OPEN))
        self._judged[numbers[first]] = self._judge(_Groups(together[:, 4], together[:, :4], ~goes_on))
        self._open, self._stats = numbers[first][goes_on], together[goes_on]
        self._row = np.where(last >= 0, np.append(np.cumsum(goes_on) - 1, -1)[last], -1)

    def knows(self, strip: int) -> bool:
        """Whether it is sure which groups of a strip are chosen."""
        return strip < len(self._pieces) and not (self._judged[self._numbers(strip)] == OPEN).any()

    def chosen(self, strip: int) -> np.ndarray:
        """Whether each group of a strip is chosen, bool; by its number in the strip, False for number 0."""
        return np.append(False, self._judged[self._numbers(strip)] == CHOSEN)

    def _numbers(self, strip: int) -> np.ndarray:
        """What the groups of a strip go on as."""
        numbers = self._pieces[strip]
        while not np.array_equal(joined := self._joined[numbers], numbers):
            numbers = joined
        self._pieces[strip] = numbers
        return numbers


def _sum_up(stats: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
    """Boxes and pixels of what belongs together, int64, `(count, 5)`."""
    low, high = np.full((count, 2), np.iinfo(np.int64).max), np.zeros((count, 2), np.int64)
    np.minimum.at(low, at, stats[:, :2])
    np.maximum.at(high, at, stats[:, :2] + stats[:, 2:4])
    pixels = np.zeros((count, 1), np.int64)
    np.add.at(pixels[:, 0], at, stats[:, 4])
    return np.concatenate([low, high - low, pixels], axis=1)


def _meeting(above: np.ndarray, below: np.ndarray, count: int, *, holes: bool) -> np.ndarray:
    """Pieces of two strips that share an edge, or a corner: int64, `(pairs, 2)`."""
    pairs = [(above, below)]
    if holes:
        pairs += [(above[1:], below[:-1]), (above[:-1], below[1:])]
    found = [np.stack([one, other - 1 + count], axis=1)[(one >= 0) & (other > 0)] for one, other in pairs]
    return np.unique(np.concatenate(found).astype(np.int64), axis=0)
