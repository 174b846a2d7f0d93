"""Keras networks to ONNX, quietly and to the same bytes each time."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from onnx.reference import ReferenceEvaluator

from satmask.errors import InstallError, ModelError
from satmask.models.blocks import copy_layer, rebuild

INPUT, OUTPUT = "image", "probabilities"


def convert(network: Any) -> onnx.ModelProto:
    """Convert a network to ONNX through the TensorFlow backend.

    Of the three backends only TensorFlow's export takes images of any size; networks of the others are converted by
    a second Python process.

    Args:
        network: Keras model from `(batch, height, width, bands)` to probabilities.

    Returns:
        The graph, float32, from "image" to "probabilities", with names that depend on the network only.

    Raises:
        ModelError: If the conversion fails.
        InstallError: If TensorFlow or tf2onnx isn't installed.
    """
    with tempfile.TemporaryDirectory(prefix="satmask-") as folder:
        target = Path(folder, "network.onnx")
        if keras.backend.backend() == "tensorflow":
            _convert_here(as_float32(network), target)
        else:
            _convert_elsewhere(as_float32(network), target)
        model = _canonical(_normalise_by_band(_squeeze_end(_scale_plainly(onnx.load(target)))))
        return _declare(model, bands=network.input_shape[-1], classes=network.output_shape[-1])


def convert_saved(source: str, target: str) -> None:
    """Convert a saved `.keras` file; what the second process runs."""
    _convert_here(keras.saving.load_model(source, compile=False), Path(target))


def as_float32(network: Any) -> Any:
    """Copy a network trained in mixed precision to plain float32; others are given back as they are."""
    if all(getattr(layer, "compute_dtype", "float32") == "float32" for layer in network.layers):
        return network
    copy = rebuild(network, lambda layer: copy_layer(layer, dtype="float32"))
    copy.set_weights(network.get_weights())
    return copy


class _DilatedConv2D(layers.Conv2D):  # type: ignore[misc] # Keras ships no types
    """A dilated convolution that TensorFlow writes as one.

    Keras has TensorFlow cut the image into interleaved ones, which ends as a hundred nodes in ONNX instead of one.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with TensorFlow's own operator, which knows dilation."""
        import tensorflow as tf

        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=list(self.dilation_rate))


class _NearestUpSampling2D(layers.UpSampling2D):  # type: ignore[misc] # Keras ships no types
    """An upsampling to the nearest pixel that TensorFlow writes as one resize.

    Keras repeats rows, then columns, which ends as thirty nodes in ONNX, with copies of the image among them.
    """

    def call(self, inputs: Any) -> Any:
        """Resize with TensorFlow's own operator."""
        import tensorflow as tf

        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=tf.shape(inputs)[1:3] * tf.constant(self.size))


def _plain_kind(layer: Any) -> Any:
    """Find the class that becomes one ONNX node where the layer's own becomes many; None for other layers."""
    if getattr(layer, "data_format", None) != "channels_last":
        return None
    if type(layer) is layers.Conv2D and max(layer.dilation_rate) > 1 and layer.groups == 1:
        return _DilatedConv2D
    if type(layer) is layers.UpSampling2D and layer.interpolation == "nearest":
        return _NearestUpSampling2D
    return None


def _plain(network: Any) -> Any:
    """Copy a network that has such layers for export, with them replaced; others are given back as they are."""

    def replace(layer: Any) -> Any:
        kind = _plain_kind(layer)
        return kind.from_config(layer.get_config()) if kind else copy_layer(layer)

    if not any(_plain_kind(layer) for layer in network.layers):
        return network
    copy = rebuild(network, replace)
    copy.set_weights(network.get_weights())
    return copy


def _convert_here(network: Any, target: Path) -> None:
    """Convert in this process, whose backend is TensorFlow."""
    network = _plain(network)
    shape = (None, None, None, network.input_shape[-1])
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=INPUT)]
    try:
        with _quiet():
            network.export(str(target), format="onnx", verbose=False, input_signature=signature)
    except ImportError as error:
        msg = f"Exporting must have TensorFlow and tf2onnx installed, got {error}. Run pip install 'satmask[train]'."
        raise InstallError(msg) from error


