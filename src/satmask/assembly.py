"""Assemblies: several models, each for some of the classes, run as one.

`assembly.json` lists its members, files that `satmask.engines.open_engine` opens, and the classes that are taken from each:

```json
{"schema_version": 1,
 "legend": {"exclusive": false, "classes": [{"id": 7, "name": "Waterway", "colour": "#0072B2"}]},
 "members": [{"file": "water/model.onnx", "classes": ["Waterway"]}],
 "merges": [{"where": "Waterway", "clears": ["Crops"]}]}
```
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from satmask.catalogue import find_named
from satmask.decisions import Decision
from satmask.engines import Engine, EngineName, open_engine
from satmask.errors import DataError, ModelError, SettingError
from satmask.legend import Legend
from satmask.merges import Merge
from satmask.model_info import BandInfo, ModelInfo
from satmask.paths import inner_path

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "assembly.json"


def find_model(path: Path) -> Path:
    """Find the file that `open_engine` opens for what a user named.

    Args:
        path: A model file or assembly, a run folder, or a name that `satmask.catalogue` knows.

    Raises:
        ModelError: If it could be a name but no model is called so.
        InstallError: If the one of that name can't be downloaded.
    """
    path = find_named(path)
    assembly = path / FILE
    return assembly if assembly.is_file() else path / "model.onnx" if path.is_dir() else path


class Member(BaseModel):
    """One model of an assembly.

    Attributes:
        file: The model file, relative to the assembly's folder.
        classes: Names of the classes that are taken from it; it may know more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    classes: tuple[str, ...] = Field(min_length=1)


class Assembly(BaseModel):
    """Several models, each for some of the classes.

    Attributes:
        legend: All classes, in the order of the channels; they may overlap.
        members: The models; each class comes from exactly one.
        merges: Rules between classes of several members, applied after the members' own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    legend: Annotated[
        Legend,
        BeforeValidator(lambda value: value if isinstance(value, Legend) else Legend.from_dict(value)),
        PlainSerializer(Legend.to_dict),
    ]
    members: tuple[Member, ...] = Field(min_length=1)
    merges: tuple[Merge, ...] = ()

    @model_validator(mode="after")
    def _each_class_once(self) -> Self:
        """Hold the rules of the docstring."""
        given = [name for member in self.members for name in member.classes]
        if sorted(given) != sorted(self.legend.names) or self.legend.exclusive:
            msg = f"members must give each of the overlapping classes {', '.join(self.legend.names)} once, got {', '.join(given)}"
            raise ValueError(msg)
        Decision(self.legend, merges=self.merges)  # refuses rules that don't fit the classes
        return self

    def save(self, path: str | Path) -> Path:
        """Write the assembly; the file gets its name once it is complete."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Assembly:
        """Read what `save` wrote.

        Raises:
            ModelError: If the file can't be read, or is of another version.
        """
        path = Path(path)
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            msg = f"Assembly must be of version 1 and whole, got a bad {where!r} in {path}: {first['msg']}."
            raise ModelError(msg) from error
        except (OSError, ValueError, RecursionError, SettingError) as error:
            msg = f"Assembly must be JSON that lists members, got {str(error)!r:.160} for {path}."
            raise ModelError(msg) from error


class AssemblyEngine(Engine):
    """The members of an assembly, run on the same windows; it is used as any other engine is.

    The bands are those of all members, and nodata is filled for all as for the first network that reads a band.
    """

    name = "assembly"

    def __init__(self, assembly: Assembly, engines: Sequence[Engine]) -> None:
        super().__init__(combine(assembly, [engine.info for engine in engines]))
        self._assembly = assembly
        self.workers = min(engine.workers for engine in engines)
        names = [band.name for band in self.info.bands]
        self._parts = [
            (
                engine,
                [names.index(band.name) for band in engine.info.bands],
                [self.info.legend.names.index(name) for name in member.classes],
                [engine.info.legend.names.index(name) for name in member.classes],
            )
            for engine, member in zip(engines, assembly.members, strict=True)
        ]

    def at(self, gsd_m: float | None, upsampling: int | None = None) -> Engine:
        """The assembly for a scene with pixels of a size: each member sees them as its own file says."""
        engines = [engine.at(gsd_m, upsampling) for engine, *_ in self._parts]
        if all(engine is before for engine, (before, *_) in zip(engines, self._parts, strict=True)):
            return self
        seen = AssemblyEngine(self._assembly, engines)
        seen.path = self.path
        return seen

    def rest(self) -> None:
        """Let all members rest."""
        for engine, *_ in self._parts:
            engine.rest()

    def _run(self, images: np.ndarray) -> np.ndarray:
        probabilities = np.empty((*images.shape[:3], len(self.info.legend)), np.float32)
        for engine, bands, here, there in self._parts:
            probabilities[..., here] = engine.run(images[..., bands])[..., there]
        return probabilities


