"""What all tabs share: what is shown, the judge and the corrections of each place, and what runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from satmask.viewing.corrections import Corrections
from satmask.viewing.judging import Judge

if TYPE_CHECKING:
    from satmask.viewing.running import Runner
    from satmask.viewing.shelf import Place
    from satmask.viewing.shown import Shown
    from satmask.viewing.uploads import Uploads


class Shared:
    """Judges and corrections by place, made when they are first asked for. Safe in threads.

    Args:
        shown: What is shown.
        runner: What predicts; None where nothing may be run.
        uploads: Where files go to that are sent; None where none are taken.
        read_only: Nothing is written, so nothing can be corrected.
    """

    def __init__(
        self, shown: Shown, *, runner: Runner | None = None, uploads: Uploads | None = None, read_only: bool = False
    ) -> None:
        self.shown, self.runner, self.uploads, self.read_only = shown, runner, uploads, read_only
        self._judges: dict[str, Judge] = {}
        self._corrections: dict[str, Corrections] = {}
        self._lock = threading.Lock()

    def judge(self, place: Place) -> Judge:
        """The place's judge: a new one where the place has got other files."""
        with self._lock:
            found = self._judges.get(place.id)
            if found is None or found.place is not place:
                found = self._judges[place.id] = Judge(place)
            return found

    def judges(self, places: Sequence[Place]) -> list[Judge]:
        """The judges of several places."""
        return [self.judge(place) for place in places]

    def corrections(self, place: Place) -> Corrections:
        """The place's corrections: one for all tabs, lest one writes over another's.

        Raises:
            SatmaskError: If the place has no classes, or its labels can't be read.
        """
        with self._lock:
            if place.id not in self._corrections:
                self._corrections[place.id] = Corrections(place)
            return self._corrections[place.id]
