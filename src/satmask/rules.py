"""Rules: classes told by spectral indices instead of a network, and by the size of what they find; written as data.

A rule file is TOML:

```toml
[bands]                       # what the bands of the formulas are called in the scene
green = "m_green"
nir1 = "m_nir1"

[[condition]]                 # all must hold
index = "ndwi"
above = 0.1
soft = 0.05                   # where the probability climbs from 0 to 1, to both sides; 0 for a step

[[class]]
id = 7
name = "Waterway"
large_px = 20000              # see satmask.decisions for what classes and merging rules may say
slender = 12

[[class]]
id = 8
name = "Standing water"
min_area_px = 40

[[merge]]
where = "Waterway"
clears = ["Standing water"]
```

All classes of a file get the same probability: where the weakest condition puts it. They are told apart by what groups of
pixels look like, which is decided on the whole scene. `satmask predict` takes a rule file in place of a model file, and an
assembly takes it for a member.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from satmask.bands.indices import compute_index, find_index
from satmask.decisions import Decision
from satmask.engines import Engine, available_cores
from satmask.errors import ModelError
from satmask.legend import Legend
from satmask.model_info import BandInfo, ModelInfo

# Any would do: it keeps the choice of a window's size, and windows themselves, from being minute.
_STRIDE = 32


class Condition(BaseModel):
    """A range of a spectral index.

    Attributes:
        index: Its name in `satmask.bands.indices.INDICES`.
        above: The index is at least this.
        below: The index is at most this.
        soft: Half the width over which the probability climbs; at the limit itself it is one half, or 1 for a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    index: str
    above: float | None = Field(default=None, ge=-1, le=1)
    below: float | None = Field(default=None, ge=-1, le=1)
    soft: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        """Refuse what holds everywhere or nowhere, and an index that there isn't."""
        find_index(self.index)
        if self.above is None and self.below is None:
            msg = "must have above or below"
            raise ValueError(msg)
        return self

    def probability(self, values: np.ndarray) -> np.ndarray:
        """How well values of the index meet the condition, float32, 0 to 1; 0 where they are NaN."""
        said = np.ones(values.shape, np.float32)
        for limit, sign in ((self.above, 1), (self.below, -1)):
            if limit is not None:
                said = np.minimum(said, _climb(sign * (values - np.float32(limit)), self.soft))
        return np.nan_to_num(said, nan=0.0)


class Rule(BaseModel):
    """Classes told by spectral indices.

    Attributes:
        bands: Name in the scene of each band that the formulas need.
        conditions: All must hold.
        classes: The classes, as in a legend file.
        decision: What a file says of classes and merging rules, see `satmask.decisions.Decision.updated`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: dict[str, str]
    conditions: tuple[Condition, ...] = Field(min_length=1)
    classes: tuple[dict[str, Any], ...] = Field(min_length=1)
    decision: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse rules whose bands aren't those of their formulas."""
        needed = {band for condition in self.conditions for band in find_index(condition.index).bands}
        if needed != set(self.bands):
            msg = f"bands must be {', '.join(sorted(needed))}, got {', '.join(sorted(self.bands)) or 'none'}"
            raise ValueError(msg)
        _ = self.info  # refuses classes and decisions that don't agree
        return self

    @property
    def info(self) -> ModelInfo:
        """What a model file would say: any window is exact, for nothing but the pixel itself counts."""
        legend = Legend.from_dict({"classes": self.classes})
        decision = Decision(legend).updated(self.decision)
        return ModelInfo(
            legend=legend,
            bands=tuple(BandInfo(name=name) for name in self.bands.values()),
            dtype="uint16",
            value_range=((0, 0),) * len(self.bands),  # unknown: ratios of bands hold at any scale
            fill=(0.0,) * len(self.bands),
            stride=_STRIDE,
            halo=0,
            activation="sigmoid",
            thresholds=decision.thresholds,
            min_area_m2=decision.min_area_m2,
            min_area_px=decision.min_area_px,
            merges=decision.merges,
            shapes=decision.shapes,
            network="rule",
            options={"conditions": [condition.model_dump() for condition in self.conditions]},
            created="",
        )

    def probability(self, pixels: np.ndarray) -> np.ndarray:
        """How well pixels meet the weakest condition, float32, `(…,)`, 0 to 1.

        Args:
            pixels: Raw values, `(…, bands)`, in the order of `bands`.
        """
        named = {band: pixels[..., place] for place, band in enumerate(self.bands)}
        said = [condition.probability(compute_index(condition.index, named)) for condition in self.conditions]
        return np.asarray(np.minimum.reduce(said), np.float32)


class RuleEngine(Engine):
    """A rule that is run like a network."""

    name = "rule"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.info)
        self.rule, self.workers = rule, available_cores()

    def _run(self, images: np.ndarray) -> np.ndarray:
        said = self.rule.probability(images)
        return np.repeat(said[..., None], len(self.info.legend), axis=-1)


def read_rule(path: str | Path) -> Rule:
    """Read a rule file.

    Args:
        path: The TOML file.

    Returns:
        The rule.

    Raises:
        ModelError: If it can't be read or used.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        classes = content.get("class", [])
        legend_keys = ("id", "name", "colour")
        return Rule.model_validate(
            {key: value for key, value in content.items() if key not in ("condition", "class", "merge")}
            | {
                "conditions": content.get("condition", []),
                "classes": [{key: entry[key] for key in legend_keys if key in entry} for entry in classes],
                "decision": {
                    "class": [
                        {key: value for key, value in entry.items() if key not in ("id", "colour")} for entry in classes
                    ],
                    "merge": content.get("merge", []),
                },
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        msg = f"Rule must be whole, got a bad {where!r} in {path.name}: {first['msg']}."
        raise ModelError(msg) from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"Rule must be TOML with conditions and classes, got {str(error)!r:.160} for {path.name}."
        raise ModelError(msg) from error


def _climb(distance: np.ndarray, soft: float) -> np.ndarray:
    """0 to 1 over `-soft` to `soft`; a step at 0 without it."""
    if not soft:
        return (distance >= 0).astype(np.float32)
    return np.clip(0.5 + distance / np.float32(2 * soft), 0, 1).astype(np.float32)
