"""`satmask submit`: predictions to a benchmark's result file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import DecisionFile, File, Json, Quiet, Thresholds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from satmask.submission import PredictedImage, PredictedTile


class Score(StrEnum):
    """How sure a building is."""

    mean = "mean"
    mean_sqrt_area = "mean_sqrt_area"


class Segmentation(StrEnum):
    """How a building's pixels are written."""

    rle = "rle"
    polygons = "polygons"


def submit(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder that predict wrote.", exists=True, file_okay=False)
    ],
    *,
    out: Annotated[Path, typer.Option(help="Result file to write: .json for crowdAI, .csv for DSTL.")],
    truth: Annotated[
        Path | None, typer.Option(**File, help="crowdAI: annotation file that has the tiles' ids.")
    ] = None,
    score: Annotated[Score, typer.Option(help="crowdAI: how sure a building is.")] = Score.mean,
    segmentation: Annotated[Segmentation, typer.Option(help="crowdAI: how its pixels are written.")] = Segmentation.rle,
    data: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="DSTL: folder with both of the next two.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(**File, help="DSTL: grid_sizes.csv.")] = None,
    sample: Annotated[
        Path | None, typer.Option(**File, help="DSTL: sample_submission.csv; without it only what was predicted.")
    ] = None,
    simplify: Annotated[float, typer.Option(help="DSTL: how far outlines may move to save space, in pixels.")] = 0.0,
    threshold: Thresholds = None,
    decision: DecisionFile = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a result file: crowdAI's buildings as JSON, or DSTL's polygons as CSV."""
    from satmask.cli import options
    from satmask.submission import find_images

    dstl = {"--data": data, "--grid": grid, "--sample": sample, "--threshold": threshold, "--decision": decision}
    if out.suffix.lower() == ".csv":
        _refuse({"--truth": truth}, "crowdAI's .json")
        limits = options.numbers(threshold, "--threshold")
        images = find_images(predictions, decision=decision, thresholds=limits)
        tables = _tables(data, grid, sample) | {"simplify_px": simplify}
        _submit_dstl(images, out, tables, count=len([*predictions.glob("*.classes.tif")]), quiet=quiet, as_json=as_json)
        return
    _refuse(dstl, "DSTL's .csv")
    _submit_crowdai(predictions, out, truth, {"score": score.value, "segmentation": segmentation.value}, as_json)


def _refuse(options: dict[str, Any], kind: str) -> None:
    from satmask import SettingError

    if given := [name for name, value in options.items() if value is not None]:
        msg = f"{given[0]} must go with {kind}, got an --out of another kind."
        raise SettingError(msg)


def _tables(data: Path | None, grid: Path | None, sample: Path | None) -> dict[str, Any]:
    """The table of sizes and that of rows, from the folder where they aren't named."""
    from satmask import SettingError

    if data is not None:
        grid = grid or data / "grid_sizes.csv"
        beside = data / "sample_submission.csv"
        sample = sample or (beside if beside.is_file() else None)
    if grid is None:
        msg = "--out of DSTL's .csv must come with --data or --grid, got neither."
        raise SettingError(msg)
    return {"sizes": grid, "sample": sample}


def _submit_dstl(
    images: Iterable[PredictedImage], out: Path, tables: dict[str, Any], *, count: int, quiet: bool, as_json: bool
) -> None:
    from dataclasses import asdict

    from satmask.cli.output import complain, say, say_json
    from satmask.progress import track
    from satmask.submission import write_dstl

    with track("Writing", count, unit="images", quiet=quiet) as advance:
        done = write_dstl(out, images, **tables, progress=lambda name: advance(1, name))
    for what, names in (("have no prediction: their rows are empty", done.unpredicted), ("aren't in the sample", done.unasked)):  # fmt: skip
        if names:
            complain(f"note: {len(names):,} images {what}, such as {names[0]}.")
    if as_json:
        say_json({**asdict(done), "file": done.path, "bytes": out.stat().st_size})
    else:
        size = f"{out.stat().st_size / 1e6:,.1f} MB"
        say(f"{done.polygons:,} polygons of {done.images:,} images in {done.rows:,} rows, {size}, written to {out}")


def _submit_crowdai(predictions: Path, out: Path, truth: Path | None, settings: dict[str, Any], as_json: bool) -> None:
    from satmask import write_crowdai
    from satmask.cli.output import say, say_json
    from satmask.submission import find_tiles

    names: list[int] = []
    tiles = _noted(find_tiles(predictions, truth=truth), names)
    count = write_crowdai(out, tiles, truth=truth, **settings)
    if as_json:
        say_json({"file": out, "tiles": len(names), "detections": count})
    else:
        say(f"{count:,} buildings in {len(names):,} tiles written to {out}")


def _noted(tiles: Iterable[PredictedTile], names: list[int]) -> Iterator[PredictedTile]:
    for tile in tiles:
        names.append(tile.image_id)
        yield tile
