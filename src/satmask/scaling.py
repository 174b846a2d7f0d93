"""Scaling: probabilities turned by a temperature and a bias, so that what is said with 80 % is so in 80 % of cases.

Where classes overlap, p becomes σ(logit(p) / T + b), class by class. Where they exclude each other, the pₖ become
softmax(log p / T), with one temperature for all: the most probable class stays so, but where two become equal by rounding.

References:
    Guo et al., "On Calibration of Modern Neural Networks", 2017, sections 4.1 and 4.2, https://arxiv.org/abs/1706.04599:
    temperature scaling, and with the bias that of Platt, "Probabilistic outputs for support vector machines", 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from satmask.errors import SettingError

# What float32 tells apart from 0 and from 1: beyond, logits would be infinite.
LOWEST, HIGHEST = 2.0**-126, 1 - 2.0**-25
# Pixels turned at a time: what lies between, in double precision, then stays in the processor's cache.
CHUNK_PX = 2**13


@dataclass(frozen=True)
class Scaling:
    """A temperature and a bias for each class.

    Attributes:
        temperatures: What logits are divided by, above 0; above 1 makes a network less sure.
        biases: What is added to them afterwards; above 0 makes a class more probable.
        exclusive: Whether classes exclude each other: then all have the same temperature, and no bias.

    Raises:
        SettingError: If there isn't a bias for each temperature, a number is out of range, or exclusive classes differ.

    Examples:
        >>> Scaling((2.0,), (0.0,)).apply(np.array([[0.9], [0.5]], np.float32)).round(3).tolist()
        [[0.75], [0.5]]
    """

    temperatures: tuple[float, ...]
    biases: tuple[float, ...]
    exclusive: bool = False

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        numbers = np.asarray([*self.temperatures, *self.biases], np.float64)
        if len(self.temperatures) != len(self.biases) or not np.isfinite(numbers).all() or min(self.temperatures) <= 0:
            msg = f"Scaling must have a temperature above 0 and a bias a class, got {self.temperatures}, {self.biases}."
            raise SettingError(msg)
        if self.exclusive and (len(set(self.temperatures)) > 1 or any(self.biases)):
            msg = (
                "Scaling of classes that exclude each other must have one temperature and no bias, "
                f"got {self.temperatures} and {self.biases}."
            )
            raise SettingError(msg)

    @classmethod
    def none(cls, count: int, *, exclusive: bool = False) -> Scaling:
        """What leaves the probabilities of so many classes as they are."""
        return cls((1.0,) * count, (0.0,) * count, exclusive)

    @cached_property
    def changes(self) -> bool:
        """Whether probabilities don't stay as they are."""
        return any(value != 1 for value in self.temperatures) or any(self.biases)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Turn probabilities; each pixel by itself, in double precision, so that windows and the whole get the same bits.

        Args:
            probabilities: What a network says, float32, `(…, classes)`, 0 to 1; NaN stays.

        Returns:
            The same shape, float32; the very array where nothing changes.
        """
        if not self.changes:
            return probabilities
        turned = np.empty(probabilities.shape, np.float32)
        given, taken = probabilities.reshape(-1, probabilities.shape[-1]), turned.reshape(-1, probabilities.shape[-1])
        for first in range(0, len(given), CHUNK_PX):
            some = slice(first, first + CHUNK_PX)
            # Contiguous: NumPy works on scattered numbers with other instructions, whose last bits differ.
            values = np.clip(np.asarray(given[some], np.float64, order="C"), LOWEST, HIGHEST)
            taken[some] = _softmax(np.log(values) / self.temperatures[0]) if self.exclusive else self._turn(values)
        return turned

    def thresholds(self, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        """Where thresholds of overlapping classes go, so that the same pixels reach them, as far as float32 tells pixels apart.

        Args:
            thresholds: One a class, 0 to 1; 0, which every pixel reaches, stays.

        Returns:
            One a class; themselves where classes exclude each other, which are decided without.

        Examples:
            >>> Scaling((2.0,), (0.0,)).thresholds((0.9,))
            (0.75,)
        """
        if self.exclusive or not self.changes:
            return thresholds
        # Decisions compare in float32, so that is the number whose place is looked for.
        values = np.asarray(thresholds, np.float32).astype(np.float64)
        turned = self._turn(np.clip(values, LOWEST, HIGHEST))
        kept = np.where(values > 0, turned, 0.0).astype(np.float32)
        return tuple(float(str(value)) for value in kept)  # 0.75, not 0.7500000123

    def then(self, other: Scaling) -> Scaling:
        """Both, one after the other, as one."""
        pairs = zip(self.temperatures, self.biases, other.temperatures, other.biases, strict=True)
        found = [(one * two, shift / two + more) for one, shift, two, more in pairs]
        return Scaling(tuple(pair[0] for pair in found), tuple(pair[1] for pair in found), self.exclusive)

    @cached_property
    def undone(self) -> Scaling:
        """What leads back: p after both is p, as far as floating point goes."""
        temperatures = tuple(1 / value for value in self.temperatures)
        biases = tuple(-bias * value or 0.0 for bias, value in zip(self.biases, self.temperatures, strict=True))
        return Scaling(temperatures, biases, self.exclusive)

    def _turn(self, values: np.ndarray) -> np.ndarray:
        logits = np.log(values / (1 - values)) / np.asarray(self.temperatures) + np.asarray(self.biases)
        with np.errstate(over="ignore"):  # 1 / ∞ is 0, as it should be
            return np.asarray(1 / (1 + np.exp(-logits)))


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that add up to 1, float32; added class by class, in an order that doesn't depend on the shape."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total = powers[..., :1].copy()
    for channel in range(1, powers.shape[-1]):
        total += powers[..., channel : channel + 1]
    return np.asarray(powers / total, np.float32)
