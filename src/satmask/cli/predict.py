"""`satmask predict`: a model file and scenes in, rasters and polygons out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import DecisionFile, Json, Quiet, RegistrationFile, Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.engines import Engine
    from satmask.stack import Stack

MARKS = (".classes", ".probabilities")


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file, or the run folder that holds it.")],
    scenes: Annotated[list[Path], typer.Argument(metavar="SCENE…", help="Rasters, or folders of them; a DSTL folder.")],
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
    from satmask.cli.output import calm_tensorflow, complain, say_json
    from satmask.decisions import read_decision
    from satmask.prediction import check_thresholds
    from satmask.symmetry import ways

    paths = choose_scenes(find_scenes(scenes, labelled=labelled, registration=registration), only)
    limits = options.numbers(threshold, "--threshold")
    with calm_tensorflow():
        network = open_engine(find_model(model), engine=engine, threads=threads)  # type: ignore[arg-type]  # it checks
    check_thresholds(limits, network.info)
    if (times := len(ways(symmetries))) > 1:  # type: ignore[arg-type]  # it checks
        complain(f"note: --symmetries {symmetries} runs the network {times} times.")
    refuse_overwriting(paths, out)
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
    if as_json:
        say_json({"scenes": done, "failed": failed})
    if failed:
        complain(f"error: {len(done)} of {len(paths)} scenes predicted; {len(failed)} failed.")
        raise typer.Exit(1)


def find_model(path: Path) -> Path:
    """The model file or assembly itself, or that of a run folder."""
    from satmask.assembly import FILE

    assembly = path / FILE
    return assembly if assembly.is_file() else path / "model.onnx" if path.is_dir() else path


def find_scenes(
    paths: Sequence[Path], *, labelled: bool | None = None, registration: Path | None = None
) -> list[Path | Stack]:
    """The rasters named, and those in the folders named: in `images/` or `img/` of a data set, without masks and predictions.

    Args:
        paths: Rasters, stack files and folders; of a DSTL folder all images are meant.
        labelled: Of a DSTL folder only those with polygons (True) or without (False).
        registration: Shifts of its products, instead of its `registration.json`.

    Raises:
        SettingError: If a folder holds none, or a setting has no DSTL folder to apply to.
    """
    from satmask.datasets.dstl import is_dstl
    from satmask.errors import SettingError

    found: list[Path | Stack] = []
    if (labelled is not None or registration) and not any(is_dstl(path) for path in paths):
        msg = (
            f"--labelled, --unlabelled and --registration must go with a DSTL folder, got {', '.join(map(str, paths))}."
        )
        raise SettingError(msg)
    for path in paths:
        if is_dstl(path):
            found += _of_dstl(path, labelled=labelled, registration=registration)
        else:
            found += _in_folder(path) if path.is_dir() else [path]
    return found


def _of_dstl(folder: Path, *, labelled: bool | None, registration: Path | None) -> list[Stack]:
    from satmask.cli.output import complain_about
    from satmask.datasets.dataset import Problem
    from satmask.datasets.dstl import labelled_images, list_stacks

    problems: list[Problem] = []
    stacks = list_stacks(folder, registration=registration, problems=problems)
    complain_about([problem.what for problem in problems])
    if labelled is None:
        return list(stacks.values())
    known = labelled_images(folder)
    return [stack for image, stack in stacks.items() if (image in known) == labelled]


def choose_scenes(scenes: Sequence[Path | Stack], patterns: Sequence[str] | None) -> list[Path | Stack]:
    """The scenes whose names, without suffix, match one of the patterns; all without patterns.

    Raises:
        SettingError: If none is left.
    """
    from fnmatch import fnmatch

    from satmask.errors import SettingError
    from satmask.prediction import stem_of

    chosen = [scene for scene in scenes if not patterns or any(fnmatch(stem_of(scene), one) for one in patterns)]
    if not chosen:
        msg = f"Scenes must be at least one, got none of {len(scenes)} named {' or '.join(patterns or ['so'])}."
        raise SettingError(msg)
    return chosen


def _in_folder(folder: Path) -> list[Path]:
    from satmask.datasets.pairs import FOLDERS, list_images
    from satmask.datasets.scenes import is_mask
    from satmask.errors import SettingError
    from satmask.stack import SUFFIX

    inner = next((folder / name for name, _ in FOLDERS if (folder / name).is_dir()), folder)
    images = list_images(inner)
    scenes = [path for path in images if not is_mask(path) and not path.stem.endswith(MARKS)]
    scenes = sorted(inner.glob(f"*{SUFFIX}")) or scenes
    if not scenes:
        msg = f"Scenes must be rasters or folders of rasters, got a folder without any: {folder}."
        raise SettingError(msg)
    return scenes


def refuse_overwriting(paths: Sequence[Path | Stack], out: Path) -> None:
    """Refuse scenes whose results would lie over one another, over a scene, or over somebody's vector file.

    Raises:
        SettingError: With the names of the files.
    """
    from satmask.errors import SettingError
    from satmask.prediction import stem_of

    scenes = {file.resolve() for path in paths for file in _files(path)}
    owners: dict[str, Path | Stack] = {}
    for path in paths:
        stem = stem_of(path)
        if stem in owners:
            msg = f"Scenes must have names of their own, got {owners[stem]} and {path}. Predict them apart."
            raise SettingError(msg)
        owners[stem] = path
        targets = [out / f"{stem}{mark}.tif" for mark in MARKS]
        if hit := [target for target in targets if target.resolve() in scenes]:
            msg = f"Output must not lie over a scene, got {hit[0]}. Choose another --out."
            raise SettingError(msg)
        features = out / f"{stem}.gpkg"
        if features.exists() and not targets[0].exists():
            msg = f"Output must not lie over a file of another origin, got {features}. Choose another --out."
            raise SettingError(msg)


def _files(image: Path | Stack) -> list[Path]:
    """The files that a scene is read from."""
    return [image] if isinstance(image, Path) else [product.path for product in image.products]


def _predict_all(
    network: Engine, paths: Sequence[Path | Stack], out: Path, settings: dict[str, Any], *, quiet: bool, as_json: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predict scene after scene; what fails is reported, and the rest goes on."""
    from dataclasses import asdict

    from satmask.cli.output import complain, complain_about, say
    from satmask.prediction import predict_scenes
    from satmask.progress import track

    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    doubted: list[str] = []
    sizes = {path: _megapixels(path) for path in paths}
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


def _megapixels(path: Path | Stack) -> float:
    """Size of a scene by its header; 0 for what can't be opened, which is reported in its turn."""
    from satmask import SatmaskError
    from satmask.stack import open_imagery

    try:
        with open_imagery(path) as scene:
            return scene.shape[0] * scene.shape[1] / 1e6
    except SatmaskError:
        return 0.0


def _doubts(network: Engine, path: Path | Stack, bands: Any) -> list[str]:
    from satmask.fitting import doubts, open_for

    with open_for(network.info, path, bands=bands) as scene:
        return doubts(network.info, scene)


def _line(result: dict[str, Any]) -> str:
    files = [str(result[key]) for key in ("classes", "probabilities", "polygons") if result[key]]
    objects = f"{result['objects']:,} polygons  " if result["polygons"] else ""
    return f"{Path(result['scene']).name}  {result['megapixels']:.2f} MP  {objects}{' '.join(files)}"
