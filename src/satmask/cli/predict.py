"""`satmask predict`: a model file and scenes in, rasters and polygons out."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import DecisionFile, Json, Quiet, RegistrationFile, Thresholds
from satmask.errors import SatmaskError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from satmask.datasets.dataset import Problem
    from satmask.engines import Engine
    from satmask.fitting import Reading
    from satmask.prediction.planning import Plan
    from satmask.scene_lists import SceneSource


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file, run folder, or name.")],
    scenes: Annotated[
        list[str],
        typer.Argument(metavar="SCENE…", help="Rasters, folders, patterns, @lists, addresses; a DSTL folder."),
    ],
    *,
    out: Annotated[str, typer.Option(help="Folder to write, or s3://bucket/folder.")] = "predicted",
    bands: Annotated[str | None, typer.Option(metavar="B,B…", help="Bands by number or name, as the model's.")] = None,
    scaled: Annotated[bool, typer.Option("--scaled", help="Apply the scenes' tags of scale and offset.")] = False,
    resample_to_gsd: Annotated[
        str | None, typer.Option(metavar="M|model", help="Resample to pixels of M metres, or as the model knows them.")
    ] = None,
    stretch: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Map these percentiles to the model's values, such as 2,98.")
    ] = None,
    upsampling: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="2 has the network see each pixel as four; as the model says by default."),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Side of a window at most, in pixels.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory to stay below, such as 2GB; it chooses the windows.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads, of each worker if there are; all by default.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of this machine that share the work.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers share it: tcp://host:8786.")
    ] = None,
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
    asset: Annotated[
        str | None, typer.Option(metavar="A[,B…]", help="Of STAC items the asset of this name; several make one scene.")
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Fetch what lists, STAC and VRT files name on the network, too.")
    ] = False,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Read what VRT files name outside of their folder, too.")
    ] = False,
    allow_huge: Annotated[
        bool, typer.Option("--allow-huge", help="Read scenes that take much memory to decode, too.")
    ] = False,
    no_probabilities: Annotated[bool, typer.Option("--no-probabilities", help="Keep only classes.")] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write SCENE.uncertainty.tif, the entropy from 0 to 1.")
    ] = False,
    polygons: Annotated[
        bool | None, typer.Option("--polygons/--no-polygons", help="By default where a scene has a CRS.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier run began, instead of going on.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take: windows, time, memory, disk.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict scenes: classes, probabilities and polygons.

    Writes SCENE.classes.tif, SCENE.probabilities.tif and SCENE.gpkg into --out. A scene that can't be predicted is
    reported, and the rest goes on; the exit code is then 1. Stopped or killed, the same command goes on.
    """
    from satmask.buckets import as_folder
    from satmask.cli import options
    from satmask.decisions import read_decision
    from satmask.permissions import allow
    from satmask.scene_lists import refuse_overwriting

    granted = {"remote": allow_remote, "outside": allow_outside, "huge": allow_huge}
    allow(*(what for what, given in granted.items() if given))  # type: ignore[arg-type]  # its own words
    assets = asset.split(",") if asset else ()
    paths, problems = _find(scenes, only, labelled=labelled, registration=registration, assets=assets)
    limits = options.numbers(threshold, "--threshold")
    threads = threads_each(workers, threads)
    network = _open(model, engine, threads, limits=limits, symmetries=symmetries)
    refuse_overwriting(paths, as_folder(out))
    unusable = _tell_problems(problems)
    settings = {
        **options.reading(
            bands=bands, scaled=scaled, gsd=resample_to_gsd, stretch=stretch, upsampling=upsampling
        ).settings,
        "size": window,
        "symmetries": symmetries,
        "mean": mean,
        "thresholds": limits,
        "decision": read_decision(decision, network.info.decision) if decision else None,
        "probabilities": not no_probabilities,
        "polygons": polygons,
        "uncertainty": uncertainty,
    }
    if dry_run:
        _plan_all(network, paths, settings, memory, as_json=as_json)
        return
    settings |= _fit(network, paths, settings, memory, share=1 + (workers or 0)) | {"restart": restart, "tell": _note}
    lanes = settings.get("at_once", threads)
    with _terminable(), _predictor(network, workers=workers, threads=lanes, scheduler=scheduler) as run:
        done, failed = _predict_all(run, network, paths, out, settings, quiet=quiet, as_json=as_json)
    _conclude(done, [*unusable, *failed], quiet=quiet, as_json=as_json)


