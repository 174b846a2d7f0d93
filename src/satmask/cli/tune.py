"""`satmask tune`: how each class is decided, chosen on images with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import Json, Quiet, RegistrationFile, SkipInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.tuning import Cache, Choice, Tuning
    from satmask.tuning.upsampling import UpsamplingChoice


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder, or model file.", exists=True)],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of imagery with labels.", exists=True)],
    *,
    metric: Annotated[str, typer.Option("--for", help="iou, f1, dstl or ap50.")] = "iou",
    folds: Annotated[int, typer.Option(help="Parts in which images are judged, at most.")] = 5,
    least_gain: Annotated[
        float, typer.Option(help="By how much the estimate must be better; 0 takes what is hardly so.")
    ] = 0.005,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PART[,PART…]",
            help="Choose these alone, of threshold, area, separate, opening, closing and hole; the rest stays as it is. "
            "Or upsampling: which pixels are so large that the network should see each as four.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what the network says of each image; by default in the run folder, if it is one."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be better.")] = False,
    registration: RegistrationFile = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose threshold, smallest area, morphology and separation of each class; or from which size of pixels on to upsample.

    Uses the images that the run held out, or all of DATA for a model file. A class keeps what it has unless images judged
    by what was chosen without their place get better. What is better is written into the model file, and predict, polygons
    and submit then use it.
    """
    from satmask import open_engine, read_dataset
    from satmask.cli.output import complain, say, say_json
    from satmask.model_file import rewrite

    parts = [part.strip() for part in only.split(",")] if only else []
    if "upsampling" in parts:
        _refuse_others(parts, metric)
    dataset = read_dataset(data, registration=registration)
    dataset.require_sound(skip_invalid=skip_invalid)
    results = {}
    for name, file in _models(model).items():
        engine = open_engine(file)
        samples, how = _held_out(file, dataset, engine)
        complain(f"note: {name}: {how}")
        settings = {"metric": metric, "folds": folds, "least_gain": least_gain}
        if "upsampling" in parts:
            chosen = _tune_upsampling(engine, samples, folds, least_gain, quiet=quiet)
            written = chosen.better and not dry_run
            if written:
                rewrite(file, chosen.apply(engine.info))
            results[name] = {**chosen.to_dict(), "written": written}
            if not as_json:
                _print_upsampling(chosen, file if written else None)
            continue
        settings |= {"only": parts} if parts else {}
        settings["cache"] = _cache(file, engine, model, cache)
        found = _tune(engine, samples, settings, quiet=quiet)
        better = [choice.name for choice in found.choices if choice.better]
        if better and not dry_run:
            rewrite(file, found.apply(engine.info))
        results[name] = {**found.to_dict(), "better": better, "written": bool(better) and not dry_run}
        if not as_json:
            _print(found)
            where = f", written to {file}" if better and not dry_run else ""
            say(f"{len(better)} of {len(found.choices)} classes better{where}")
    if as_json:
        say_json(results)


def _models(path: Path) -> dict[str, Path]:
    """The model file, or those of an assembly's members."""
    from satmask.assembly import FILE, Assembly, find_model
    from satmask.errors import SettingError
    from satmask.paths import inner_path

    file = find_model(path)
    if file.name == FILE:
        files = [member.file for member in Assembly.load(file).members]
        # Rules have their thresholds in their own file.
        return {name: inner_path(name, file) for name in files if name.endswith(".onnx")}
    if file.suffix != ".onnx":
        msg = f"Model to be tuned must be an .onnx file or a run folder, got {path}."
        raise SettingError(msg)
    return {file.name: file}


def _cache(file: Path, engine: Engine, model: Path, folder: Path | None) -> Cache | None:
    """Where to keep what a network says: the folder asked for, else under the run; else nowhere."""
    from satmask.tuning import Cache, digest_model

    if folder is None and model.is_dir():
        folder = model / "probabilities"
    return None if folder is None else Cache(folder, digest_model(file, engine.info))


