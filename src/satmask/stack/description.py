"""Stacks: several products of one place, at their own resolutions, described as the bands of one scene.

Here is only the description; `satmask.stack_scene` reads it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from satmask.bands import INDICES, canonical_band, find_index
from satmask.errors import DataError, SceneError, SettingError
from satmask.paths import inner_path, relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIX = ".stack.json"
SHARP = "sharp_"
PAN = ("pan", "panchromatic")


@dataclass(frozen=True)
class Product:
    """One raster of a stack.

    Attributes:
        name: What people call it, such as `M`.
        path: The file.
        bands: What its bands show, such as `red` or `nir1`; spectral indices know bands by these names.
        prefix: Put before these names in the stack, where several products show red.
        numbers: Number of each band in the file, from 1; by default 1, 2, 3 ….
        wavelengths_nm: Middle of each band's spectral range in nanometres, None where unknown; or nothing at all.
        largest: Value that stands for a reflectance of 1, by which spectral indices scale it: the largest that the
            sensor can give, where calibration is unknown. None where values are reflectances, or nobody knows.
        shift: `(dx, dy)` in pixels of the reference: what the reference shows at `(x, y)`, this product shows at
            `(x + dx, y + dy)`, see `satmask.bands.register`.

    Raises:
        SettingError: If there is no band, or the lists differ in length.
    """

    name: str
    path: Path
    bands: tuple[str, ...]
    prefix: str = ""
    numbers: tuple[int, ...] = ()
    wavelengths_nm: tuple[float | None, ...] = ()
    largest: float | None = None
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Fill in what is left out, and hold the rules of the docstring."""
        count = len(self.bands)
        object.__setattr__(self, "numbers", self.numbers or tuple(range(1, count + 1)))
        object.__setattr__(self, "wavelengths_nm", self.wavelengths_nm or (None,) * count)
        if not count or len(self.numbers) != count or len(self.wavelengths_nm) != count:
            msg = (
                f"Product must have bands, and a number and a wavelength for each, got {count}, {len(self.numbers)} and "
                f"{len(self.wavelengths_nm)} for {self.name!r}."
            )
            raise SettingError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its bands in the stack."""
        return tuple(self.prefix + band for band in self.bands)


@dataclass(frozen=True)
class Stack:
    """Several products of one place, and what can be computed from them, as the bands of one scene.

    All are seen on the grid of the first product, the reference. Where the others lie on it is told

    - by `"extent"`: outer corners coincide but for the product's shift, whatever the sizes are; or
    - by `"grid"`: from the transforms of georeferenced files, which must share a CRS and mustn't be turned.

    Attributes:
        name: Name of the scene; outputs are called after it.
        products: The products, the reference first.
        placed: `"extent"` or `"grid"`.

    Raises:
        SettingError: If there is no product, or two have a name or a band's name in common.
    """

    name: str
    products: tuple[Product, ...]
    placed: Literal["extent", "grid"] = "extent"

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        if not self.products:
            msg = f"Stack must hold at least one product, got none in {self.name!r}."
            raise SettingError(msg)
        for what, names in (("product", [product.name for product in self.products]), ("band", list(self.bands))):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                msg = f"Stack must give every {what} a name of its own, got {twice[0]!r} twice in {self.name!r}."
                raise SettingError(msg)

    def __str__(self) -> str:
        """Its name, which stands for it where a file's name would."""
        return self.name

    @property
    def stem(self) -> str:
        """What outputs are called after, as with a path."""
        return self.name

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of all products, in order: band 1 is the first."""
        return tuple(name for product in self.products for name in product.names)

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of the bands that can be computed: spectral indices, then pan-sharpened bands."""
        shown = {canonical_band(band) for product in self.products for band in product.bands}
        indices = [name for name, index in INDICES.items() if name not in self.bands and shown.issuperset(index.bands)]
        colour = self.sharpened
        return (*indices, *(f"{SHARP}{band}" for band in (colour.bands if colour else ())))

    @property
    def pan(self) -> tuple[Product, int] | None:
        """The product that holds the panchromatic band, and the band's place in it; None where there is none."""
        for product in self.products:
            for place, band in enumerate(product.bands):
                if canonical_band(band) in PAN:
                    return product, place
        return None

    @property
    def sharpened(self) -> Product | None:
        """The product that pan-sharpening makes finer: the first of several colours other than the reference."""
        if self.pan is None:
            return None
        coarse = [product for product in self.products[1:] if len(product.bands) > 1 and product is not self.pan[0]]
        return coarse[0] if coarse else None

    def ingredients(self, index: str) -> tuple[str, ...]:
        """Names of the bands that a spectral index is computed from, in its order.

        Where several products show a band, the one with most bands is taken: its bands come from one sensor.

        Raises:
            SettingError: If there is no such index, or a band is missing.
        """
        found = []
        by_size = sorted(self.products, key=lambda product: -len(product.bands))
        for wanted in find_index(index).bands:
            names = [
                name
                for product in by_size
                for name, band in zip(product.names, product.bands, strict=True)
                if canonical_band(band) == wanted
            ]
            if not names:
                msg = f"Index {index!r} must find a {wanted} band, got {', '.join(self.bands)} in {self.name}."
                raise SettingError(msg)
            found.append(names[0])
        return tuple(found)

    def save(self, path: str | Path) -> Path:
        """Write the description as `NAME.stack.json`.

        Args:
            path: The file; the products must lie in its folder or below.

        Returns:
            The path.

        Raises:
            SettingError: If the name ends otherwise, or a product lies elsewhere.
        """
        path = Path(path)
        if not path.name.endswith(SUFFIX):
            msg = f"Stack file must be called NAME{SUFFIX}, got {path.name!r}."
            raise SettingError(msg)
        products = [_to_file(product, path) for product in self.products]
        content = _StackFile(schema_version=1, placed=self.placed, products=tuple(products))
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(content.model_dump_json(indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Stack:
        """Read what `save` wrote; the stack is called as the file.

        Raises:
            SceneError: If the file can't be read, is of another version, or names products outside its folder.
        """
        path = Path(path)
        try:
            content = _StackFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "content"
            msg = f"Stack file must be of version 1 and whole, got a bad {where!r} in {path.name}: {first['msg']}."
            raise SceneError(msg) from error
        except (OSError, ValueError, RecursionError) as error:
            msg = f"Stack file must be JSON, got {str(error)!r:.120} for {path.name}."
            raise SceneError(msg) from error
        try:
            products = tuple(_from_file(product, path) for product in content.products)
            return cls(path.name.removesuffix(SUFFIX), products, content.placed)
        except (SettingError, DataError) as error:
            raise SceneError(str(error)) from error


class _ProductFile(BaseModel):
    """A product as a stack file tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    path: str
    bands: tuple[str, ...] = Field(min_length=1)
    prefix: str = ""
    numbers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    wavelengths_nm: tuple[Annotated[float, Field(gt=0)] | None, ...] = ()
    largest: float | None = Field(default=None, gt=0)
    shift: tuple[float, float] = (0.0, 0.0)


class _StackFile(BaseModel):
    """What a stack file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    placed: Literal["extent", "grid"] = "extent"
    products: tuple[_ProductFile, ...] = Field(min_length=1)


def _to_file(product: Product, path: Path) -> _ProductFile:
    entries: dict[str, Any] = {key: getattr(product, key) for key in _ProductFile.model_fields}
    return _ProductFile(**entries | {"path": relative_path(product.path, path)})


def _from_file(entry: _ProductFile, path: Path) -> Product:
    return Product(**entry.model_dump() | {"path": inner_path(entry.path, path)})


def split_bands(stack: Stack, bands: Sequence[int | str] | None) -> Iterator[str]:
    """Name the bands asked for, by number from 1 or by name; all products' bands by default.

    Raises:
        SceneError: If the stack has no such band, or none is asked for.
    """
    names, known = stack.bands, {*stack.bands, *stack.derived}
    if bands is not None and not len(bands):
        msg = f"Bands must name at least one of {', '.join(names)}, got none for {stack.name}."
        raise SceneError(msg)
    for band in names if bands is None else bands:
        if isinstance(band, str) and band in known:
            yield band
        elif isinstance(band, int) and 1 <= band <= len(names):
            yield names[band - 1]
        else:
            computed = f", or computed: {', '.join(stack.derived)}" if stack.derived else ""
            msg = f"Band must be one of 1 to {len(names)} ({', '.join(names)}){computed}, got {band!r} in {stack.name}."
            raise SceneError(msg)
