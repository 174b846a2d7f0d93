"""Vertical edges of outlines: joined along columns, across strips, and counted row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from satmask.vectorise.corners import Ends
from satmask.vectorise.linking import NONE, sort
from satmask.vectorise.rings import spans


@dataclass(frozen=True)
class Open:
    """Vertical edges, with their region on one side, that go on below a strip.

    Attributes:
        x: Column of each, int32, `(edges,)`.
        node: The chain that it belongs to.
    """

    x: np.ndarray
    node: np.ndarray

    @classmethod
    def none(cls) -> Open:
        """No edge at all."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32))


@dataclass(frozen=True)
class Verticals:
    """Vertical edges, with their region on one side, cut to a strip.

    Attributes:
        x: Column of each, int32, `(edges,)`.
        top: First row.
        bottom: The row behind its last.
        north: What it is joined with at its northern end.
        south: What it is joined with at its southern end, -1 where it goes on below the strip.
    """

    x: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    north: np.ndarray
    south: np.ndarray

    @property
    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """What edges join: northern and southern ends of those that have both."""
        both = np.flatnonzero(self.south != NONE)
        return self.north.take(both), self.south.take(both)

    def left_open(self, chains: np.ndarray) -> Open:
        """Those that go on, given the chain of each node."""
        left = np.flatnonzero(self.south == NONE)
        return Open(self.x.take(left), chains.take(self.north.take(left)))

    def units(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row in the strip, column and node of every pixel's side on these edges, in raster order."""
        lengths = self.bottom - self.top
        rows, order = sort(spans(self.top - row, lengths))
        edge = np.repeat(np.arange(len(lengths)), lengths).take(order)
        return rows, self.x.take(edge), self.north.take(edge)


def join_verticals(known: Open, ends: Ends, row: int, height: int) -> Verticals:
    """Join the ends of vertical edges: down a column, edges of one side begin and end in turn.

    Args:
        known: Edges that come from above the strip, one a chain. Chains are the first nodes.
        ends: Ends in the strip; their nodes are counted from 0, and come behind the chains.
        row: First row of the strip.
        height: Its rows.
    """
    x, order = sort(np.concatenate([known.x, ends.x]))
    y = np.concatenate([np.full(len(known.x), row, np.int32), ends.y]).take(order)
    node = np.concatenate([known.node, ends.node + np.int32(len(known.node))]).take(order)
    begins = np.concatenate([np.ones(len(known.x), bool), ends.begins]).take(order)
    first = np.flatnonzero(begins)
    # Behind an edge that goes on, the next one begins, in another column.
    goes_on = np.flatnonzero(np.append(begins, True).take(first + 1))
    second = first + 1
    second[goes_on] = 0
    bottom, south = y.take(second), node.take(second)
    bottom[goes_on], south[goes_on] = row + height, NONE
    return Verticals(x.take(first), y.take(first), bottom, node.take(first), south)
