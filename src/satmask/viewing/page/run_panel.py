"""The panel for running: a GeoTIFF is sent, a model chosen, and its prediction watched, stopped and looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.page.parts import icon_button
from satmask.viewing.page.place_panel import go_to
from satmask.viewing.running import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from nicegui.events import GenericEventArguments

    from satmask.viewing.job_queue import Job
    from satmask.viewing.page.session import Session
    from satmask.viewing.page.shared import Shared
    from satmask.viewing.running import Runner

PAUSE_S = 0.5
WORDS = {
    "waiting": "Waits",
    "running": "Predicting",
    "stopping": "Stopping",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Stopped; what was done is kept, and the same goes on from there",
}
# The page's script finds what it needs by these names.
CHOOSE = "() => document.getElementById('satmask-file').click()"
STOP = "() => window.satmaskUpload?.abort()"


class RunPanel:
    """What is sent, started and watched.

    Args:
        session: The view.
        shared: What runs, and what takes uploads.
        is_open: Says whether the panel is open, so that a result may be shown at once.
    """

    def __init__(self, session: Session, shared: Shared, *, is_open: Callable[[], bool]) -> None:
        self.session, self.shared, self._is_open = session, shared, is_open
        self._rows: dict[int, JobRow] = {}
        self._ours: set[int] = set()
        if shared.uploads is not None:
            self._upload(shared.uploads.most_bytes)
        if shared.runner is not None:
            self._start(shared.runner)
            with ui.element("section").props('aria-label="Predictions"').classes("satmask-section") as self._section:
                self.list = ui.column().classes("satmask-wide").props('role="list"')
            self._look(shared.runner)
            ui.timer(PAUSE_S, lambda: self._look(shared.runner))

    def _upload(self, most_bytes: int) -> None:
        ui.add_head_html('<script src="/assets/upload.js" defer></script>')
        ui.on("satmask-uploaded", self._uploaded)
        with ui.element("section").props('aria-label="Upload"').classes("satmask-section"):
            ui.label("A scene of yours").classes("satmask-head")
            with ui.row().classes("satmask-row"):
                choose = ui.button("Choose a GeoTIFF", icon="upload_file").props("outline dense no-caps size=sm")
                choose.on("click", js_handler=CHOOSE)
                stop = icon_button("close", "Stop the upload", lambda: None).on("click", js_handler=STOP)
                stop.classes("satmask-upload-stop satmask-hidden")
            file = ui.element("input").props(
                f'id="satmask-file" type="file" accept=".tif,.tiff" data-most="{most_bytes}"'
            )
            file.props('aria-label="GeoTIFF to upload" tabindex="-1"').classes("satmask-hidden")
            ui.element("progress").props('id="satmask-upload-bar" max="1" value="0" aria-label="Upload"').classes(
                "satmask-wide satmask-hidden"
            )
            says = f"Or drop one anywhere on the page; at most {size_text(most_bytes)}."
            with ui.element("output").props('id="satmask-upload-says" aria-live="polite"').classes("satmask-note"):
                ui.label(says)

    def _start(self, runner: Runner) -> None:
        with ui.element("section").props('aria-label="Predict"').classes("satmask-section"):
            ui.label("Predict this place").classes("satmask-head")
            offers = {offer.id: offer.title for offer in runner.offers()}
            self.model = ui.select(offers, value=next(iter(offers), None), label="Model").props("dense options-dense")
            self.model.classes("satmask-wide")
            self.anew = ui.checkbox("Throw away what was begun").props("dense")
            button = ui.button("Predict", icon="play_arrow", on_click=self._begin).props("dense no-caps size=sm")
            image = self.session.place.files.image
            button.set_enabled(bool(offers) and image is not None)
            if not offers:
                ui.label("No model lies in this folder. Start the viewer with --model.").classes("satmask-note")
            elif image is None:
                ui.label("This place has no image here. Start the viewer with --scenes.").classes("satmask-note")

    async def _begin(self) -> None:
        runner = self.shared.runner
        if runner is None:
            return
        offer, anew = str(self.model.value), bool(self.anew.value)
        try:
            job = await run.io_bound(lambda: runner.start(self.session.place, offer, restart=anew))
        except SatmaskError as error:
            ui.notify(str(error), type="warning")
            return
        if job is not None:
            self._ours.add(job.id)
            self._look(runner)

    def _uploaded(self, event: GenericEventArguments) -> None:
        """Show what was sent; the page asks for a place that it shows, or nothing comes of it."""
        known = {place.id for place in self.shared.shown.shelf.places}
        if isinstance(event.args, str) and event.args in known:
            go_to(self.session, event.args)

    def _look(self, runner: Runner | None) -> None:
        """Tell how far the predictions are, and show one that has just been done here."""
        jobs = runner.queue.jobs if runner is not None else ()
        self._section.set_visibility(bool(jobs))
        for id_ in set(self._rows) - {job.id for job in jobs}:
            self._rows.pop(id_).delete()
        for job in reversed(jobs):
            if job.id not in self._rows:
                with self.list:
                    self._rows[job.id] = JobRow(self, job)
            self._rows[job.id].tell(job)
            if job.id in self._ours and job.ended:
                self._ours.discard(job.id)
                if job.state == "done" and self._is_open():
                    self.see(job)

    def see(self, job: Job) -> None:
        """Show what a job has predicted."""
        place = self.shared.runner.result(job) if self.shared.runner else None
        if place is None:
            ui.notify("Its files aren't there any more.", type="warning")
        else:
            go_to(self.session, place.id, anew=True)

    async def cancel(self, job: Job) -> None:
        """Stop a job."""
        if self.shared.runner is not None:
            await run.io_bound(self.shared.runner.queue.cancel, job.id)
            self._look(self.shared.runner)


class JobRow:
    """A prediction in the list, the latest on top; its parts stay, so that the focus does."""

    def __init__(self, panel: RunPanel, job: Job) -> None:
        self._panel, self._job = panel, job
        self._told: Job | None = None
        with ui.element("div").classes("satmask-job").props('role="listitem"').mark(f"job-{job.id}") as self._box:
            with ui.row().classes("satmask-row"):
                ui.label(job.title).classes("satmask-head col")
                self._stop = icon_button("stop", f"Stop {job.title}", lambda: panel.cancel(self._job))
                self._see = icon_button("map", f"See {job.title}", lambda: panel.see(self._job))
            self._bar = ui.linear_progress(0, show_value=False).props("rounded size=8px instant-feedback")
            self._bar.props["aria-label"] = f"Progress of {job.title}"
            self._says = ui.label().classes("satmask-note").props('aria-live="polite"')
            self._notes = ui.label().classes("satmask-note satmask-lines")
        self._box.move(target_index=0)

    def tell(self, job: Job) -> None:
        """Say how far it is."""
        if job is self._told:
            return
        self._told = self._job = job
        self._bar.set_value(round(job.share, 3))
        self._bar.set_visibility(not job.ended)
        self._stop.set_visibility(job.state in {"waiting", "running"})
        self._see.set_visibility(job.state == "done")
        self._says.set_text(self._said(job))
        notes: list[Any] = list(job.notes)
        runner = self._panel.shared.runner
        if runner is not None:
            notes.append(runner.command(job.order))
        self._notes.set_text("\n".join(notes))

    def delete(self) -> None:
        """Take it off the list."""
        self._box.delete()

    def _said(self, job: Job) -> str:
        if job.state == "failed":
            return plain(job, self._panel.shared.shown.shelf.root)
        if job.state == "running" and job.total:
            done = f"{job.done:,.1f} of {job.total:,.1f} MP"
            return f"Predicting: {done}" if job.share < 1 else "Writing the files"
        if job.state == "done":
            return f"Done: {job.objects:,} polygons"
        return WORDS[job.state]


def size_text(count: int) -> str:
    """Say a number of bytes.

    Examples:
        >>> size_text(2_000_000_000), size_text(500_000_000), size_text(300_000)
        ('2 GB', '500 MB', '300 kB')
    """
    unit, divisor = next((pair for pair in (("GB", 1e9), ("MB", 1e6)) if count >= pair[1]), ("kB", 1e3))
    return f"{count / divisor:,.3g} {unit}"
