"""`satmask calibrate`: temperatures with which probabilities can be believed, chosen on images with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import Json, LegendFile, Quiet, RegistrationFile, SkipInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.calibration import Calibration
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder, or model file.", exists=True)],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of imagery with labels.", exists=True)],
    *,
    folds: Annotated[int, typer.Option(help="Parts in which images are judged, at most.")] = 5,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw how reliable probabilities are, before and after: .svg or .png.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be better.")] = False,
    legend: LegendFile = None,
    registration: RegistrationFile = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose temperatures with which 80 % means that 80 % are right.

    Uses the images that the run held out, or all of DATA for a model file. What lowers the log-loss on places that it
    wasn't chosen on is written into the model file. Thresholds go along, so that masks stay as they are.
    """
    from satmask import open_engine, read_dataset, read_legend
    from satmask.cli.output import complain, say, say_json
    from satmask.cli.tune import _held_out, _models
    from satmask.model_file import rewrite

    classes = read_legend(legend) if legend else None
    dataset = read_dataset(data, legend=classes, registration=registration)
    dataset.require_sound(skip_invalid=skip_invalid)
    results = {}
    files = _models(model)
    for name, file in files.items():
        engine = open_engine(file)
        samples, how = _held_out(file, dataset, engine)
        complain(f"note: {name}: {how}")
        found = _calibrate(engine, samples, folds=folds, quiet=quiet)
        written = bool(found.better) and not dry_run
        if written:
            rewrite(file, found.apply(engine.info))
        results[name] = {**found.to_dict(), "better": found.better, "written": written}
        if picture:
            _draw(found, picture if len(files) == 1 else picture.with_stem(f"{picture.stem}-{file.stem}"))
        if not as_json:
            _print(found)
            say(f"{len(found.better)} of {len(found.grades)} better{f', written to {file}' if written else ''}")
    if as_json:
        say_json(results)


def _calibrate(engine: Engine, samples: Sequence[Sample], *, folds: int, quiet: bool) -> Calibration:
    from satmask.calibration import calibrate as calibrate_model
    from satmask.progress import track

    with track("Calibrating", len(samples), unit="images", quiet=quiet) as advance:
        return calibrate_model(engine, samples, folds=folds, progress=advance)


def _print(found: Calibration) -> None:
    from satmask.cli.output import complain, say, say_table

    head = ("class", "temperature", "bias", "error before", "estimate", "on these images", "log-loss", "estimate", "better")  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for grade in found.grades:
        values = (grade.before, grade.estimate, grade.after, grade.loss_before, grade.loss_estimate)
        numbers = (f"{grade.temperature:.3f}", f"{grade.bias:+.3f}", *map(_text, values))
        rows.append((grade.name, *numbers, "yes" if grade.better else "no"))
    say_table(rows)
    if len(found.places) > 1:
        say("")
        shown = [(place, name, *map(_text, pair)) for place, errors in found.places.items() for name, pair in errors.items()]  # fmt: skip
        say_table([("place", "class", "error before", "estimate"), *shown])
        say("")
    if found.folds == 1:
        complain("note: there is but one image, so that no gain can be told; nothing is changed.")
    elif len(found.places) == 1:
        complain("note: all images are of one place, and judged image by image: elsewhere the gain may be smaller.")


def _text(value: float) -> str:
    return "–" if value != value else f"{value:.4f}"  # noqa: PLR0124  # NaN isn't itself


def _draw(found: Calibration, path: Path) -> None:
    from satmask.figures import save
    from satmask.threshold_charts import reliability_change

    path.parent.mkdir(parents=True, exist_ok=True)
    save(reliability_change(found.before, found.estimate), path)
