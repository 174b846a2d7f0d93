"""The classes: ids, names, colours, and whether they exclude each other."""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Colours given to classes that bring none: told apart by colour-blind people, bright enough on imagery.
# Okabe & Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")


@dataclass(frozen=True, slots=True)
class LegendClass:
    """One class of a legend.

    Attributes:
        id: Value of the class in masks and annotations, 0 to 65534.
        name: What people call it.
        colour: `#RRGGBB`.
    """

    id: int
    name: str
    colour: str

    def __post_init__(self) -> None:
        """Refuse an id or a colour that files couldn't hold."""
        if not 0 <= self.id < 65535:
            msg = f"Class id must lie in 0 to 65534, got {self.id} for {self.name!r}."
            raise SettingError(msg)
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", self.colour):
            msg = f"Colour must look like #1F77B4, got {self.colour!r} for class {self.name!r}."
            raise SettingError(msg)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        value = int(self.colour[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255


@dataclass(frozen=True)
class Legend:
    """The classes of a data set or a model, in channel order.

    Attributes:
        classes: The classes; their position is the channel in `(height, width, classes)` arrays, and their draw
            order: where classes overlap, a later one is painted over an earlier one.
        exclusive: True where every labelled pixel has exactly one class (a network then ends in softmax), False where
            classes may overlap or be absent (sigmoid). A legend of one class is never exclusive.

    Raises:
        SettingError: If there is no class, two share an id or a name, or an overlapping class has id 0.

    Examples:
        >>> legend = Legend.of({100: "building"})
        >>> legend.names, legend.activation
        (('building',), 'sigmoid')
    """

    classes: tuple[LegendClass, ...]
    exclusive: bool = False

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        for what in ("id", "name"):
            values = [getattr(entry, what) for entry in self.classes]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                msg = f"Legend must give every class an {what} of its own, got {twice[0]!r} twice."
                raise SettingError(msg)
        if not self.classes:
            msg = "Legend must hold at least one class, got none."
            raise SettingError(msg)
        if self.exclusive and len(self.classes) < 2:
            msg = f"Exclusive legend must hold at least two classes, got only {self.names[0]!r}. Leave `exclusive` out."
            raise SettingError(msg)
        if not self.exclusive and 0 in self.ids:
            msg = (
                f"Class id 0 means 'no class' where classes may overlap, got it for {self.names[self.ids.index(0)]!r}."
            )
            raise SettingError(msg)

    @classmethod
    def of(
        cls,
        names: Mapping[int, str] | Sequence[str],
        *,
        colours: Mapping[int, str] | None = None,
        exclusive: bool = False,
    ) -> Legend:
        """Make a legend from ids and names.

        Args:
            names: Name of each id; a plain sequence is numbered from 1, or from 0 when exclusive.
            colours: `#RRGGBB` of some or all ids; the rest take theirs from a palette.
            exclusive: See `Legend`.
        """
        if not hasattr(names, "items"):
            names = dict(enumerate(names, start=0 if exclusive else 1))
        given = colours or {}
        entries = (
            LegendClass(int(key), str(name), given.get(key, palette_colour(position)))
            for position, (key, name) in enumerate(names.items())
        )
        return cls(tuple(entries), exclusive=exclusive)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Legend:
        """Read what `to_dict` wrote, or a legend file: `exclusive`, and `classes` as a list of id, name and colour.

        Raises:
            SettingError: If a key is missing or of the wrong kind.
        """
        try:
            entries = tuple(
                LegendClass(int(entry["id"]), str(entry["name"]), str(entry.get("colour", palette_colour(position))))
                for position, entry in enumerate(content["classes"])
            )
            return cls(entries, exclusive=bool(content.get("exclusive", False)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, SettingError):
                raise
            msg = f"Legend must list classes with `id` and `name`, got {content!r:.200}."
            raise SettingError(msg) from error

    def to_dict(self) -> dict[str, Any]:
        """The legend as plain values, for JSON and TOML."""
        classes = [{"id": entry.id, "name": entry.name, "colour": entry.colour} for entry in self.classes]
        return {"exclusive": self.exclusive, "classes": classes}

    def __len__(self) -> int:
        """The number of classes, which is the number of a network's output channels."""
        return len(self.classes)

    def __iter__(self) -> Iterator[LegendClass]:
        """Walk the classes in channel order."""
        return iter(self.classes)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Ids in channel order."""
        return tuple(entry.id for entry in self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in channel order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def activation(self) -> Literal["sigmoid", "softmax"]:
        """The last activation of a network for this legend."""
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of a raster of class ids, which also has to hold `nodata`."""
        return np.dtype(np.uint8 if max(self.ids) < 255 else np.uint16)

    @property
    def nodata(self) -> int:
        """Value of unlabelled or unknown pixels in a raster of class ids: the largest of its type."""
        return int(np.iinfo(self.dtype).max)

    def channel(self, id_: int) -> int:
        """Find the channel of a class id.

        Raises:
            SettingError: If the legend has no such id.
        """
        try:
            return self.ids.index(id_)
        except ValueError:
            msg = f"Class id must be one of {', '.join(map(str, self.ids))}, got {id_}."
            raise SettingError(msg) from None

    def subset(self, classes: Sequence[int | str]) -> Legend:
        """The legend of some of the classes, in this legend's order.

        Args:
            classes: Ids or names.

        Raises:
            SettingError: If one isn't there, or the classes exclude each other: what the others cover would then be
                nothing at all.

        Examples:
            >>> Legend.of(["road", "track", "tree"]).subset(["tree", 1]).names
            ('road', 'tree')
        """
        known: dict[int | str, int] = {id_: id_ for id_ in self.ids}
        known |= dict(zip(self.names, self.ids, strict=True))
        for wanted in classes:
            if wanted not in known:
                every = ", ".join(f"{entry.id} ({entry.name})" for entry in self)
                msg = f"Class must be one of {every}, got {wanted!r}."
                raise SettingError(msg)
        chosen = {known[wanted] for wanted in classes}
        if self.exclusive and len(chosen) < len(self):
            msg = f"Classes that exclude each other must be taken together, got {', '.join(map(str, classes))}."
            raise SettingError(msg)
        return Legend(tuple(entry for entry in self if entry.id in chosen), exclusive=self.exclusive)

    def colour_table(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue and alpha of each value of an 8-bit class raster, as GDAL wants them.

        What isn't a class is transparent, so that the raster can lie over its image.
        """
        table = {0: (0, 0, 0, 0), 255: (0, 0, 0, 0)}
        return table | {entry.id: (*entry.rgb, 255) for entry in self.classes if entry.id < 255}


def palette_colour(position: int) -> str:
    """A colour for the class at a position: the palette first, then hues spread by the golden ratio."""
    if position < len(PALETTE):
        return PALETTE[position]
    red, green, blue = colorsys.hsv_to_rgb(position * 0.618034 % 1.0, 0.65, 0.95)
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"