def _find(scenes: list[str], only: list[str] | None, **choice: Any) -> tuple[list[SceneSource], list[Problem]]:
    """The scenes that the command line names, and what is wrong with what it names."""
    from satmask.scene_lists import choose_scenes, find_scenes

    problems: list[Problem] = []
    listed = find_scenes(scenes, **choice, problems=problems)
    return choose_scenes(listed, only), problems


def _open(
    model: Path, engine: str, threads: int | None, *, limits: tuple[float, ...] | None, symmetries: str
) -> Engine:
    """The network in its engine; what is asked of it must fit it, and what costs time is told."""
    from satmask import open_engine
    from satmask.assembly import find_model
    from satmask.cli.output import calm_tensorflow
    from satmask.prediction import check_thresholds
    from satmask.symmetry import ways

    with calm_tensorflow():
        network = open_engine(find_model(model), engine=engine, threads=threads)  # type: ignore[arg-type]  # it checks
    check_thresholds(limits, network.info)
    if (times := len(ways(symmetries))) > 1:  # type: ignore[arg-type]  # it checks
        _note(f"--symmetries {symmetries} runs the network {times} times.")
    return network


def _tell_problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Say what is wrong with the scenes; those that can't be used come back, as failed."""
    from satmask.cli.output import complain_about

    complain_about([problem.what for problem in problems if problem.severity == "warning"])
    unusable = [{"scene": one.where, "reason": one.what} for one in problems if one.severity == "error"]
    complain_about([one["reason"] for one in unusable], what="error")
    return unusable


def _conclude(done: list[dict[str, Any]], failed: list[dict[str, Any]], *, quiet: bool, as_json: bool) -> None:
    """Sum up; the exit code is 1 if a scene failed."""
    from satmask.cli.output import complain, say_json
    from satmask.cli.predict_table import print_summary

    if as_json:
        say_json({"scenes": done, "failed": failed})
    if not quiet:
        print_summary(done, failed)
    if failed:
        complain(f"error: {len(done)} of {len(done) + len(failed)} scenes predicted; {len(failed)} failed.")
        raise typer.Exit(1)


def _note(text: str) -> None:
    from satmask.cli.output import complain

    complain(f"note: {text}")


