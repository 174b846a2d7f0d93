"""Layers and places: what can be laid over one another on the map."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.labels import Labels, Truth
from satmask.legend import Legend
from satmask.viewing.files import NotFoundError, ShelfFile
from satmask.viewing.handles import stamp
from satmask.viewing.map_view import MapView
from satmask.windows import Window

Kind = Literal["image", "classes", "probabilities", "uncertainty", "truth", "error", "polygons"]
KINDS: tuple[Kind, ...] = ("image", "classes", "probabilities", "uncertainty", "truth", "error", "polygons")
ID_DIGITS = 12
"""Digits of a place's id; those of its layers begin with it."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Something that can be shown of a place.

    Attributes:
        id: What requests call it: letters and digits that say nothing.
        kind: What it shows.
        title: What people call it.
        legend: Its classes, where it has some.
        bands: Names of its bands: of an image, or one a class of probabilities.
        dtype: Data type of its values.
        file: The raster or vector file that it is read from.
        labels: The truth that it is drawn from.
        parts: The layers that it is computed from: of errors classes and truth; of uncertainty probabilities.
    """

    id: str
    kind: Kind
    title: str
    legend: Legend | None = None
    bands: tuple[str, ...] = ()
    dtype: np.dtype[Any] | None = None
    file: ShelfFile | None = None
    labels: Labels | None = None
    parts: tuple[Layer, ...] = ()

    def band_of(self, class_id: int | None) -> int:
        """Place of a class among the bands of probabilities, from 0; the first class's by default.

        Raises:
            SettingError: If the layer hasn't the class.
        """
        if self.legend is None:
            return 0
        name = self.legend.names[0 if class_id is None else self.legend.channel(class_id)]
        names = [band.removesuffix(" probability") for band in self.bands]
        if name not in names:
            msg = f"Probabilities must be of one of {', '.join(names)}, got {name}."
            raise SettingError(msg)
        return names.index(name)

    def stamp(self) -> tuple[object, ...]:
        """What changes when one of its files is written anew.

        Raises:
            NotFoundError: If one isn't on the shelf any more.
        """
        own = () if self.file is None else (stamp(self.file.real()),)
        return (*own, *(part.stamp() for part in self.parts))


@dataclass(frozen=True)
class FileLabels:
    """Labels that are read from a file on the shelf, which is looked at again each time.

    Attributes:
        labels: The labels.
        file: The mask they are read from.
    """

    labels: Labels
    file: ShelfFile

    @property
    def legend(self) -> Legend:
        """The classes."""
        return self.labels.legend

    def read(self, window: Window) -> Truth:
        """Read the labels of a window.

        Raises:
            NotFoundError: If the file isn't on the shelf any more.
        """
        self.file.real()
        return self.labels.read(window)


@dataclass(frozen=True, eq=False)
class Content:
    """What a place holds, once its files were opened.

    Attributes:
        grid: Where its pixels lie.
        layers: What can be shown.
        legend: The classes of its prediction, else of its truth.
        problems: What can't be shown, a sentence each.
        coarsest: See `MapView`.
    """

    grid: Grid
    layers: tuple[Layer, ...] = ()
    legend: Legend | None = None
    problems: tuple[str, ...] = ()
    coarsest: float = np.inf
    view: MapView = field(init=False)

    def __post_init__(self) -> None:
        """Place it on the map."""
        object.__setattr__(self, "view", MapView(self.grid, self.coarsest))

    @cached_property
    def by_id(self) -> dict[str, Layer]:
        """The layers by their ids."""
        return {layer.id: layer for layer in self.layers}

    def layer(self, id_: str) -> Layer:
        """The layer of an id.

        Raises:
            NotFoundError: If there is none.
        """
        try:
            return self.by_id[id_]
        except (KeyError, TypeError):
            raise NotFoundError from None

    def first(self, kind: Kind) -> Layer | None:
        """The first layer of a kind, or None."""
        return next((layer for layer in self.layers if layer.kind == kind), None)
