"""Search: the setting of a class that scores best on some parts of the images, one number after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from satmask.tuning.settings import Choices, Setting
from satmask.tuning.tallies import Tally, total

# A refinement has to win so much to be worth its while: what wins less is chance.
WORTH = 0.002
# Thresholds to both sides of the best one that are tried again with refinements.
BESIDE = 3

Measure = Callable[[Sequence[Setting]], Sequence[Sequence[Tally]]]


@dataclass
class Tables:
    """Tallies of settings, each measured once.

    Attributes:
        measure: Tallies settings: for each, one tally a part.
        known: What was measured.
    """

    measure: Measure
    known: dict[Setting, Sequence[Tally]] = field(default_factory=dict)

    def of(self, settings: Sequence[Setting]) -> list[Sequence[Tally]]:
        """Tallies of settings, one a part for each."""
        new = [setting for setting in dict.fromkeys(settings) if setting not in self.known]
        if new:
            self.known.update(zip(new, self.measure(new), strict=True))
        return [self.known[setting] for setting in settings]


@dataclass(frozen=True)
class Found:
    """A setting with a smallest area, by its place, and the score.

    Attributes:
        setting: The setting.
        area: Place of the smallest area.
        score: What it scores on the parts that it was sought on; NaN where there is nothing to be found.
    """

    setting: Setting
    area: int
    score: float


def search(tables: Tables, parts: Sequence[int], choices: Choices) -> Found:
    """Find the best setting on some parts.

    All thresholds are tried with all smallest areas; then, twice, each refinement, and the thresholds nearby again. A
    refinement stays out unless it wins `WORTH`. Of equals what is stays, else the smallest area and the threshold nearest
    to one half win.

    Args:
        tables: Where tallies come from.
        parts: The parts.
        choices: What is tried.

    Returns:
        The best; the class's own setting where it isn't in these parts.
    """
    own = total([tables.of([choices.own])[0][part] for part in parts]).scores()
    best = Found(choices.own, choices.own_area, float(own[choices.own_area]))
    thresholds = [replace(choices.own, threshold=limit) for limit in choices.thresholds] or [choices.own]
    best = _better(tables, parts, thresholds, best, worth=1e-12)
    if np.isnan(best.score):
        return best
    for _ in range(2):
        before = best.setting
        for key, values in choices.refined.items():
            tried = [replace(best.setting, **{key: value}) for value in values]
            best = _better(tables, parts, tried, best, worth=WORTH)
        if best.setting == before:
            break
        best = _better(tables, parts, _beside(best.setting, choices), best, worth=1e-12)
    return best


def _beside(setting: Setting, choices: Choices) -> list[Setting]:
    if setting.threshold is None:
        return [setting]
    at = choices.thresholds.index(setting.threshold)
    near = choices.thresholds[max(at - BESIDE, 0) : at + BESIDE + 1]
    return [replace(setting, threshold=limit) for limit in near]


def _better(tables: Tables, parts: Sequence[int], tried: Sequence[Setting], best: Found, *, worth: float) -> Found:
    """The best of some settings, if it is better than what there is by so much."""
    table = np.array([total([tallies[part] for part in parts]).scores() for tallies in tables.of(tried)])
    values = np.nan_to_num(table, nan=-1.0)
    highest = values.max() - 1e-12
    if not highest >= best.score + worth - 1e-12 and not np.isnan(best.score):
        return best
    places = np.argwhere(values >= highest).tolist()
    row, column = min(places, key=lambda place: (place[1], abs((tried[place[0]].threshold or 0.5) - 0.5), place[0]))
    found = Found(tried[row], column, float(table[row, column]))
    return found if found.score > best.score else best
