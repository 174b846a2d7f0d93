"""`satmask score`: predictions against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import File, Json, LegendFile

if TYPE_CHECKING:
    from satmask.cli.score_details import Asked, Details
    from satmask.legend import Legend
    from satmask.scoring.coco import CocoScore
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.pixels import Confusion
    from satmask.scoring.rasters import FolderScore

CLASSES = ".classes.tif"
Comparisons = dict[str, "Comparison"]
Groups = dict[str, "tuple[Confusion | None, CocoScore | None]"]


def score(
    prediction: Annotated[
        Path,
        typer.Argument(metavar="PREDICTION", help="Class raster, folder of them, result JSON or CSV.", exists=True),
    ],
    truth: Annotated[
        Path, typer.Argument(help="Raster, vector file, folder, data set, annotation JSON or CSV.", exists=True)
    ],
    *,
    legend: LegendFile = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="VALUE=ID", help="Class id of a value in the truth; repeatable."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Score groups of images, too, by what matches in their names.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(**File, help="DSTL's grid_sizes.csv; by default the one beside the truth.")
    ] = None,
    boundary: Annotated[
        str | None, typer.Option(metavar="DISTANCE", help="Boundary IoU, too, within 2% of the diagonal, 5px or 1m.")
    ] = None,
    objects: Annotated[
        bool, typer.Option("--objects", help="Objects, too: found, kinds of errors, how well drawn; COCO's table.")
    ] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="The worst objects, too, one by one: missed, invented, badly drawn.")
    ] = False,
    polygons: Annotated[
        Path | None,
        typer.Option(
            help="Vector file, or folder of them, with the predicted objects; else they are traced.", exists=True
        ),
    ] = None,
    intervals: Annotated[
        str | None,
        typer.Option(metavar="images|groups", help="95 % intervals over images, or over the groups of --by."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score predictions against the truth.

    Prints IoU, precision, recall and F1 of each class; for data in crowdAI's layout AP and AR at IoU 0.5, too. A table of
    polygons (CSV) is scored as the DSTL challenge does.
    """
    from satmask.cli import options
    from satmask.cli.score_details import asked_for
    from satmask.cli.score_tables import score_tables

    asked = asked_for(boundary=boundary, objects=objects, intervals=intervals, by=by, polygons=polygons, errors=errors)
    if prediction.suffix.lower() == ".csv":
        asked.refuse("a table of polygons (CSV)")
        if not score_tables(prediction, truth, legend=legend, grid=grid, by=by, as_json=as_json):
            raise typer.Exit(1)
    elif prediction.suffix == ".json":
        asked.refuse_rasters("a result file")
        _score_results(prediction, truth, asked, as_json=as_json)
    else:
        _score_rasters(prediction, truth, asked, legend=legend, mapping=options.mapping(pairs), as_json=as_json)


def _score_results(prediction: Path, truth: Path, asked: Asked, *, as_json: bool) -> None:
    """Score a result file in crowdAI's layout, and say how it did."""
    from satmask import score_coco
    from satmask.cli.score_details import find_details

    file = _annotation_file(truth)
    found = score_coco(prediction, file)
    details = find_details(asked, None, {}, (prediction, file))
    _report(None, found, _groups(asked.by, None, (prediction, file)), details, as_json=as_json)


def _score_rasters(
    prediction: Path,
    truth: Path,
    asked: Asked,
    *,
    legend: Path | None,
    mapping: dict[int, int],
    as_json: bool,
) -> None:
    """Score class rasters, and their objects where the truth asks for it, and say how they did."""
    from satmask import read_legend, score_coco
    from satmask.cli.output import complain_about
    from satmask.cli.score_details import find_details

    known = read_legend(legend) if legend else None
    result, comparisons = score_pixels(prediction, truth, known, mapping)
    tiles = objects_of(prediction, truth)
    score = score_coco(*tiles) if tiles else None
    details = find_details(asked, result, comparisons, tiles)
    _report(result, score, _groups(asked.by, result, tiles), details, as_json=as_json)
    if result.failed:
        complain_about([f"{name}: {reason}" for name, reason in result.failed.items()], what="error")
        raise typer.Exit(1)