def threads_each(workers: int | None, threads: int | None) -> int | None:
    """Processor threads of each process.

    Examples:
        >>> threads_each(None, None), threads_each(2, 3), threads_each(10_000, None)
        (None, 3, 1)
    """
    from satmask.engines import available_cores

    return threads or (max(available_cores() // workers, 1) if workers else None)


@contextmanager
def _predictor(network: Engine, *, workers: int | None, scheduler: str | None, threads: int | None) -> Iterator[Any]:
    """What predicts scenes: this process, others of this machine, or a cluster."""
    from functools import partial

    from satmask.prediction import predict_scenes

    if workers is None and scheduler is None:
        yield partial(predict_scenes, network)
        return
    from satmask.pools import open_pool, predict_over

    with open_pool(workers=workers, threads=threads if workers else None, scheduler=scheduler) as pool:
        yield partial(predict_over, pool, network)


def _fit(
    network: Engine, paths: Sequence[SceneSource], settings: dict[str, Any], memory: str | None, *, share: int
) -> dict[str, int]:
    """Windows that fit a process' share of the memory, measured on the first scene that can be opened."""
    from satmask.prediction.planning import find_room, parse_bytes
    from satmask.prediction.walking import Seeing

    if memory is None:
        return {}
    limit, seeing = parse_bytes(memory) // share, Seeing(settings["symmetries"], settings["mean"])
    for path in paths:
        try:
            room = find_room(network, path, limit, reading=_reading(settings), seeing=seeing)
        except SettingError:
            raise
        except (SatmaskError, OSError):
            continue  # it is reported in its turn
        _note(
            f"windows of at most {room.largest}² pixels, {room.at_once} at a time, take {room.memory_bytes / 1e6:,.0f} MB."
        )
        return {"largest": room.largest, "at_once": room.at_once}
    return {}


def _plan_all(
    network: Engine, paths: Sequence[SceneSource], settings: dict[str, Any], memory: str | None, *, as_json: bool
) -> None:
    """Print what the scenes would take."""
    from dataclasses import asdict

    from satmask.cli.output import complain, say, say_json
    from satmask.prediction.planning import parse_bytes, plan_scene
    from satmask.prediction.walking import Seeing

    limit, plans, failed = parse_bytes(memory) if memory else None, [], []
    for path in paths:
        try:
            plan = plan_scene(
                network,
                path,
                reading=_reading(settings),
                size=settings["size"],
                seeing=Seeing(settings["symmetries"], settings["mean"]),
                probabilities=settings["probabilities"],
                uncertainty=settings["uncertainty"],
                memory_bytes=limit,
            )
        except SettingError:
            raise
        except (SatmaskError, OSError) as error:
            failed.append({"scene": str(path), "reason": str(error)})
            complain(f"error: {error}")
            continue
        plans.append(asdict(plan))
        if not as_json:
            say(_told(plan))
    if as_json:
        say_json({"plans": plans, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _told(plan: Plan) -> str:
    """A plan in a few lines."""
    height, width = plan.window
    minutes, seconds = divmod(round(plan.network_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    how = (", blended" if plan.blended else "") + (", each pixel seen as four" if plan.upsampling > 1 else "")
    return (
        f"{plan.scene}  {plan.megapixels:,.2f} MP ({plan.shape[0]:,} × {plan.shape[1]:,})\n"
        f"  windows  {plan.windows:,} of {height} × {width}{how}, {plan.at_once} at a time; "
        f"{plan.computed_per_kept:.2f} pixels computed for each one kept\n"
        f"  network  {f'{hours} h ' if hours else ''}{minutes} min {seconds} s\n"
        f"  memory   {plan.memory_bytes / 1e6:,.0f} MB\n"
        f"  disk     {plan.output_bytes / 1e6:,.0f} MB of outputs at most, {plan.work_bytes / 1e6:,.0f} MB on the way"
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to end (SIGTERM) be answered as Ctrl-C is: what is there is kept."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _predict_all(
    run: Any, network: Engine, paths: Sequence[SceneSource], out: str, settings: dict[str, Any], **shown: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predict scene after scene; what fails is reported, and the rest goes on."""
    from dataclasses import asdict

    from satmask.cli.output import complain, complain_about, say
    from satmask.progress import track
    from satmask.scene_lists import megapixels

    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    doubted: list[str] = []
    upsampled = 0
    sizes = {path: megapixels(path) for path in paths}
    with track("Predicting", sum(sizes.values()), unit="MP", quiet=shown["quiet"]) as advance:
        for path, found in run(paths, out, **settings, progress=advance):
            advance(0, path.name)
            if isinstance(found, Exception):
                failed.append({"scene": str(path), "reason": str(found)})
                complain(f"error: {found}" if path.name in str(found) else f"error: {path.name}: {found}")
                continue
            doubts, coarse = _look(network, path, _reading(settings))
            doubted += doubts
            upsampled += coarse
            done.append({"scene": str(path), **asdict(found), "megapixels": round(sizes[path], 6)})
            if not shown["as_json"]:
                say(_line(done[-1]))
        advance(0, "")
    complain_about(doubted)
    if upsampled and settings["upsampling"] is None:
        _note(
            f"pixels of {upsampled} of {len(done)} scenes are coarse and were seen as four each; --upsampling 1 is quicker."
        )
    return done, failed


def _reading(settings: dict[str, Any]) -> Reading:
    """How scenes are read, from the settings of `predict_scene`."""
    from satmask.fitting import PLAIN, Reading

    return Reading(**{key: settings[key] for key in PLAIN.settings})


def _look(network: Engine, path: SceneSource, reading: Reading) -> tuple[list[str], bool]:
    """What makes a scene doubtful, and whether its pixels are upsampled."""
    from satmask.fitting import doubts

    with reading.opened(network, path) as (fitted, scene):
        return doubts(network.info, scene), fitted.info.upsampling > 1


def _line(result: dict[str, Any]) -> str:
    files = [str(result[key]) for key in ("classes", "probabilities", "uncertainty", "polygons") if result[key]]
    objects = f"{result['objects']:,} polygons  " if result["polygons"] else ""
    return f"{Path(result['scene']).name}  {result['megapixels']:.2f} MP  {objects}{' '.join(files)}"
