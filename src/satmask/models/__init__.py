"""The networks: raw pixel values in, probabilities out, as Keras functional models.

Every network takes float32 `(batch, height, width, bands)` of the values that the files hold, any height and width that
its stride divides, and normalises inside. Naming one here loads Keras only when it is built.
"""

from __future__ import annotations

import importlib
from typing import Any

from satmask.errors import SettingError

# Name in recipes and on the command line -> module and function that builds the network. No module bears the name of a
# public function: importing it would put the module in the function's place.
NETWORKS = {
    "unet": "satmask.models.unets:unet",
    "cnn": "satmask.models.xception:cnn",
    "dilated": "satmask.models.dilation:dilated",
    "encoder": "satmask.models.encoders:encoder_unet",
}

_PUBLIC = {path.partition(":")[2]: path for path in NETWORKS.values()} | {
    "encoder_scaling": "satmask.models.encoders:encoder_scaling",
    "Reach": "satmask.models.reach:Reach",
    "measure_reach": "satmask.models.reach:measure_reach",
    "save_keras": "satmask.models.onnx_export:save_keras",
}

__all__ = [
    "NETWORKS",
    "Reach",
    "build",
    "cnn",
    "dilated",
    "encoder_scaling",
    "encoder_unet",
    "measure_reach",
    "save_keras",
    "unet",
]


def build(name: str, *, bands: int, classes: int, **options: Any) -> Any:
    """Build a network by its name in recipes.

    Args:
        name: One of `NETWORKS`.
        bands: Bands of the images.
        classes: Channels of the output.
        **options: What the network's own function takes, such as `filters` or `scale`.

    Returns:
        The Keras model.

    Raises:
        SettingError: If there is no such network, or it takes no such option or value.

    Examples:
        >>> build("unet", bands=3, classes=1, filters=(4, 8)).output_shape
        (None, None, None, 1)
    """
    if name not in NETWORKS:
        msg = f"Network must be one of {', '.join(NETWORKS)}, got {name!r}."
        raise SettingError(msg)
    builder = _load(NETWORKS[name])
    known = sorted(set(builder.__kwdefaults__ or {}))
    if unknown := sorted(set(options) - set(known)):
        msg = f"Option of network {name!r} must be one of {', '.join(known)}, got {unknown[0]!r}."
        raise SettingError(msg)
    return builder(bands, classes, **options)


def __getattr__(name: str) -> Any:
    """Find a public name in its module at first use: importing this package loads no Keras."""
    if name not in _PUBLIC:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return _load(_PUBLIC[name])


def _load(path: str) -> Any:
    """Import `module:name`."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