def score_pixels(
    prediction: Path, truth: Path, legend: Legend | None, mapping: dict[int, int]
) -> tuple[FolderScore, Comparisons]:
    """Score pixels in the way that the truth asks for, and tell what was compared with what, by name."""
    from satmask import SettingError
    from satmask.datasets import recognise
    from satmask.datasets.scenes import VECTOR_SUFFIXES

    vectors = truth.suffix.lower() in VECTOR_SUFFIXES
    dataset = truth.is_dir() and (recognise(truth) or any((truth / name).is_dir() for name in ("train", "val")))
    if not vectors and not dataset:
        return _by_rasters(prediction, truth, legend, mapping)
    if mapping:
        msg = f"--map must come with a raster, or a folder of nothing but rasters, as the truth, got {truth}."
        raise SettingError(msg)
    return (_by_vectors if vectors else _by_dataset)(prediction, truth, legend)


def _by_rasters(
    prediction: Path, truth: Path, legend: Legend | None, mapping: dict[int, int]
) -> tuple[FolderScore, Comparisons]:
    from satmask import DataError, score_folders, score_rasters
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.rasters import FolderScore, files_by_name

    if prediction.is_dir() != truth.is_dir():
        msg = f"Prediction and truth must both be files or both be folders, got {prediction} and {truth}."
        raise DataError(msg)
    legend = legend or _tagged(prediction)
    mapping = mapping or _one_to_one(prediction, truth, legend)
    if truth.is_dir():
        result = score_folders(prediction, truth, legend, mapping=mapping)
        said, true = files_by_name(prediction), files_by_name(truth)
    else:
        total = score_rasters(prediction, truth, legend, mapping=mapping)
        name = _name(prediction)
        result, said, true = FolderScore(total, {name: total}), {name: prediction}, {name: truth}
    return result, {name: Comparison(said[name], true[name], result.total.legend, mapping) for name in result.parts}


def _one_to_one(prediction: Path, truth: Path, legend: Legend | None) -> dict[int, int]:
    """Where both sides have a single class under different ids, the truth's id stands for the prediction's."""
    from satmask import DataError
    from satmask.scoring.rasters import class_values

    try:
        said = set(legend.ids) if legend else class_values(_rasters(prediction), {})
        true = class_values(_rasters(truth), {})
    except DataError:
        return {}  # masks, one band a class: nothing to map
    if len(said) != 1 or len(true) != 1 or said == true:
        return {}
    return _told({min(true): min(said)}, "truth", "prediction")


def _told(mapping: dict[int, int], source: str, target: str) -> dict[int, int]:
    from satmask.cli.output import complain

    for value, id_ in mapping.items():
        complain(f"note: {value} in the {source} is taken for {id_} in the {target}, the only class of each.")
    return mapping


def _by_vectors(prediction: Path, truth: Path, legend: Legend | None) -> tuple[FolderScore, Comparisons]:
    from satmask import Scene
    from satmask.cli.output import complain_about
    from satmask.datasets.scenes import read_labels
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.labels import score_samples

    tagged = _tagged(prediction)
    paths = _predictions(prediction)
    truths, problems = {}, set()
    for name, path in paths.items():
        with Scene(path) as scene:
            labels, found = read_labels(truth, scene.grid, legend or tagged)
        truths[name] = labels, path
        problems |= {problem.what for problem in found}
    complain_about(sorted(problems))
    chosen = next(iter(truths.values()))[0].legend if truths else None
    mapping = _renamed(prediction, tagged, chosen)
    result = score_samples(paths, truths, mapping=mapping)
    legend = result.total.legend
    return result, {name: Comparison(paths[name], truths[name][0], legend, mapping) for name in result.parts}


