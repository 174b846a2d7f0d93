"""The number watched while training: intersection over union, from exact counts."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from satmask.errors import SettingError

# Counts are kept in two integers, `high · 2³⁰ + low`: 32 bits each suffice, which is all that JAX has by default, up to
# 2⁶¹ pixels. float32 would stop counting at 2²⁴, two batches of large windows.
CARRY = 2**30


@keras.saving.register_keras_serializable(package="satmask")
class SegmentationIoU(keras.metrics.Metric):  # type: ignore[misc]  # Keras ships no types
    """Mean intersection over union of the classes seen since the last reset.

    `IoU = TP / (TP + FP + FN)` of each class over all pixels together (not a mean of batches), averaged over classes.
    A class that is neither in truth nor predicted has no IoU and is left out; an exclusive legend's background is a
    class like any other. Where nothing was seen the result is 0.

    Args:
        classes: Number of classes, which is the number of the network's channels.
        activation: `sigmoid`: a class is there where its probability is at least `threshold`. `softmax`: the class of
            the highest probability is, the first of equals.
        threshold: For sigmoid, in [0, 1].
        interior: Border pixels of the window that aren't counted.
        name: Name in the history.

    Raises:
        SettingError: If there is no class or the activation is unknown.

    Examples:
        >>> metric = SegmentationIoU(classes=1)
        >>> metric.update_state(np.array([[[[1], [1], [0]]]]), np.array([[[[0.9], [0.2], [0.6]]]]))
        >>> round(float(metric.result()), 3)
        0.333
    """

    def __init__(
        self,
        *,
        classes: int,
        activation: Literal["sigmoid", "softmax"] = "sigmoid",
        threshold: float = 0.5,
        interior: int = 0,
        name: str = "iou",
    ) -> None:
        super().__init__(name=name, dtype="float32")
        if classes < 1 or activation not in ("sigmoid", "softmax"):
            msg = f"IoU must have one class or more and sigmoid or softmax, got {classes} and {activation!r}."
            raise SettingError(msg)
        self.classes, self.activation, self.threshold = int(classes), activation, float(threshold)
        self.interior = int(interior)
        # TensorFlow keeps 32-bit integer variables off the GPU, out of reach of its compiler; JAX has no 64-bit ones.
        dtype = "int64" if keras.backend.backend() == "tensorflow" else "int32"
        self.low = self.add_variable((3, self.classes), "zeros", dtype=dtype, name="low")
        self.high = self.add_variable((3, self.classes), "zeros", dtype=dtype, name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        Args:
            y_true: Truth, 0 or 1, any dtype, `(batch, height, width, classes)`; fewer than 2³⁰ pixels.
            y_pred: Probabilities in [0, 1], same shape.
            sample_weight: `(batch, height, width)`; pixels count where it is above 0. None counts all.
        """
        truth = ops.cast(ops.convert_to_tensor(y_true), "bool")
        decision = self._decide(ops.convert_to_tensor(y_pred))
        if sample_weight is not None:
            given = ops.convert_to_tensor(sample_weight)
            seen = ops.reshape(given > 0, (*ops.shape(given), *(1,) * (4 - len(given.shape))))
            truth, decision = ops.logical_and(truth, seen), ops.logical_and(decision, seen)
        if self.interior:
            inside = (slice(None), *(slice(self.interior, -self.interior),) * 2)
            truth, decision = truth[inside], decision[inside]
        hits = ops.logical_and(truth, decision)
        counted = ops.stack([_count(hits), _count(decision) - _count(hits), _count(truth) - _count(hits)])
        total = self.low + ops.cast(counted, self.low.dtype)
        carried = ops.floor_divide(total, CARRY)
        self.low.assign(total - carried * CARRY)
        self.high.assign(self.high + carried)

    def result(self) -> Any:
        """Mean IoU, a float32 scalar in [0, 1]."""
        counts = ops.cast(self.high, "float32") * float(CARRY) + ops.cast(self.low, "float32")
        union = ops.sum(counts, axis=0)
        seen = ops.cast(union > 0, "float32")
        return ops.sum(counts[0] / ops.maximum(union, 1.0)) / ops.maximum(ops.sum(seen), 1.0)

    def counts(self) -> np.ndarray:
        """Exact true positives, false positives and false negatives of each class, int64, `(3, classes)`."""
        # Multiplied to a tensor first: NumPy 2 warns of TensorFlow variables that it takes directly.
        high, low = (ops.convert_to_numpy(part * 1).astype(np.int64) for part in (self.high, self.low))
        total: np.ndarray = high * CARRY + low
        return total

    def get_config(self) -> dict[str, Any]:
        """Settings, from which Keras builds the metric again."""
        config = {"classes": self.classes, "activation": self.activation, "threshold": self.threshold}
        return config | {"interior": self.interior, "name": self.name}

    def _decide(self, probability: Any) -> Any:
        if self.activation == "softmax":
            return ops.cast(ops.one_hot(ops.argmax(probability, axis=-1), self.classes, dtype="int32"), "bool")
        return ops.cast(probability, "float32") >= self.threshold


def _count(mask: Any) -> Any:
    return ops.sum(ops.cast(mask, "int32"), axis=(0, 1, 2))