def _held_out(file: Path, dataset: Any, engine: Engine) -> tuple[Sequence[Sample], str]:
    """The images that the run of a model didn't train on."""
    from satmask import Recipe

    dataset = dataset.with_classes(engine.info.legend.ids)
    recipe = file.with_name("recipe.json")
    if recipe.is_file():
        split, how = dataset.with_validation(Recipe.read(recipe).validation)
        return split.splits["val"], how
    if dataset.splits.get("val"):
        return dataset.splits["val"], "Images of the folder's own validation split."
    return dataset.splits["train"], "All images of the folder; if the network was trained on them, the gain flatters."


def _tune(engine: Engine, samples: Sequence[Sample], settings: dict[str, Any], *, quiet: bool) -> Tuning:
    from satmask.progress import track
    from satmask.tuning import tune as tune_model

    with track("Tuning", len(samples), unit="images", quiet=quiet) as advance:
        return tune_model(engine, samples, **settings, progress=advance)


def _refuse_others(parts: Sequence[str], metric: str) -> None:
    """Refuse what can't be chosen together with upsampling, which changes all probabilities."""
    from satmask.errors import SettingError

    if len(parts) > 1:
        msg = f"Upsampling must be chosen alone, got {', '.join(parts)}. Choose it first, and the others afterwards."
        raise SettingError(msg)
    if metric != "iou":
        msg = f"Upsampling must be chosen for iou, got {metric!r}."
        raise SettingError(msg)


def _tune_upsampling(
    engine: Engine, samples: Sequence[Sample], folds: int, least_gain: float, *, quiet: bool
) -> UpsamplingChoice:
    from satmask.progress import track
    from satmask.tuning.upsampling import choose_upsampling

    with track("Tuning", len(samples), unit="images", quiet=quiet) as advance:
        return choose_upsampling(engine, samples, folds=folds, least_gain=least_gain, progress=advance)


def _print_upsampling(found: UpsamplingChoice, written: Path | None) -> None:
    from satmask.cli.output import complain, say, say_table

    rows = [("pixels (m)", "images", "IoU as they are", "seen as four")]
    rows += [
        (f"{one.gsd_m:.3g}", f"{one.images:,}", f"{one.plain:.4f}", f"{one.upsampled:.4f}") for one in found.distances
    ]
    say_table(rows)
    say(f"mean iou over the ground: {found.before:.4f} before, {found.estimate:.4f} estimated")
    limit = "none are best" if found.above_m is None else f"from {found.above_m:g} m on is best"
    where = f", written to {written}" if written else ""
    say(f"pixels seen as four: {limit}{where}")
    if found.folds == 1:
        complain("note: there is only one image, or one place, so that no gain can be told; nothing is changed.")


def _print(found: Tuning) -> None:
    import numpy as np

    from satmask.cli.output import complain, say, say_table
    from satmask.tuning import in_metric

    area, side = ("m²", "m") if found.in_m2 else ("px", "px")
    rows: list[tuple[str, ...]] = [
        (
            "class",
            "threshold",
            f"smallest ({area})",
            f"refined ({side})",
            "before",
            "estimate",
            "on these images",
            "better",
        )
    ]
    for choice in found.choices:
        values = in_metric(np.array([choice.before, choice.estimate, choice.after]), found.metric)
        shown = ("–" if np.isnan(value) else f"{value:.4f}" for value in values)
        limit = "–" if choice.threshold is None else f"{choice.threshold:g}"
        better = "yes" if choice.better else "no"
        rows.append((choice.name, limit, f"{choice.smallest:g}", _refined(choice), *shown, better))
    say_table(rows)
    say(f"mean {found.metric}: {found.mean('before'):.4f} before, {found.mean('estimate'):.4f} estimated")
    if found.folds == 1:
        complain("note: there is only one image, or one place, so that no gain can be told; nothing is changed.")
    elif not found.by_place:
        complain("note: all images are of one place; the estimate is from image to image, and may flatter.")


def _refined(choice: Choice) -> str:
    """What is done beside threshold and smallest area, in words."""
    words = {"open": choice.opening, "close": choice.closing, "holes": choice.hole, "separate": choice.separate}
    return ", ".join(f"{word} {value:.3g}" for word, value in words.items() if value) or "–"