def _by_dataset(prediction: Path, truth: Path, legend: Legend | None) -> tuple[FolderScore, Comparisons]:
    from satmask import read_dataset
    from satmask.cli.output import complain
    from satmask.datasets import recognise
    from satmask.datasets.legend_file import find_legend
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.labels import score_samples

    tagged = _tagged(prediction)
    # COCO's categories have names of their own; masks and vectors often don't.
    guess = None if find_legend(truth) or any(recognise(part) == "coco" for part in _parts(truth)) else tagged
    data = read_dataset(truth, legend=legend or guess)
    if data.problems:
        complain(f"warning: problems in the truth, {len(data.problems):,} in all: {data.problems[0].what}")
    samples = {sample.name: sample for split in data.splits.values() for sample in split}
    paths, mapping = _predictions(prediction), _renamed(prediction, tagged, data.legend)
    result = score_samples(paths, {name: (one.labels, one.image) for name, one in samples.items()}, mapping=mapping)
    return result, {
        name: Comparison(paths[name], samples[name].labels, result.total.legend, mapping, samples[name].bounds)
        for name in result.parts
    }


def _renamed(prediction: Path, said: Legend | None, true: Legend | None) -> dict[int, int]:
    """Where both sides have a single class under different ids, the prediction's id stands for the truth's."""
    from satmask.scoring.rasters import class_values

    ids = set(said.ids) if said else class_values(_rasters(prediction), {})
    if true is None or len(true) != 1 or len(ids) != 1 or ids == set(true.ids):
        return {}
    return _told({min(ids): true.ids[0]}, "prediction", "truth")


def objects_of(prediction: Path, truth: Path) -> tuple[list[dict[str, Any]], Path] | None:
    """Predicted tiles as crowdAI's detections, and the truth for them; None where there is no such truth."""
    from satmask import DataError, read_dataset
    from satmask.cli.output import complain
    from satmask.submission import crowdai_results, find_tiles

    files = [file for part in _parts(truth) if (file := _annotations(part))]
    if not prediction.is_dir() or not files or not any(prediction.glob(f"*{CLASSES}")):
        return None
    names = {path.name.removesuffix(CLASSES) for path in prediction.glob(f"*{CLASSES}")}
    wanted = [file for file in files if names & {s.name for s in read_dataset(file.parent).splits["train"]}]
    legend = read_dataset(wanted[0].parent).legend if len(wanted) == 1 else None
    if legend is None or len(legend) != 1:
        complain("note: no AP and AR: the predictions must be of one split with one category.")
        return None
    try:
        entries = crowdai_results(find_tiles(prediction, truth=wanted[0]))
        return [entry | {"category_id": legend.ids[0]} for entry in entries], wanted[0]
    except DataError as error:
        complain(f"warning: no AP and AR: {error}")
        return None


def _groups(
    by: str | None, pixels: FolderScore | None, objects: tuple[list[dict[str, Any]] | Path, Path] | None
) -> Groups:
    """Scores of each group of images, by name."""
    from satmask.scoring.coco import score_groups
    from satmask.scoring.rasters import group_of

    if by is None:
        return {}
    counts = pixels.by(by) if pixels else {}
    found = score_groups(*objects, lambda name: group_of(name, by)) if objects else {}
    return {name: (counts.get(name), found.get(name)) for name in sorted({*counts, *found})}


def _annotation_file(truth: Path) -> Path:
    from satmask import DataError

    file = _annotations(truth) if truth.is_dir() else truth
    if file is None:
        msg = f"Truth of a result file must be an annotation file or a folder that holds one, got {truth}."
        raise DataError(msg)
    return file


def _annotations(folder: Path) -> Path | None:
    from satmask.datasets.coco import ANNOTATIONS

    return next((folder / name for name in ANNOTATIONS if (folder / name).is_file()), None)


def _parts(truth: Path) -> list[Path]:
    return [part for part in (truth, truth / "train", truth / "val") if part.is_dir()]


def _rasters(path: Path) -> list[Path]:
    return list(_predictions(path).values())


def _predictions(path: Path) -> dict[str, Path]:
    """Class rasters by the name of their scene: those that predict wrote, else all of a folder.

    Where classes may overlap, a class raster shows only the uppermost: the probabilities beside it say more.
    """
    from satmask.scoring.rasters import SUFFIXES

    if not path.is_dir():
        return {_name(path): _overlapping(path) or path}
    written = sorted(path.glob(f"*{CLASSES}"))
    others = (file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES)
    return {_name(file): _overlapping(file) or file for file in written or others}


