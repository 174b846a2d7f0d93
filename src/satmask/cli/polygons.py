"""`satmask polygons`: a raster of classes or probabilities to map features."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import DecisionFile, Json, LegendFile, Thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import geopandas
    import numpy as np

    from satmask.cleaning import Cleaning
    from satmask.decisions import Decision
    from satmask.features import Read, Shaping, Step, Steps
    from satmask.legend import Legend
    from satmask.scene import Scene
    from satmask.windows import Window

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
        float | None,
        typer.Option(
            min=0,
            help="Part objects where they narrow by this much on each side; for buildings, 0.5. As the raster says by default.",
        ),
    ] = None,
    simplify_m: Annotated[float, typer.Option(min=0, help="Leave out vertices; shared borders stay shared.")] = 0.0,
    square: Annotated[
        bool, typer.Option("--square", help="Give outlines right angles where the mask has them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a raster into map features.

    Each group of pixels that share edges and a class is a polygon. How classes are decided, and whether objects are parted,
    is as the raster says. With flags that shape them, rows say more, and what each step saves and costs is told.
    """
    from satmask import Scene
    from satmask.cleaning import Cleaning
    from satmask.cli import options
    from satmask.features import Steps
    from satmask.polygon_writer import PolygonWriter

    limits = options.numbers(threshold, "--threshold")
    cleaning = Cleaning(open_m, close_m, min_hole_m2, min_area_m2)
    asked = any((min_hole_m2, open_m, close_m, separate_m, simplify_m, square))
    with Scene(raster) as scene, PolygonWriter(out, layer="polygons") as writer:
        classes = _named(scene, legend)
        chosen = _decision(scene, classes, decision, limits)
        shaping = _shaping(scene, chosen, cleaning if asked else None, separate_m=separate_m)
        shaping = replace(shaping, simplify_m=simplify_m, square=square)
        read = _masks(scene, chosen) if scene.dtype.kind == "f" else partial(_ids, scene)
        steps = Steps(drawing=asked)
        counts = dict.fromkeys(classes.names, 0)
        for frame in _frames(read, scene, classes, shaping, steps=steps, min_area_m2=min_area_m2):
            writer.write(frame)
            for name, count in frame["class"].value_counts().items():
                counts[name] += int(count)
        writer.finish()
    _tell(out, counts, steps.told() if asked else (), as_json=as_json)


def _tell(out: Path, counts: dict[str, int], steps: Sequence[Step], *, as_json: bool) -> None:
    """Say what was written, and what each step made of it."""
    from satmask.cli.output import complain, say, say_json

    polygons = sum(counts.values())
    if as_json:
        told = {"steps": [step.to_dict() for step in steps]} if steps else {}
        say_json({"file": out, "polygons": polygons, "classes": counts} | told)
        return
    for step in steps:
        complain(f"{step.name}: {step.polygons:,} polygons, {step.vertices:,} vertices, IoU {step.iou:.4f}")
    for name, count in counts.items():
        say(f"{name}  {count:,}")
    say(f"{polygons:,} polygons written to {out}")


def _frames(
    read: Read, scene: Scene, legend: Legend, shaping: Shaping, *, steps: Steps, min_area_m2: float
) -> Iterator[geopandas.GeoDataFrame]:
    """Features strip by strip; plain polygons where nothing is to be shaped."""
    from satmask import Window
    from satmask.features import find_features, stream_features
    from satmask.polygon_writer import stream_polygons
    from satmask.polygons import check_areas, keep_large

    check_areas(scene.grid, min_area_m2)
    if shaping.cleans and legend.exclusive:
        # What is taken from a class goes to the nearest pixel's, which may lie anywhere.
        classes, said = read(Window(0, 0, *scene.shape))
        found = find_features(classes, scene.grid, legend, probabilities=said, shaping=shaping)
        steps.adopt(found.steps)
        yield found.frame
    elif shaping.plain and read(Window(0, 0, 1, 1))[0].ndim == 2:
        yield from stream_polygons(read, scene.grid, legend, min_area_m2=min_area_m2)
    elif shaping.plain:
        for channel, name in enumerate(legend.names):
            one = partial(_one_class, read, legend.ids[channel], channel)
            yield from stream_polygons(one, scene.grid, legend.subset([name]), min_area_m2=min_area_m2)
    else:
        smallest = 0.0 if shaping.cleans else min_area_m2  # else that was the cleaning's
        for frame in stream_features(read, scene.grid, legend, shaping=shaping, steps=steps):
            yield keep_large(frame, legend, min_area_m2=smallest)


