"""Models that can be run from the page: those of the folder that is shown, those named at the start, and those of the catalogue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from satmask.assembly import FILE, find_model
from satmask.catalogue import CatalogueEntry, find_named, read_catalogue
from satmask.errors import SatmaskError, SettingError
from satmask.viewing.files import ShelfFile
from satmask.viewing.shelf import Shelf

MODEL = "model.onnx"  # whose name says nothing: its folder's does


@dataclass(frozen=True)
class Offer:
    """A model that can be run.

    Attributes:
        id: What requests call it: letters and digits that say nothing.
        title: What people call it.
        find: Finds its file as it is now; raises a `SatmaskError` if it isn't there any more.
    """

    id: str
    title: str
    find: Callable[[], Path]

    @property
    def folder(self) -> str:
        """What the folder of its predictions is called."""
        return re.sub(r"[^\w.-]+", "-", self.title).strip("-.") or "model"


def list_offers(shelf: Shelf, named: Iterable[str | Path] = ()) -> tuple[Offer, ...]:
    """List the models that can be run without fetching anything.

    Args:
        shelf: What is shown; its models may be run.
        named: Model files, run folders and names that the user gave besides.

    Returns:
        Models by title: those that the user named first.

    Raises:
        SettingError: If one that the user named isn't there.
    """
    found = [_named(Path(name)) for name in named]
    found += sorted((_of_shelf(file) for file in shelf.models), key=lambda offer: offer.title)
    found += [_of_catalogue(entry) for entry in _catalogue() if entry.here]
    return tuple({offer.id: offer for offer in reversed(found)}.values())[::-1]


def _of_shelf(file: ShelfFile) -> Offer:
    parts = file.name.split("/")
    title = "/".join(parts[:-1]) if parts[-1] in {MODEL, FILE} else file.name.removesuffix(".onnx")
    return Offer(_id(str(file.path)), title or file.root.name, file.real)


def _named(path: Path) -> Offer:
    try:
        file = find_model(path).resolve(strict=True)
    except OSError:
        msg = f"Model to be run must be a file, a run folder or a name of `satmask models`, got {str(path)!r}."
        raise SettingError(msg) from None
    title = file.parent.name if file.name in {MODEL, FILE} else file.stem
    found = ShelfFile(file.parent, file)
    return Offer(_id(str(file)), title, found.real)


def _of_catalogue(entry: CatalogueEntry) -> Offer:
    return Offer(_id(f"catalogue:{entry.name}"), entry.name, lambda: find_named(Path(entry.name)))


def _catalogue() -> list[CatalogueEntry]:
    try:
        return list(read_catalogue().values())
    except SatmaskError:
        return []


def _id(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
