"""The dilated building network: full resolution throughout, wide context from dilation, very few weights.

References:
    Yu & Koltun, 2016, "Multi-Scale Context Aggregation by Dilated Convolutions", https://arxiv.org/abs/1511.07122,
    for context without pooling.
    Tompson et al., 2015, "Efficient Object Localization Using Convolutional Networks",
    https://arxiv.org/abs/1411.4280, for spatial dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from satmask.errors import SettingError
from satmask.models.blocks import Scaling, check_count, check_widths, head, image_input


def dilated(
    bands: int,
    classes: int,
    *,
    window: int = 256,
    filters: Sequence[int] = (8, 8, 16, 32),
    activation: str = "sigmoid",
    scale: Scaling = 1 / 255,
    offset: Scaling = 0.0,
) -> Any:
    """Build the dilated network: parallel looks at the same features, near and far.

    Gaussian noise and batch normalisation of the input; 3×3 convolutions; parallel 3×3 convolutions with dilations 1, 2,
    4, … up to an eighth of the training window, concatenated with the normalised input; spatial dropout, batch
    normalisation, ELU; a last 3×3 convolution; a 1×1 head. Convolutions are followed by ELU. Noise and dropout act in
    training only.

    Args:
        bands: Bands of the images.
        classes: Output channels.
        window: Side of the training windows, in pixels, at least 8: the largest dilation is an eighth of it.
        filters: Widths of the three first convolutions, of which each parallel one has the last, and of the last one.
        activation: "sigmoid" where classes may overlap, "softmax" where they exclude each other.
        scale: What raw values are multiplied with inside, one number or one a band; the noise of 0.1 is relative to it.
        offset: What is added after that, one number or one a band.

    Returns:
        Keras model from `(batch, height, width, bands)` to probabilities `(batch, height, width, classes)`, float32.

    Raises:
        SettingError: If a setting breaks a rule above.

    Examples:
        >>> dilated(3, 1).output_shape
        (None, None, None, 1)
    """
    check_widths("Filters", filters, least=2)
    check_count("Window", window)
    if window < 8:
        msg = f"Window must be at least 8 pixels, got {window}. The largest dilation is an eighth of it."
        raise SettingError(msg)
    image, x = image_input(bands, scale=scale, offset=offset)
    x = layers.GaussianNoise(0.1, seed=0, name="noise")(x)
    known = x = layers.BatchNormalization(name="input_norm")(x)
    for step, width in enumerate(filters[:-1]):
        x = _convolve(x, width, name=f"conv{step}")
    rates = [2**power for power in range((window // 8).bit_length())]
    looks = [_convolve(x, filters[-2], rate=rate, name=f"look{rate}") for rate in rates]
    x = layers.Concatenate(name="join")([known, *looks])
    x = layers.SpatialDropout2D(0.25, seed=0, name="dropout")(x)
    x = layers.BatchNormalization(name="join_norm")(x)
    x = layers.Activation("elu", name="join_elu")(x)
    x = _convolve(x, filters[-1], name="last")
    return keras.Model(image, head(x, classes, activation), name="dilated")


def _convolve(x: Any, filters: int, *, name: str, rate: int = 1) -> Any:
    """3×3 convolution with ELU."""
    return layers.Conv2D(
        filters, 3, dilation_rate=rate, padding="same", activation="elu", kernel_initializer="he_uniform", name=name
    )(x)
