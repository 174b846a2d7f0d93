"""What all tabs share of a place: its judge and its corrections, made when they are first asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from satmask.viewing.corrections import Corrections
from satmask.viewing.judging import Judge

if TYPE_CHECKING:
    from satmask.viewing.shelf import Place, Shelf


class Shared:
    """Judges and corrections by place. Safe in threads.

    Args:
        shelf: The places.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.judges = {place.id: Judge(place) for place in shelf.places}
        self._corrections: dict[str, Corrections] = {}
        self._lock = threading.Lock()

    def judge(self, place: Place) -> Judge:
        """The place's judge."""
        return self.judges[place.id]

    def corrections(self, place: Place) -> Corrections:
        """The place's corrections: one for all tabs, lest one writes over another's.

        Raises:
            SatmaskError: If the place has no classes, or its labels can't be read.
        """
        with self._lock:
            if place.id not in self._corrections:
                self._corrections[place.id] = Corrections(place)
            return self._corrections[place.id]
