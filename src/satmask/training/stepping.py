"""Steps: whether they are compiled, how fast they learn, what they draw at random, and how long they take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from satmask.recipe import Recipe


def worth_compiling() -> bool:
    """Whether to compile a training step with XLA: not on a CPU, where TensorFlow's own kernels are faster.

    On two cores, compiled U-Nets trained at 0.36 (plain) and 0.24 (on MobileNetV2) times the speed that they have with
    `fuse_normalisation`; only `dilated` was faster, 1.17 times.
    """
    return not _on_cpu()


def short_floats() -> str:
    """The policy of mixed precision: half precision on a GPU, bfloat16 on a CPU, which may have units for it."""
    return "mixed_bfloat16" if _on_cpu() else "mixed_float16"


def _on_cpu() -> bool:
    """Whether TensorFlow computes on a CPU; the other backends compile whatever they compute."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


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


def learning_rate(recipe: Recipe, steps: int) -> Any:
    """The learning rate of an optimiser: a number, or Keras' schedule over all steps of the run."""
    rate: Any = recipe.learning_rate
    if recipe.schedule.name != "cosine":
        return rate
    warmup = round(steps * recipe.schedule.warmup)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        max(steps - warmup, 1),
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )


def reseed(network: Any, seed: tuple[int, int]) -> None:
    """Set the random state of noise and dropout layers from the epoch, so that a resumed epoch draws the same."""
    for place, layer in enumerate(network._flatten_layers()):  # noqa: SLF001  # Keras has no public walk over all layers
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            fresh = np.random.default_rng([*seed, place]).integers(2**31, size=2)
            generator.state.assign(fresh.astype("uint32"))


class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
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
