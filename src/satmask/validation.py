"""Validation: what a model file gets right on images with labels, counted pixel by pixel and kept for each view.

A view is a piece of a sample small enough to look at. Counts of views add up to those of their sample, so the worst
places are found without keeping a prediction in memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add as plus
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.fitting import open_for
from satmask.labels import PolygonLabels, draw
from satmask.masks import encode_coco
from satmask.pictures import Example
from satmask.prediction import LARGEST, decide_pixels, walk
from satmask.sample_objects import Digest, SampleMasks
from satmask.scoring.coco import CocoScore, score_coco
from satmask.scoring.object_list import placed
from satmask.scoring.pixels import Confusion, confusion
from satmask.scoring.thresholds import ThresholdCounts, count_thresholds
from satmask.stretching import display, stretch
from satmask.submission import BUILDING, PredictedTile, crowdai_results
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.grid import Grid
    from satmask.scene import Imagery
    from satmask.survey import Survey

SLIVER = 0.001  # share of a view's pixels; what has less of all classes is a rim cut off by the view's edge
VIEW = 512  # longest side of a view, in pixels


@dataclass(frozen=True)
class View:
    """A piece of a sample, and how well it was predicted.

    Attributes:
        sample: The sample.
        window: Its place there.
        counts: Truth against prediction in this window.
    """

    sample: Sample
    window: Window
    counts: Confusion

    @property
    def iou(self) -> float:
        """IoU of all classes' pixels together; NaN where neither truth nor prediction has any."""
        return self.counts.pooled("iou")

    @property
    def class_pixels(self) -> int:
        """Labelled pixels that have a class."""
        return int((self.counts.true_positives + self.counts.false_negatives).sum())


@dataclass(frozen=True)
class Verdict:
    """How well a sample was predicted.

    Attributes:
        sample: The sample.
        views: Its pieces, in row order.
        detections: Its objects as the crowdAI challenge lists them; empty where they weren't asked for.
        objects: What became of its objects; None where it is too large, see `satmask.sample_objects`.
        grid: Where it lies, as far as it or its labels say.
    """

    sample: Sample
    views: tuple[View, ...]
    detections: tuple[dict[str, Any], ...] = ()
    objects: Digest | None = None
    grid: Grid | None = None

    @property
    def counts(self) -> Confusion:
        """The counts of all views together."""
        return add(view.counts for view in self.views)


def judge(
    engine: Engine,
    held: Survey,
    *,
    objects: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[Verdict], ThresholdCounts]:
    """Predict every sample of a survey and count what is right, window by window.

    Args:
        engine: The network.
        held: The samples, and the bands to read.
        objects: Also list objects, for `score_objects`; the legend must have one class, and samples must fit into memory.
        progress: Called with 1 after each sample.

    Returns:
        A verdict on each sample, in the survey's order, and the probabilities of all samples against their truth.

    Raises:
        SceneError: If an image can't be decoded.
        ModelError: If the images don't fit the model.
    """

    def judge_one(item: tuple[int, Sample]) -> tuple[Verdict, ThresholdCounts]:
        number, sample = item
        judged = _judge_sample(engine, sample, held.indexes, number=number if objects else None)
        progress(1)
        return judged

    # A scene of many windows already keeps all workers busy, and holds as many windows in memory.
    small = max(max(shape) for shape in held.shapes) <= LARGEST
    with ThreadPoolExecutor(engine.workers if small else 1, thread_name_prefix="satmask-judge") as pool:
        verdicts, spread = [], ThresholdCounts.empty(engine.info.legend)
        # Added up here, in order, and not kept: these counts would fill the memory with tens of thousands of tiles.
        for verdict, counts in pool.map(judge_one, enumerate(held.samples)):
            verdicts.append(verdict)
            spread += counts
    return verdicts, spread


def _judge_sample(
    engine: Engine, sample: Sample, bands: Sequence[int | str], *, number: int | None
) -> tuple[Verdict, ThresholdCounts]:
    info, spread = engine.info, ThresholdCounts.empty(engine.info.legend)
    views = [View(sample, window, Confusion.empty(info.legend)) for window in cut(*sample.shape)]
    found = np.zeros(sample.shape if number is not None else (0, 0), bool)
    sure = np.zeros(found.shape, np.float32)
    masks = SampleMasks(sample, info.legend)
    with open_for(info, sample.image, bands=bands) as scene:
        grid = placed(scene.grid, sample.bounds)
        for piece in walk(engine, scene):
            core = piece.tile.core
            truth = sample.labels.read(core)
            said = decide_pixels(piece.probabilities, info)
            counted = truth.labelled & piece.valid
            masks.keep(core, truth, said, piece.valid)
            spread += count_thresholds(piece.probabilities, truth.classes, info.legend, valid=counted)
            for at, view in enumerate(views):
                if not (common := core.shared_with(view.window)):
                    continue
                part = common.seen_from(core).slices
                here = confusion(truth.classes[part], said[part], info.legend, valid=counted[part])
                views[at] = replace(view, counts=views[at].counts + here)
            if number is not None:
                found[core.slices], sure[core.slices] = said[..., 0], np.nan_to_num(piece.probabilities[..., 0])
    tiles = [] if number is None else [PredictedTile(number, found, sure)]
    return Verdict(sample, tuple(views), tuple(crowdai_results(tiles)), masks.digest(), grid), spread


