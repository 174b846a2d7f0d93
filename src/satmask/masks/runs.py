"""Runs: masks as runs of pixels, from which areas, boxes and unions follow without a pixel being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import cv2
import numpy as np

from satmask.errors import DataError, SettingError

Order: TypeAlias = Literal["row", "column"]


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of one or several masks of one size.

    Within a mask, runs are sorted and don't overlap; they may touch.

    Attributes:
        starts: First pixel of each run, from 0 at the upper left, counted along `order`; int64, `(runs,)`.
        lengths: Pixels of each run, 1 or more; int64, `(runs,)`.
        numbers: How many of the runs belong to the first mask, to the second …; int64, `(masks,)`.
        shape: `(height, width)`, in pixels.
        order: Whether pixels are counted along the rows or down the columns.

    Examples:
        >>> runs = Runs.of(np.array([[0, 1, 1], [1, 0, 0]]))
        >>> runs.starts.tolist(), runs.lengths.tolist(), runs.areas.tolist(), runs.boxes.tolist()
        ([1], [3], [3], [[0, 0, 3, 2]])
    """

    starts: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    shape: tuple[int, int]
    order: Order = "row"

    @classmethod
    def of(cls, masks: np.ndarray, *, order: Order = "row") -> Self:
        """Find the runs of masks.

        Args:
            masks: Anything but 0 is inside; one mask `(height, width)`, or several, `(height, width, masks)`.
            order: Count pixels along the rows or down the columns.
        """
        masks = np.asarray(masks)
        flat = _flat(_inside(masks), order)
        size = masks.shape[0] * masks.shape[1]
        count = masks.shape[2] if masks.ndim == 3 else 1
        edges = _edges(flat, size)
        numbers = np.bincount(edges[::2] // max(size, 1), minlength=count)[:count]
        starts = edges[::2] - np.repeat(np.arange(count) * size, numbers)
        return cls(starts, edges[1::2] - edges[::2], numbers, (masks.shape[0], masks.shape[1]), order)

    @classmethod
    def of_labels(cls, labels: np.ndarray, count: int, *, order: Order = "row") -> Self:
        """Find the runs of regions that are numbered in one array: a mask for each number.

        Args:
            labels: 0 outside, else 1 to `count`; integers, `(height, width)`.
            count: Number of masks.
            order: Count pixels along the rows or down the columns.

        Examples:
            >>> Runs.of_labels(np.array([[1, 2, 2], [0, 2, 1]]), 2).areas.tolist()
            [2, 3]
        """
        labels = np.asarray(labels)
        flat = _flat(labels, order)
        starts = np.concatenate([np.zeros(min(flat.size, 1), np.int64), _changes(flat)])
        values, lengths = flat[starts], np.diff(starts, append=flat.size)
        chosen = np.flatnonzero(values)
        chosen = chosen[np.argsort(values[chosen], kind="stable")]
        numbers = np.bincount(values[chosen], minlength=count + 1)[1:]
        return cls(starts[chosen], lengths[chosen], numbers, (labels.shape[0], labels.shape[1]), order)

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.numbers)

    @property
    def owners(self) -> np.ndarray:
        """The mask that each run belongs to, from 0; int64, `(runs,)`."""
        return np.repeat(np.arange(len(self)), self.numbers)

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each mask; int64, `(masks,)`."""
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        ends = np.cumsum(self.numbers)
        return np.asarray(sums[ends] - sums[ends - self.numbers])

    @property
    def boxes(self) -> np.ndarray:
        """Bounding boxes `(x, y, width, height)` as those of `masks.boxes`; int64, `(masks, 4)`."""
        line = max(self.shape[1] if self.order == "row" else self.shape[0], 1)
        lasts = self.starts + self.lengths - 1
        rows, columns = (self.starts // line, lasts // line), (self.starts % line, lasts % line)
        wraps = rows[0] != rows[1]  # such a run holds the end of one line and the beginning of the next
        columns = np.where(wraps, 0, columns[0]), np.where(wraps, line - 1, columns[1])
        across, along = self._extent(*columns), self._extent(*rows)
        (x, width), (y, height) = (across, along) if self.order == "row" else (along, across)
        return np.stack([x, y, width, height], axis=-1)

    def _extent(self, firsts: np.ndarray, lasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each mask begins, and how far it reaches; 0 and 0 for masks without a pixel."""
        begins, reach = np.zeros(len(self), np.int64), np.zeros(len(self), np.int64)
        filled = self.numbers > 0
        if filled.any():
            places = (np.cumsum(self.numbers) - self.numbers)[filled]
            begins[filled] = np.minimum.reduceat(firsts, places)
            reach[filled] = np.maximum.reduceat(lasts, places) + 1 - begins[filled]
        return begins, reach

    def masks(self) -> np.ndarray:
        """Draw the masks.

        Returns:
            1 inside, 0 outside, uint8, `(height, width, masks)`; each mask lies in one piece of memory.

        Raises:
            DataError: If they don't fit into memory.
        """
        height, width = self.shape
        size = height * width
        begins = self.starts + self.owners * size
        edges = np.stack([begins, begins + self.lengths], axis=-1).ravel()
        lengths = np.diff(edges, prepend=0, append=len(self) * size)
        try:
            flat = np.repeat(np.arange(len(lengths)).astype(np.uint8) & 1, lengths)
        except (MemoryError, ValueError) as error:
            msg = f"Masks must fit into memory, got {len(self):,} of {height:,} × {width:,} pixels."
            raise DataError(msg) from error
        if self.order == "row":
            return np.moveaxis(flat.reshape(len(self), height, width), 0, -1)
        return np.asarray(flat.reshape(len(self), width, height).T)

    def union(self, groups: Sequence[int] | np.ndarray, count: int) -> Runs:
        """Unite masks group by group, without drawing them.

        Args:
            groups: The group of each mask, 0 to `count` - 1; masks of a group may overlap.
            count: Number of groups.

        Returns:
            One mask a group, in runs that don't touch.

        Raises:
            SettingError: If there isn't one group a mask.

        Examples:
            >>> runs = Runs.of(np.array([[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]))
            >>> runs.union([0, 0, 1], 2).masks()[..., 0].tolist()
            [[1, 1, 0]]
        """
        chosen = np.asarray(groups, np.int64).reshape(-1)
        if len(chosen) != len(self) or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < count):
            msg = f"Masks must have one group of 0 to {count - 1} each, got {chosen.tolist()!s:.80} for {len(self)} masks."
            raise SettingError(msg)
        owners, size = chosen[self.owners], self.shape[0] * self.shape[1]
        begins = owners * size + self.starts
        order = np.argsort(begins, kind="stable")
        begins, owners = begins[order], owners[order]
        ends = np.maximum.accumulate((begins + self.lengths[order]) if len(order) else begins)
        apart = np.ones(len(order), bool)
        apart[1:] = (begins[1:] > ends[:-1]) | (owners[1:] != owners[:-1])
        first = np.flatnonzero(apart)
        last = np.append(first[1:] - 1, len(order) - 1)[: len(first)]
        starts = begins[first] - owners[first] * size
        return Runs(
            starts, ends[last] - begins[first], np.bincount(owners[first], minlength=count), self.shape, self.order
        )