def _convert_elsewhere(network: Any, target: Path) -> None:
    """Convert in a second process whose backend is TensorFlow."""
    source = target.with_suffix(".keras")
    save_keras(network, source)
    code = "import sys; from satmask.models.onnx_export import convert_saved; convert_saved(*sys.argv[1:])"
    done = subprocess.run(  # noqa: S603 - our own code and paths
        [sys.executable, "-c", code, str(source), str(target)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        msg = f"Exporting must work with the TensorFlow backend, got {lines[-1]!r}."
        raise ModelError(msg)


def save_keras(network: Any, path: str | Path) -> None:
    """Save a network, or its weights where the name ends in `.weights.h5`, without TensorFlow's warnings.

    Args:
        network: Keras model.
        path: File that ends in `.keras` or `.weights.h5`.
    """
    with warnings.catch_warnings():
        # TensorFlow 2.21's variables lack the `copy` argument that numpy 2 asks `__array__` for; numpy copies anyway.
        warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword")
        (network.save_weights if str(path).endswith(".weights.h5") else network.save)(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what tf2onnx and Keras say about themselves while converting."""
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # tf2onnx 1.17 still uses `np.object` and `np.cast`-era idioms; its results are checked against Keras.
            warnings.filterwarnings("ignore", module=r"tf2onnx(\.|$)")
            warnings.filterwarnings("ignore", message=r".*np\.object.*")
            yield
    finally:
        logger.setLevel(before)


# How ONNX says what `_NearestUpSampling2D` does: pixel i of the result is pixel floor(i / scale).
_NEAREST = {
    "mode": b"nearest",
    "coordinate_transformation_mode": b"asymmetric",
    "nearest_mode": b"floor",
    "exclude_outside": 0,
}


def _scale_plainly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each nearest resize its scales as constants, and drop the nodes that computed its sizes from the image's."""
    graph = model.graph
    for node in graph.node:
        scales = _scales(model, node)
        if scales is not None:
            tensor = onnx.numpy_helper.from_array(scales, f"{node.output[0]}/scales")
            graph.initializer.append(tensor)
            node.input[:] = [node.input[0], "", tensor.name]
    kept = _leading_to({graph.output[0].name}, graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _squeeze_end(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take off an axis too many at the end of a network of one class.

    tf2onnx 1.17 moves a single channel to the end by reshaping to `(1, batch, height, width, 1)` and squeezing the first
    axis. Depending on the names of its nodes, which count up in a process, it loses the squeeze.
    """
    graph = model.graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    shapes = [tensor for tensor in graph.initializer if tensor.name == last.input[-1]]
    if last.op_type != "Reshape" or not shapes or len(onnx.numpy_helper.to_array(shapes[0])) != 5:
        return model
    axes = onnx.numpy_helper.from_array(np.zeros(1, np.int64), f"{last.name}/first_axis")
    whole = f"{last.name}/five_axes"
    graph.initializer.append(axes)
    graph.node.append(
        onnx.helper.make_node("Squeeze", [whole, axes.name], [last.output[0]], name=f"{last.name}/squeeze")
    )
    last.output[0] = whole
    return model


def _normalise_by_band(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let the image's bands be brought to the front before it is normalised: the same numbers, far sooner.

    With bands last, ONNX Runtime scales as many numbers at a time as there are bands.
    """
    graph = model.graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    chain: list[onnx.NodeProto] = []
    tensor = graph.input[0].name
    while not chain or chain[-1].op_type != "Transpose":
        readers = [node for node in graph.node if tensor in node.input]
        if len(readers) != 1 or not (readers[0].op_type == "Transpose" or _is_scaling(readers[0], weights)):
            return model
        chain += readers
        tensor = readers[0].output[0]
    if list(chain[-1].attribute[0].ints) != [0, 3, 1, 2]:
        return model
    *steps, turn = (onnx.NodeProto.FromString(node.SerializeToString()) for node in chain)
    tensor, turn.input[0], turn.output[0] = f"{turn.output[0]}/turned", graph.input[0].name, f"{turn.output[0]}/turned"
    for step in steps:
        name = next(name for name in step.input if name in weights)
        by_band = onnx.numpy_helper.from_array(weights[name].reshape(-1, 1, 1), f"{name}/by_band")
        graph.initializer.append(by_band)
        step.input[:] = [tensor, by_band.name]
        tensor = step.output[0]
    (steps or [turn])[-1].output[0] = chain[-1].output[0]
    for node, content in zip(chain, [turn, *steps], strict=True):
        node.CopyFrom(content)
    return model


def _is_scaling(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> bool:
    """Whether a node multiplies by a constant, or adds one, that is a number or one a band."""
    constants = [weights[name] for name in node.input if name in weights]
    return node.op_type in {"Mul", "Add"} and len(constants) == 1 and constants[0].ndim <= 1


def _scales(model: onnx.ModelProto, node: onnx.NodeProto) -> np.ndarray | None:
    """Find by what a nearest resize multiplies each side, in the order of its own axes.

    Its sizes are computed from the shape of what it resizes; doing that for two shapes gives the factors without a
    guess at where rows and columns are.

    Returns:
        Factors, float32, shape `(4,)`; None for other nodes and where the sizes depend on something else.
    """
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type != "Resize" or settings != _NEAREST or len(node.input) < 4:
        return None
    image, sizes = node.input[0], node.input[3]
    steps = _leading_to({sizes}, model.graph.node, since=image)
    used = {name for step in steps for name in step.input}
    if model.graph.input[0].name in used:
        return None
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    ends = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in ((image, 1), (sizes, 7))]
    part = onnx.helper.make_graph(steps, "sizes", ends[:1], ends[1:], initializer=constants)
    run = ReferenceEvaluator(part, opsets={entry.domain: entry.version for entry in model.opset_import}).run
    shapes = np.array([(2, 3, 5, 7), (3, 5, 4, 9)])
    first, second = (run(None, {image: np.zeros(shape, np.float32)})[0] / shape for shape in shapes)
    return first.astype(np.float32) if np.array_equal(first, second) else None


def _leading_to(wanted: set[str], nodes: Sequence[onnx.NodeProto], *, since: str = "") -> list[onnx.NodeProto]:
    """Pick the nodes that tensors are computed by, going back no farther than another tensor."""
    kept = []
    for node in reversed(nodes):  # every node comes after those it takes from
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted = wanted | set(node.input) - {since, ""}
    return kept[::-1]


def _canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every tensor and node a name by its position, and drop what differs from one export to the next."""
    graph = model.graph
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    # Weights in the order of their first use: their order in the file is that of names which count up in a process.
    order = {name: place for place, name in reversed(list(enumerate(n for node in graph.node for n in node.input)))}
    weights = sorted((tensor for tensor in graph.initializer if tensor.name in order), key=lambda t: order[t.name])
    names |= {tensor.name: f"weight{place}" for place, tensor in enumerate(weights)}
    for place, node in enumerate(graph.node):
        names |= {name: f"value{place}_{i}" for i, name in enumerate(node.output) if name and name not in names}
    for place, node in enumerate(graph.node):
        node.name, node.doc_string = f"node{place}_{node.op_type}", ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        _pad_explicitly(node)
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    for tensor in copies:
        tensor.name = names[tensor.name]
    del graph.initializer[:], graph.value_info[:], model.metadata_props[:]
    graph.initializer.extend(copies)
    graph.input[0].name, graph.output[0].name = INPUT, OUTPUT
    graph.name, graph.doc_string, model.doc_string = "satmask", "", ""
    standard = [entry for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", entry.version) for entry in standard[:1]])
    return model


def _declare(model: onnx.ModelProto, *, bands: int, classes: int) -> onnx.ModelProto:
    """Say the shapes of input and output as the network has them: what tf2onnx infers of them isn't always whole."""
    for value, name, channels in ((model.graph.input[0], INPUT, bands), (model.graph.output[0], OUTPUT, classes)):
        sides = ["batch", "height", "width", channels]
        value.CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides))
    return model


def _pad_explicitly(node: onnx.NodeProto) -> None:
    """Write out the padding of a dilated convolution: ONNX Runtime doesn't take "same" together with dilation."""
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    rates = settings.get("dilations", [1])
    if node.op_type != "Conv" or max(rates) == 1 or max(settings.get("strides", [1])) > 1:
        return
    if settings.get("auto_pad", b"NOTSET") != b"SAME_UPPER":
        return
    total = [rate * (side - 1) for rate, side in zip(rates, settings["kernel_shape"], strict=True)]
    pads = [side // 2 for side in total] + [side - side // 2 for side in total]
    kept = [attribute for attribute in node.attribute if attribute.name not in {"auto_pad", "pads"}]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("pads", pads)])
