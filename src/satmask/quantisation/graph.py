"""Networks in eight bits: a model file's graph rewritten so that runtimes compute its convolutions with whole numbers.

Activations get one scale a tensor, fixed here, so that the network stays the local function it was: a pixel's result
doesn't depend on what else a window holds. Weights get one scale a filter. The graph is written in standard ONNX, with
pairs of `QuantizeLinear` and `DequantizeLinear` around what each runtime then joins into its own whole-number kernels.

References:
    Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "percentile")
# Convolutions, and what lies between them: a float operator in the middle would cost a conversion there and back.
_WHOLE = ("Conv", "ConvTranspose", "MaxPool", "Resize", "Concat", "Add", "Relu", "Clip", "Pad")
_LAYERS = ("Conv", "ConvTranspose")
_TAIL = 0.01  # percent of the values that "percentile" cuts off on each side
_SAMPLED = 2**18  # values of a tensor and window that percentiles are taken of


def fold(path: str | Path) -> onnx.ModelProto:
    """Read a model file's graph with each batch normalisation folded into its convolution.

    What normalises becomes a part of the weights, so that nothing but convolutions has to be rounded.

    Args:
        path: The `.onnx` file.

    Returns:
        A graph of standard operators that gives the same probabilities, to the last bits of float32.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # errors only
    with tempfile.TemporaryDirectory(prefix="satmask-") as folder:
        target = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(target)
    return _standard(model)


