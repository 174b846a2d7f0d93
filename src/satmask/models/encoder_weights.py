"""Weights for encoders: downloaded by Keras, from Keras' files, or from an `.npz` with torchvision's names."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from satmask.errors import InstallError, ModelError, SettingError


def load_weights(body: Any, encoder: str, weights: str | Path | None, *, reverse_bands: bool = False) -> None:
    """Put weights into the encoder that a network begins with.

    Args:
        body: Keras model whose layers with weights begin with those of the encoder.
        encoder: Name in `keras.applications`.
        weights: None to leave them random, "imagenet" to download them, or a file.
        reverse_bands: True where the weights expect blue, green, red.

    Raises:
        ModelError: If the file can't be read or doesn't fit.
        InstallError: If the weights can't be downloaded.
        SettingError: If the kind of file isn't known.
    """
    if weights is None:
        return
    if str(weights) == "imagenet":
        _copy(_download(encoder), body, "imagenet", reverse_bands=reverse_bands)
    elif Path(weights).suffix == ".npz":
        _load_npz(body, encoder, Path(weights))
    else:
        _copy(_read(encoder, Path(weights)), body, str(weights), reverse_bands=reverse_bands)


def spread_bands(kernel: np.ndarray, bands: int) -> np.ndarray:
    """Fit a first convolution, such as one made for red, green and blue, to another number of bands.

    More bands take the weights of red, green and blue in turn; fewer take their mean, so that one grey band answers as
    it would as a grey RGB image. The result is scaled by 3/bands: responses keep their size.

    Args:
        kernel: Weights `(height, width, 3, filters)`; or of any other number of bands in place of 3.
        bands: Bands wanted.

    Returns:
        Weights `(height, width, bands, filters)`.

    Examples:
        >>> bool(spread_bands(np.ones((3, 3, 3, 8)), 6).sum() == np.ones((3, 3, 3, 8)).sum())
        True
    """
    if bands == kernel.shape[2]:
        return kernel
    count = kernel.shape[2]
    source = kernel if bands >= count else np.repeat(kernel.mean(axis=2, keepdims=True), count, axis=2)
    spread: np.ndarray = np.take(source, np.arange(bands) % count, axis=2) * (count / bands)
    return spread


def _download(encoder: str) -> Any:
    """Let Keras fetch an encoder with weights from ImageNet, or find it in its cache."""
    build = getattr(keras.applications, encoder)
    try:
        return build(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises plain Exception when a download fails
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        msg = f"Weights of {encoder} must be downloaded, got {reason!r:.200}. Give a file of them as `weights`."
        raise InstallError(msg) from error


def _read(encoder: str, path: Path) -> Any:
    """Read an encoder from a file of Keras', with or without its head."""
    if path.suffix not in {".h5", ".keras"}:
        msg = f"Weights must be None, 'imagenet' or a .h5, .weights.h5, .keras or .npz file, got {str(path)!r}."
        raise SettingError(msg)
    if not path.is_file():
        msg = f"Weights must be a file, got none at {path}."
        raise ModelError(msg)
    build = getattr(keras.applications, encoder)
    try:
        if path.suffix == ".keras":
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        for top in (False, True):
            options = {} if top else {"input_shape": (224, 224, 3)}
            source = build(include_top=top, weights=None, **options)
            try:
                source.load_weights(path)
            except (ValueError, KeyError):
                if top:
                    raise
            else:
                return source
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        msg = f"Weights must be those of {encoder}, got {reason!r:.200} for {path}."
        raise ModelError(msg) from error
    return None  # pragma: no cover - the loop returns or raises