def _overlapping(path: Path) -> Path | None:
    """The probabilities beside a class raster of several classes that may overlap, if they were kept."""
    from satmask import SatmaskError
    from satmask.rasters import read_legend_tags

    beside = path.with_name(path.name.removesuffix(CLASSES) + ".probabilities.tif")
    if not path.name.endswith(CLASSES) or not beside.is_file():
        return None
    try:
        legend = read_legend_tags(path)
    except SatmaskError:
        return None  # reported in its turn
    return beside if legend and len(legend) > 1 and not legend.exclusive else None


def _name(path: Path) -> str:
    from satmask.scoring.rasters import bare_name

    return path.name.removesuffix(CLASSES) if path.name.endswith(CLASSES) else bare_name(path)


def _tagged(prediction: Path) -> Legend | None:
    """The legend that predict wrote into its rasters."""
    from satmask import SatmaskError
    from satmask.rasters import read_legend_tags

    for path in _rasters(prediction):
        try:
            return read_legend_tags(path)
        except SatmaskError:
            continue  # reported in its turn
    return None


def _report(
    pixels: FolderScore | None, objects: CocoScore | None, groups: Groups, details: Details, *, as_json: bool
) -> None:
    from satmask.cli.output import complain, say, say_json, say_table

    if pixels and pixels.unpaired:
        complain(f"note: {len(pixels.unpaired):,} files without a partner, such as {pixels.unpaired[0].name}.")
    if as_json:
        say_json(_plain(pixels, objects, groups) | details.to_dict())
        return
    if pixels:
        say_table(pixels.total.table())
        count = len(pixels.parts)
        say(f"{pixels.total.pixels:,} pixels of {count:,} image{'s' * (count != 1)}")
    if objects:
        say(f"AP@0.5  {objects.ap50:.4f}")
        say(f"AR@0.5  {objects.ar50:.4f}")
        found = f"{objects.matched:,} of {objects.truths:,} objects found by {objects.detections:,} detections"
        say(f"{found} in {objects.tiles:,} tiles")
    for table in details.tables():
        say("")
        say_table(table)
    if groups:
        say("")
        say_table(_group_rows(groups, details))


def _group_rows(groups: Groups, details: Details) -> list[tuple[str, ...]]:
    """One row a group: means over its classes, and what is known of its objects."""
    has_pixels, has_objects = (any(pair[side] for pair in groups.values()) for side in (0, 1))
    heads = ("pixels", "IoU", "precision", "recall", "F1") if has_pixels else ()
    rows: list[tuple[str, ...]] = [("group", *heads, *(("AP@0.5", "AR@0.5") if has_objects else ()), *details.heads)]
    for name, (counts, found) in groups.items():
        measures = [counts.mean(measure) for measure in ("iou", "precision", "recall", "f1")] if counts else []
        pixels = (f"{counts.pixels:,}", *(f"{value:.4f}" for value in measures)) if counts else ("",) * len(heads)
        objects = (f"{found.ap50:.4f}", f"{found.ar50:.4f}") if found else ("", "") if has_objects else ()
        rows.append((name, *pixels, *objects, *details.cells(name)))
    return rows


def _plain(pixels: FolderScore | None, objects: CocoScore | None, groups: Groups) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if pixels:
        parts = {name: part.to_dict() for name, part in pixels.parts.items()}
        content["pixels"] = pixels.total.to_dict()
        content["parts"] = {
            name: {"iou": part["mean"]["iou"], "pixels": part["pixels"], "matrix": part["matrix"]}
            for name, part in parts.items()
        }
        content["unpaired"] = [path.name for path in pixels.unpaired]
        content["failed"] = dict(pixels.failed)
    if objects:
        content["crowdai"] = objects.to_dict()
    if groups:
        content["groups"] = {
            name: {"pixels": counts and counts.to_dict(), "crowdai": found and found.to_dict()}
            for name, (counts, found) in groups.items()
        }
    return content
