"""The Xception-style network.

References:
    Chollet, 2017, "Xception: Deep Learning with Depthwise Separable Convolutions", https://arxiv.org/abs/1610.02357.
    Chollet, 2019, "Image segmentation with a U-Net-like architecture",
    https://keras.io/examples/vision/oxford_pets_image_segmentation/, whose layout this follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from satmask.errors import SettingError
from satmask.models.blocks import Scaling, check_count, check_widths, head, image_input


def cnn(
    bands: int,
    classes: int,
    *,
    down: Sequence[int] = (64, 128, 256),
    up: Sequence[int] = (256, 128, 64, 32),
    entry: int = 32,
    filters: Sequence[int] | None = None,
    activation: str = "softmax",
    scale: Scaling = 1 / 255,
    offset: Scaling = 0.0,
) -> Any:
    """Build an Xception-style network: separable convolutions down, transposed ones up, residuals around each block.

    It has no skips from the way down to the way up, so fine edges have to pass through the coarsest level; a U-Net
    draws them sharper.

    Args:
        bands: Bands of the images.
        classes: Output channels, at least 2 for softmax.
        down: Width of each block on the way down; each halves the sides, as the entry does before them.
        up: Width of each block on the way up; each doubles the sides, so there is one more than in `down`.
        entry: Filters of the entry convolution.
        filters: A short way to scale the network: width of the entry, then of each block down; the way up mirrors them.
            Takes the place of `down`, `up` and `entry`.
        activation: "softmax" where classes exclude each other, "sigmoid" where they may overlap.
        scale: What raw values are multiplied with inside, one number or one a band.
        offset: What is added after that, one number or one a band.

    Returns:
        Keras model from `(batch, height, width, bands)` to probabilities `(batch, height, width, classes)`, float32.

    Raises:
        SettingError: If a setting breaks a rule above.

    Examples:
        >>> cnn(3, 2).count_params()
        2058690
    """
    if filters is not None:
        check_widths("Filters", filters, least=2)
        entry, down, up = filters[0], filters[1:], filters[::-1]
    check_count("Entry", entry)
    check_widths("Down", down)
    check_widths("Up", up)
    if len(up) != len(down) + 1:
        msg = f"Up must have one width more than down, got {len(up)} and {len(down)}. The entry halves the sides too."
        raise SettingError(msg)
    image, x = image_input(bands, scale=scale, offset=offset)
    x = layers.Conv2D(entry, 3, strides=2, padding="same", name="entry_conv")(x)
    x = layers.BatchNormalization(name="entry_norm")(x)
    x = layers.Activation("relu", name="entry_relu")(x)
    for level, width in enumerate(down):
        x = _down(x, width, name=f"down{level}")
    for level, width in enumerate(up):
        x = _up(x, width, name=f"up{level}")
    return keras.Model(image, head(x, classes, activation, kernel=3), name="cnn")


def _down(x: Any, width: int, *, name: str) -> Any:
    """Two separable convolutions, pooling, and a strided 1×1 residual from the block's input."""
    residual = layers.Conv2D(width, 1, strides=2, padding="same", name=f"{name}_residual")(x)
    for step in (1, 2):
        x = layers.Activation("relu", name=f"{name}_relu{step}")(x)
        x = layers.SeparableConv2D(width, 3, padding="same", name=f"{name}_conv{step}")(x)
        x = layers.BatchNormalization(name=f"{name}_norm{step}")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, residual])


def _up(x: Any, width: int, *, name: str) -> Any:
    """Two transposed convolutions, up-sampling, and an up-sampled 1×1 residual from the block's input."""
    residual = layers.UpSampling2D(2, name=f"{name}_residual_grow")(x)
    residual = layers.Conv2D(width, 1, padding="same", name=f"{name}_residual")(residual)
    for step in (1, 2):
        x = layers.Activation("relu", name=f"{name}_relu{step}")(x)
        x = layers.Conv2DTranspose(width, 3, padding="same", name=f"{name}_conv{step}")(x)
        x = layers.BatchNormalization(name=f"{name}_norm{step}")(x)
    x = layers.UpSampling2D(2, name=f"{name}_grow")(x)
    return layers.Add(name=f"{name}_add")([x, residual])
