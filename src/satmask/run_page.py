"""The page about a run: what it learned, how good it is, where it errs, and what it was made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask import charts, figures, threshold_charts
from satmask.object_page import object_sections
from satmask.pictures import panel_key, panels
from satmask.report import Page, Picture, Section, Table
from satmask.run import best_epoch
from satmask.validation import SLIVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from satmask.datasets.dataset import Dataset
    from satmask.legend import Legend
    from satmask.model_info import ModelInfo
    from satmask.object_page import ShownObject
    from satmask.pictures import Example
    from satmask.report import Value
    from satmask.run import Run
    from satmask.scoring.pixels import Confusion
    from satmask.scoring.thresholds import ThresholdCounts
    from satmask.survey import Survey
    from satmask.validation import View

MEASURES = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True)
class Findings:
    """Everything that the page tells.

    Attributes:
        run: The run.
        data: The data set.
        held: Survey of its validation samples.
        split: A sentence that says how they were chosen.
        info: What the model file says.
        counts: Truth against prediction over all validation samples.
        spread: Probabilities against truth over all validation samples.
        scores: The content of `scores.json`.
        shown: Views with their pictures under "worst" and "best".
        worst: The worst objects with their pictures, under the names of `satmask.scoring.object_list.RANKINGS`.
    """

    run: Run
    data: Dataset
    held: Survey
    split: str
    info: ModelInfo
    counts: Confusion
    spread: ThresholdCounts
    scores: dict[str, Any]
    shown: dict[str, list[tuple[View, Example]]]
    worst: dict[str, list[ShownObject]] = field(default_factory=dict)


def page_of(found: Findings, *, quality: int = 82) -> Page:
    """Lay out the page.

    Args:
        found: What to tell.
        quality: Of photographs, 1 to 100.
    """
    made = found.scores["created"][:16].replace("T", " ")
    sections = (
        _summary(found),
        _curves(found),
        _scores(found),
        _probabilities(found),
        _places(found),
        _gallery(found, "worst", quality),
        _gallery(found, "best", quality),
        *_objects(found, quality),
        _windows(found),
        _model(found),
        _recipe(found),
        _problems(found),
    )
    return Page(
        title=f"Training run “{found.run.folder.resolve().name}”",
        subtitle=f"{found.info.network} on {found.scores['data']['name']} · {made} UTC · satmask {found.info.version}",
        sections=[section for section in sections if section is not None],
    )


def _summary(found: Findings) -> Section:
    counts, history = found.counts, found.run.history
    names = list(found.info.legend.names)
    one = len(names) == 1
    what = f"“{names[0]}”" if one else f"{len(names)} classes ({_listed(names)})"
    how = "IoU" if one else "mean IoU"
    images = f"{len(found.held.samples):,} validation image{'s' * (len(found.held.samples) != 1)}"
    said = (
        f"The network finds {what} with {'an' if one else 'a'} {how} of {_number(counts.mean('iou'))} "
        f"(precision {_number(counts.mean('precision'))}, recall {_number(counts.mean('recall'))}) on {images} that it "
        f"wasn't trained on, {counts.pixels / 1e6:,.1f} million labelled pixels."
    )
    objects = found.scores["objects"]
    if objects and objects["truths"]:
        said += (
            f" Counted in objects, {objects['matched']:,} of {objects['truths']:,} are found with an IoU of at least 0.5: "
            f"AP {objects['ap50']:.3f}, AR {objects['ar50']:.3f}, as the crowdAI challenge counts."
        )
    caution = found.split
    if len(history) > 1:
        caution += (
            f" Epoch {best_epoch(history)} of {len(history)} was chosen because it was the best on these very images, so "
            f"the scores flatter it a little; images that took part in no choice would give an honest number."
        )
    return Section("Summary", f"{said}\n\n{caution}")


def _curves(found: Findings) -> Section | None:
    history = found.run.history
    if not history:
        return None
    series = {key: [row[key] for row in history] for key in history[0] if key not in ("images_per_s", "seconds")}
    best = history[best_epoch(history) - 1]
    seconds = sum(row["seconds"] for row in history)
    text = (
        f"{len(history)} epoch{'s' * (len(history) != 1)} in {_duration(seconds)}, "
        f"{np.median([row['images_per_s'] for row in history]):,.1f} windows a second. These are scores of windows during "
        f"training, training ones augmented; the tables below are of whole images, predicted by the finished model file."
    )
    alt = f"Loss and IoU over {len(history)} epochs; validation IoU is best in epoch {best['epoch']:.0f}: {best['val_iou']:.3f}."
    return Section("Learning", text, pictures=[_chart(charts.learning_curves(series), alt)])


def _scores(found: Findings) -> Section:
    counts, legend = found.counts, found.info.legend
    rows: list[list[Value]] = [
        [entry["name"], *(entry[key] for key in MEASURES), entry["truth_pixels"], entry["predicted_pixels"]]
        for entry in found.scores["total"]["classes"]
    ]
    if len(legend) > 1:
        rows.append(["mean of classes", *(counts.mean(key) for key in MEASURES), None, None])  # type: ignore[arg-type]
        rows.append(["all pixels together", *(counts.pooled(key) for key in MEASURES), None, None])  # type: ignore[arg-type]
    headers = ["Class", *MEASURES.values(), "Pixels in truth", "Predicted"]
    bars = {row["name"]: _nan(row["iou"]) for row in found.scores["total"]["classes"]}
    colours = {entry.name: entry.colour for entry in legend}
    alt = "IoU of each class: " + ", ".join(f"{name} {_number(value)}" for name, value in bars.items())
    if len(legend) == 1:
        measured: dict[str, float] = {name: counts.pooled(key) for key, name in MEASURES.items()}  # type: ignore[arg-type]
        bars, colours = measured, dict.fromkeys(MEASURES.values(), legend.classes[0].colour)
        alt = ", ".join(f"{name} {_number(value)}" for name, value in bars.items())
    pictures = [_chart(charts.score_bars(bars, colours=colours), alt, "IoU of each class" if len(legend) > 1 else "")]
    if matrix := _matrix(counts):
        pictures.append(matrix)
    text = (
        "IoU is the share of pixels that truth and prediction have in common among those that either has. Precision is "
        "how much of what was predicted is right, recall how much of the truth was found."
    )
    return Section("Scores", text, [Table(headers, rows)], pictures, columns=len(pictures))


def _matrix(counts: Confusion) -> Picture | None:
    """The confusion matrix where a pixel has one class or none; overlapping classes have none."""
    legend = counts.legend
    if len(legend) > 1 and not legend.exclusive:
        return None
    names = legend.names if legend.exclusive else ("background", *legend.names)
    matrix = counts.matrix if legend.exclusive else counts.matrix[0]
    alt = f"Confusion matrix of {_listed(names)}: {counts.accuracy:.1%} of pixels are right."
    return _chart(charts.confusion_matrix(matrix, names), alt, "Where the pixels of each class went, in % of the truth")


def _probabilities(found: Findings) -> Section:
    """What other thresholds would give, and whether probabilities can be believed."""
    mean, spread = found.scores["probabilities"]["mean"], found.spread
    rows: list[list[Value]] = [
        [entry["name"], entry["average_precision"], entry["calibration_error"], used]
        + [entry["best"][key] if entry["average_precision"] is not None else None for key in ("threshold", "f1")]
        for entry, used in zip(found.scores["probabilities"]["classes"], _thresholds(found), strict=True)
    ]
    headers = ["Class", "Average precision", "Calibration error", "Threshold used", "Best threshold", "F1 there"]
    text = (
        "A lower threshold finds more and errs more often. The threshold with the best F1 was found on these very "
        "images, so it flatters a little. Where a reliability curve lies below the diagonal, the network is surer than "
        "it should be; the calibration error is how far it lies off, averaged over all pixels (Guo et al., 2017)."
    )
    alts = [
        f"Precision against recall; average precision {_number(_nan(mean['average_precision']))}.",
        f"How often the class is there at each probability; calibration error {_number(_nan(mean['calibration_error']))}.",
    ]
    drawn = [threshold_charts.precision_recall(spread), threshold_charts.reliability_curve(spread)]
    pictures = [_chart(figure, alt) for figure, alt in zip(drawn, alts, strict=True)]
    return Section("Thresholds and probabilities", text, [Table(headers, rows)], pictures, columns=2)


def _thresholds(found: Findings) -> Sequence[float | None]:
    """The threshold of each class; none where the most probable class is taken."""
    legend = found.info.legend
    return [None] * len(legend) if legend.exclusive else list(found.info.thresholds)


def _places(found: Findings) -> Section | None:
    places = found.scores["places"]
    if len(places) < 2:
        return None
    names = found.info.legend.names
    extra = names if 1 < len(names) <= 8 else ()
    rows = [
        [
            entry["place"] or "unnamed",
            entry["images"],
            entry["pixels"],
            entry["iou"],
            *(entry["classes"][name] for name in extra),
        ]
        for entry in places
    ]
    text = "Where a place scores much lower than the others, more training images like it help most."
    first = "IoU" if len(names) == 1 else "IoU, all pixels"
    return Section("Places", text, [Table(["Place", "Images", "Labelled pixels", first, *extra], rows)])


def _gallery(found: Findings, name: str, quality: int) -> Section | None:
    views, legend = found.shown[name], found.info.legend
    if not views:
        return None
    parts = any(view.sample.shape != (view.window.height, view.window.width) for view, _ in views)
    text = f"The {'windows' if parts else 'images'} with the {'lowest' if name == 'worst' else 'highest'} IoU"
    text += " of all classes together" if len(legend) > 1 else ""
    text += "." if legend.exclusive else f", among those that are labelled in at least {SLIVER:.1%} of their pixels."
    pictures = [picture for view, example in views for picture in _row(view, example, legend, quality)]
    return Section(f"{name.capitalize()} predictions", text, pictures=pictures, columns=4, key=panel_key(legend))


def _objects(found: Findings, quality: int) -> list[Section]:
    told = found.scores.get("errors")
    return object_sections(told, found.worst, found.info.legend, quality) if told else []


def _row(view: View, example: Example, legend: Legend, quality: int) -> list[Picture]:
    """Image, truth, prediction and error of a view."""
    measure = f"IoU {_number(view.iou)}"
    share = f", {view.class_pixels / max(view.counts.pixels, 1):.1%} {legend.names[0]}" if len(legend) == 1 else ""
    return [
        Picture.photo(
            drawn,
            f"{kind.capitalize()} of {example.title}, {measure}",
            f"{example.title}: {measure}{share}" if kind == "image" else kind.capitalize(),
            quality=quality,
        )
        for kind, drawn in panels(example, legend, side=400).items()
    ]


def _windows(found: Findings) -> Section | None:
    path = found.run.folder / "augmented.png"
    if not path.is_file():
        return None
    picture = Picture(path.read_bytes(), "Twelve training windows with their masks, after augmentation")
    text = "The first training windows as the network got them. Masks that don't fit here teach it nonsense."
    return Section("Training windows", text, pictures=[picture])


def _model(found: Findings) -> Section:
    info, path = found.info, found.run.model
    low_high = info.value_range
    reach = "" if info.local else "; it looks at the whole window, so results depend on the window's size a little"
    options: list[list[Value]] = [
        [key.replace("_", " ").capitalize(), _shown(value)] for key, value in info.options.items()
    ]
    rows: list[list[Value]] = [
        ["File", f"{path.name}, {_bytes(path.stat().st_size)}"],
        ["Network", info.network],
        *options,
        ["Weights", _weights(found)],
        ["Classes", _listed([f"{entry.id}: {entry.name}" for entry in info.legend])],
        ["Bands", _listed([band.name for band in info.bands])],
        ["Data type", info.dtype],
        ["Values in training", "; ".join(f"{low:g} to {high:g}" for low, high in low_high)],
        ["Ground sampling distance", "unknown" if info.gsd_m is None else _span(info.gsd_m)],
        ["Stride", f"{info.stride} px"],
        ["Halo", f"{info.halo} px{reach}"],
        ["Mirrored edges", f"{info.margin} px" if info.margin else "none"],
        ["Thresholds", "the most probable class" if info.legend.exclusive else _shown(info.thresholds)],
    ]
    return Section("Model file", tables=[Table(["What", "Value"], rows)])


def _recipe(found: Findings) -> Section | None:
    if not found.run.recipe.is_file():
        return None
    settings = json.loads(found.run.recipe.read_text(encoding="utf-8"))
    rows = [[key, _shown(value)] for key, value in _flat(settings)]
    text = "The settings of this run; the same recipe, data and seed train the same network."
    return Section("Recipe", text, [Table(["Setting", "Value"], rows)])


def _problems(found: Findings) -> Section:
    problems = [*found.data.problems, *found.held.problems]
    if not problems:
        return Section("Data", "No problems were found in the data.")
    kept = problems[:100]
    rows = [[problem.where, problem.what, "left out" if problem.severity == "error" else "used"] for problem in kept]
    text = (
        f"{len(problems):,} problems were found in the data."
        if len(problems) > 1
        else "One problem was found in the data."
    )
    if len(problems) > len(kept):
        text += f" The first {len(kept)} are listed; `satmask inspect` lists all."
    return Section("Data", text, [Table(["Where", "What", "Which was"], rows)])


def _chart(figure: Any, alt: str, caption: str = "") -> Picture:
    return Picture(figures.svg_bytes(figure), alt, caption)


def _weights(found: Findings) -> str:
    """Numbers that the network learned, as far as they are stored in the file; batch normalisation may be folded in."""
    import onnx

    graph = onnx.load(found.run.model, load_external_data=False).graph
    return f"{sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims) > 0):,}"


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of nested settings, as `--set` takes them."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    """A setting in words."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _span(gsd_m: tuple[float, float]) -> str:
    low, high = gsd_m
    return f"{low:.3g} m" if high - low < 0.01 * high else f"{low:.3g} to {high:.3g} m"


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _duration(seconds: float) -> str:
    """A duration in the units that people use for it.

    Examples:
        >>> _duration(21.3), _duration(600), _duration(9000)
        ('21 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
