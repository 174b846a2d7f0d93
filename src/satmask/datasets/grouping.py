"""Groups of samples that belong together, and which of them to set aside for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STARTS, STEPS = 8, 300  # of the search for a balanced choice


def join(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Join what is paired, directly or through others.

    Args:
        count: Number of things, called 0, 1, 2 ….
        pairs: Two things that belong together.

    Returns:
        The smallest thing of each one's group.

    Examples:
        >>> join(5, [(3, 4), (0, 3)])
        [0, 1, 2, 0, 0]
    """
    parents = list(range(count))

    def root(thing: int) -> int:
        while parents[thing] != thing:
            parents[thing] = thing = parents[parents[thing]]  # halves the way for the next who asks
        return thing

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return [root(thing) for thing in range(count)]


def choose_groups(sizes: Sequence[int], share: float, *, amounts: np.ndarray | None = None, seed: int = 0) -> list[int]:
    """Choose groups to set aside, smallest first, until about a share of all images is.

    Many small places tell more of how a network carries over than one large place does.

    Args:
        sizes: Images of each group, in the order in which equal ones are taken.
        share: Share of the images wanted, between 0 and 1.
        amounts: How much of each class each group holds, `(groups, classes)`. If given, the choice is then bettered until the
            share of each class is near the one wanted, too; groups are put in and taken out one at a time, from this
            start and from random ones.
        seed: Of the random starts.

    Returns:
        The chosen groups; at least one.

    Examples:
        >>> choose_groups([50, 10, 40, 10], 0.2)
        [1, 3]
    """
    chosen = _smallest_first(sizes, share)
    if amounts is None or len(sizes) < 2:
        return sorted(chosen)
    table = np.column_stack([np.asarray(sizes, np.float64), np.asarray(amounts, np.float64).reshape(len(sizes), -1)])
    table = table[:, (table > 0).sum(axis=0) > 1]  # what only one group has can't be shared
    random = np.random.default_rng(seed)
    starts = [np.isin(np.arange(len(sizes)), chosen), *(_random_start(sizes, share, random) for _ in range(STARTS))]
    found = [_better(table / table.sum(axis=0), start, share) for start in starts if 0 < start.sum() < len(sizes)]
    best = min(found, key=lambda entry: entry[0], default=(0.0, starts[0]))[1]
    return [int(group) for group in np.flatnonzero(best)]


def _smallest_first(sizes: Sequence[int], share: float) -> list[int]:
    want = max(1, round(share * sum(sizes)))
    chosen: list[int] = []
    held = 0
    for group in sorted(range(len(sizes)), key=lambda group: sizes[group]):
        if held and held + sizes[group] > 1.5 * want:
            break
        chosen.append(group)
        held += sizes[group]
        if held >= want:
            break
    return chosen


def _random_start(sizes: Sequence[int], share: float, random: np.random.Generator) -> np.ndarray:
    """Groups in random order, up to the share."""
    order = random.permutation(len(sizes))
    held = np.cumsum(np.asarray(sizes)[order])
    start = np.zeros(len(sizes), bool)
    start[order[: max(1, int(np.searchsorted(held, share * held[-1])))]] = True
    return start


def _better(table: np.ndarray, chosen: np.ndarray, share: float) -> tuple[float, np.ndarray]:
    """Put in or take out one group after another, as long as the shares come nearer; cost and choice.

    The cost is how far the images' share is off, and how far those of the classes are on average, squared.
    """
    weights = np.array([1.0, *[1 / max(table.shape[1] - 1, 1)] * (table.shape[1] - 1)])
    chosen = chosen.copy()
    held = chosen @ table
    cost = float(weights @ (held - share) ** 2)
    for _ in range(STEPS):
        change = np.where(chosen, -1.0, 1.0)
        costs = (held + change[:, None] * table - share) ** 2 @ weights
        if chosen.sum() == 1:
            costs[chosen] = np.inf
        if (~chosen).sum() == 1:
            costs[~chosen] = np.inf
        group = int(costs.argmin())
        if costs[group] >= cost - 1e-12:
            break
        chosen[group] = ~chosen[group]
        held, cost = chosen @ table, float(costs[group])
    return cost, chosen
