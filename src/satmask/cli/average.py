"""`satmask average`: one model whose weights are the means of several runs' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from satmask.cli.options import Json, LegendFile, Quiet, RegistrationFile, SkipInvalid


def average(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="What the runs were trained on.", exists=True)],
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders, two or more; the first tells the recipe.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    windows: Annotated[
        int, typer.Option(min=1, help="Training windows over which batch normalisation is measured anew.")
    ] = 480,
    legend: LegendFile = None,
    class_field: Annotated[str | None, typer.Option(help="Column of a vector file that tells the class.")] = None,
    registration: RegistrationFile = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Average the weights of runs.

    Runs that began alike (the same seed, or the same start) and learned in different ways, such as with another rate or with
    more of their encoder frozen, are together often better than each. Writes model.keras and model.onnx into --out, and says
    how the average does on the validation windows beside the runs.
    """
    from satmask import read_dataset, read_legend
    from satmask.cli.output import calm_tensorflow, complain, say, say_json, say_table

    classes = read_legend(legend) if legend else None
    dataset = read_dataset(data, legend=classes, class_field=class_field, registration=registration)
    with calm_tensorflow():
        from satmask.training import average_runs
    found = average_runs(dataset, runs, out, windows=windows, skip_invalid=skip_invalid, quiet=quiet)
    own = found.val_iou["average"]
    best = max((name for name in found.val_iou if name != "average"), key=lambda name: found.val_iou[name])
    if as_json:
        say_json({"model": found.run.model, "val_iou": found.val_iou})
    else:
        say_table([("run", "validation IoU"), *((name, f"{value:.4f}") for name, value in found.val_iou.items())])
        say(f"model            {found.run.model}")
    if own < found.val_iou[best]:
        complain(
            f"note: {best} by itself is better. Weights can be averaged where runs began alike, with the same seed or start."
        )
