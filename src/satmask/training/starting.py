"""Starts: a run that begins with the weights of another instead of random ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import keras
from pydantic import BaseModel, ConfigDict

from satmask.catalogue import find_named
from satmask.errors import ModelError, SettingError
from satmask.model_file import ModelInfo, read_info
from satmask.recipe import NetworkRecipe, Recipe
from satmask.run import write_text
from satmask.training.carrying import NOT_BUILT, carry_scaling, settled, shared_classes
from satmask.training.describing import finest

if TYPE_CHECKING:
    from satmask.legend import Legend
    from satmask.survey import Survey

FILE = "start.json"
LEARNING_RATE = 3e-4  # where the recipe says none: with the usual one, a start is soon forgotten


@dataclass(frozen=True)
class Start:
    """A trained network to begin with.

    Attributes:
        name: What the new model file calls it: its folder, or the file where that says nothing.
        weights: The `.keras` file.
        info: What its model file says.
    """

    name: str
    weights: Path
    info: ModelInfo

    @property
    def sha256(self) -> str:
        """Digest of the `.keras` file."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def load(self) -> Any:
        """Read the network.

        Raises:
            ModelError: If it can't be read.
        """
        try:
            return keras.saving.load_model(self.weights, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            msg = f"Start must be a Keras network, got {reason!r:.200} for {self.weights}."
            raise ModelError(msg) from error


class Beginning(BaseModel):
    """What a run keeps of its start, so that it goes on without it.

    Attributes:
        name: See `Start`.
        sha256: Digest of the weights.
        scale: What values are multiplied with in the network, one number a band.
        offset: What is then added.
        frozen: Places of the layers that don't learn, among those with weights.
        said: What was taken over, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    frozen: tuple[int, ...]
    said: str

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What a run folder keeps; None where it keeps nothing."""
        path = folder / FILE
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self, folder: Path) -> None:
        """Keep it in a run folder."""
        write_text(folder / FILE, self.model_dump_json(indent=2))


def find_start(where: str) -> Start:
    """Find the network and the model file of a start.

    Args:
        where: A run folder, a `.keras` or `.onnx` file with the other one beside it, or a name of `satmask models`.

    Raises:
        ModelError: If one of the two isn't there, or can't be used.
    """
    path = Path(where)
    if (named := find_named(path)) != path:
        return Start(where, find_named(path, network=True), read_info(named))
    if not path.exists():
        msg = f"Start must be a run folder or a model that is there, got {where!r}."
        raise ModelError(msg)
    path = path / "model.keras" if path.is_dir() else path
    weights, model = path.with_suffix(".keras"), path.with_suffix(".onnx")
    for what, wanted, other in (("Keras network", weights, model), ("model file", model, weights)):
        if not wanted.is_file():
            msg = f"Start must have its {what}, got none at {wanted}. Training writes it beside {other.name}; copy it there."
            raise ModelError(msg)
    name = weights.resolve().parent.name if weights.stem == "model" else weights.stem
    return Start(name, weights, read_info(model))


def settle_start(recipe: Recipe, kept: Recipe | None = None) -> Recipe:
    """Let a recipe with a start that says nothing of its network or learning rate take the start's, and a low one.

    How large pixels are seen waits for the images, see `settle_upsampling`.

    Args:
        recipe: The recipe.
        kept: What the run was begun with; its start, which may have been moved away since, is then not asked again.
    """
    if recipe.start is None:
        return recipe
    silent = {"network", "learning_rate", "upsampling"} - recipe.model_fields_set
    if kept is not None and kept.start == recipe.start:
        return recipe.model_copy(update={name: getattr(kept, name) for name in silent})
    changes: dict[str, Any] = {"learning_rate": LEARNING_RATE} if "learning_rate" in silent else {}
    if "network" in silent:
        info = find_start(recipe.start).info
        options = {key: value for key, value in info.options.items() if key not in NOT_BUILT}
        changes["network"] = NetworkRecipe(name=info.network, **options)
    return recipe.model_copy(update=changes)


def settle_upsampling(recipe: Recipe, *surveys: Survey) -> Recipe:
    """Let a recipe with a start that says nothing of upsampling see pixels as the start sees those of all images."""
    if recipe.start is None or "upsampling" in recipe.model_fields_set:
        return recipe
    seen = find_start(recipe.start).info.at(finest(recipe, *surveys))
    return recipe.model_copy(update={"upsampling": seen.upsampling})


def begin(start: Start, recipe: Recipe, seen: Survey, legend: Legend) -> tuple[Beginning, Any]:
    """Say how a run begins with a start.

    Returns:
        What the run keeps of it, and the start's network, for `take_over`.
    """
    given = start.load()
    scale, offset = carry_scaling(given, start.info, seen)
    classes = shared_classes(start.info.legend, legend)
    names = [band.name for band in start.info.bands]
    said = (
        f"Begins with {start.name}, a {recipe.network.name}: bands {', '.join(names)}; "
        f"{len(classes)} of {len(legend)} classes are known to it."
    )
    beginning = Beginning(
        name=start.name, sha256=start.sha256, scale=tuple(scale), offset=tuple(offset), frozen=settled(given), said=said
    )
    return beginning, given


def refuse_start(recipe: Recipe) -> None:
    """Refuse weights from ImageNet beside a start: only one of them could be kept."""
    if recipe.start is not None and recipe.network.options.get("weights"):
        msg = f"Network must take its weights from the start, got weights={recipe.network.options['weights']!r}, too. Leave one out."
        raise SettingError(msg)