def open_assembly(path: str | Path, *, engine: EngineName = "auto", threads: int | None = None) -> AssemblyEngine:
    """Open an assembly and all its members, see `satmask.engines.open_engine`.

    Raises:
        ModelError: If the assembly or a member can't be used, or a member lacks a class.
    """
    path = Path(path)
    assembly = Assembly.load(path)
    try:
        files = [inner_path(member.file, path) for member in assembly.members]
    except DataError as error:
        raise ModelError(str(error)) from error
    if any(file.suffix == ".json" for file in files):
        msg = f"Members of an assembly must be model files, got another assembly in {path}."
        raise ModelError(msg)
    engines = [open_engine(file, engine=engine, threads=threads) for file in files]
    for member, opened in zip(assembly.members, engines, strict=True):
        if missing := sorted(set(member.classes) - set(opened.info.legend.names)):
            msg = f"Member {member.file!r} must know {', '.join(member.classes)}, got no {missing[0]!r} in {path}."
            raise ModelError(msg)
    return AssemblyEngine(assembly, engines)


def combine(assembly: Assembly, infos: Sequence[ModelInfo]) -> ModelInfo:
    """What an assembly says about itself, from what its members say."""
    bands: dict[str, tuple[BandInfo, float, tuple[float, float]]] = {}
    for info in infos:
        for band, fill, (low, high) in zip(info.bands, info.fill, info.value_range, strict=True):
            known, first, (least, most) = bands.get(band.name, (band, fill, (low, high)))
            # A rule has seen no values; a network has, and its nodata lies in their midst.
            kept = fill if least == most else first
            bands[band.name] = known, kept, (min(low, least), max(high, most))
    givers = {name: info for member, info in zip(assembly.members, infos, strict=True) for name in member.classes}

    def of_class(key: str) -> tuple[float, ...]:
        return tuple(getattr(givers[n], key)[givers[n].legend.names.index(n)] for n in assembly.legend.names)

    ranges = [info.gsd_m for info in infos if info.gsd_m]
    return ModelInfo(
        legend=assembly.legend,
        bands=tuple(band for band, _, _ in bands.values()),
        dtype=str(np.result_type(*(info.dtype for info in infos))),
        value_range=tuple(limits for _, _, limits in bands.values()),
        gsd_m=(min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None,
        fill=tuple(fill for _, fill, _ in bands.values()),
        upsampling=2 if any(info.upsampling == 2 for info in infos) else 1,
        # Blocks aligned to the common stride are made of blocks aligned to each.
        stride=math.lcm(*(info.stride for info in infos)),
        halo=max(info.halo for info in infos),
        margin=max(info.margin for info in infos),
        local=all(info.local for info in infos),
        activation="sigmoid",
        thresholds=of_class("thresholds"),
        min_area_m2=of_class("min_area_m2"),
        min_area_px=of_class("min_area_px"),
        merges=(*_own_merges(assembly, infos), *assembly.merges),
        shapes=tuple(shape for name, info in givers.items() for shape in info.shapes if shape.name == name),
        refinements=tuple(one for name, info in givers.items() for one in info.refinements if one.name == name),
        network="assembly",
        training={"members": [member.model_dump() for member in assembly.members]},
        created=max(info.created for info in infos),
    )


def _own_merges(assembly: Assembly, infos: Sequence[ModelInfo]) -> list[Merge]:
    """The members' rules between classes that are taken from them."""
    found: list[Any] = []
    for member, info in zip(assembly.members, infos, strict=True):
        for rule in info.merges:
            clears = tuple(name for name in rule.clears if name in member.classes)
            if rule.where in member.classes and clears:
                found.append(Merge(rule.where, clears))
    return found