def down_columns(mask: np.ndarray) -> np.ndarray:
    """A mask as bytes of 0 and 1 that lie column by column in memory, `(height, width)`."""
    flat = _flat(_inside(mask), "column")
    return flat.reshape(mask.shape[::-1]).T


def _inside(masks: np.ndarray) -> np.ndarray:
    """The masks as bytes of 0 and 1, without a copy where they are that already."""
    if masks.dtype == np.bool_:
        return masks.view(np.uint8)
    if masks.dtype == np.uint8 and masks.size and masks.max() <= 1:
        return masks
    return np.asarray(masks != 0).view(np.uint8)


def _flat(pixels: np.ndarray, order: Order) -> np.ndarray:
    """All pixels in the order of counting, mask after mask."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    lines = pixels.transpose((2, 0, 1) if order == "row" else (2, 1, 0))
    if lines.flags.c_contiguous or not lines.size:
        return lines.reshape(-1)
    if lines.dtype == np.uint8 and all(plane.flags.f_contiguous for plane in lines):
        # Swapped in memory plane by plane: NumPy takes twenty times as long.
        flat = np.empty(lines.shape, np.uint8)
        for plane, into in zip(lines, flat, strict=True):
            cv2.transpose(plane.T, dst=into)
        return flat.reshape(-1)
    return np.ascontiguousarray(lines).reshape(-1)


def _edges(flat: np.ndarray, size: int) -> np.ndarray:
    """Where runs of 1 begin and end, in turn: int64; a run ends where its mask of `size` pixels does."""
    if not flat.size:
        return np.zeros(0, np.int64)
    edges = _changes(flat)
    seams = np.arange(size, flat.size, size)
    through = seams[(flat[seams] & flat[seams - 1]) != 0]
    if len(through):
        edges = np.sort(np.concatenate([edges, through, through]))
    head, tail = np.zeros(int(flat[0] != 0), np.int64), np.full(int(flat[-1] != 0), flat.size)
    return np.concatenate([head, edges, tail])


def _changes(flat: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; int64."""
    changed = np.zeros(-(-flat.size // 8) * 8, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=changed[1 : flat.size])
    return _places(changed)


def _places(true: np.ndarray) -> np.ndarray:
    """Where an array of a multiple of eight truths is true: where that is rare, eight of them are looked at at once."""
    if true.size < 4096 or np.count_nonzero(true) > true.size // 32:
        return np.flatnonzero(true)
    words = np.zeros(-(-true.size // 64) * 8, np.bool_)
    np.not_equal(true.view(np.uint64), 0, out=words[: true.size // 8])
    eights = _places(words)
    found = np.flatnonzero(true.reshape(-1, 8)[eights])
    return np.asarray(8 * eights[found >> 3] + (found & 7))
