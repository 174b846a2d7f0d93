"""Carrying over: weights, normalisation and head of a trained network, to other bands, values and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from satmask.errors import ModelError
from satmask.models import build
from satmask.models.encoder_weights import spread_bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.legend import Legend
    from satmask.model_file import ModelInfo
    from satmask.survey import Survey

HEAD = "scores"
# Options of a start that say where its numbers came from, not how it is built.
NOT_BUILT = ("weights", "scale", "offset", "activation", "frozen")
# Networks that put the image in front of their features where they join the two; all others put it behind.
_IMAGE_FIRST = ("dilated",)
# By how much the spread of values may differ, either way, before they are taken for another kind of values.
_SPREAD = 2.0
_WAY_OUT = "Leave out network and --model: the start says what is built."


def match_bands(given: Sequence[str], wanted: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Say from which bands of a start each new band takes its weights.

    Bands of the same name belong together; a new one without a namesake begins at 0, so that the network says at first
    what it said without it. Where no name is shared, bands go by their order, and if there are more or fewer of them,
    weights are spread as those of encoders are.

    Args:
        given: Names of the start's bands.
        wanted: Names of the new bands.

    Returns:
        Shares, float64, `(wanted, given)`; and whether each row is one band or none.

    Examples:
        >>> match_bands(["red", "green", "blue"], ["nir", "red"])[0].tolist()
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    shares = np.asarray([[one.casefold() == other.casefold() for other in given] for one in wanted], float)
    unique = len({name.casefold() for name in given}) == len(given) and len(set(wanted)) == len(wanted)
    if unique and shares.any():
        return shares, True
    if len(given) == len(wanted):
        return np.eye(len(given)), True
    return spread_bands(np.eye(len(given))[None, None], len(wanted))[0, 0], False


def carry_scaling(given: Any, info: ModelInfo, seen: Survey) -> tuple[list[float], list[float]]:
    """Scale and offset of a network's normalisation on new data.

    Values of the same kind keep those of the start, band by band: the same value means the same. Other values (16 bits
    in place of 8, or 16 bits of another sensor) are brought to the mean and the spread that the start's data had behind
    its normalisation. Bands that the start doesn't know are brought to mean 0 and deviation 1.

    Args:
        given: The start's network.
        info: What its model file says.
        seen: The new data.

    Returns:
        One number a band each: `value * scale + offset`.
    """
    count = len(info.bands)
    layer = given.get_layer("normalise")
    scale, offset = (np.broadcast_to(np.asarray(part, float), count) for part in (layer.scale, layer.offset))
    deviation = np.where(seen.deviation > 0, seen.deviation, 1.0)
    new_scale, new_offset = 1 / deviation, -seen.mean / deviation
    shares, single = match_bands([band.name for band in info.bands], seen.bands)
    if not single:
        return new_scale.tolist(), new_offset.tolist()
    rows = np.flatnonzero(shares.any(axis=1))
    old = shares[rows].argmax(axis=1)
    means, spreads = _behind(info, scale, offset)
    if same_kind(info, seen, rows, old):
        new_scale[rows], new_offset[rows] = scale[old], offset[old]
    else:
        new_scale[rows] = spreads[old] / deviation[rows]
        new_offset[rows] = means[old] - seen.mean[rows] * new_scale[rows]
    return new_scale.tolist(), new_offset.tolist()


def same_kind(info: ModelInfo, seen: Survey, rows: np.ndarray, old: np.ndarray) -> bool:
    """Whether new data's values mean what those of the start meant: 8 bits always, others where they are alike."""
    if info.dtype != str(seen.dtype):
        return False
    if seen.dtype == np.uint8:
        return True
    low, high = np.asarray(info.value_range, float)[old].T
    alike = bool(((seen.mean[rows] >= low) & (seen.mean[rows] <= high)).all())
    if known := info.training.get("deviation"):
        ratio = seen.deviation[rows] / np.maximum(np.asarray(known, float)[old], 1e-12)
        alike = alike and bool(((ratio <= _SPREAD) & (ratio >= 1 / _SPREAD)).all())
    return alike


