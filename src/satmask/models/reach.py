"""How far a network sees: what its windows need around them to come out exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from satmask.errors import SettingError
from satmask.models.blocks import copy_layer, rebuild

# Sides are multiples of this even where a network has a smaller stride. Runtimes compute a remainder that doesn't fill a
# vector register (16 numbers) with other instructions, whose last bit differs: found with ONNX Runtime 1.32, in single
# pixels near the end of a window of 317 × 41.
LEAST_STRIDE = 16

# Layers that see the whole image at once: a window of it can't tell what they would say.
_GLOBAL = (
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "UnitNormalization",
    "Attention",
    "AdditiveAttention",
    "MultiHeadAttention",
    "GroupQueryAttention",
    "Flatten",
)
# Layers that change each value on its own, or all bands of one pixel: no pixel learns of another there.
_POINTWISE = (
    layers.Rescaling,
    layers.Normalization,
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    layers.Softmax,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
    layers.GaussianDropout,
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a network sees.

    Attributes:
        stride: Sides of what the network is given must be multiples of this: the network's own stride, and at least 16,
            so that runtimes compute each pixel in the same way whatever the window.
        halo: Largest distance, in pixels along an axis, between an input pixel and the block of output pixels, aligned
            to the stride and one stride long, that it changes. Windows cut at multiples of the stride, as
            `satmask.windows.cover` cuts them, need this much; single pixels reach up to a stride farther.
        local: False where something in the network sees the whole image (global pooling, squeeze and excitation);
            the halo then covers the rest of the network only, and no window is exact.
    """

    stride: int
    halo: int
    local: bool


def measure_reach(network: Any) -> Reach:
    """Measure the stride and the halo of a network.

    A copy of the network is asked instead of reasoning about layers: all its weights are one, what only looks at single
    values is left out, and each convolution says 1 where it sees anything and 0 where not. In it nothing cancels,
    overflows or underflows, so an input of one full row (then one full column) of ones lights up exactly what that line
    can change. The line takes every position within a stride.

    Args:
        network: Keras model from `(batch, height, width, bands)` to `(batch, height, width, classes)`.

    Returns:
        Stride, halo, and whether the network is local: no layer of it is known to see everything, and a large change
        farther away than the halo changed no bit of the actual network's output.

    Raises:
        SettingError: If the output hasn't the sides of the input.

    Examples:
        >>> from satmask.models import unet
        >>> measure_reach(unet(1, 1, filters=(1, 1)))
        Reach(stride=16, halo=8, local=True)

    References:
        Luo et al., 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        https://arxiv.org/abs/1701.04128, for why most of the halo matters little; exactness needs all of it.
    """
    stride = max(measure_stride(network), LEAST_STRIDE)
    silhouette = _silhouette(network)
    halo = max(_measure_axis(silhouette, stride, axis) for axis in (1, 2))
    names = {type(layer).__name__ for layer in _all_layers(network)}
    local = not names & set(_GLOBAL) and _far_change_is_unseen(network, stride, halo)
    return Reach(stride=stride, halo=halo, local=local)


def measure_stride(network: Any) -> int:
    """Find the ratio of the input's sides to those of the smallest feature map.

    Args:
        network: Keras model whose output has the sides of its input.

    Returns:
        Stride, in pixels.

    Raises:
        SettingError: If the output hasn't the sides of the input.
    """
    side = 512
    outputs = [out for layer in _all_layers(network) for out in _outputs(layer) if len(out.shape) == 4]
    shapes = keras.Model(network.inputs, outputs).compute_output_shape((1, side, side, network.input_shape[-1]))
    # A side of 1 is a global pool that kept its axes, not a level of the network.
    sides = [shape[1] for shape in shapes if shape[1] and shape[1] > 1]
    if shapes[-1][1] != side:
        msg = f"Network output must have the sides of its input, got {shapes[-1][1]} for {side}."
        raise SettingError(msg)
    return int(2 ** round(np.log2(side / min(sides))))


def _outputs(layer: Any) -> list[Any]:
    """The tensors that a layer gives."""
    return layer.output if isinstance(layer.output, list) else [layer.output]


def _all_layers(network: Any) -> list[Any]:
    """Layers of the network in order, without its inputs."""
    return [layer for layer in network.layers if not isinstance(layer, layers.InputLayer)]


class _Same(layers.Layer):  # type: ignore[misc] # Keras ships no types
    """Give back what it is given, whatever else it is called with."""

    def call(self, x: Any, training: Any = None, mask: Any = None) -> Any:  # noqa: ARG002 - what layers are called with
        """Give back `x`."""
        return x


def _step(x: Any) -> Any:
    """1 where anything is, 0 where nothing is."""
    return ops.cast(x > 0, x.dtype)


def _silhouette(network: Any) -> Any:
    """Copy a network so that it shows what its output depends on; see `measure_reach`.

    All filters of a layer would show the same, so one is enough wherever the graph can be built with one.
    """
    try:
        copy = keras.models.clone_model(
            network, clone_function=lambda x: _silhouette_layer(x, one=True), recursive=True
        )
    except (ValueError, TypeError):
        copy = rebuild(network, _silhouette_layer)
    copy.set_weights([np.zeros(w.shape) if w.name == "bias" else np.ones(w.shape) for w in copy.weights])
    return copy


def _silhouette_layer(layer: Any, *, one: bool = False) -> Any:
    """Copy a layer for `_silhouette`, with one filter on request."""
    if isinstance(layer, _POINTWISE):
        return _Same(name=layer.name, dtype="float32")
    copy = copy_layer(
        layer, dtype="float32", **({"filters": 1, "units": 1, "groups": 1, "projection_dim": 1} if one else {})
    )
    if hasattr(copy, "kernel_initializer") or hasattr(copy, "depthwise_initializer"):
        copy.activation = _step
    return copy


def _measure_axis(silhouette: Any, stride: int, axis: int) -> int:
    """Find how far lines across an axis (1 for rows, 2 for columns) reach along it."""
    length = 8 * stride
    while True:
        length *= 2
        middle = length // 2 // stride * stride
        shape = [stride, stride, stride, silhouette.input_shape[-1]]
        shape[axis] = length
        lines = np.zeros(shape, np.float32)
        for phase in range(stride):
            line = (middle + phase,) if axis == 1 else (slice(None), middle + phase)
            lines[phase][line] = 1
        lit = np.asarray(silhouette(lines, training=False)).max(axis=(3 - axis, 3)) > 0
        if not lit[:, 0].any() and not lit[:, -1].any():
            break
        if length > 2**14:
            return length
    phases, places = np.nonzero(lit)
    first = places // stride * stride
    return int(max(0, *(first - middle - phases), *(middle + phases - first - stride + 1)))


def _far_change_is_unseen(network: Any, stride: int, halo: int) -> bool:
    """Check on the network itself that a large change beyond the halo changes no bit."""
    random = np.random.default_rng(0)
    far = -(-(halo + 1) // stride) * stride
    images = random.uniform(0, 255, (1, far + 2 * stride, stride, network.input_shape[-1])).astype(np.float32)
    changed = images.copy()
    changed[:, far + stride :] = 1e4 - 3 * changed[:, far + stride :]
    before, after = (np.asarray(network(x, training=False))[:, :stride] for x in (images, changed))
    return bool(np.array_equal(before, after))