def layers(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions of a folded graph, in the order in which they are computed."""
    return [node.name for node in model.graph.node if node.op_type in _LAYERS]


def measure_ranges(
    model: onnx.ModelProto, images: Sequence[np.ndarray], *, method: Method = "minmax"
) -> dict[str, tuple[float, float]]:
    """Find between which values the tensors inside of a network lie.

    Args:
        model: A folded graph.
        images: Raw values, float32, each `(height, width, bands)`; one is in memory at a time with all that follows from it.
        method: "minmax" takes the extremes; "percentile" leaves out 0.01 % of a window's values on each side, which
            gives the others finer steps where few values are far out.

    Returns:
        Smallest and largest value by the tensor's name.

    Raises:
        ModelError: If a value isn't finite.
    """
    names = [name for node in model.graph.node for name in node.output]
    session, names = _watch(model, names)
    lows, highs = [], []
    for image in images:
        values = session.run(names, {model.graph.input[0].name: np.asarray(image[None], np.float32)})
        ends = [_ends(value, method) for value in values]
        lows.append([low for low, _ in ends])
        highs.append([high for _, high in ends])
    smallest, largest = np.min(lows, axis=0), np.max(highs, axis=0)
    if not np.isfinite([smallest, largest]).all():
        msg = "Values inside of a network must be finite to be quantised, got NaN or infinity."
        raise ModelError(msg)
    return {name: (float(low), float(high)) for name, low, high in zip(names, smallest, largest, strict=True)}


def quantise(
    model: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    *,
    floats: Sequence[str] = (),
    fused: bool = False,
) -> onnx.ModelProto:
    """Rewrite a folded graph for eight bits.

    The first convolution and what normalises the image before it stay in float32, as raw values may have more than eight
    bits, and so do its few products; the scores of the last one aren't rounded, so that probabilities aren't either.

    Args:
        model: A folded graph; left as it is.
        ranges: What `measure_ranges` found.
        floats: Names of further layers to leave in float32.
        fused: Don't round between a convolution and its ELU. OpenVINO computes both at once, which is faster and loses
            less; ONNX Runtime has a whole-number convolution only where its result is rounded.

    Returns:
        The graph; the same arguments give the same bytes.

    Raises:
        ModelError: If the graph has no convolutions but its first.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    names = layers(model)
    if set(names[1:]) <= set(floats):
        msg = f"Network must have a layer to be quantised beside its first, got {len(names)} of which none is left."
        raise ModelError(msg)
    overrides = {
        name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
        for name, (low, high) in ranges.items()
    }
    with tempfile.TemporaryDirectory(prefix="satmask-") as folder:
        source, target = Path(folder, "folded.onnx"), Path(folder, "whole.onnx")
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        # Says that folding was done already; ONNX Runtime would log a warning.
        copy.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        source.write_bytes(copy.SerializeToString())
        quantize_static(
            source,
            target,
            _OneImage(_blank(model)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_WHOLE),
            nodes_to_exclude=[*_up_to(model, names[0]), *floats, *_lone_joins(model)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": overrides},
        )
        found = onnx.load(target)
    scores = {node.output[0] for node in found.graph.node if node.name == names[-1]}
    before_elu = {node.input[0] for node in model.graph.node if node.op_type == "Elu"} if fused else set()
    return _standard(_unround(found, scores | before_elu))


def _up_to(model: onnx.ModelProto, last: str) -> list[str]:
    """Names of the nodes up to one of them, in the order in which they are computed."""
    names = [node.name for node in model.graph.node]
    return names[: names.index(last) + 1]


def store_halves(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights in 16 bits; runtimes widen them again while they load, and compute as before.

    Args:
        model: A graph; left as it is.

    Returns:
        The graph, about half as large. Weights too large for float16 stay as they are.
    """
    import onnx

    copy = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copy.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size < 16 or np.abs(values).max() > np.finfo(np.float16).max:  # a cast takes more than it would save
            continue
        wide = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{wide}/half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [wide], f"{wide}/widen", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


class _OneImage:
    """What ONNX Runtime asks for images: one; all ranges that matter were measured before."""

    def __init__(self, feed: dict[str, np.ndarray]) -> None:
        self._feeds = iter([feed])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next image, and None after the last."""
        return next(self._feeds, None)


def _blank(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    entry = model.graph.input[0]
    bands = entry.type.tensor_type.shape.dim[3].dim_value
    return {entry.name: np.zeros((1, 64, 64, bands), np.float32)}


def _watch(model: onnx.ModelProto, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Open a session that gives all float tensors, and their names."""
    import onnx
    import onnxruntime

    copy = onnx.ModelProto.FromString(model.SerializeToString())
    kinds = {
        info.name: info.type.tensor_type.elem_type for info in onnx.shape_inference.infer_shapes(copy).graph.value_info
    }
    floats = [name for name in names if kinds.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT]
    ends = {entry.name for entry in copy.graph.output}
    for name in floats:
        if name not in ends:
            copy.graph.output.add().CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads could change the last bits of a range, and so the file
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, floats


def _ends(values: np.ndarray, method: Method) -> tuple[float, float]:
    """Between which values a tensor lies; 0 is always among them, as padding is."""
    if method == "percentile":
        flat = values.reshape(-1)
        low, high = np.percentile(flat[:: -(-flat.size // _SAMPLED) or 1], (_TAIL, 100 - _TAIL))
    else:
        low, high = values.min(), values.max()
    return min(float(low), 0.0), max(float(high), 0.0)


def _unround(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """Take away the rounding of some tensors."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in names]:
        for back in [other for other in graph.node if other.input and other.input[0] == node.output[0]]:
            _rename(graph.node, back.output[0], node.input[0])
            graph.node.remove(back)
        graph.node.remove(node)
    return model


def _lone_joins(model: onnx.ModelProto) -> list[str]:
    """Concatenations that float operators take from: nothing is gained there, and OpenVINO 2026.4 crashes on them."""
    takers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, set()).add(node.op_type)
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    return [node.name for node in joins if takers.get(node.output[0], set()) - set(_WHOLE)]


def _rename(nodes: Sequence[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _standard(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what runtimes leave behind: operator sets that aren't used, metadata, shapes found, weights without use."""
    import onnx

    used = {name for node in model.graph.node for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    version = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    del model.graph.initializer[:], model.graph.value_info[:], model.metadata_props[:], model.opset_import[:]
    model.graph.initializer.extend(sorted(copies, key=lambda tensor: tensor.name))
    model.opset_import.extend([onnx.helper.make_opsetid("", version)])
    model.producer_name, model.producer_version = "satmask", ""
    return model
