"""Lists and graphs without loops over their members: rings from links, and what is connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NONE = -1
PLACE_BITS = 32


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
class _Links:
    """Members that are still linked, the place here of the next of each, how far it is, and whether none comes before."""

    members: np.ndarray
    after: np.ndarray
    steps: np.ndarray
    leads: np.ndarray


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

    Examples:
        >>> chains = follow(np.array([2, 1, 3, -1]))
        >>> chains.order.tolist(), chains.lengths.tolist(), chains.closed.tolist()
        ([0, 2, 3, 1], [3, 1], [False, True])

    References:
        Reid-Miller, "List ranking and list scan on the Cray C90", 1996, https://doi.org/10.1006/jcss.1996.0074
    """
    count = len(successors)
    head, rank = np.arange(count), np.zeros(count, np.int64)
    leads = np.ones(count, bool)  # whether nothing comes before
    leads[successors.take(np.flatnonzero(successors != NONE))] = False
    levels: list[_Level] = []
    links = _unfinished(_Links(head.copy(), successors, np.ones(count, np.int64), leads))
    while len(links.members):
        links, level = _contract(links)
        levels.append(level)
        links = _unfinished(links)
    for level in reversed(levels):
        head[level.members] = head.take(level.heads)
        rank[level.members] = rank.take(level.heads) + level.behind
    first = np.flatnonzero(head == np.arange(count))
    number = np.empty(count, np.int64)
    number[first] = np.arange(len(first))
    chain = number.take(head)
    lengths = np.bincount(chain, minlength=len(first))
    order = np.empty(count, np.int64)
    order[(np.cumsum(lengths) - lengths).take(chain) + rank] = np.arange(count)
    return Chains(order, lengths, chain, ~leads.take(first))


def sort(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort keys of 0 to 2³¹ - 1, equal ones as they come: keys and places in one number are sorted fastest.

    Examples:
        >>> [part.tolist() for part in sort(np.array([7, 5, 7]))]
        [[5, 7, 7], [1, 0, 2]]
    """
    joint = (keys.astype(np.int64) << PLACE_BITS) | np.arange(len(keys))
    joint.sort()
    return (joint >> PLACE_BITS).astype(np.int32), joint & ((1 << PLACE_BITS) - 1)


def connect(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number the connected parts of a graph.

    Args:
        count: Nodes.
        one: A node of each edge, int64, `(edges,)`.
        other: The other node of each edge.

    Returns:
        The smallest node that each is connected with, int64, `(nodes,)`.

    Examples:
        >>> connect(5, np.array([4, 1]), np.array([1, 3])).tolist()
        [0, 1, 2, 1, 1]
    """
    parents = np.arange(count)
    while True:
        apart = np.flatnonzero(one != other)
        one, other = one.take(apart), other.take(apart)
        if not len(one):
            return parents
        np.minimum.at(parents, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := parents[parents], parents):
            parents = above
        one, other = parents[one], parents[other]


def _unfinished(links: _Links) -> _Links:
    """Leave out members that have taken in all of their list: rings of one, and leaders without followers."""
    count = len(links.members)
    left = np.flatnonzero((links.after != np.arange(count)) & ~(links.leads & (links.after == NONE)))
    if len(left) == count:
        return links
    number = np.full(count + 1, NONE)
    number[left] = np.arange(len(left))
    after = number.take(links.after.take(left))
    return _Links(links.members.take(left), after, links.steps.take(left), links.leads.take(left))


def _contract(links: _Links) -> tuple[_Links, _Level]:
    """Keep leaders, and members whose key is less than their neighbours'; walk from each of them to the next."""
    count, after, steps = len(links.members), links.after, links.steps
    keys = _scatter(count + 1)
    keys[-1] = np.iinfo(keys.dtype).max  # stands for no neighbour
    keys[:-1][links.leads] = NONE
    rises = keys[:-1] < keys.take(after)
    stays = np.empty(count + 1, bool)
    stays[after] = ~rises  # whether the member before is greater; the last place is for none
    stays[:-1][links.leads] = True
    stays[:-1] &= rises
    stays[-1] = True  # the end of a list stops a walk as well
    kept = np.flatnonzero(stays[:-1])
    ends, lengths = np.empty(len(kept), np.int64), np.empty(len(kept), np.int64)
    walkers, place, walked = np.arange(len(kept)), after.take(kept), steps.take(kept)
    taken: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while len(walkers):
        there = stays.take(place)
        done, on = np.flatnonzero(there), np.flatnonzero(~there)
        ends[walkers.take(done)], lengths[walkers.take(done)] = place.take(done), walked.take(done)
        walkers, place, walked = walkers.take(on), place.take(on), walked.take(on)
        taken.append((place, walkers, walked))
        place, walked = after.take(place), walked + steps.take(place)
    number = np.full(count + 1, NONE)
    number[kept] = np.arange(len(kept))
    members = links.members.take(kept)
    out, heads, behind = (np.concatenate(part) for part in zip(*taken, strict=True))
    following = _Links(members, number.take(ends), lengths, links.leads.take(kept))
    return following, _Level(links.members.take(out), members.take(heads), behind)


def _scatter(count: int) -> np.ndarray:
    """Different keys in an order that has nothing to do with their places: a bijection of 32-bit integers."""
    keys = np.arange(count, dtype=np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        keys ^= keys >> np.uint32(shift)
        keys *= np.uint32(factor)
    return keys.astype(np.int64)
