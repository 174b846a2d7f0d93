"""Lists and graphs without loops over their members: rings from links, and what is connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NONE = -1


@dataclass(frozen=True)
class Chains:
    """Members of linked lists, each list in its order.

    Attributes:
        order: Members, list after list, int64, `(members,)`.
        lengths: Members of each list, int64, `(lists,)`.
        chain: Number of the list that each member belongs to, int64, `(members,)`.
        closed: Whether a list ends where it begins, bool, `(lists,)`.
    """

    order: np.ndarray
    lengths: np.ndarray
    chain: np.ndarray
    closed: np.ndarray


@dataclass(frozen=True)
class _Level:
    """What one round of `follow` took out: members, and how far each is behind which of those that stayed."""

    members: np.ndarray
    heads: np.ndarray
    behind: np.ndarray


def follow(successors: np.ndarray) -> Chains:
    """Order the members of linked lists, open ones and rings.

    In each round, a pseudo-random third of the members stays, and each of them takes in those that follow it up to the
    next that stays. The work is that of a few passes over the members, however long the lists are.

    Args:
        successors: The member that follows each, -1 behind the last of an open list; no two have the same successor.
            int64, `(members,)`.

    Returns:
        The lists. Rings begin anywhere.

    Example:
        >>> chains = follow(np.array([2, 1, 3, -1]))
        >>> chains.order.tolist(), chains.lengths.tolist(), chains.closed.tolist()
        ([0, 2, 3, 1], [3, 1], [False, True])

    References:
        Reid-Miller, "List ranking and list scan on the Cray C90", 1996, https://doi.org/10.1006/jcss.1996.0074
    """
    count = len(successors)
    head, rank = np.arange(count), np.zeros(count, np.int64)
    predecessors = _reversed(successors)
    levels: list[_Level] = []
    members, after, steps = _unfinished(head.copy(), successors, np.ones(count, np.int64))
    while len(members):
        members, after, steps, level = _contract(members, after, steps)
        levels.append(level)
        members, after, steps = _unfinished(members, after, steps)
    for level in reversed(levels):
        head[level.members] = head[level.heads]
        rank[level.members] = rank[level.heads] + level.behind
    first = np.flatnonzero(head == np.arange(count))
    number = np.empty(count, np.int64)
    number[first] = np.arange(len(first))
    chain = number[head]
    lengths = np.bincount(chain, minlength=len(first))
    order = np.empty(count, np.int64)
    order[(np.cumsum(lengths) - lengths)[chain] + rank] = np.arange(count)
    return Chains(order, lengths, chain, predecessors[first] != NONE)


def connect(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number the connected parts of a graph.

    Args:
        count: Nodes.
        one: A node of each edge, int64, `(edges,)`.
        other: The other node of each edge.

    Returns:
        The smallest node that each is connected with, int64, `(nodes,)`.

    Example:
        >>> connect(5, np.array([4, 1]), np.array([1, 3])).tolist()
        [0, 1, 2, 1, 1]
    """
    parents = np.arange(count)
    while True:
        apart = one != other
        one, other = one[apart], other[apart]
        if not len(one):
            return parents
        np.minimum.at(parents, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := parents[parents], parents):
            parents = above
        one, other = parents[one], parents[other]


def _reversed(successors: np.ndarray) -> np.ndarray:
    linked = np.flatnonzero(successors != NONE)
    predecessors = np.full(len(successors), NONE)
    predecessors[successors[linked]] = linked
    return predecessors


def _unfinished(
    members: np.ndarray, after: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out members that have taken in all of their list: rings of one, and lone ends."""
    before = _reversed(after)
    places = np.arange(len(members))
    left = np.flatnonzero((after != places) & ((before != NONE) | (after != NONE)))
    if len(left) == len(members):
        return members, after, steps
    number = np.full(len(members) + 1, NONE)
    number[left] = np.arange(len(left))
    return members[left], number[after[left]], steps[left]


def _contract(
    members: np.ndarray, after: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Level]:
    """Keep the members whose key is less than their neighbours', and walk from each of them to the next."""
    count, before = len(members), _reversed(after)
    keys = np.append(_scatter(count), np.iinfo(np.int64).max)  # the last stands for no neighbour
    keys[:-1][before == NONE] = NONE  # the first of a list always stays
    stays = (keys[:-1] < keys[before]) & (keys[:-1] < keys[after])
    kept = np.flatnonzero(stays)
    stops = np.append(stays, True)  # the end of a list stops a walk as well
    walkers, place, walked = np.arange(len(kept)), after[kept], steps[kept]
    ends, lengths = np.empty(len(kept), np.int64), np.empty(len(kept), np.int64)
    taken: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(walkers):
        there = stops[place]
        ends[walkers[there]], lengths[walkers[there]] = place[there], walked[there]
        walkers, place, walked = walkers[~there], place[~there], walked[~there]
        taken.append((members[place], members[kept[walkers]], walked))
        place, walked = after[place], walked + steps[place]
    number = np.full(count + 1, NONE)
    number[kept] = np.arange(len(kept))
    out, heads, behind = (np.concatenate(part) for part in zip(*taken, strict=True))
    return members[kept], number[ends], lengths, _Level(out, heads, behind)


def _scatter(count: int) -> np.ndarray:
    """Different keys in an order that has nothing to do with their places: a bijection of 32-bit integers."""
    keys = np.arange(count, dtype=np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        keys ^= keys >> np.uint32(shift)
        keys *= np.uint32(factor)
    return keys.astype(np.int64)
