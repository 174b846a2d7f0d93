"""`satmask quantize`: a model file in eight bits, if it is as good and fast as asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import Json, LegendFile, Quiet, RegistrationFile, SkipInvalid

if TYPE_CHECKING:
    from satmask.datasets import Dataset
    from satmask.quantisation import Outcome
    from satmask.recipe import Recipe


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder, or model file.", exists=True)],
    *,
    data: Annotated[
        Path, typer.Option("--calibrate", metavar="DATA", help="Folder of imagery with labels.", exists=True)
    ],
    out: Annotated[Path | None, typer.Option(help="Model file to write; <model>.int8.onnx by default.")] = None,
    weights: Annotated[str, typer.Option(help="int8; or float16, which only halves the file.")] = "int8",
    validation: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Names of images to judge on, as those of the run; repeatable."),
    ] = None,
    max_loss: Annotated[float, typer.Option(help="Points of IoU that may be lost.")] = 0.3,
    min_gain: Annotated[float | None, typer.Option(help="Times as fast it must be; 2.5 for int8.")] = None,
    engine: Annotated[str | None, typer.Option(help="onnxruntime or openvino; OpenVINO where it is installed.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads; all by default.")] = None,
    windows: Annotated[int, typer.Option(help="Training windows to measure the ranges of values on.")] = 32,
    rounds: Annotated[int, typer.Option(help="How often both are timed, in turn.")] = 5,
    legend: LegendFile = None,
    registration: RegistrationFile = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a model file that computes in eight bits.

    Values are measured on training images of DATA, accuracy on the images that the run held out. Refuses, and writes
    nothing, where too much accuracy is lost or too little time is gained.
    """
    from satmask import read_dataset, read_legend
    from satmask.assembly import find_model
    from satmask.cli.output import complain, say_json
    from satmask.errors import ModelError, SettingError
    from satmask.model_file import check
    from satmask.quantisation import WEIGHTS, Terms, quantise_file

    file = find_model(model)
    if file.suffix != ".onnx" or weights not in WEIGHTS:
        msg = (
            f"Quantising must be of an .onnx file or a run folder, to {' or '.join(WEIGHTS)}, got {model} to {weights}."
        )
        raise SettingError(msg)
    terms = Terms(weights, max_loss, min_gain, engine, threads=threads, windows=windows, rounds=rounds)  # type: ignore[arg-type] # open_engine checks the name
    dataset = read_dataset(data, legend=read_legend(legend) if legend else None, registration=registration)
    dataset.require_sound(skip_invalid=skip_invalid)
    recipe = _recipe(file)
    dataset, how = _split(dataset, recipe, validation, ids=check(file).legend.ids)
    complain(f"note: {how}")
    target = out or file.with_suffix(f".{weights}.onnx")
    with _telling(quiet=quiet) as tell:
        outcome = quantise_file(
            file,
            target,
            training=dataset.splits["train"],
            validation=dataset.splits["val"],
            terms=terms,
            bands=recipe.bands if recipe else None,
            progress=tell,
        )
    reason = outcome.verdict()
    if as_json:
        say_json({**outcome.to_dict(), "written": None if reason else target})
    else:
        _print(outcome, target if not reason else None)
    if reason:
        raise ModelError(reason)


def _recipe(file: Path) -> Recipe | None:
    """The recipe of the run that a model is from."""
    from satmask import Recipe

    path = file.with_name("recipe.json")
    return Recipe.read(path) if path.is_file() else None


def _split(
    dataset: Dataset, recipe: Recipe | None, patterns: list[str] | None, *, ids: tuple[int, ...]
) -> tuple[Dataset, str]:
    """Part training from validation as the run did, or as asked for."""
    from satmask.errors import SettingError

    if patterns and dataset.splits.get("val"):
        msg = f"Validation must be the folder's own split where it has one, got {patterns}. Leave --validation out."
        raise SettingError(msg)
    dataset = dataset if dataset.legend.exclusive else dataset.with_classes(ids)
    if patterns or recipe:
        return dataset.with_validation(patterns or recipe.validation)  # type: ignore[union-attr] # one of them is there
    split, how = dataset.with_validation(0.2)
    own = bool(dataset.splits.get("val"))
    return split, how if own else f"{how} If the network was trained on them, the loss flatters. Pass --validation."


def _telling(*, quiet: bool) -> Any:
    """A line on the terminal that says what is being done."""
    from contextlib import contextmanager

    from satmask.progress import track

    @contextmanager
    def telling() -> Any:
        with track("Quantising", 0, quiet=quiet) as advance:
            yield lambda text: advance(0, text)

    return telling()


def _print(outcome: Outcome, target: Path | None) -> None:
    from satmask.cli.output import say, say_table

    last, unit = outcome.trials[-1], f"s a round of {outcome.window[0]} × {outcome.window[1]} windows, {outcome.engine}"
    rows: list[tuple[str, ...]] = [("", "float32", outcome.terms.weights, "")]
    rows.append(("mean IoU", f"{outcome.iou:.4f}", f"{last.iou:.4f}", f"{-outcome.loss:+.2f} points"))
    before, after = outcome.seconds
    rows.append((unit, f"{before:.3f}", f"{after:.3f}", f"{outcome.gain:.2f} × as fast"))
    small, large = sorted(outcome.sizes)
    rows.append(("file, MB", *(f"{size / 1e6:.2f}" for size in outcome.sizes), f"{small / large:.2f} × as large"))
    say_table(rows)
    if last.floats:
        say(f"{len(last.floats) + 1} layers stayed in float32.")
    if target:
        say(f"model  {target}")
