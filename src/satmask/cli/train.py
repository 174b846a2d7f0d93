"""`satmask train`: data and a recipe in, a run folder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import File, Json, LegendFile, Quiet, RegistrationFile, SkipInvalid

if TYPE_CHECKING:
    from satmask.recipe import Recipe
    from satmask.run import Run


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of imagery with labels.")],
    *,
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    recipe: Annotated[Path | None, typer.Option(**File, help="Settings, a TOML file.")] = None,
    model: Annotated[str | None, typer.Option(help="Network: unet, cnn, dilated or encoder.")] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Begin with a trained model: a run folder or a model file.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as epochs=3; repeatable.")
    ] = None,
    legend: LegendFile = None,
    class_field: Annotated[str | None, typer.Option(help="Column of a vector file that tells the class.")] = None,
    registration: RegistrationFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network.

    Writes model.onnx and report.html into --out. DATA holds images/ with annotation.json, images/ with masks/, GeoTIFFs
    with vector files or masks, directly or under train/ and val/; or what the DSTL competition hands out.
    """
    from satmask import read_dataset, read_legend
    from satmask.cli.output import calm_tensorflow, complain, complain_about, say, say_json

    chosen = _recipe(recipe, model, [*(settings or []), *([f"start={json.dumps(start)}"] if start else [])])
    classes = read_legend(legend) if legend else None
    dataset = read_dataset(data, legend=classes, class_field=class_field, registration=registration)
    complain_about(problem.what for problem in dataset.problems if problem.kind == "registration")
    with calm_tensorflow():
        from satmask import train as run_training
        from satmask.groups import has_groups, train_groups
    settings_of_run = {"resume": resume, "skip_invalid": skip_invalid, "quiet": quiet}
    if chosen.groups if chosen else has_groups(out):
        runs = train_groups(dataset, out, chosen, **settings_of_run)
    else:
        runs = {"": run_training(dataset, out, chosen, **settings_of_run)}
    if dataset.problems:
        log = next(iter(runs.values())).folder / "train.log"
        complain(f"warning: problems in the data, {len(dataset.problems):,} in all: see {log}.")
    results = {name: _result(run) for name, run in runs.items()}
    if as_json:
        say_json(results[""] if "" in results else {"assembly": out / "assembly.json", "groups": results})
        return
    for name, result in results.items():
        if name:
            say(f"{name}:")
        _say(result)
    if "" not in results:
        say(f"assembly         {out / 'assembly.json'}")


def _recipe(path: Path | None, model: str | None, settings: list[str]) -> Recipe | None:
    """The recipe asked for; None where nothing is, so that a run that goes on keeps its own."""
    from satmask import Recipe

    if model is not None:
        settings = [*settings, f"network.name={model}"]
    return Recipe.load(path, settings) if path or settings else None


def _result(run: Run) -> dict[str, Any]:
    from satmask.run import best_epoch

    history = run.history
    best = best_epoch(history)
    return {
        "run": run.folder,
        "model": run.model,
        "report": run.folder / "report.html",
        "epochs": len(history),
        "best_epoch": best,
        "val_iou": history[best - 1]["val_iou"],
    }


def _say(result: dict[str, Any]) -> None:
    from satmask.cli.output import say

    say(f"best epoch       {result['best_epoch']} of {result['epochs']}")
    say(f"validation IoU   {result['val_iou']:.4f}")
    say(f"model            {result['model']}")
    say(f"report           {result['report']}")