def cut(height: int, width: int) -> list[Window]:
    """Cut a sample into views of about equal sides, none longer than `VIEW`, that touch each pixel once.

    Examples:
        >>> [window.width for window in cut(100, 1100)]
        [366, 367, 367]
    """
    rows, columns = (np.linspace(0, side, -(-side // VIEW) + 1).astype(int).tolist() for side in (height, width))
    return [
        Window(top, left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def rank(verdicts: Sequence[Verdict]) -> list[View]:
    """Views from worst to best IoU; only those whose truth holds more than slivers, so that there was something to find."""
    views = [view for verdict in verdicts for view in verdict.views if view.class_pixels]
    views = [view for view in views if view.class_pixels >= SLIVER * view.counts.pixels] or views
    return sorted(views, key=lambda view: (view.iou, view.sample.name))


def add(counts: Iterable[Confusion]) -> Confusion:
    """Add counts up; there must be some."""
    return reduce(plus, counts)


def by_place(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Sort verdicts by the place that their samples show, in order of name; empty where no sample names one."""
    places = sorted({verdict.sample.place for verdict in verdicts})
    found = {place: [verdict for verdict in verdicts if verdict.sample.place == place] for place in places}
    return {} if places == [""] else found


def illustrate(engine: Engine, view: View, held: Survey) -> Example:
    """Predict a view once more and show it with its truth; the prediction is the same as in `judge`.

    Args:
        engine: The network.
        view: What to show.
        held: The survey that the view's sample is from; it fixes bands and contrast.

    Returns:
        The view, titled with its name, and with its place in the sample where it is a part.
    """
    window, info = view.window, engine.info
    with open_for(info, view.sample.image, bands=held.indexes) as scene:
        pixels = scene.read(window)
        said, valid = _predict_window(engine, scene, window)
    bands, limits = display(held.dtype, held.low, held.high)
    truth = view.sample.labels.read(window)
    name = view.sample.name
    if (window.height, window.width) != view.sample.shape:
        name += f", from row {window.row} and column {window.column}"
    rgb = stretch(pixels.values, valid=pixels.valid, bands=bands, limits=limits)
    masks = truth.classes.astype(bool)
    return Example(rgb, masks, said, truth.labelled & valid, name)


def _predict_window(engine: Engine, scene: Imagery, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Run only the windows of `walk` that a view needs; returns the decision and what is valid."""
    info = engine.info
    probabilities = np.full((window.height, window.width, len(info.legend)), np.nan, np.float32)
    for piece in walk(engine, scene, within=window):
        if common := piece.tile.core.shared_with(window):
            inside = common.seen_from(piece.tile.core).slices
            probabilities[common.seen_from(window).slices] = piece.probabilities[inside]
    return decide_pixels(probabilities, info), ~np.isnan(probabilities[..., 0])


def score_objects(verdicts: Sequence[Verdict]) -> CocoScore:
    """Score detections against the polygons of the labels, as the crowdAI challenge does.

    Args:
        verdicts: Of `judge` with `objects`; all labels are polygons of one class.
    """
    detections = [entry for verdict in verdicts for entry in verdict.detections]
    images, annotations = [], []
    for number, verdict in enumerate(verdicts):
        height, width = verdict.sample.shape
        images.append({"id": number, "file_name": verdict.sample.image.name, "height": height, "width": width})
        annotations += [{**entry, "image_id": number} for entry in _annotations(verdict.sample)]
    for identity, entry in enumerate(annotations, start=1):
        entry["id"] = identity
    return score_coco(detections, {"images": images, "categories": [{"id": BUILDING}], "annotations": annotations})


def _annotations(sample: Sample) -> Iterator[Mapping[str, Any]]:
    """The polygons of a sample's labels in COCO's words."""
    labels = sample.labels
    if not isinstance(labels, PolygonLabels):
        return
    for geometry, channel in zip(labels.geometries, labels.channels, strict=True):
        parts = getattr(geometry, "geoms", [geometry])
        # The last point of a ring repeats the first, which evaluators close a ring with themselves.
        rings = [np.asarray(part.exterior.coords)[:-1, :2].ravel().tolist() for part in parts]
        holed = any(len(part.interiors) for part in parts)
        shape: Any = encode_coco(draw([geometry], Window(0, 0, *labels.shape)) > 0) if holed else rings
        yield {"category_id": BUILDING, "segmentation": shape, "iscrowd": int(channel < 0)}
