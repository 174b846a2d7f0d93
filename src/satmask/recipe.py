"""The recipe: all settings of a training run, validated, from TOML and `--set key=value`."""

from __future__ import annotations

import difflib
import tomllib
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from satmask.augment import Augmentation
from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Settings(BaseModel):
    """Base of the recipe's tables: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkRecipe(Settings):
    """The network: its name, and the options of its builder, such as `filters`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(default="unet", description="unet, cnn, dilated or encoder.")

    @model_validator(mode="after")
    def _small_unet(self) -> Self:
        """Without a word on its width, the U-Net is half as wide as published: four times as fast on a laptop."""
        if self.name == "unet" and "filters" not in self.options:
            self.__pydantic_extra__["filters"] = [16, 32, 64, 128, 256]  # type: ignore[index]
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Options of the builder of `satmask.models`."""
        return dict(self.model_extra or {})


class LossRecipe(Settings):
    """The loss: one of `satmask.losses.LOSSES`, and its options, such as `gamma`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(default="bce_dice", description="A loss of satmask.losses.")
    class_weights: tuple[float, ...] | None = Field(default=None, description="One weight a class.")
    interior: int = Field(default=0, ge=0, description="Pixels at the window's border left out of the loss.")
    border: float = Field(
        default=0.0, ge=0, le=1, description="Weight of those pixels; above 0 the network learns a scene's edges, too."
    )

    boundary_weight: float = Field(
        default=0.0, ge=0, le=100, description="What pixels at the edges of classes weigh more; 10 in the U-Net paper."
    )
    boundary_px: float = Field(default=5.0, gt=0, description="Deviation of that weight over the distance to an edge.")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the loss itself."""
        return dict(self.model_extra or {})


class ScheduleRecipe(Settings):
    """How the learning rate changes."""

    name: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    patience: int = Field(default=3, ge=1, description="Plateau: epochs without a better validation IoU.")
    factor: float = Field(default=0.3, gt=0, lt=1, description="Plateau: what the rate is then multiplied by.")


class Recipe(Settings):
    """All settings of a training run.

    The defaults train a half-width U-Net on a laptop. Each field can be set in TOML (`epochs = 10`, `[augment]` …) or
    by `--set epochs=10 --set augment.noise=0.02`.

    Examples:
        >>> Recipe.load(settings=["epochs=3", "network.filters=[8, 16]"]).network.options
        {'filters': [8, 16]}
    """

    network: NetworkRecipe = NetworkRecipe()
    loss: LossRecipe = LossRecipe()
    augment: Augmentation = Augmentation()
    schedule: ScheduleRecipe = ScheduleRecipe()

    window: int = Field(default=256, ge=16, le=4096, description="Side of a training window, in pixels.")
    upsampling: Literal[1, 2] = Field(
        default=1,
        description="2 has the network see each pixel as four, so that a window shows half as much along a side; "
        "with a start, unless it is said, as that sees the images.",
    )
    sampling: Literal["random", "balanced", "boundaries"] = Field(
        default="random", description="How training windows are drawn."
    )
    windows_per_epoch: int | None = Field(
        default=None, ge=1, description="By default as many as cover the images once."
    )
    validation: float | tuple[str, ...] = Field(
        default=0.2, description="Where the data has no val split: share held out by place, or patterns of names."
    )
    bands: tuple[int | str, ...] | None = Field(default=None, description="Bands by number from 1 or by name.")
    classes: tuple[int | str, ...] | None = Field(
        default=None,
        description="Classes to train for, by id or name; by default all. They mustn't exclude each other.",
    )
    groups: dict[str, tuple[int | str, ...]] | Literal["each"] | None = Field(
        default=None, description="Classes of several networks that are trained one after the other; each: one a class."
    )
    gsd_m: tuple[float, float] | None = Field(
        default=None, description="Ground sampling distances, where files don't say."
    )

    start: str | None = Field(
        default=None,
        description="Trained model to begin with: a run folder, or a model file with its .keras beside it.",
    )
    epochs: int = Field(default=15, ge=1)
    batch: int = Field(default=8, ge=1, description="Windows a step.")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="The highest learning rate; with a start 0.0003 unless it is said."
    )
    weight_decay: float = Field(default=1e-4, ge=0)
    stop_after: int | None = Field(default=None, ge=1, description="Stop after so many epochs without a better IoU.")
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="Memory of batch normalisation; by default at most a fifth of an epoch."
    )
    average: float | None = Field(
        default=None, gt=0, lt=1, description="Memory of averaged weights, such as 0.99; by default none are averaged."
    )
    seed: int = Field(default=0, ge=0)
    compile: bool | None = Field(
        default=None,
        description="Compile the step with XLA; by default where that is faster, see training.worth_compiling.",
    )
    mixed_precision: bool = Field(
        default=False, description="Compute in 16 bits where it is safe; for GPUs and for CPUs with AMX."
    )

    @field_validator("validation", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _share(self) -> Self:
        if isinstance(self.validation, float) and not 0 < self.validation < 1:
            msg = f"Validation share must lie between 0 and 1, got {self.validation}"
            raise ValueError(msg)
        return self

    @classmethod
    def load(cls, path: Path | None = None, settings: Sequence[str] = ()) -> Recipe:
        """Read a recipe file and settings on top of it.

        Args:
            path: A TOML file; without one, the defaults.
            settings: `key=value` with dotted keys; values as in TOML, and bare words as text.

        Raises:
            SettingError: If a key is unknown or a value doesn't fit.
        """
        content: dict[str, Any] = {}
        if path is not None:
            try:
                content = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                msg = f"Recipe must be a TOML file, got {error} for {str(path)!r}."
                raise SettingError(msg) from error
        for setting in settings:
            _put(content, setting)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise SettingError(_explain(error)) from error

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read the recipe that a run keeps.

        Raises:
            SettingError: If it is of another version of satmask, or damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            msg = f"Recipe of a run must be of this version of satmask, got another in {path}. {_explain(error)}"
            raise SettingError(msg) from error


def _put(content: dict[str, Any], setting: str) -> None:
    """Put one `key=value` into nested tables."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        msg = f"Setting must look like key=value, got {setting!r}."
        raise SettingError(msg)
    *tables, last = key.strip().split(".")
    here: Any = content
    for table in tables:
        here = here.setdefault(table, {})
        if not isinstance(here, dict):
            msg = f"Setting must not reach into a value, got {setting!r}: {table!r} is a value."
            raise SettingError(msg)
    here[last] = _value(text.strip())


def _value(text: str) -> Any:
    if text in ("none", "None"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> str:
    """One line for the first thing wrong with a recipe."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "recipe"
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, field_names(), n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(field_names())}."
        return f"Recipe must know the setting, got {key!r}. {hint}"
    # Behind the setting pydantic names its place in a list and the type it tried.
    while "." in key and key not in field_names():
        key = key.rpartition(".")[0]
    return f"Setting {key!r} must fit ({first['msg'].removeprefix('Value error, ').lower()}), got {first['input']!r}."


def field_names(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            names += field_names(nested, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names
