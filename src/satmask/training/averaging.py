"""Averages: weights averaged over the last steps of training, which are steadier than those of the last step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from collections.abc import Iterator


class Average(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keep an exponential moving average of a network's weights in a twin of it.

    After each step the twin's weights become `m·twin + (1 − m)·network`. What batch normalisation remembers is averaged
    along: the averages of Keras' optimisers leave it out, so that averaged weights meet statistics of other ones. Early
    on `m` is smaller, `(1 + t) / (10 + t)` after `t` steps, or the average would remember how the network began.

    Args:
        twin: A network of the same layers.
        momentum: `m`, above 0 and below 1; about `1 / (1 − m)` steps are remembered.
        done: Steps done before.

    References:
        Polyak & Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging",
        https://doi.org/10.1137/0330046; Tarvainen & Valpola, 2017, "Mean teachers are better role models",
        https://arxiv.org/abs/1703.01780, for the moving average; the small first steps are those of TensorFlow's
        `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, twin: Any, momentum: float, *, done: int = 0) -> None:
        super().__init__()
        self.twin, self.momentum, self.done = twin, momentum, done

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Take a step's weights into the average."""
        del batch, logs
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # weights live in the compiled step until they are asked for
        memory = min(self.momentum, (1 + self.done) / (10 + self.done))
        self.done += 1
        for mine, theirs in zip(self.twin.weights, self.model.weights, strict=True):
            mine.assign(mine + (1 - memory) * (theirs - mine))


@contextmanager
def wearing(network: Any, twin: Any) -> Iterator[None]:
    """Lend a network the weights of its twin."""
    own = network.get_weights()
    network.set_weights(twin.get_weights())
    try:
        yield
    finally:
        network.set_weights(own)
