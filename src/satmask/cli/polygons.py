"""`satmask polygons`: a raster of classes or probabilities to map features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import DecisionFile, Json, LegendFile, Thresholds

if TYPE_CHECKING:
    import numpy as np

    from satmask.legend import Legend
    from satmask.scene import Scene

MARK = " probability"


def polygons(
    raster: Annotated[
        Path, typer.Argument(metavar="RASTER", help="Class ids, or probabilities as floats, one band a class.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="File to write: .gpkg, .fgb, .parquet, .geojson or .shp.")],
    legend: LegendFile = None,
    threshold: Thresholds = None,
    decision: DecisionFile = None,
    min_area_m2: Annotated[float, typer.Option(min=0, help="Leave out what is smaller on the ground.")] = 0.0,
    min_hole_m2: Annotated[float, typer.Option(min=0, help="Fill holes that are smaller.")] = 0.0,
    open_m: Annotated[float, typer.Option(min=0, help="Take off what a disc of this radius doesn't fit into.")] = 0.0,
    close_m: Annotated[
        float, typer.Option(min=0, help="Close gaps that a disc of this radius doesn't fit into.")
    ] = 0.0,
    separate_m: Annotated[
        float, typer.Option(min=0, help="Part objects where they narrow by this much on each side; for buildings, 0.5.")
    ] = 0.0,
    simplify_m: Annotated[float, typer.Option(min=0, help="Leave out vertices; shared borders stay shared.")] = 0.0,
    square: Annotated[
        bool, typer.Option("--square", help="Give outlines right angles where the mask has them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a raster into map features.

    Each group of pixels that share edges and a class is a polygon. With flags that shape them, rows say more, and what
    each step saves and costs is told.
    """
    from satmask import Scene, SettingError, find_polygons, write_polygons
    from satmask.cli import options
    from satmask.cli.output import complain, say, say_json

    limits = options.numbers(threshold, "--threshold")
    with Scene(raster) as scene:
        classes = _named(scene, legend)
        if scene.dtype.kind == "f":
            masks, probabilities = _decided(scene, classes, decision, limits)
        elif limits or decision:
            msg = f"--threshold and --decision must come with probabilities, got class ids in {raster.name}."
            raise SettingError(msg)
        else:
            masks, probabilities = _ids(scene), None
        if any((min_hole_m2, open_m, close_m, separate_m, simplify_m, square)):
            from satmask.cleaning import Cleaning
            from satmask.features import Shaping, find_features

            cleaning = Cleaning(open_m, close_m, min_hole_m2, min_area_m2)
            shaping = Shaping(cleaning, separate_depth=separate_m, simplify_m=simplify_m, square=square)
            if scene.grid.gsd_m is None:
                msg = f"Shapes in metres must have a scene with a CRS, got one without: {raster.name}."
                raise SettingError(msg)
            features = find_features(masks, scene.grid, classes, probabilities=probabilities, shaping=shaping)
            frame, steps = features.frame, features.steps
        else:
            frame = find_polygons(masks, scene.grid, classes, probabilities=probabilities, min_area_m2=min_area_m2)
            steps = ()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_polygons(frame, out, layer="polygons")
    counts = {name: int((frame["class"] == name).sum()) for name in classes.names}
    if as_json:
        told = {"steps": [step.to_dict() for step in steps]} if steps else {}
        say_json({"file": out, "polygons": len(frame), "classes": counts} | told)
        return
    for step in steps:
        complain(f"{step.name}: {step.polygons:,} polygons, {step.vertices:,} vertices, IoU {step.iou:.4f}")
    for name, count in counts.items():
        say(f"{name}  {count:,}")
    say(f"{len(frame):,} polygons written to {out}")


def _named(scene: Scene, path: Path | None) -> Legend:
    """The classes: from a legend file, else as the raster's tags say, else numbered as they are found."""
    from satmask import Legend, read_legend
    from satmask.rasters import read_legend_tags

    legend = read_legend(path) if path else read_legend_tags(scene.path)
    if scene.dtype.kind == "f":
        return _in_band_order(scene, legend)
    if legend is None:
        import numpy as np

        found = np.setdiff1d(np.unique(_ids(scene)), [0, scene.profile.get("nodata") or 0])
        legend = Legend.of({int(id_): f"class {id_}" for id_ in found} or {1: "class 1"})
    return legend


def _in_band_order(scene: Scene, legend: Legend | None) -> Legend:
    """The classes in the order of the bands, which are named after them where predict wrote the file."""
    from satmask import DataError, Legend

    names = [name.removesuffix(MARK) for name in scene.bands]
    if legend is None:
        return Legend.of(names)
    by_name = {entry.name: entry for entry in legend}
    if set(names) == set(by_name):
        return Legend(tuple(by_name[name] for name in names), exclusive=legend.exclusive)
    if len(names) != len(legend):
        msg = f"Probabilities must have a band for each of {', '.join(legend.names)}, got {', '.join(names)} "
        msg += f"in {scene.path.name}."
        raise DataError(msg)
    return legend


def _ids(scene: Scene) -> np.ndarray:
    """Class ids of the whole raster, 0 where it holds nodata that isn't a class."""
    from satmask import DataError, Window

    values = scene.raw(Window(0, 0, *scene.grid.shape))
    if values.shape[2] != 1 or values.dtype.kind not in "ui":
        msg = f"Raster must have one band of class ids, or floats, got {values.shape[2]} of {values.dtype} "
        msg += f"in {scene.path.name}."
        raise DataError(msg)
    return values[..., 0]


def _decided(
    scene: Scene, legend: Legend, path: Path | None, limits: tuple[float, ...] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Decide as the raster says that predict did, but for what is given: class ids, or a mask a class."""
    import numpy as np

    from satmask import Window
    from satmask.decisions import Decision, read_decision
    from satmask.prediction import decide

    probabilities = scene.raw(Window(0, 0, *scene.grid.shape)).astype(np.float32, copy=False)
    decision = Decision(legend) if legend.exclusive else Decision.from_tags(scene.tags, legend)
    decision = (read_decision(path, decision) if path else decision).with_thresholds(limits)
    if legend.exclusive:
        return decide(probabilities, legend, decision.thresholds), probabilities
    return decision.masks(probabilities, gsd_m=scene.grid.gsd_m), probabilities
