"""The catalogue: models that are known by name, shipped or to download, and where they lie on this machine."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from satmask.errors import ModelError
from satmask.fetching import fetch

SHIPPED = Path(__file__).with_name("catalogue.json")
OWN = "SATMASK_MODELS"  # names a catalogue of the user's own
CACHE = "SATMASK_CACHE"
LARGEST = 2**30  # bytes of a file

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class ModelPart(BaseModel):
    """One file of a model.

    Attributes:
        file: Where it lies, beside the catalogue.
        url: Where it can be downloaded; one of the two.
        sha256: Its digest.
        size_bytes: Its size, at most 1 GiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    url: str | None = None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0, le=LARGEST)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        """Hold the rules above, and leave no way out of the catalogue's folder."""
        if (self.file is None) == (self.url is None):
            msg = "must have a file or a url"
            raise ValueError(msg)
        if self.file is not None and (Path(self.file).is_absolute() or ".." in Path(self.file).parts):
            msg = f"must lie beside the catalogue, got {self.file!r}"
            raise ValueError(msg)
        return self


class CatalogueEntry(BaseModel):
    """A model that is known by name.

    Attributes:
        name: Small letters, digits, dashes.
        version: Its own, not satmask's.
        summary: What it is for, in one line.
        classes: Names of the classes.
        gsd_m: Smallest and largest ground sampling distance that it is meant for, in metres.
        licence: Of the weights.
        model: The model file.
        network: The Keras network, for `train --start`; some have none.
        folder: Where files beside the catalogue lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*$")]
    summary: str
    classes: tuple[str, ...] = Field(min_length=1)
    gsd_m: tuple[float, float]
    licence: str
    model: ModelPart
    network: ModelPart | None = None
    folder: Path = Path()

    @property
    def size_bytes(self) -> int:
        """Size of the model file."""
        return self.model.size_bytes

    @property
    def here(self) -> bool:
        """Whether the model file lies on this machine."""
        return self.path(self.model, "model.onnx").is_file()

    def path(self, part: ModelPart, name: str) -> Path:
        """Where a file of the model lies, or will once it is downloaded."""
        return self.folder / part.file if part.file else cache_folder() / f"{self.name}-{self.version}" / name


class _Content(BaseModel):
    """What a catalogue file holds."""

    model_config = ConfigDict(extra="forbid")

    models: tuple[CatalogueEntry, ...]


def read_catalogue() -> dict[str, CatalogueEntry]:
    """Models that are shipped or known to be downloadable, and those of the file that `SATMASK_MODELS` names.

    Returns:
        Entries by name; the user's own come before shipped ones of the same name.

    Raises:
        ModelError: If a catalogue can't be used.
    """
    own = os.environ.get(OWN)
    found: dict[str, CatalogueEntry] = {}
    for path in (SHIPPED, *([Path(own)] if own else [])):
        try:
            content = _Content.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
            msg = f"Catalogue must list models as the documentation says, got {reason:.200} in {path}."
            raise ModelError(msg) from error
        found |= {entry.name: entry.model_copy(update={"folder": path.parent}) for entry in content.models}
    return found


def cache_folder() -> Path:
    """Where downloaded models are kept: `$SATMASK_CACHE`, or `satmask` where the system keeps such files."""
    if own := os.environ.get(CACHE):
        return Path(own)
    usual = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(usual) if usual else Path.home() / ".cache") / "satmask"


def find_named(path: Path, *, network: bool = False) -> Path:
    """Find the model that a user named: what lies there, or else what the catalogue knows by that name.

    Args:
        path: A path, or a name.
        network: Find the Keras network in place of the model file.

    Returns:
        The path itself where something lies there or it can't be a name; else the model's file.

    Raises:
        ModelError: If it could be a name but no model is called so, or it lacks the network that is asked for.
        InstallError: If a file can't be downloaded.
    """
    name = str(path)
    if path.exists() or not _NAME.fullmatch(name):
        return path
    catalogue = read_catalogue()
    if name not in catalogue:
        known = f"There are {', '.join(catalogue)}" if catalogue else "No model is known by name yet"
        msg = f"Model must be a file, a run folder or a name that `satmask models` lists, got {name!r}. {known}."
        raise ModelError(msg)
    entry = catalogue[name]
    if not network:
        return settle(entry, entry.model, "model.onnx")
    if entry.network is None:
        msg = f"Start must have its Keras network, got model {name!r} that comes without. Start from a run of your own."
        raise ModelError(msg)
    return settle(entry, entry.network, "model.keras")


def card_text(markdown: str) -> str:
    r"""What of a model card fits into a model file: all but its pictures and what stands in italics below them.

    Examples:
        >>> card_text("# Roofs\n\nFound.\n\n![A street](street.png)\n\n*A street.*\n")
        '# Roofs\n\nFound.\n'
    """
    parts = re.split(r"\n{2,}", markdown.strip())
    kept = [
        part for part in parts if not part.startswith("![") and not re.fullmatch(r"\*[^*].*[^*]\*", part, re.DOTALL)
    ]
    return "\n\n".join(kept) + "\n"


def settle(entry: CatalogueEntry, part: ModelPart, name: str) -> Path:
    """Make sure that a file of a model lies on this machine, and that it is the one meant.

    Raises:
        ModelError: If a shipped file is missing or another one.
        InstallError: If it can't be downloaded.
    """
    path = entry.path(part, name)
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == part.sha256:
        return path
    if part.url is None:
        what = "another one" if path.is_file() else "none"
        msg = f"Model {entry.name!r} must have its file, got {what} at {path}. Install satmask again."
        raise ModelError(msg)
    return fetch(part.url, path, sha256=part.sha256, size_bytes=part.size_bytes)
