"""Averages of runs: one network whose weights are the means of several runs' weights, often better than each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from satmask.batches import TrainingBatches, ValidationBatches
from satmask.errors import ModelError, SettingError
from satmask.losses import make_loss
from satmask.metrics import SegmentationIoU
from satmask.model_file import export
from satmask.models import save_keras
from satmask.progress import track
from satmask.recipe import Recipe
from satmask.run import Run, write_text
from satmask.training.describing import reading_of, upsample_above
from satmask.training.running import look
from satmask.training.starting import find_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from satmask.datasets import Dataset
    from satmask.model_file import ModelInfo
    from satmask.training.starting import Start

WINDOWS = 480


@dataclass(frozen=True)
class Averaged:
    """An average of runs, and how it does beside them.

    Attributes:
        run: Holds `model.keras`, `model.onnx` and `recipe.json`, that of the first run.
        val_iou: IoU of the validation windows at a probability of 0.5, of each run by its name, and of "average".
    """

    run: Run
    val_iou: dict[str, float]


def average_runs(
    data: Dataset,
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    windows: int = WINDOWS,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> Averaged:
    """Average the weights of runs, and write what comes of it as a model.

    Networks that began alike, with the same seed or the same start, and learned in different ways often lie in one
    basin: the mean of their weights then is as quick as one of them, and as good as all of them together. Networks that
    began apart don't, and their mean knows nothing, which `val_iou` tells. What batch normalisation remembers can't be
    averaged; it is measured anew, over training windows as the first run draws them, none of which it has seen.

    Args:
        data: What the runs were trained on.
        runs: Run folders, or `.keras` files with their model files; at least two, of networks that are built alike. The
            first must have its `recipe.json`.
        out: Folder to write; new or empty.
        windows: Training windows for batch normalisation.
        skip_invalid: Leave out broken tiles and annotations instead of refusing the data.
        quiet: Show no progress.

    Returns:
        The average.

    Raises:
        SettingError: If there are fewer than two runs, the first has no recipe, or `out` holds something already.
        ModelError: If a run can't be read, or the runs' networks don't fit one another.
        DataError: If the data can't be used.

    References:
        Wortsman et al., 2022, "Model soups", https://arxiv.org/abs/2203.05482; Izmailov et al., 2018, "Averaging weights
        leads to wider optima and better generalization", https://arxiv.org/abs/1803.05407, for batch normalisation.
    """
    run = Run(Path(out))
    if len(runs) < 2:
        msg = f"Average must be of 2 runs or more, got {len(runs)}. Name another run."
        raise SettingError(msg)
    if run.folder.is_dir() and any(run.folder.iterdir()):
        msg = f"Folder of the average must be new or empty, got {str(run.folder)!r}. Name another."
        raise SettingError(msg)
    starts = [find_start(str(path)) for path in runs]
    networks = [start.load() for start in starts]
    for start, network in zip(starts[1:], networks[1:], strict=True):
        _require_alike(starts[0], networks[0], start, network)
    recipe = _recipe_of(starts[0])
    data, _, seen, held = look(data, recipe, skip_invalid=skip_invalid, quiet=quiet)
    reading = reading_of(seen, recipe.upsampling)
    count = -(-windows // recipe.batch)
    batches = TrainingBatches(
        seen,
        reading,
        recipe.augment,
        size=recipe.window // recipe.upsampling,
        count=count * recipe.batch,
        batch=recipe.batch,
        sampling=recipe.sampling,
        seed=recipe.seed,
        epoch=recipe.epochs,
    )
    checking = ValidationBatches(held.samples, reading, size=recipe.window // recipe.upsampling, batch=recipe.batch)
    names = _names(starts)
    scores = {name: _score(network, recipe, checking) for name, network in zip(names, networks, strict=True)}
    average = networks[0]
    average.set_weights([np.mean(parts, axis=0) for parts in zip(*(n.get_weights() for n in networks), strict=True)])
    with track("Normalising", count * recipe.batch, unit="images", quiet=quiet) as advance:
        remember(average, (batches[step][0] for step in range(count)), told=lambda: advance(recipe.batch))
    scores["average"] = _score(average, recipe, checking)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_text(run.recipe, recipe.model_dump_json(indent=2))
    save_keras(average, run.folder / "model.keras")
    limit = upsample_above(recipe, seen, held)
    export(average, run.model, _info(starts, names, scores["average"], limit))
    return Averaged(run, scores)


def remember(network: Any, batches: Iterable[np.ndarray], *, told: Callable[[], object] = lambda: None) -> None:
    """Let batch normalisation remember the mean and variance of some batches, each counting alike, and nothing else.

    Layers that don't learn keep what they remember.

    Args:
        network: The network.
        batches: Images, float32, `(batch, height, width, bands)`, one batch after the other.
        told: Called after each.
    """
    norms = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    before = [layer.momentum for layer in norms]
    for number, images in enumerate(batches):
        for layer in norms:
            layer.momentum = number / (number + 1)
        network(images, training=True)
        told()
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


def _recipe_of(start: Start) -> Recipe:
    """The recipe that a run keeps, which says what is held out and how windows are drawn."""
    path = start.weights.with_name("recipe.json")
    if not path.is_file():
        msg = f"First run must have its recipe, got none at {path}. Name a run folder first."
        raise SettingError(msg)
    return Recipe.read(path)


def _require_alike(first: Start, network: Any, start: Start, other: Any) -> None:
    """Refuse a run whose weights mean something else than those of the first."""
    infos = (first.info, start.info)
    told = [(info.legend.names, [band.name for band in info.bands], info.dtype, info.activation) for info in infos]
    shapes = [[value.shape for value in one.get_weights()] for one in (network, other)]
    layers = [one.get_layer("normalise") for one in (network, other)]
    scales = [np.asarray([*layer.scale, *layer.offset]) for layer in layers]
    what = "classes, bands or values" if told[0] != told[1] else "layers" if shapes[0] != shapes[1] else ""
    if not what and not np.allclose(scales[0], scales[1], rtol=1e-3, atol=1e-6):
        what = "scaling of values"
    if what:
        msg = f"Runs to be averaged must have the same {what}, got others in {start.name} than in {first.name}."
        raise ModelError(msg + " Train them on the same data, with the same network.")


def _names(starts: Sequence[Start]) -> list[str]:
    """What runs are called; those of the same name by their number, too."""
    names = [start.name for start in starts]
    return [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, start=1)]


def _score(network: Any, recipe: Recipe, checking: ValidationBatches) -> float:
    activation, classes = network.layers[-1].activation.__name__, network.output_shape[-1]
    metric = SegmentationIoU(classes=classes, activation=activation, interior=recipe.loss.interior)
    network.compile(loss=make_loss("bce_dice", activation=activation), weighted_metrics=[metric], jit_compile=False)
    return float(network.evaluate(checking, verbose=0, return_dict=True)["iou"])


def _info(starts: Sequence[Start], names: Sequence[str], val_iou: float, limit: float | None) -> ModelInfo:
    """What the model file says: as the first run's, undecided as one that has just been trained."""
    info = starts[0].info
    averaged = [{"name": name, "sha256": start.sha256} for name, start in zip(names, starts, strict=True)]
    decided = ("calibration", "tuning", "upsampling", "card", "epoch")
    kept = {key: value for key, value in info.training.items() if key not in decided}
    fresh = {"temperatures": (), "biases": (), "thresholds": (), "min_area_m2": (), "min_area_px": (), "merges": ()}
    said = info.model_dump(exclude={"created"}) | fresh | {"shapes": (), "refinements": (), "upsample_above_m": limit}
    return type(info)(**said | {"training": {**kept, "val_iou": round(val_iou, 4), "averaged": averaged}})
