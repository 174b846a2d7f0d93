"""One training run, from the data to the report."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import keras

import satmask
from satmask.datasets import Dataset
from satmask.datasets.dataset import refuse
from satmask.errors import SettingError
from satmask.progress import track
from satmask.recipe import Recipe
from satmask.run import Run, write_text
from satmask.survey import Survey, survey
from satmask.training.job import Job
from satmask.training.starting import refuse_start, settle_start, settle_upsampling

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("satmask.training")


def train(
    data: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a network and write a run folder.

    The state is kept after every epoch, and an epoch follows from the seed and its number alone: a run that was killed
    and goes on by `resume` has the same losses as one that wasn't.

    Args:
        data: The data set; without a `val` split, places are held out as the recipe says.
        out: The run folder; new or empty, unless resuming.
        recipe: The settings; when resuming, those of the run by default.
        resume: Go on with the run in `out`, or begin it if there is none.
        skip_invalid: Leave out broken tiles and annotations instead of refusing the data.
        quiet: Show no progress.

    Returns:
        The run.

    Raises:
        DataError: If the data can't be used.
        SettingError: If the recipe doesn't fit, or `out` holds something already.
    """
    run = Run(Path(out))
    recipe = _settle(run, recipe, resume=resume)
    if recipe.groups:
        msg = "Recipe of one run must not have groups. Use satmask.groups.train_groups, as `satmask train` does."
        raise SettingError(msg)
    refuse_start(recipe)
    data, split, seen, held = look(data, recipe, skip_invalid=skip_invalid, quiet=quiet)
    recipe = settle_upsampling(recipe, seen, held)
    job = Job(run, recipe, data, surveys=(seen, held), split=split, quiet=quiet)
    (run.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_text(run.recipe, recipe.model_dump_json(indent=2))
    with _logging_to(run.folder / "train.log"):
        log.info(split)
        job.keep_beginning()
        for problem in (*data.problems, *seen.problems, *held.problems):
            log.warning(problem.what)
        job.show_windows()
        job.fit()
        job.finish()
    return run


def look(
    data: Dataset, recipe: Recipe, *, skip_invalid: bool = False, quiet: bool = False
) -> tuple[Dataset, str, Survey, Survey]:
    """Look at the data as a recipe takes it.

    Args:
        data: The data set.
        recipe: Says which classes and bands are used, and what is held out.
        skip_invalid: Leave out broken tiles and annotations instead of refusing the data.
        quiet: Show no progress.

    Returns:
        The data set, a sentence on how it is split, and surveys of the samples to train and to validate.

    Raises:
        DataError: If the data can't be used.
    """
    data.require_sound(skip_invalid=skip_invalid)
    data = data if recipe.classes is None else data.with_classes(recipe.classes)
    data, split = data.with_validation(recipe.validation)
    with track("Reading", sum(map(len, data.splits.values())), unit="images", quiet=quiet) as advance:
        seen = survey(data.splits["train"], bands=recipe.bands, progress=advance)
        held = survey(data.splits["val"], bands=seen.indexes, progress=advance)
        advance(0, f"{len(seen.samples):,} images to train, {len(held.samples):,} to validate. {split}")
    refuse([*seen.problems, *held.problems], skip_invalid=skip_invalid)
    return data, split, seen, held


def _settle(run: Run, recipe: Recipe | None, *, resume: bool) -> Recipe:
    """Say which recipe a run follows: a new one, or its own when it goes on."""
    kept = Recipe.read(run.recipe) if run.recipe.is_file() else None
    if run.folder.is_dir() and any(run.folder.iterdir()) and not (resume and kept):
        msg = f"Run folder must be new or empty, got {str(run.folder)!r}."
        way_out = " Pass --resume to go on with it." if kept else " Name another."
        raise SettingError(msg + way_out)
    recipe = settle_start(recipe, kept) if recipe else None
    if kept and recipe and recipe != kept:
        changed = [key for key in Recipe.model_fields if getattr(recipe, key) != getattr(kept, key)]
        msg = f"Recipe must stay the same when a run goes on, got another {', '.join(changed)}. Start a new run."
        raise SettingError(msg)
    return kept or recipe or Recipe()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append what training has to say to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.info("satmask %s, keras %s on %s", satmask.__version__, keras.__version__, keras.backend.backend())
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
