"""Training: data and a recipe in, a run folder out."""

from __future__ import annotations

import logging
import math
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import satmask
from satmask.batches import Reading, TrainingBatches, ValidationBatches
from satmask.datasets import Dataset
from satmask.datasets.dataset import refuse
from satmask.errors import SettingError
from satmask.losses import make_loss
from satmask.metrics import SegmentationIoU
from satmask.model_file import BandInfo, ModelInfo, export
from satmask.models import build, encoder_scaling, measure_reach, save_keras
from satmask.progress import track
from satmask.recipe import Recipe
from satmask.run import Run, best_epoch, plateau_rate, write_text
from satmask.stack import open_imagery
from satmask.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger("satmask.training")


def train(
    data: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    resume: bool = False,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a network and write a run folder.

    The state is kept after every epoch, and an epoch follows from the seed and its number alone: a run that was killed
    and goes on by `resume` has the same losses as one that wasn't.

    Args:
        data: The data set; without a `val` split, places are held out as the recipe says.
        out: The run folder; new or empty, unless resuming.
        recipe: The settings; when resuming, those of the run by default.
        resume: Go on with the run in `out`, or begin it if there is none.
        skip_invalid: Leave out broken tiles and annotations instead of refusing the data.
        quiet: Show no progress.

    Returns:
        The run.

    Raises:
        DataError: If the data can't be used.
        SettingError: If the recipe doesn't fit, or `out` holds something already.
    """
    run = Run(Path(out))
    recipe = _settle(run, recipe, resume=resume)
    if recipe.groups:
        msg = "Recipe of one run must not have groups. Use satmask.groups.train_groups, as `satmask train` does."
        raise SettingError(msg)
    data.require_sound(skip_invalid=skip_invalid)
    data = data if recipe.classes is None else data.with_classes(recipe.classes)
    data, split = data.with_validation(recipe.validation)
    with track("Reading", sum(map(len, data.splits.values())), unit="images", quiet=quiet) as advance:
        seen = survey(data.splits["train"], bands=recipe.bands, progress=advance)
        held = survey(data.splits["val"], bands=seen.indexes, progress=advance)
        advance(0, f"{len(seen.samples):,} images to train, {len(held.samples):,} to validate. {split}")
    refuse([*seen.problems, *held.problems], skip_invalid=skip_invalid)
    job = Job(run, recipe, data, surveys=(seen, held), split=split, quiet=quiet)
    (run.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_text(run.recipe, recipe.model_dump_json(indent=2))
    with _logging_to(run.folder / "train.log"):
        log.info(split)
        for problem in (*data.problems, *seen.problems, *held.problems):
            log.warning(problem.what)
        job.show_windows()
        job.fit()
        job.finish()
    return run


def _settle(run: Run, recipe: Recipe | None, *, resume: bool) -> Recipe:
    """Say which recipe a run follows: a new one, or its own when it goes on."""
    kept = Recipe.read(run.recipe) if run.recipe.is_file() else None
    if run.folder.is_dir() and any(run.folder.iterdir()) and not (resume and kept):
        msg = f"Run folder must be new or empty, got {str(run.folder)!r}."
        way_out = " Pass --resume to go on with it." if kept else " Name another."
        raise SettingError(msg + way_out)
    if kept and recipe and recipe != kept:
        changed = [key for key in Recipe.model_fields if getattr(recipe, key) != getattr(kept, key)]
        msg = f"Recipe must stay the same when a run goes on, got another {', '.join(changed)}. Start a new run."
        raise SettingError(msg)
    return kept or recipe or Recipe()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append what training has to say to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.info("satmask %s, keras %s on %s", satmask.__version__, keras.__version__, keras.backend.backend())
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class Job:
    """One training run at work.

    Args:
        run: Where it writes.
        recipe: The settings.
        data: The data set, split.
        surveys: Surveys of the training and of the validation samples.
        split: How the data was split, in words.
        quiet: Show no progress.
    """

    def __init__(
        self, run: Run, recipe: Recipe, data: Dataset, *, surveys: tuple[Survey, Survey], split: str, quiet: bool
    ) -> None:
        self.run, self.recipe, self.data, self.split, self.quiet = run, recipe, data, split, quiet
        self.seen, self.held = surveys
        self.reading = reading_of(self.seen)
        area = sum(height * width for height, width in self.seen.shapes)
        count = recipe.windows_per_epoch or max(round(area / recipe.window**2), 1)
        self.count = math.ceil(count / recipe.batch) * recipe.batch
        keras.utils.set_random_seed(recipe.seed)
        self.network = self._build(mixed=recipe.mixed_precision)
        self._compile()

    def _build(self, *, mixed: bool = False) -> Any:
        legend, recipe = self.data.legend, self.recipe
        options = {"activation": legend.activation, **scaling(recipe, self.seen), **recipe.network.options}
        if recipe.network.name == "dilated":
            options.setdefault("window", recipe.window)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16" if mixed else "float32")
        try:
            return build(recipe.network.name, bands=len(self.seen.bands), classes=len(legend), **options)
        finally:
            keras.config.set_dtype_policy(before)

    def batches(self, epoch: int) -> TrainingBatches:
        """The training windows of an epoch, counted from 0."""
        recipe = self.recipe
        return TrainingBatches(
            self.seen,
            self.reading,
            recipe.augment,
            size=recipe.window,
            count=self.count,
            batch=recipe.batch,
            balanced=recipe.sampling == "balanced",
            seed=recipe.seed,
            epoch=epoch,
        )

    def show_windows(self) -> None:
        """Draw the first training windows as the network will get them, before the first step."""
        from satmask import figures, pictures, sheets

        batches = self.batches(0)
        parts = [batches[step] for step in range(min(math.ceil(12 / self.recipe.batch), len(batches)))]
        images, truths, weights = (np.concatenate(column)[:12] for column in zip(*parts, strict=True))
        bands, limits = pictures.display(self.seen.dtype, self.seen.low, self.seen.high)
        figure = sheets.window_sheet(
            list(images),
            list(truths),
            list(weights),
            self.data.legend,
            bands=bands,
            limits=limits,
            title="Training windows, augmented, as the network gets them",
        )
        figures.save(figure, self.run.folder / "augmented.png")

    def _compile(self) -> None:
        """Give the network its loss, metric and optimiser."""
        recipe, legend = self.recipe, self.data.legend
        network = self.network
        steps = self.count // recipe.batch * recipe.epochs
        momentum = quick_momentum(self.count // recipe.batch) if recipe.momentum is None else recipe.momentum
        set_momentum(network, momentum)
        rate: Any = recipe.learning_rate
        if recipe.schedule.name == "cosine":
            warmup = round(steps * recipe.schedule.warmup)
            rate = keras.optimizers.schedules.CosineDecay(
                0.0 if warmup else rate,
                max(steps - warmup, 1),
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
        loss = make_loss(
            recipe.loss.name,
            activation=legend.activation,
            class_weights=recipe.loss.class_weights,
            interior=recipe.loss.interior,
            border=recipe.loss.border,
            **recipe.loss.options,
        )
        network.compile(
            optimizer=keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
            loss=loss,
            weighted_metrics=[
                SegmentationIoU(classes=len(legend), activation=legend.activation, interior=recipe.loss.interior)
            ],
            jit_compile=worth_compiling(network) if recipe.compile is None else recipe.compile,
        )

    def fit(self) -> None:
        """Train epoch after epoch, from where the run stands."""
        history = self._restore()
        checking = ValidationBatches(self.held.samples, self.reading, size=self.recipe.window, batch=self.recipe.batch)
        for epoch in range(len(history), self.recipe.epochs):
            if self.recipe.stop_after and epoch - best_epoch(history) >= self.recipe.stop_after:
                log.info("No better validation IoU in %d epochs: stopped.", self.recipe.stop_after)
                break
            if self.recipe.schedule.name == "plateau":
                self.network.optimizer.learning_rate = plateau_rate(self.recipe, history)
            row = self._epoch(epoch, checking)
            if not math.isfinite(row["loss"]):
                rate = self.recipe.learning_rate
                msg = (
                    f"Loss must stay finite, got {row['loss']} in epoch {epoch + 1}. Lower learning_rate, now {rate:g}."
                )
                raise SettingError(msg)
            history.append(row)
            self._keep(history)

    def _epoch(self, epoch: int, checking: ValidationBatches) -> dict[str, float]:
        reseed(self.network, (self.recipe.seed, epoch))
        begun = time.perf_counter()
        with track(f"Epoch {epoch + 1}/{self.recipe.epochs}", self.count, unit="images", quiet=self.quiet) as advance:
            watch = _Watch(advance, self.recipe.batch)
            result = self.network.fit(
                self.batches(epoch), epochs=1, validation_data=checking, shuffle=False, verbose=0, callbacks=[watch]
            ).history
            row = {key: float(values[-1]) for key, values in result.items()}
            text = (
                f"loss {row['loss']:.4f} IoU {row['iou']:.4f} | validation {row['val_loss']:.4f} {row['val_iou']:.4f}"
            )
            advance(0, text)
        row |= {
            "epoch": epoch + 1,
            "learning_rate": float(self.network.optimizer.learning_rate),
            "images_per_s": watch.images_per_s,
            "seconds": time.perf_counter() - begun,
        }
        log.info("epoch %d: %s", epoch + 1, text)
        return row

    def _restore(self) -> list[dict[str, float]]:
        """Load the newest state; history beyond it belongs to an epoch that was not kept."""
        epochs = self.run.checkpoints
        if not epochs:
            return []
        history = self.run.history[: epochs[-1]]
        self.network.optimizer.build(self.network.trainable_variables)
        self.network.load_weights(self.run.checkpoint(epochs[-1]))
        log.info("Going on after epoch %d", epochs[-1])
        return history

    def _keep(self, history: list[dict[str, float]]) -> None:
        """Write history, then the state under its final name: a kill in between repeats one epoch at most."""
        epoch = len(history)
        self.run.write_history(history)
        target = self.run.checkpoint(epoch)
        temporary = target.with_name(f".part-{target.name}")
        save_keras(self.network, temporary)
        temporary.replace(target)
        for old in set(self.run.checkpoints) - {epoch, best_epoch(history)}:
            self.run.checkpoint(old).unlink()

    def finish(self) -> None:
        """Write the best network as model.keras and model.onnx, then score it and write the report."""
        from satmask.run_report import report_run

        history = self.run.history
        best = best_epoch(history)
        network = self._build()
        network.load_weights(self.run.checkpoint(best))
        save_keras(network, self.run.folder / "model.keras")
        info = self.describe(network, history[best - 1])
        export(network, self.run.model, info)
        report_run(self.run, self.data, self.held, self.split, quiet=self.quiet)

    def describe(self, network: Any, row: Mapping[str, float]) -> ModelInfo:
        """What the model file says about a network."""
        reach = measure_reach(network)
        seen, recipe = self.seen, self.recipe
        gsd_m = recipe.gsd_m or seen.gsd_m
        return ModelInfo(
            legend=self.data.legend,
            bands=band_infos(seen),
            dtype=str(seen.dtype),
            value_range=tuple(zip(seen.smallest.tolist(), seen.largest.tolist(), strict=True)),
            gsd_m=gsd_m,
            fill=self.reading.fill,
            stride=reach.stride,
            halo=reach.halo,
            margin=recipe.loss.interior,
            local=reach.local,
            activation=self.data.legend.activation,
            network=recipe.network.name,
            options=public_options(recipe),
            training={
                "data": self.data.root.resolve().name,
                "layout": self.data.layout,
                "images": len(seen.samples),
                "validation_images": len(self.held.samples),
                "split": self.split,
                "seed": recipe.seed,
                "epoch": int(row["epoch"]),
                "val_iou": round(row["val_iou"], 4),
            },
        )


def band_infos(seen: Survey) -> tuple[BandInfo, ...]:
    """The bands of surveyed data, with their wavelengths where they are known."""
    with open_imagery(seen.samples[0].image, bands=seen.indexes) as scene:
        wavelengths = scene.wavelengths_nm
    return tuple(
        BandInfo(name=name, wavelength_nm=wavelength) for name, wavelength in zip(seen.bands, wavelengths, strict=True)
    )


def public_options(recipe: Recipe) -> dict[str, Any]:
    """Options of the network as the model file tells them: of a file of weights only the name, not where it lies."""
    options = recipe.network.options
    return options | {key: Path(options[key]).name for key in ("weights",) if options.get(key)}


def reading_of(seen: Survey) -> Reading:
    """How to read windows of surveyed data: nodata becomes the mean, which normalises to about 0 as padding does."""
    whole = seen.dtype.kind in "ui"
    fill = tuple(float(round(value)) if whole else float(value) for value in seen.mean)
    return Reading(seen.indexes, fill, low=seen.smallest, high=seen.largest)


def scaling(recipe: Recipe, seen: Survey) -> dict[str, Any]:
    """Scale and offset of the network's normalisation: to mean 0 and deviation 1 a band.

    An encoder that starts from ImageNet weights gets 8-bit RGB the way they were trained.
    """
    options = recipe.network.options
    if recipe.network.name == "encoder" and options.get("weights") and seen.dtype == np.uint8 and len(seen.bands) == 3:
        scale, offset = encoder_scaling(options.get("encoder", "MobileNetV2"))
        return {"scale": scale, "offset": offset}
    deviation = np.where(seen.deviation > 0, seen.deviation, 1.0)
    return {"scale": (1 / deviation).tolist(), "offset": (-seen.mean / deviation).tolist()}


def worth_compiling(network: Any) -> bool:
    """Whether to compile a training step with XLA: yes, but for depthwise convolutions on a CPU.

    On two busy cores, a U-Net on MobileNetV2 trained at 0.4 times its speed when compiled.
    """
    depthwise = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    every = network._flatten_layers()  # noqa: SLF001  # Keras has no public walk over all layers
    return bool(tf.config.list_physical_devices("GPU")) or not any(isinstance(layer, depthwise) for layer in every)


def quick_momentum(steps: int) -> float:
    """The momentum with which batch normalisation's running averages follow within a fifth of an epoch.

    Keras' momentum of 0.99 remembers hundreds of steps: after a short run most of what it remembers is how the network
    began, and validation looks far worse than training. Long epochs keep Keras' value.

    Args:
        steps: Steps in an epoch.

    Returns:
        0.8 to 0.99.
    """
    return min(max(1 - 5 / steps, 0.8), 0.99)


def set_momentum(network: Any, momentum: float) -> None:
    """Set the momentum of every batch normalisation of a network, but for those that remember less already."""
    for layer in network._flatten_layers():  # noqa: SLF001  # Keras has no public walk over all layers
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, momentum)


def reseed(network: Any, seed: tuple[int, int]) -> None:
    """Set the random state of noise and dropout layers from the epoch, so that a resumed epoch draws the same."""
    for place, layer in enumerate(network._flatten_layers()):  # noqa: SLF001  # Keras has no public walk over all layers
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            fresh = np.random.default_rng([*seed, place]).integers(2**31, size=2)
            generator.state.assign(fresh.astype("uint32"))


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Tell the progress bar about each step, and time the steps; the first one compiles and isn't counted."""

    def __init__(self, advance: Any, batch: int) -> None:
        super().__init__()
        self.advance, self.batch, self.ends = advance, batch, [time.perf_counter()]

    @property
    def images_per_s(self) -> float:
        """Images a second, over all steps but the first unless there is no other."""
        ends = self.ends[1:] if len(self.ends) > 2 else self.ends
        return (len(ends) - 1) * self.batch / max(ends[-1] - ends[0], 1e-9)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Advance by a batch."""
        del batch
        self.ends.append(time.perf_counter())
        logs = logs or {}
        self.advance(self.batch, f"loss {float(logs.get('loss', 0)):.4f} IoU {float(logs.get('iou', 0)):.4f}")
