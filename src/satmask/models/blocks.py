"""What the networks share: the input with its normalisation, U-Net blocks, the head, and checks of settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from satmask.errors import SettingError

# One number for all bands, or one a band.
Scaling = float | Sequence[float]

ACTIVATIONS = ("sigmoid", "softmax")


def image_input(bands: int, *, scale: Scaling, offset: Scaling) -> tuple[Any, Any]:
    """Make the input and its normalisation, `value * scale + offset`.

    Keras' Normalization layer would do the same, but its constants become inputs of an exported ONNX graph.

    Args:
        bands: Bands of the images, at least 1.
        scale: Factor for all bands, or one a band.
        offset: What is added after that, for all bands or one a band.

    Returns:
        The input `(batch, height, width, bands)`, float32, and the normalised tensor.

    Raises:
        SettingError: If a value isn't finite, a scale is 0, or their number isn't the number of bands.
    """
    check_count("Bands", bands)
    image = keras.Input((None, None, bands), name="image", dtype="float32")
    rescale = layers.Rescaling(
        _per_band("Scale", scale, bands), _per_band("Offset", offset, bands), name="normalise", dtype="float32"
    )
    return image, rescale(image)


def convolve(x: Any, filters: int, *, name: str, activation: str = "elu") -> Any:
    """3×3 convolution (he_uniform, same padding), batch normalisation, ELU or another activation of Keras."""
    x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_uniform", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x)


def convolve_twice(x: Any, filters: int, *, name: str, activation: str = "elu") -> Any:
    """Apply `convolve` two times."""
    x = convolve(x, filters, name=f"{name}_1", activation=activation)
    return convolve(x, filters, name=f"{name}_2", activation=activation)


def join_up(x: Any, skip: Any, *, name: str) -> Any:
    """Double the sides (nearest) and concatenate with the tensor of the finer level."""
    x = layers.UpSampling2D(2, name=f"{name}_grow")(x)
    return layers.Concatenate(name=f"{name}_join")([x, skip])


def head(x: Any, classes: int, activation: str, *, kernel: int = 1) -> Any:
    """Turn features into probabilities of each class.

    The activation is a layer of its own in float32, so that mixed precision rounds no probability and the reach can be
    measured in front of it.

    Args:
        x: Features.
        classes: Output channels, at least 1.
        activation: "sigmoid" where classes may overlap, "softmax" where they exclude each other.
        kernel: Side of the last convolution.

    Raises:
        SettingError: If the classes and the activation don't go together.
    """
    check_head(classes, activation)
    x = layers.Conv2D(classes, kernel, padding="same", name="scores")(x)
    return layers.Activation(activation, dtype="float32", name="probabilities")(x)


def check_head(classes: int, activation: str) -> None:
    """Refuse an unknown activation, and softmax over a single class."""
    check_count("Classes", classes)
    if activation not in ACTIVATIONS:
        msg = f"Activation must be sigmoid or softmax, got {activation!r}."
        raise SettingError(msg)
    if activation == "softmax" and classes < 2:
        msg = "Softmax must have at least two classes, got 1. Use sigmoid, or add a class for the background."
        raise SettingError(msg)


def check_count(what: str, value: Any) -> None:
    """Refuse what isn't a whole number of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        msg = f"{what} must be a whole number of at least 1, got {value!r}."
        raise SettingError(msg)


def check_widths(what: str, widths: Any, *, least: int = 1) -> None:
    """Refuse a sequence of filter counts that is too short or holds something else."""
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) < least:
        msg = f"{what} must be a sequence of at least {least} whole numbers, got {widths!r}."
        raise SettingError(msg)
    for width in widths:
        check_count(f"Every entry of {what.lower()}", width)


def rebuild(network: Any, function: Callable[[Any], Any]) -> Any:
    """Build a network anew with each layer replaced by what a function makes of it, inside of nested ones too.

    Weights stay behind.
    """

    def replace(layer: Any) -> Any:
        if isinstance(layer, keras.Sequential):
            return keras.Sequential([replace(inner) for inner in layer.layers], name=layer.name)
        return rebuild(layer, function) if isinstance(layer, keras.Model) else function(layer)

    return keras.models.clone_model(network, clone_function=replace)


def copy_layer(layer: Any, **changes: Any) -> Any:
    """Make a layer anew from its settings, with some of them changed where it has them; weights stay behind.

    Bare operations, which `x + y` leaves in a graph, hold nothing and are given back as they are.
    """
    if not isinstance(layer, layers.Layer):
        return layer
    config = layer.get_config()
    return type(layer).from_config(config | {key: value for key, value in changes.items() if key in config})


def _per_band(what: str, value: Scaling, bands: int) -> float | list[float]:
    """The setting as a number or a list of one number a band, checked."""
    numbers = [float(entry) for entry in value] if isinstance(value, Sequence) else [float(value)]
    if isinstance(value, Sequence) and len(numbers) != bands:
        msg = f"{what} must be one number or one a band, got {len(numbers)} for {bands} bands."
        raise SettingError(msg)
    if not all(map(math.isfinite, numbers)) or (what == "Scale" and 0 in numbers):
        msg = f"{what} must be finite{' and not 0' * (what == 'Scale')}, got {value!r}."
        raise SettingError(msg)
    return numbers if isinstance(value, Sequence) else numbers[0]
