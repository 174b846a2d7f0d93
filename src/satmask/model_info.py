"""What a model file says about its network: bands, classes, and how probabilities become decisions."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

import satmask
from satmask.decisions import Decision
from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.merges import Merge
from satmask.refinements import Refinement
from satmask.scaling import Scaling
from satmask.shapes import Shape


class BandInfo(BaseModel):
    """One band that a network was trained on.

    Attributes:
        name: What people call it.
        wavelength_nm: Middle of its spectral range in nanometres, where known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    wavelength_nm: float | None = Field(default=None, gt=0)


class ModelInfo(BaseModel):
    """What a model file says about its network.

    Attributes:
        legend: The classes, in the order of the output channels.
        bands: The bands, in the order of the input channels.
        dtype: Data type of the training images, such as "uint8".
        value_range: Lowest and highest raw value of each band met in training (percentiles, or the extremes).
        gsd_m: Smallest and largest ground sampling distance of the training images, in metres; None where unknown.
        upsample_above_m: Ground sampling distance in metres from which on the network sees each pixel as four, see
            `satmask.upsampling`; 0 where always, also where a scene doesn't tell its own, None where never.
        upsampling: How many pixels the network sees for each along a side; 1 in files, 2 in what `at` gives.
        fill: Raw value of each band that takes the place of nodata.
        stride: Sides of what the network is given must be multiples of this.
        halo: Pixels of context that a block of output pixels aligned to the stride depends on.
        margin: Pixels that a scene is continued by on each side, mirrored, for a network that learned nothing about what
            lies so near to a window's edge.
        local: True where the network sees nothing farther away than the halo, so that windows are exact.
        activation: The last activation.
        temperatures: What the logits of each class are divided by, see `satmask.scaling`; 1 where left out.
        biases: What is added to them afterwards; 0 where left out.
        thresholds: Probability, so scaled, from which a pixel belongs to each class, 0 to 1; 0.5 where left out.
        min_area_m2: Smallest object of each class that is kept, in square metres; 0 where left out.
        min_area_px: The same in pixels, for scenes whose pixels have no known size.
        merges: Rules between classes that overlap, see `satmask.decisions`.
        shapes: What objects of some classes must look like.
        refinements: What is done to the masks of some classes: opened, closed, filled, parted.
        network: Name of the network in `satmask.models.NETWORKS`.
        options: What it was built with.
        training: Data, number of tiles, scores and whatever else the training wants to tell.
        version: Version of satmask that wrote the file.
        created: When, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    legend: Annotated[
        Legend,
        BeforeValidator(lambda value: value if isinstance(value, Legend) else Legend.from_dict(value)),
        PlainSerializer(Legend.to_dict),
    ]
    bands: tuple[BandInfo, ...] = Field(min_length=1)
    dtype: str
    value_range: tuple[tuple[float, float], ...]
    gsd_m: tuple[float, float] | None = None
    upsample_above_m: float | None = Field(default=None, ge=0)
    upsampling: Literal[1, 2] = Field(default=1, exclude=True)
    fill: tuple[float, ...]
    stride: int = Field(ge=1)
    halo: int = Field(ge=0)
    margin: int = Field(default=0, ge=0)
    local: bool = True
    activation: Literal["sigmoid", "softmax"]
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = ()
    biases: tuple[float, ...] = ()
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    min_area_m2: tuple[Annotated[float, Field(ge=0)], ...] = ()
    min_area_px: tuple[Annotated[float, Field(ge=0)], ...] = ()
    merges: tuple[Merge, ...] = ()
    shapes: tuple[Shape, ...] = ()
    refinements: tuple[Refinement, ...] = ()
    network: str
    options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    version: str = satmask.__version__
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        """Refuse what isn't the name of a real number type."""
        if not re.fullmatch(r"u?int(8|16|32|64)|float(16|32|64)", value):
            msg = f"must be a type such as uint8 or float32, got {value!r}"
            raise ValueError(msg)
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        """Give every class a temperature, a bias, a threshold and a smallest area."""
        legend = values.get("legend") if isinstance(values, dict) else None
        count = len(legend) if isinstance(legend, Legend) else len((legend or {}).get("classes", ()))
        if isinstance(values, dict):
            values = dict(values)
            values["temperatures"] = values.get("temperatures") or (1.0,) * count
            values["biases"] = values.get("biases") or (0.0,) * count
            values["thresholds"] = values.get("thresholds") or (0.5,) * count
            values["min_area_m2"] = values.get("min_area_m2") or (0.0,) * count
            values["min_area_px"] = values.get("min_area_px") or (0.0,) * count
        return values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse lists whose lengths don't fit the bands or the classes."""
        for name, wanted in (
            ("value_range", len(self.bands)),
            ("fill", len(self.bands)),
            ("temperatures", len(self.legend)),
            ("biases", len(self.legend)),
            ("thresholds", len(self.legend)),
            ("min_area_m2", len(self.legend)),
            ("min_area_px", len(self.legend)),
        ):
            if len(getattr(self, name)) != wanted:
                msg = f"{name} must have {wanted} entries, got {len(getattr(self, name))}"
                raise ValueError(msg)
        _ = self.decision, self.scaling  # refuse what doesn't fit the classes
        return self

    def at(self, gsd_m: float | None, upsampling: int | None = None) -> ModelInfo:
        """What the file says of its network in pixels of a scene.

        Args:
            gsd_m: Ground sampling distance of the scene in metres; None where unknown.
            upsampling: 2 has the network see each pixel as four, 1 as it is; by default what the file says of the distance.

        Returns:
            Itself, or with stride, halo and margin in pixels that are seen as four.

        Raises:
            SettingError: If the upsampling is neither.
        """
        if upsampling is None:
            least = self.upsample_above_m
            upsampling = 2 if least == 0 or (least is not None and gsd_m is not None and gsd_m >= least) else 1
        if upsampling not in (1, 2):
            msg = f"Upsampling must be 1 or 2, got {upsampling}. Resample what is coarser still."
            raise SettingError(msg)
        if upsampling == 1 or self.upsampling == 2:
            return self
        changes = {
            "upsampling": 2,
            "stride": self.stride // math.gcd(self.stride, 2),
            # An enlarged pixel depends on its own and one neighbour.
            "halo": self.halo // 2 + 1,
            "margin": -(-self.margin // 2),
        }
        return self.model_copy(update=changes)

    @property
    def decision(self) -> Decision:
        """How the network's probabilities become classes."""
        return Decision(
            self.legend,
            self.thresholds,
            self.min_area_px,
            self.min_area_m2,
            self.merges,
            self.shapes,
            self.refinements,
        )

    @property
    def scaling(self) -> Scaling:
        """How what the graph gives becomes probabilities."""
        return Scaling(self.temperatures, self.biases, exclusive=self.legend.exclusive)