def _behind(info: ModelInfo, scale: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the start's data behind its normalisation; 0 and 1 where its file doesn't tell them."""
    told = [info.training.get(key) for key in ("mean", "deviation")]
    if not all(told):
        return np.zeros(len(scale)), np.ones(len(scale))
    mean, deviation = (np.asarray(values, float) for values in told)
    return mean * scale + offset, np.abs(deviation * scale)


def shared_classes(given: Legend, wanted: Legend) -> list[tuple[int, int]]:
    """Channels of the new and of the start's legend that bear the same name; none where activations differ."""
    if given.activation != wanted.activation:
        return []
    places = {name.casefold(): place for place, name in enumerate(given.names)}
    return [(new, places[name.casefold()]) for new, name in enumerate(wanted.names) if name.casefold() in places]


def take_over(network: Any, given: Any, info: ModelInfo, *, bands: Sequence[str], legend: Legend) -> None:
    """Copy a start's weights into a network, layer by layer in the order of the graph.

    Where the image enters, weights go to the bands that `match_bands` says. The last convolution keeps the weights of
    classes of the same name; other classes begin at random.

    Args:
        network: What is to be trained, built as the start was.
        given: The start's network.
        info: What its model file says.
        bands: Names of the new bands.
        legend: The new classes.

    Raises:
        ModelError: If the layers of the two don't fit.
    """
    pairs = list(zip(weighted(given), weighted(network), strict=False))
    if len(weighted(given)) != len(weighted(network)) or any(type(one) is not type(other) for one, other in pairs):
        msg = f"Start must be built as the network, got other layers than those of {network.name!r}. {_WAY_OUT}"
        raise ModelError(msg)
    shares, _ = match_bands([band.name for band in info.bands], bands)
    shapes = None if np.array_equal(shares, np.eye(len(bands))) else _shapes_with_one_more(info, given)
    for place, (old, new) in enumerate(pairs):
        values, kept = old.get_weights(), new.get_weights()
        if new.name == HEAD:
            values = _head(values, kept, shared_classes(info.legend, legend))
        if shapes is not None:
            first = info.network in _IMAGE_FIRST
            parts = zip(values, kept, shapes[place], strict=True)
            values = [_spread(value, held, wider, shares, first=first) for value, held, wider in parts]
        if [value.shape for value in values] != [value.shape for value in kept]:
            sizes = f"{[value.shape for value in values]} for {[value.shape for value in kept]}"
            msg = f"Start must fit layer {new.name!r} of the network, got {sizes}. {_WAY_OUT}"
            raise ModelError(msg)
        new.set_weights(values)


def freeze(network: Any, frozen: Sequence[int]) -> None:
    """Keep layers from learning that didn't learn in the start, such as batch normalisation folded into weights."""
    layers = weighted(network)
    for place in frozen:
        layers[place].trainable = False


def settled(network: Any) -> tuple[int, ...]:
    """Which of the layers that hold weights are batch normalisation that doesn't learn, as it may be folded into weights.

    Whatever else a start didn't train may be trained now.
    """
    layers = enumerate(weighted(network))
    return tuple(at for at, one in layers if isinstance(one, keras.layers.BatchNormalization) and not one.trainable)


def weighted(network: Any) -> list[Any]:
    """Layers that hold weights themselves, in the order of the graph."""
    every = network._flatten_layers(include_self=False)  # noqa: SLF001  # Keras has no public walk over all layers
    return [layer for layer in every if layer.weights and not isinstance(layer, keras.Model)]


def _head(values: list[np.ndarray], kept: list[np.ndarray], classes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The new head, with the start's weights for the classes that both know."""
    if values[0].shape[:-1] != kept[0].shape[:-1]:
        return values  # refused with the other layers that don't fit
    fresh = [held.copy() for held in kept]
    for new, old in zip(fresh, values, strict=True):
        for channel, known in classes:
            new[..., channel] = old[..., known]
    return fresh


def _shapes_with_one_more(info: ModelInfo, given: Any) -> list[list[tuple[int, ...]]]:
    """Shapes of all weights if the start had one band more: what grows is where the image enters."""
    options = {key: value for key, value in info.options.items() if key not in NOT_BUILT}
    wider = build(
        info.network, bands=len(info.bands) + 1, classes=len(info.legend), activation=info.activation, **options
    )
    shapes = [[value.shape for value in layer.get_weights()] for layer in weighted(wider)]
    if len(shapes) != len(weighted(given)):
        msg = f"Start must be built as its model file says, got {len(weighted(given))} layers for {len(shapes)}."
        raise ModelError(msg)
    return shapes


def _spread(
    value: np.ndarray, held: np.ndarray, wider: tuple[int, ...], shares: np.ndarray, *, first: bool
) -> np.ndarray:
    """Give new bands their shares of the weights of the start's."""
    grown = [axis for axis, (side, more) in enumerate(zip(value.shape, wider, strict=True)) if side != more]
    if not grown:
        return value
    axis, given = grown[0], shares.shape[1]
    rows = np.moveaxis(value, axis, 0)
    image, rest = (rows[:given], rows[given:]) if first else (rows[len(rows) - given :], rows[: len(rows) - given])
    spread = np.tensordot(shares, image, axes=1)
    if value.ndim == 1:
        # Means and gains of batch normalisation are no weights to be shared out: unknown bands keep the new ones.
        total = shares.sum(axis=1)
        mine = held[: len(shares)] if first else held[len(held) - len(shares) :]
        spread = np.where(total > 0, spread / np.where(total > 0, total, 1), mine)
    parts = (spread, rest) if first else (rest, spread)
    return np.moveaxis(np.concatenate(parts), 0, axis).astype(value.dtype)