def _copy(source: Any, body: Any, name: str, *, reverse_bands: bool) -> None:
    """Copy an encoder's weights layer by layer, in the order of the graph: some of Keras' names count up by process.

    The body's decoder and a source's head come after the encoder and are left alone.
    """
    given = [layer for layer in source.layers if layer.weights and not isinstance(layer, layers.Normalization)]
    given = [layer for layer in given if not isinstance(layer, layers.Dense)]
    taken = [layer for layer in body.layers if layer.weights and not layer.name.startswith("up")]
    for place, (old, new) in enumerate(zip(given, taken, strict=False)):
        values = old.get_weights()
        if place == 0 and values[0].ndim == 4:
            values[0] = values[0][:, :, ::-1] if reverse_bands else values[0]
            values[0] = spread_bands(values[0], new.get_weights()[0].shape[2])
        if [v.shape for v in values] != [w.shape for w in new.get_weights()]:
            msg = f"Weights must fit the encoder's layer {new.name!r}, got those of {old.name!r} in {name}."
            raise ModelError(msg)
        new.set_weights(values)
    if len(given) < len(taken):
        msg = f"Weights must have {len(taken)} layers for this encoder, got {len(given)} in {name}."
        raise ModelError(msg)


def _load_npz(body: Any, encoder: str, path: Path) -> None:
    """Load MobileNetV2 from torchvision's names.

    Where batch normalisation was folded into the convolutions (every mean 0, every variance 1), what batches really look
    like isn't known any more: normalising by them would undo the folding, so those layers are frozen and only add.
    """
    if encoder != "MobileNetV2":
        msg = f"Weights of {encoder} must be a .h5 or .keras file, got {str(path)!r}. Only MobileNetV2 reads .npz."
        raise SettingError(msg)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        msg = f"Weights must be an .npz file of arrays, got {str(error)!r:.200} for {path}."
        raise ModelError(msg) from error
    convolutions = [layer for layer in body.layers if _is_convolution(layer) and not layer.name.startswith("up")]
    norms = [
        layer
        for layer in body.layers
        if isinstance(layer, layers.BatchNormalization) and not layer.name.startswith("up")
    ]
    prefixes = _convolution_names(arrays)
    # A network that joins narrow levels leaves out the encoder's last convolution.
    if len(prefixes) < len(convolutions):
        msg = f"Weights of MobileNetV2 must have {len(convolutions)} convolutions, got {len(prefixes)} in {path}."
        raise ModelError(msg)
    for prefix, convolution, norm in zip(prefixes[: len(convolutions)], convolutions, norms, strict=True):
        try:
            _set_pair(arrays, prefix, convolution, norm)
        except (KeyError, ValueError) as error:
            msg = f"Weights of MobileNetV2 must fit layer {convolution.name!r}, got {str(error)!r:.200} in {path}."
            raise ModelError(msg) from error


def _is_convolution(layer: Any) -> bool:
    """Whether a layer is a plain or a depthwise convolution."""
    return isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D))


def _convolution_names(arrays: dict[str, np.ndarray]) -> list[str]:
    """Names of the convolutions, without `.weight`, in the order of the network."""
    names = [key.removesuffix(".weight") for key, array in arrays.items() if key.endswith("weight") and array.ndim == 4]

    def place(name: str) -> list[int]:
        return [int(part) for part in name.split(".") if part.isdigit()]

    return sorted(names, key=place)


def _set_pair(arrays: dict[str, np.ndarray], prefix: str, convolution: Any, norm: Any) -> None:
    """Fill a convolution and the batch normalisation behind it, whose name counts one further."""
    kernel = arrays[f"{prefix}.weight"]
    if isinstance(convolution, layers.DepthwiseConv2D):
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        kernel = kernel.transpose(2, 3, 1, 0)
        if kernel.shape[2] == 3:
            kernel = spread_bands(kernel, convolution.kernel.shape[2])
    convolution.set_weights([kernel])
    stem, _, number = prefix.rpartition(".")
    behind = f"{stem}.{int(number) + 1}"
    gamma, beta, mean, variance = (
        arrays[f"{behind}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
    )
    # torchvision adds 1e-5 to the variance, Keras' MobileNetV2 1e-3: gamma takes up the difference.
    norm.set_weights([gamma * np.sqrt((variance + norm.epsilon) / (variance + 1e-5)), beta, mean, variance])
    norm.trainable = bool(mean.any()) or not np.allclose(variance, variance.flat[0])
