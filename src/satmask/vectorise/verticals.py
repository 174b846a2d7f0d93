"""Vertical edges of outlines: joined along columns, across strips, and counted row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from satmask.vectorise.corners import Ends
from satmask.vectorise.linking import NONE
from satmask.vectorise.rings import spans

# Columns and rows below this are sorted by counting, several times as fast as by comparing.
FEW = 1 << 16


@dataclass(frozen=True)
class Open:
    """Vertical edges, with their region on one side, that go on below a strip.

    Attributes:
        x: Column of each, int64, `(edges,)`.
        node: The chain that it belongs to.
    """

    x: np.ndarray
    node: np.ndarray

    @classmethod
    def none(cls) -> Open:
        """No edge at all."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class Verticals:
    """Vertical edges, with their region on one side, cut to a strip.

    Attributes:
        x: Column of each, int64, `(edges,)`.
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
        both = self.south != NONE
        return self.north[both], self.south[both]

    def left_open(self, chains: np.ndarray) -> Open:
        """Those that go on, given the chain of each node."""
        left = self.south == NONE
        return Open(self.x[left], chains[self.north[left]])

    def units(self, row: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row in the strip, column and node of every pixel's side on these edges, in raster order."""
        lengths = self.bottom - self.top
        rows = spans(self.top - row, lengths)
        order = _order(rows, height)
        return rows[order], np.repeat(self.x, lengths)[order], np.repeat(self.north, lengths)[order]


def join_verticals(known: Open, ends: Ends, row: int, height: int, width: int) -> Verticals:
    """Join the ends of vertical edges: down a column, edges of one side begin and end in turn.

    Args:
        known: Edges that come from above the strip, one a chain. Chains are the first nodes.
        ends: Ends in the strip; their nodes are counted from 0, and come behind the chains.
        row: First row of the strip.
        height: Its rows.
        width: Its columns.
    """
    x = np.concatenate([known.x, ends.x])
    order = _order(x, width + 1)
    x = x[order]
    y = np.concatenate([np.full(len(known.x), row), ends.y])[order]
    node = np.concatenate([known.node, ends.node + len(known.node)])[order]
    begins = np.concatenate([np.ones(len(known.x), bool), ends.begins])[order]
    first = np.flatnonzero(begins)
    # Behind an edge that goes on, the next one begins, in another column.
    goes_on = np.append(begins, True)[first + 1]
    second = np.where(goes_on, 0, first + 1)
    return Verticals(
        x[first],
        y[first],
        np.where(goes_on, row + height, y[second]),
        node[first],
        np.where(goes_on, NONE, node[second]),
    )


def _order(keys: np.ndarray, limit: int) -> np.ndarray:
    """Order that sorts keys of 0 to `limit - 1`, equal ones as they come."""
    small = keys.astype(np.uint16) if limit <= FEW else keys
    return np.argsort(small, kind="stable")