def _one_class(read: Read, id_: int, channel: int, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids and probabilities of one class of several that overlap."""
    import numpy as np

    masks, said = read(window)
    ids = masks[..., channel] * np.min_scalar_type(id_).type(id_)
    return ids, None if said is None else said[..., [channel]]


def _shaping(scene: Scene, decision: Decision, cleaning: Cleaning | None, *, separate_m: float | None) -> Shaping:
    """What the raster's decision says, but for what is asked for."""
    from satmask import SettingError
    from satmask.features import shaping_of

    shaping = shaping_of(decision, scene.grid)
    if cleaning is None:
        return shaping if separate_m is None else replace(shaping, separate_depth=separate_m)
    if scene.grid.gsd_m is None:
        msg = f"Shapes in metres must have a scene with a CRS, got one without: {scene.path.name}."
        raise SettingError(msg)
    depth = shaping.separate_depth if separate_m is None else separate_m
    return replace(shaping, cleaning=cleaning, separate_depth=depth)


def _named(scene: Scene, path: Path | None) -> Legend:
    """The classes: from a legend file, else as the raster's tags say, else numbered as they are found."""
    from satmask import Legend, read_legend
    from satmask.rasters import read_legend_tags

    legend = read_legend(path) if path else read_legend_tags(scene.path)
    if scene.dtype.kind == "f":
        return _in_band_order(scene, legend)
    if legend is None:
        import numpy as np

        found = np.setdiff1d(_values(scene), [0, scene.profile.get("nodata") or 0])
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


def _values(scene: Scene) -> np.ndarray:
    """The values that occur in a raster of class ids."""
    import numpy as np

    from satmask import Window
    from satmask.strips import STRIP_PX

    height, width = scene.shape
    rows = max(STRIP_PX // width, 1)
    strips = (Window(top, 0, min(rows, height - top), width) for top in range(0, height, rows))
    return np.unique(np.concatenate([np.unique(_ids(scene, strip)[0]) for strip in strips]))


def _ids(scene: Scene, window: Window) -> tuple[np.ndarray, None]:
    """Class ids of a window."""
    from satmask import DataError

    values = scene.raw(window)
    if values.shape[2] != 1 or values.dtype.kind not in "ui":
        msg = f"Raster must have one band of class ids, or floats, got {values.shape[2]} of {values.dtype} "
        msg += f"in {scene.path.name}."
        raise DataError(msg)
    return values[..., 0], None


def _decision(scene: Scene, legend: Legend, path: Path | None, limits: tuple[float, ...] | None) -> Decision:
    """How the raster says that predict decided, but for what is given."""
    from satmask import SettingError
    from satmask.decisions import Decision, read_decision

    if scene.dtype.kind != "f" and (limits or path):
        msg = f"--threshold and --decision must come with probabilities, got class ids in {scene.path.name}."
        raise SettingError(msg)
    decision = Decision.from_tags(scene.tags, legend)
    return (read_decision(path, decision) if path else decision).with_thresholds(limits)


def _masks(scene: Scene, decision: Decision) -> Read:
    """Classes of a window, and probabilities: class ids, or a mask a class where classes overlap."""
    import numpy as np

    from satmask.prediction import decide
    from satmask.strips import Decided, rules_of

    legend, gsd_m = decision.legend, scene.grid.gsd_m

    def said(window: Window) -> np.ndarray:
        return scene.raw(window).astype(np.float32, copy=False)

    if legend.exclusive:

        def choose(window: Window) -> tuple[np.ndarray, np.ndarray]:
            probabilities = said(window)
            return decide(probabilities, legend, decision.thresholds), probabilities

        return choose
    limits = np.asarray(decision.thresholds, np.float32)
    decided = Decided(
        lambda window: said(window) >= limits,
        scene.shape,
        legend,
        rules_of(decision, gsd_m=gsd_m),
        gsd_m=gsd_m,
        merges=decision.merges,
    )
    return lambda window: (decided.read(window), said(window))
