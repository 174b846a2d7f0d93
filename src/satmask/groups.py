"""Groups: several networks from one recipe, each for some of the classes, and the assembly that runs them as one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from satmask.assembly import FILE, Assembly, Member
from satmask.errors import SettingError
from satmask.recipe import Recipe
from satmask.run import Run, write_text
from satmask.training import train
from satmask.training.starting import settle_start

if TYPE_CHECKING:
    from satmask.datasets.dataset import Dataset
    from satmask.legend import Legend


def train_groups(
    data: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> dict[str, Run]:
    """Train one network for each group of classes, one after the other, each in a run folder of its own.

    All see the same training and validation images. At the end `assembly.json` is written, which predicts all classes
    that are in a group as one model does.

    Args:
        data: The data set; its classes may overlap.
        out: Folder for the run folders, which are called as the groups.
        recipe: The settings, with `groups`; when resuming, those that were begun with by default.
        resume: Go on where it was stopped: what is finished stays.
        skip_invalid: See `satmask.training.train`.
        quiet: Show no progress.

    Returns:
        The runs, by group.

    Raises:
        DataError: If the data can't be used.
        SettingError: If the groups don't fit the classes, or `out` holds something already.
    """
    out = Path(out)
    recipe = _settle(out, recipe, resume=resume)
    groups = settle_groups(recipe, data.legend)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "recipe.json", recipe.model_dump_json(indent=2))
    runs: dict[str, Run] = {}
    for name, classes in groups.items():
        run = Run(out / name)
        single = recipe.model_copy(update={"groups": None, "classes": classes})
        # The report is the last thing that a run writes.
        if not (resume and (run.folder / "report.html").is_file()):
            run = train(data, run.folder, single, resume=resume, skip_invalid=skip_invalid, quiet=quiet)
        runs[name] = run
    members = tuple(Member(file=f"{name}/{runs[name].model.name}", classes=classes) for name, classes in groups.items())
    every = {name for classes in groups.values() for name in classes}
    legend = data.legend.subset([name for name in data.legend.names if name in every])
    Assembly(legend=legend, members=members).save(out / FILE)
    return runs


def has_groups(out: str | Path) -> bool:
    """Whether a folder holds runs of groups."""
    path = Path(out) / "recipe.json"
    return path.is_file() and bool(Recipe.read(path).groups)


def _settle(out: Path, recipe: Recipe | None, *, resume: bool) -> Recipe:
    """Say which recipe the groups follow: a new one, or what they were begun with."""
    kept = Recipe.read(out / "recipe.json") if has_groups(out) else None
    if out.is_dir() and any(out.iterdir()) and not (resume and kept):
        msg = f"Run folder must be new or empty, got {str(out)!r}."
        raise SettingError(msg + (" Pass --resume to go on with it." if kept else " Name another."))
    recipe = settle_start(recipe, kept) if recipe else kept
    if recipe is None or not recipe.groups or (kept and recipe != kept):
        what = "the same when runs go on" if kept else "given with its groups"
        msg = f"Recipe must be {what}, got {'another' if recipe else 'none'} for {str(out)!r}. Start a new run."
        raise SettingError(msg)
    return recipe


def settle_groups(recipe: Recipe, legend: Legend) -> dict[str, tuple[str, ...]]:
    """Names of the classes of each group, in the legend's order.

    Raises:
        SettingError: If a group's name can't be a folder's, a class isn't there, or is in two groups.

    Examples:
        >>> from satmask.recipe import Recipe
        >>> from satmask.legend import Legend
        >>> settle_groups(Recipe(groups="each"), Legend.of(["Standing water", "Road"]))
        {'standing-water': ('Standing water',), 'road': ('Road',)}
    """
    if recipe.groups == "each":
        return {re.sub(r"[^\w]+", "-", name).strip("-").lower(): (name,) for name in legend.names}
    groups = {name: legend.subset(classes).names for name, classes in (recipe.groups or {}).items()}
    if bad := [name for name in groups if not re.fullmatch(r"\w[\w-]*", name)]:
        msg = f"Group must be called by letters, digits and dashes, got {bad[0]!r}."
        raise SettingError(msg)
    every = [name for classes in groups.values() for name in classes]
    if twice := sorted({name for name in every if every.count(name) > 1}):
        msg = f"Class must be in one group only, got {twice[0]!r} in several."
        raise SettingError(msg)
    return groups
