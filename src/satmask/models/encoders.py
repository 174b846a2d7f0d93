"""The U-Net decoder on an encoder of `keras.applications`.

References:
    Iglovikov & Shvets, 2018, "TernausNet: U-Net with VGG11 Encoder Pre-Trained on ImageNet for Image Segmentation",
    https://arxiv.org/abs/1801.05746, for the idea; each encoder's own paper is named in Keras' documentation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from satmask.errors import SettingError
from satmask.models.blocks import (
    Scaling,
    check_head,
    check_widths,
    convolve_twice,
    copy_layer,
    head,
    image_input,
    rebuild,
)
from satmask.models.encoder_weights import load_weights

# Mean and standard deviation of ImageNet, red, green, blue, on a scale of 0 to 1.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The blue, green, red means that Caffe's networks subtract, here in the order of the bands: red, green, blue.
_CAFFE_MEAN = (123.68, 116.779, 103.939)
# Encoders whose weights expect something else than values from -1 to 1; the first name that fits counts.
_BY_MEAN = ("DenseNet", "EfficientNetB", "EfficientNetV2B", "ConvNeXt")
_BY_CAFFE = ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19")
SKIPS = ("last", "narrow")
DECODER_ACTIVATIONS = ("elu", "relu")
_KNOWN_GOOD = "MobileNetV2, EfficientNetV2B0, EfficientNetB0, ConvNeXtTiny, ResNet50V2, DenseNet121, VGG16 or Xception"


def encoder_scaling(encoder: str) -> tuple[list[float], list[float]]:
    """Scale and offset that bring 8-bit red, green and blue to what an encoder's ImageNet weights expect.

    Args:
        encoder: Name in `keras.applications`.

    Returns:
        Scale and offset, one number a band: `value * scale + offset`.

    Examples:
        >>> encoder_scaling("ResNet50")[0]
        [1.0, 1.0, 1.0]
    """
    if encoder in _BY_CAFFE:
        return [1.0] * 3, [-mean for mean in _CAFFE_MEAN]
    if encoder.startswith(_BY_MEAN):
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        return scale, [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    # EfficientNetV2 S, M and L divide by 128; all others (MobileNet, Xception, ResNet V2 …) by 127.5.
    return [1 / (128 if encoder.startswith("EfficientNetV2") else 127.5)] * 3, [-1.0] * 3


def encoder_unet(
    bands: int,
    classes: int,
    *,
    encoder: str = "MobileNetV2",
    weights: str | Path | None = None,
    decoder: Sequence[int] = (128, 64, 48, 32, 16),
    decoder_activation: str = "elu",
    skips: str = "last",
    frozen: int = 0,
    activation: str = "sigmoid",
    scale: Scaling | None = None,
    offset: Scaling | None = None,
) -> Any:
    """Build a U-Net whose way down is a published image classifier, which may bring weights from ImageNet.

    The last tensor of each level of the encoder is joined to the way up, or the last narrow one; at full size that is the
    normalised image, and a level that an encoder leaves out is left out here too. Encoders with squeeze and excitation (EfficientNet,
    MobileNetV3) see the whole image at once, so that windows of a scene can't be exact with them.

    Args:
        bands: Bands of the images. Where they aren't three, the first convolution's weights are spread over them, see
            `satmask.models.encoder_weights.spread_bands`.
        classes: Output channels.
        encoder: Name of a network in `keras.applications`.
        weights: None for random ones, "imagenet" to download them, or a file: `.h5`, `.weights.h5` or `.keras` of that
            encoder, or for MobileNetV2 an `.npz` with torchvision's names.
        decoder: Width of each level on the way up, coarsest first.
        decoder_activation: "elu", or "relu", which prediction is faster with: ONNX Runtime makes it one with the convolution.
        skips: "last" joins the last tensor of each level, "narrow" the last one that isn't as wide as the widest, and not
            the image: where blocks widen inside and narrow at their ends, as in MobileNetV2, far less to compute.
        frozen: Levels of the encoder that keep their weights, counted from the finest; each halves the sides. All of them
            leave only the way up to be trained, which few images can't lead astray.
        activation: "sigmoid" where classes may overlap, "softmax" where they exclude each other.
        scale: What raw values are multiplied with inside; that of `encoder_scaling` where left out.
        offset: What is added after that; 0 where only the scale is given.

    Returns:
        Keras model from `(batch, height, width, bands)` to probabilities `(batch, height, width, classes)`, float32.

    Raises:
        SettingError: If there is no such encoder, it doesn't keep its levels aligned, or a setting breaks a rule above.
        ModelError: If a file of weights doesn't fit the encoder.
        InstallError: If the weights can't be downloaded.

    Examples:
        >>> encoder_unet(4, 2, encoder="MobileNetV2").output_shape
        (None, None, None, 2)
    """
    check_widths("Decoder", decoder)
    check_head(classes, activation)
    for what, value, kinds in (
        ("Skips", skips, SKIPS),
        ("Decoder's activation", decoder_activation, DECODER_ACTIVATIONS),
    ):
        if value not in kinds:
            msg = f"{what} must be one of {', '.join(kinds)}, got {value!r}."
            raise SettingError(msg)
    if scale is None:
        scale, offset = _default_scaling(encoder, bands)
    image, x = image_input(bands, scale=scale, offset=0.0 if offset is None else offset)
    base = _build_encoder(encoder, x)
    levels = _find_levels(base, image, encoder, skips)
    if len(decoder) != len(levels) - 1:
        msg = f"Decoder must have {len(levels) - 1} widths for {encoder}, got {len(decoder)}."
        raise SettingError(msg)
    if not 0 <= frozen < len(levels):
        msg = f"Frozen levels must be 0 to {len(levels) - 1} for {encoder}, got {frozen}."
        raise SettingError(msg)
    body = _drop_preprocessing(keras.Model(image, _decode(levels, decoder, decoder_activation)))
    load_weights(body, encoder, weights, reverse_bands=encoder in _BY_CAFFE)
    _freeze(body, image, levels[1 : frozen + 1])
    return keras.Model(body.input, head(body.output, classes, activation), name="encoder_unet")


def _default_scaling(encoder: str, bands: int) -> tuple[Scaling, Scaling]:
    """`encoder_scaling` for any number of bands: cyclic from three up, their mean below."""
    spread = [values * (bands // 3 + 1) for values in encoder_scaling(encoder)]
    if bands < 3:
        spread = [[sum(values[:3]) / 3] * bands for values in spread]
    return spread[0][:bands], spread[1][:bands]


def _build_encoder(encoder: str, x: Any) -> Any:
    """Build an encoder without head, weights and preprocessing on a normalised image."""
    build = getattr(keras.applications, encoder, None) if encoder[:1].isupper() else None
    if build is None:
        msg = f"Encoder must be a network of keras.applications such as {_KNOWN_GOOD}, got {encoder!r}."
        raise SettingError(msg)
    options = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(build).parameters else {}
    try:
        return build(include_top=False, weights=None, input_tensor=x, **options)
    except (ValueError, TypeError) as error:
        msg = f"Encoder must take images of any size, got {encoder!r}. Use {_KNOWN_GOOD}."
        raise SettingError(msg) from error


def _find_levels(base: Any, image: Any, encoder: str, skips: str) -> list[Any]:
    """Find what stands for each level of an encoder, finest first, padded or cut to the exact sides of its level.

    Convolutions without padding, as Xception begins with, make levels a few pixels smaller than they should be. That is
    mended where the same number of pixels is missing at every size.
    """
    start = base.get_layer("normalise")
    outputs = [
        layer.output
        for layer in base.layers[base.layers.index(start) :]
        # What is padded is only on its way to the next level.
        if len(layer.output.shape) == 4 and not isinstance(layer, layers.ZeroPadding2D)
    ]
    graph = keras.Model(image, outputs)
    places = _level_places(_shapes(graph, 512, encoder), skips)
    deepest = len(places) - 1
    missing = [_missing(graph, places, 2**deepest * count, encoder) for count in (1, 3, 512 >> deepest)]
    if any(other != missing[0] for other in missing):
        msg = f"Encoder must halve its sides evenly, got {encoder!r}. Use {_KNOWN_GOOD}."
        raise SettingError(msg)
    return [
        None if place is None else _fit(outputs[place], lack, name=f"level{level}_fit")
        for level, (place, lack) in enumerate(zip(places, missing[0], strict=True))
    ]


def _level_places(shapes: Sequence[tuple[int, ...]], skips: str) -> list[int | None]:
    """Which tensor stands for each level, by their shapes for an image of 512 pixels; None for levels left out."""
    levels = [round(math.log2(512 / shape[1])) for shape in shapes]
    # Joining the image itself makes the widest convolutions at the finest level a third dearer.
    chosen: list[int | None] = [None] if skips == "narrow" else []
    for level in range(len(chosen), levels[-1] + 1):
        members = [place for place, own in enumerate(levels) if own == level]
        widest = max((shapes[place][-1] for place in members), default=0)
        narrow = [place for place in members if shapes[place][-1] < widest]
        chosen.append(next(reversed(narrow if narrow and skips == "narrow" else members), None))
    return chosen


def _shapes(graph: Any, side: int, encoder: str) -> list[tuple[int, ...]]:
    """Shapes of all outputs for an input of a given side."""
    try:
        return list(graph.compute_output_shape((1, side, side, graph.input_shape[-1])))
    except ValueError as error:
        msg = f"Encoder must take images of {side} × {side} pixels, got {encoder!r}, which can't. Use {_KNOWN_GOOD}."
        raise SettingError(msg) from error


def _missing(graph: Any, places: list[int | None], side: int, encoder: str) -> list[int]:
    """How many pixels each level lacks for an input of a given side."""
    shapes = _shapes(graph, side, encoder)
    return [0 if place is None else (side >> level) - shapes[place][1] for level, place in enumerate(places)]


def _fit(x: Any, lack: int, *, name: str) -> Any:
    """Pad with zeros, or cut, evenly on both sides."""
    if not lack:
        return x
    sides = (abs(lack) // 2, abs(lack) - abs(lack) // 2)
    layer = layers.ZeroPadding2D if lack > 0 else layers.Cropping2D
    return layer((sides, sides), name=name)(x)


def _decode(skips: Sequence[Any], widths: Sequence[int], activation: str) -> Any:
    """Go up from the coarsest level, joining each finer one where there is one."""
    x = skips[-1]
    for level, width in zip(reversed(range(len(skips) - 1)), widths, strict=True):
        x = layers.UpSampling2D(2, name=f"up{level}_grow")(x)
        if skips[level] is not None:
            x = layers.Concatenate(name=f"up{level}_join")([x, skips[level]])
        x = convolve_twice(x, width, name=f"up{level}", activation=activation)
    return x


def _freeze(body: Any, image: Any, levels: Sequence[Any]) -> None:
    """Keep what leads to some levels from learning."""
    held = [level for level in levels if level is not None]
    names = {layer.name for layer in keras.Model(image, held).layers} if held else set()
    for layer in body.layers:
        layer.trainable = layer.trainable and layer.name not in names


def _drop_preprocessing(body: Any) -> Any:
    """Take out an encoder's own normalisation, which some build in whether asked or not."""

    def keep(layer: Any) -> Any:
        if isinstance(layer, layers.Normalization) or (
            isinstance(layer, layers.Rescaling) and layer.name != "normalise"
        ):
            return layers.Activation("linear", name=f"{layer.name}_left_out")
        return copy_layer(layer)

    if not any(isinstance(layer, layers.Normalization) for layer in body.layers):
        return body
    return rebuild(body, keep)
