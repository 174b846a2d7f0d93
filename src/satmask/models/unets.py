"""The U-Net.

References:
    Ronneberger, Fischer & Brox, 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    https://arxiv.org/abs/1505.04597.
    Batch normalisation and ELU in each block: Iglovikov, Mushinskiy & Osin, 2017, "Satellite Imagery Feature Detection
    using Deep Convolutional Neural Network", https://arxiv.org/abs/1706.06169.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from satmask.models.blocks import Scaling, check_widths, convolve_twice, head, image_input, join_up


def unet(
    bands: int,
    classes: int,
    *,
    filters: Sequence[int] = (32, 64, 128, 256, 512),
    activation: str = "sigmoid",
    scale: Scaling = 1 / 255,
    offset: Scaling = 0.0,
) -> Any:
    """Build a U-Net whose output is as large as its input.

    Blocks of two 3×3 convolutions, each with batch normalisation and ELU, are joined by 2×2 max pooling on the way down
    and by 2× up-sampling on the way up, where each also sees the block of the same level from the way down.

    Args:
        bands: Bands of the images.
        classes: Output channels.
        filters: Width of each level, finest first; their number fixes the stride, `2 ** (levels - 1)`.
        activation: "sigmoid" where classes may overlap, "softmax" where they exclude each other.
        scale: What raw values are multiplied with inside, one number or one a band.
        offset: What is added after that, one number or one a band.

    Returns:
        Keras model from `(batch, height, width, bands)` to probabilities `(batch, height, width, classes)`, float32.

    Raises:
        SettingError: If a setting breaks a rule above.

    Examples:
        >>> unet(3, 1).count_params()
        7858433
    """
    check_widths("Filters", filters, least=2)
    image, x = image_input(bands, scale=scale, offset=offset)
    skips = []
    for level, width in enumerate(filters[:-1]):
        x = convolve_twice(x, width, name=f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down{level}_pool")(x)
    x = convolve_twice(x, filters[-1], name="bottom")
    for level in reversed(range(len(skips))):
        x = join_up(x, skips[level], name=f"up{level}")
        x = convolve_twice(x, filters[level], name=f"up{level}")
    return keras.Model(image, head(x, classes, activation), name="unet")
