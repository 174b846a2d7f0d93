"""`satmask predict`: a model file and scenes in, rasters and polygons out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import DecisionFile, Json, Quiet, RegistrationFile, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.engines import Engine
    from satmask.scene_lists import SceneSource


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file, or the run folder that holds it.")],
    scenes: Annotated[
        list[str],
        typer.Argument(metavar="SCENE…", help="Rasters, folders, patterns, @lists, addresses; a DSTL folder."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    bands: Annotated[str | None, typer.Option(metavar="B,B…", help="Bands by number or name, as the model's.")] = None,
    window: Annotated[int | None, typer.Option(help="Side of a window at most, in pixels.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads; all by default.")] = None,
    engine: Annotated[str, typer.Option(help="auto, onnxruntime, openvino or keras.")] = "auto",
    symmetries: Annotated[str, typer.Option(help="none, flips or all: ways of seeing whose mean is taken.")] = "none",
    mean: Annotated[str, typer.Option(help="geometric or arithmetic mean of these.")] = "geometric",
    threshold: Thresholds = None,
    decision: DecisionFile = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only scenes named so, such as 6120_*; repeatable.")
    ] = None,
    labelled: Annotated[
        bool | None,
        typer.Option("--labelled/--unlabelled", help="Of a DSTL folder only images with, or without, labels."),
    ] = None,
    registration: RegistrationFile = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Fetch what lists name on the network, too.")
    ] = False,
    no_probabilities: Annotated[bool, typer.Option("--no-probabilities", help="Keep only classes.")] = False,
    polygons: Annotated[
        bool | None, typer.Option("--polygons/--no-polygons", help="By default where a scene has a CRS.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict scenes: classes, probabilities and polygons.

    Writes SCENE.classes.tif, SCENE.probabilities.tif and SCENE.gpkg into --out. A scene that can't be predicted is
    reported, and the rest goes on; the exit code is then 1.
    """
    from satmask import open_engine
    from satmask.cli import options
    from satmask.cli.output import calm_tensorflow, complain, complain_about, say_json
    from satmask.datasets.dataset import Problem
    from satmask.decisions import read_decision
    from satmask.prediction import check_thresholds
    from satmask.scene_lists import choose_scenes, find_scenes, refuse_overwriting
    from satmask.symmetry import ways

    problems: list[Problem] = []
    listed = find_scenes(
        scenes, labelled=labelled, registration=registration, allow_remote=allow_remote, problems=problems
    )
    paths = choose_scenes(listed, only)
    limits = options.numbers(threshold, "--threshold")
    with calm_tensorflow():
        network = open_engine(find_model(model), engine=engine, threads=threads)  # type: ignore[arg-type]  # it checks
    check_thresholds(limits, network.info)
    if (times := len(ways(symmetries))) > 1:  # type: ignore[arg-type]  # it checks
        complain(f"note: --symmetries {symmetries} runs the network {times} times.")
    refuse_overwriting(paths, out)
    complain_about([problem.what for problem in problems if problem.severity == "warning"])
    unusable = [{"scene": one.where, "reason": one.what} for one in problems if one.severity == "error"]
    complain_about([one["reason"] for one in unusable], what="error")
    settings = {
        "bands": options.bands(bands),
        "size": window,
        "symmetries": symmetries,
        "mean": mean,
        "thresholds": limits,
        "decision": read_decision(decision, network.info.decision) if decision else None,
        "probabilities": not no_probabilities,
        "polygons": polygons,
    }
    done, failed = _predict_all(network, paths, out, settings, quiet=quiet, as_json=as_json)
    failed = [*unusable, *failed]
    if as_json:
        say_json({"scenes": done, "failed": failed})
    if failed:
        complain(f"error: {len(done)} of {len(done) + len(failed)} scenes predicted; {len(failed)} failed.")
        raise typer.Exit(1)


def find_model(path: Path) -> Path:
    """The model file or assembly itself, or that of a run folder."""
    from satmask.assembly import FILE

    assembly = path / FILE
    return assembly if assembly.is_file() else path / "model.onnx" if path.is_dir() else path


def _predict_all(
    network: Engine, paths: Sequence[SceneSource], out: Path, settings: dict[str, Any], *, quiet: bool, as_json: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predict scene after scene; what fails is reported, and the rest goes on."""
    from dataclasses import asdict

    from satmask.cli.output import complain, complain_about, say
    from satmask.prediction import predict_scenes
    from satmask.progress import track
    from satmask.scene_lists import megapixels

    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    doubted: list[str] = []
    sizes = {path: megapixels(path) for path in paths}
    with track("Predicting", sum(sizes.values()), unit="MP", quiet=quiet) as advance:
        for path, found in predict_scenes(network, paths, out, **settings, progress=advance):
            advance(0, path.name)
            if isinstance(found, Exception):
                failed.append({"scene": str(path), "reason": str(found)})
                complain(f"error: {found}" if path.name in str(found) else f"error: {path.name}: {found}")
                continue
            doubted += _doubts(network, path, settings["bands"])
            done.append({"scene": str(path), **asdict(found), "megapixels": round(sizes[path], 6)})
            if not as_json:
                say(_line(done[-1]))
        advance(0, "")
    complain_about(doubted)
    return done, failed


def _doubts(network: Engine, path: SceneSource, bands: Any) -> list[str]:
    from satmask.fitting import doubts, open_for

    with open_for(network.info, path, bands=bands) as scene:
        return doubts(network.info, scene)


def _line(result: dict[str, Any]) -> str:
    files = [str(result[key]) for key in ("classes", "probabilities", "polygons") if result[key]]
    objects = f"{result['objects']:,} polygons  " if result["polygons"] else ""
    return f"{Path(result['scene']).name}  {result['megapixels']:.2f} MP  {objects}{' '.join(files)}"
