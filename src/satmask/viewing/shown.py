"""What is shown now: a shelf that is put together anew when something was added to its folder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from satmask.errors import SatmaskError
from satmask.viewing.files import NotFoundError
from satmask.viewing.layers import ID_DIGITS, Layer
from satmask.viewing.shelf import Place, Shelf


class Shown:
    """The shelf as it is now. Safe in threads.

    What was shown once stays within reach, for those who have it on their screens: a scene becomes part of another place
    as soon as it is predicted.

    Args:
        look: Puts the shelf together.
    """

    def __init__(self, look: Callable[[], Shelf]) -> None:
        self._look, self._lock = look, threading.Lock()
        self.shelf = look()
        self._known = {place.id: place for place in self.shelf.places}

    def look_again(self) -> Shelf:
        """Walk the folder once more; places whose files are the same stay as they are, with what was counted of them."""
        with self._lock:
            found = self._look()
            before = {place.id: place for place in self.shelf.places}
            places = tuple(_same(place, before.get(place.id)) for place in found.places)
            self._known = self._known | {place.id: place for place in places}
            self.shelf = replace(found, places=places)
            return self.shelf

    def layer(self, id_: str) -> tuple[Place, Layer]:
        """The layer of an id, and its place, whether it is shown now or was before.

        Raises:
            NotFoundError: If there never was one, or its place can't be opened.
        """
        place = self._known.get(id_[:ID_DIGITS] if isinstance(id_, str) else "")
        if place is None:
            raise NotFoundError
        try:
            return place, place.layer(id_)
        except SatmaskError:
            raise NotFoundError from None

    def now(self, id_: str | None) -> str | None:
        """The id of a place that is shown now: the one of an id, or the one that its image has become part of."""
        was, places = self._known.get(id_ or ""), self.shelf.places
        if was is None or was.id in {place.id for place in places}:
            return id_
        return next((place.id for place in places if was.files.image and place.files.image == was.files.image), None)

    def place_of(self, path: Path) -> Place | None:
        """The place that a raster belongs to; None if it isn't shown."""
        return next((place for place in self.shelf.places if path in {file.path for file in place.files.rasters}), None)


def _same(place: Place, before: Place | None) -> Place:
    return before if before is not None and before.files == place.files else place
