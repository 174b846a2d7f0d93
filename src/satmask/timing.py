"""How long things take: cases timed in turn, so that a busy machine is busy for all of them."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Timing:
    """How long one case took.

    Attributes:
        seconds: One entry a round.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)


def interleave(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Timing]:
    """Time cases in turn, A B A B …, so that a machine that gets slower or warmer does so for all of them.

    Args:
        cases: What to call, by name.
        rounds: How often each is timed.
        warm: Call each once before, untimed: compilers, caches and pools are then in place.
        tell: Called with a line of text after each call.

    Returns:
        The timings, by name.

    Examples:
        >>> sorted(interleave({"a": list, "b": dict}, 3))
        ['a', 'b']
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-1 if warm else 0, rounds):
        for name, case in cases.items():
            begun = time.perf_counter()
            case()
            took = time.perf_counter() - begun
            if number >= 0:
                seconds[name].append(took)
            tell(f"  round {number + 1 or 'warm-up'}/{rounds}: {name} {took:.3f} s")
    return {name: Timing(tuple(entries)) for name, entries in seconds.items()}
