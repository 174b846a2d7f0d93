"""A training run at work: epochs, what is kept of them, and the model file at the end."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from satmask.batches import TrainingBatches, ValidationBatches
from satmask.errors import SettingError
from satmask.losses import make_loss
from satmask.metrics import SegmentationIoU
from satmask.model_file import ModelInfo, export
from satmask.models import build, measure_reach, save_keras
from satmask.progress import track
from satmask.run import Run, best_epoch, plateau_rate
from satmask.training.averaging import Average, wearing
from satmask.training.carrying import freeze, take_over
from satmask.training.describing import band_infos, public_options, reading_of, scaling, upsample_above
from satmask.training.fusing import fuse_normalisation
from satmask.training.starting import Beginning, begin, find_start
from satmask.training.stepping import (
    Watch,
    learning_rate,
    quick_momentum,
    reseed,
    set_momentum,
    short_floats,
    worth_compiling,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from satmask.datasets import Dataset
    from satmask.recipe import Recipe
    from satmask.survey import Survey

log = logging.getLogger("satmask.training")


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
        self.reading = reading_of(self.seen, recipe.upsampling)
        self.side = recipe.window // recipe.upsampling  # of a window, in pixels of the images
        area = sum(height * width for height, width in self.seen.shapes)
        count = recipe.windows_per_epoch or max(round(area / self.side**2), 1)
        self.count = math.ceil(count / recipe.batch) * recipe.batch
        keras.utils.set_random_seed(recipe.seed)
        self.beginning: Beginning | None = None
        self.network = self._begin()
        self.average = None if recipe.average is None else Average(self._build(), recipe.average)
        self._compile()

    def _begin(self) -> Any:
        """Build the network, with the weights of the start if there is one and the run hasn't gone on from it."""
        recipe, legend = self.recipe, self.data.legend
        if recipe.start is None:
            return self._build(mixed=recipe.mixed_precision)
        self.beginning = Beginning.read(self.run.folder)
        if self.beginning is not None and self.run.checkpoints:
            return self._build(mixed=recipe.mixed_precision)
        start = find_start(recipe.start)
        self.beginning, given = begin(start, recipe, self.seen, legend)
        network = self._build(mixed=recipe.mixed_precision)
        take_over(network, given, start.info, bands=self.seen.bands, legend=legend)
        return network

    def keep_beginning(self) -> None:
        """Write down what the run took from its start, so that it goes on without it."""
        if self.beginning is not None:
            self.beginning.write(self.run.folder)
            log.info(self.beginning.said)

    def _build(self, *, mixed: bool = False) -> Any:
        legend, recipe = self.data.legend, self.recipe
        scaled = scaling(recipe, self.seen)
        if self.beginning is not None:
            scaled = {"scale": list(self.beginning.scale), "offset": list(self.beginning.offset)}
        options = {"activation": legend.activation, **scaled, **recipe.network.options}
        if recipe.network.name == "dilated":
            options.setdefault("window", recipe.window)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(short_floats() if mixed else "float32")
        try:
            network = build(recipe.network.name, bands=len(self.seen.bands), classes=len(legend), **options)
        finally:
            keras.config.set_dtype_policy(before)
        freeze(network, self.beginning.frozen if self.beginning else ())
        return network

    def batches(self, epoch: int) -> TrainingBatches:
        """The training windows of an epoch, counted from 0."""
        recipe = self.recipe
        return TrainingBatches(
            self.seen,
            self.reading,
            recipe.augment,
            size=self.side,
            count=self.count,
            batch=recipe.batch,
            sampling=recipe.sampling,
            edges=(recipe.loss.boundary_weight, recipe.loss.boundary_px),
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
        compiled = worth_compiling() if recipe.compile is None else recipe.compile
        if not compiled:
            fuse_normalisation(network)
        loss = make_loss(
            recipe.loss.name,
            activation=legend.activation,
            class_weights=recipe.loss.class_weights,
            interior=recipe.loss.interior,
            border=recipe.loss.border,
            **recipe.loss.options,
        )
        network.compile(
            optimizer=keras.optimizers.AdamW(learning_rate(recipe, steps), weight_decay=recipe.weight_decay),
            loss=loss,
            weighted_metrics=[
                SegmentationIoU(classes=len(legend), activation=legend.activation, interior=recipe.loss.interior)
            ],
            jit_compile=compiled,
        )
        # With its variables there, TensorFlow traces the step once, not twice.
        network.optimizer.build(network.trainable_variables)

    def fit(self) -> None:
        """Train epoch after epoch, from where the run stands."""
        history = self._restore()
        checking = ValidationBatches(self.held.samples, self.reading, size=self.side, batch=self.recipe.batch)
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
            watch = Watch(advance, self.recipe.batch)
            row = self._fit_epoch(epoch, checking, watch)
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

    def _fit_epoch(self, epoch: int, checking: ValidationBatches, watch: Watch) -> dict[str, float]:
        """Train one epoch and validate what would be kept of it: the averaged weights where there are some."""
        settings = {"epochs": 1, "shuffle": False, "verbose": 0}
        if self.average is None:
            told = self.network.fit(self.batches(epoch), validation_data=checking, callbacks=[watch], **settings)
            return {key: float(values[-1]) for key, values in told.history.items()}
        told = self.network.fit(self.batches(epoch), callbacks=[watch, self.average], **settings)
        with wearing(self.network, self.average.twin):
            found = self.network.evaluate(checking, verbose=0, return_dict=True)
        row = {key: float(values[-1]) for key, values in told.history.items()}
        return row | {f"val_{key}": float(value) for key, value in found.items()}

    def _restore(self) -> list[dict[str, float]]:
        """Load the newest state; history beyond it belongs to an epoch that was not kept."""
        epochs = self.run.checkpoints
        if self.average is not None:
            self.average.twin.set_weights(self.network.get_weights())
        if not epochs:
            return []
        history = self.run.history[: epochs[-1]]
        self.network.load_weights(self.run.checkpoint(epochs[-1]))
        if self.average is not None:
            self.average.twin.load_weights(self.run.average(epochs[-1]))
            self.average.done = epochs[-1] * self.count // self.recipe.batch
        log.info("Going on after epoch %d", epochs[-1])
        return history

    def _keep(self, history: list[dict[str, float]]) -> None:
        """Write history, then the state under its final name: a kill in between repeats one epoch at most."""
        epoch = len(history)
        self.run.write_history(history)
        if self.average is not None:
            _save(self.average.twin, self.run.average(epoch))
        _save(self.network, self.run.checkpoint(epoch))
        for old in set(self.run.checkpoints) - {epoch, best_epoch(history)}:
            self.run.checkpoint(old).unlink()
            self.run.average(old).unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the best network as model.keras and model.onnx, then score it and write the report."""
        from satmask.run_report import report_run

        history = self.run.history
        best = best_epoch(history)
        network = self._build()
        network.load_weights(self.run.checkpoint(best) if self.average is None else self.run.average(best))
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
            upsample_above_m=upsample_above(recipe, seen, self.held),
            fill=self.reading.fill,
            stride=reach.stride,
            halo=reach.halo,
            margin=recipe.loss.interior,
            local=reach.local,
            activation=self.data.legend.activation,
            network=recipe.network.name,
            options=public_options(recipe),
            training=self._told(row),
        )

    def _told(self, row: Mapping[str, float]) -> dict[str, Any]:
        """What the model file tells of its training."""
        seen, recipe = self.seen, self.recipe
        told = {
            "data": self.data.root.resolve().name,
            "layout": self.data.layout,
            "images": len(seen.samples),
            "validation_images": len(self.held.samples),
            "split": self.split,
            "seed": recipe.seed,
            "epoch": int(row["epoch"]),
            "val_iou": round(row["val_iou"], 4),
            "mean": [float(f"{value:.6g}") for value in seen.mean],
            "deviation": [float(f"{value:.6g}") for value in seen.deviation],
        }
        if recipe.average is not None:
            told["average"] = recipe.average
        if self.beginning is not None:
            told["start"] = {"name": self.beginning.name, "sha256": self.beginning.sha256}
        return told


def _save(network: Any, target: Path) -> None:
    """Write weights under a hidden name first: what bears its name is whole."""
    temporary = target.with_name(f".part-{target.name}")
    save_keras(network, temporary)
    temporary.replace(target)
