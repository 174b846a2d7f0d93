"""Running: predictions that are started from the page, with the files and names that `satmask predict` would write."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from satmask.errors import SatmaskError, SettingError
from satmask.scene_lists import MARKS
from satmask.viewing.files import NotFoundError
from satmask.viewing.job_queue import Job, JobQueue, Order
from satmask.viewing.offers import Offer, list_offers
from satmask.viewing.shelf import Place
from satmask.viewing.shown import Shown

FOLDER = "predicted"
"""Where predictions go to in the folder that is shown, in a folder for each model."""


class Runner:
    """Predicts places with models, one after the other; results are shown as soon as they are there. Safe in threads.

    Args:
        shown: What is shown.
        models: Models that the user named, besides those of the folder.

    Raises:
        SettingError: If one of them isn't there.
    """

    def __init__(self, shown: Shown, models: Sequence[str | Path] = ()) -> None:
        self._shown, self._models = shown, tuple(models)
        self.offers()
        self.queue = JobQueue(on_end=self._ended)

    def offers(self) -> tuple[Offer, ...]:
        """The models that there are now."""
        return list_offers(self._shown.shelf, self._models)

    def start(self, place: Place, offer_id: str, *, restart: bool = False) -> Job:
        """Put the prediction of a place at the queue's end.

        A prediction that is there isn't written over: another by the same model goes into a folder of the next number. One
        that was cancelled goes on where it was.

        Args:
            place: The place, whose image is predicted.
            offer_id: The model.
            restart: Throw away what an earlier run began.

        Raises:
            NotFoundError: If there is no such model, or a link leads out of the folder that is shown.
            SettingError: If the place has no image, or too many wait.
        """
        offer = next((offer for offer in self.offers() if offer.id == offer_id), None)
        if offer is None:
            raise NotFoundError
        if place.files.image is None:
            msg = f"Place must have its image to be predicted, got none for {place.name}. Start with --scenes."
            raise SettingError(msg)
        model, scene = offer.find(), place.files.image.real()
        out = self._folder(offer, scene.stem)
        return self.queue.add(Order(model, scene, out, restart), f"{scene.stem} by {offer.title}")

    def command(self, order: Order) -> str:
        """The command that does the same, for somebody who stands in the folder that is shown."""
        model, scene, out = (self._near(path) for path in (order.model, order.scene, order.out))
        return shlex.join(["satmask", "predict", model, scene, "--out", out, *(["--restart"] if order.restart else [])])

    def result(self, job: Job) -> Place | None:
        """The place that a job's result is shown as."""
        return self._shown.place_of(job.classes) if job.classes else None

    def close(self) -> None:
        """Stop what is running."""
        self.queue.close()

    def _folder(self, offer: Offer, stem: str) -> Path:
        """The first folder of the model in which this scene isn't predicted yet, and won't be by who waits or runs."""
        root = self._shown.shelf.root
        queued = {(job.order.out, job.order.scene.stem) for job in self.queue.jobs if not job.ended}
        number = 1
        while True:
            out = root / FOLDER / (offer.folder if number == 1 else f"{offer.folder}-{number}")
            taken = any((out / f"{stem}{mark}.tif").exists() for mark in MARKS) or (out / f"{stem}.gpkg").exists()
            begun = (out / f".{stem}.job").exists()
            if (begun or not taken) and (out, stem) not in queued:
                break
            number += 1
        if not out.resolve().is_relative_to(root):
            raise NotFoundError
        return out

    def _near(self, path: Path) -> str:
        root = self._shown.shelf.root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def _ended(self, job: Job) -> None:
        if job.classes is not None:
            with contextlib.suppress(SatmaskError, OSError):  # a folder that is gone costs what waits nothing
                self._shown.look_again()


def plain(job: Job, root: Path) -> str:
    """Why a job failed, without the folders that lie above the one that is shown."""
    return job.error.replace(f"{root}/", "")
