"""The model file: one ONNX file that carries everything needed to use a network.

Raw pixel values go in, probabilities come out; what they mean is JSON under one metadata key. Reading and checking a
model file loads neither Keras nor TensorFlow; only `export` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from satmask.errors import ModelError
from satmask.model_info import BandInfo, ModelInfo

if TYPE_CHECKING:
    import onnx

__all__ = [
    "INPUT",
    "KEY",
    "OUTPUT",
    "BandInfo",
    "ModelInfo",
    "check",
    "check_parity",
    "export",
    "read_info",
    "rewrite",
    "write",
]

KEY = "satmask"
SCHEMA = 1
INPUT, OUTPUT = "image", "probabilities"
LARGEST = 2**31 - 1  # protobuf's limit for one file

# An ONNX file may import these operator sets; everything else would need code that runtimes don't have.
_DOMAINS = ("", "ai.onnx")


def read_info(path: str | Path) -> ModelInfo:
    """Read what a model file says about its network, and refuse a file that isn't fit for use.

    Args:
        path: The `.onnx` file.

    Returns:
        The information; see `check` for what is looked at.

    Raises:
        ModelError: If the file can't be used.
    """
    return check(path)


def check(path: str | Path) -> ModelInfo:
    """Refuse an ONNX file that satmask didn't write or that nobody should run.

    Args:
        path: The `.onnx` file.

    Returns:
        What the file says about its network.

    Raises:
        ModelError: If it is no ONNX file, keeps weights outside of itself, lacks satmask's metadata or has them of
            another version, has other inputs or outputs than they say, or needs operators beyond standard ONNX.
    """
    path = Path(path)
    model = _load(path)
    for tensor in _tensors(model.graph):
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            msg = f"Model file must carry its weights itself, got external data for {tensor.name!r} in {path}."
            raise ModelError(msg)
    _check_operators(model, path)
    info = _parse(model, path)
    _check_tensor(list(model.graph.input), INPUT, len(info.bands), path)
    _check_tensor(list(model.graph.output), OUTPUT, len(info.legend), path)
    return info


def export(network: Any, path: str | Path, info: ModelInfo) -> Path:
    """Write a network as a model file, with a STAC item beside it.

    The file appears under its name only after its probabilities were found equal to those of Keras (to 1e-4, at two
    sizes): nobody ever reads half of one. The same network and information give the same bytes.

    Args:
        network: Keras model from `(batch, height, width, bands)` to probabilities.
        path: The `.onnx` file to write; the STAC item is called `<stem>.stac.json`.
        info: What to write about the network.

    Returns:
        The path.

    Raises:
        ModelError: If the network doesn't fit the information or ONNX Runtime gives other probabilities than Keras.
        InstallError: If Keras, TensorFlow or tf2onnx isn't installed.
    """
    from satmask.models.onnx_export import convert

    path = Path(path)
    bands, classes = network.input_shape[-1], network.output_shape[-1]
    if (bands, classes) != (len(info.bands), len(info.legend)):
        msg = (
            f"Model information must fit the network's {bands} bands and {classes} classes, "
            f"got {len(info.bands)} and {len(info.legend)}."
        )
        raise ModelError(msg)
    return _write(convert(network), path, info, lambda temporary: check_parity(network, temporary, info))


def _write(model: onnx.ModelProto, path: Path, info: ModelInfo, judge: Callable[[Path], Any]) -> Path:
    """Write a model with its metadata; it gets its name once it was checked and judged."""
    from satmask.model_card import deepness_keys, stac_item

    del model.metadata_props[:]
    for key, value in {KEY: info.model_dump_json(), **deepness_keys(info)}.items():
        model.metadata_props.add(key=key, value=value)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        check(temporary)
        judge(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    card = path.with_name(f"{path.stem}.stac.json")
    card.write_text(json.dumps(stac_item(info, path), indent=2) + "\n", encoding="utf-8")
    return path


def write(model: onnx.ModelProto, path: str | Path, info: ModelInfo) -> Path:
    """Write an ONNX graph as a model file, with a STAC item beside it; it gets its name once it was checked.

    Args:
        model: The graph, from raw values to probabilities, of standard operators; its metadata are replaced.
        path: The `.onnx` file to write.
        info: What to write about the network.

    Returns:
        The path.

    Raises:
        ModelError: If the graph isn't fit for use, see `check`.
    """
    return _write(model, Path(path), info, check)


def rewrite(path: str | Path, info: ModelInfo) -> Path:
    """Replace what a model file says about its network, which stays as it is; and the STAC item beside it.

    Args:
        path: The `.onnx` file.
        info: What it says from now on; bands and classes must be the network's.

    Returns:
        The path.

    Raises:
        ModelError: If the file can't be used, or doesn't fit the information.
    """
    path = Path(path)
    check(path)
    return _write(_load(path), path, info, check)


def check_parity(network: Any, path: str | Path, info: ModelInfo, *, tolerance: float = 1e-4) -> float:
    """Compare a model file with its Keras network on random images of two sizes.

    Args:
        network: The Keras model.
        path: The `.onnx` file.
        info: Gives the stride and the range of raw values.
        tolerance: Largest difference of probabilities that is put up with.

    Returns:
        The largest absolute difference.

    Raises:
        ModelError: If it exceeds the tolerance.
    """
    from satmask.engines import open_session, run_session

    session = open_session(Path(path), threads=1)
    random = np.random.default_rng(0)
    low, high = np.asarray(info.value_range, dtype=np.float64).T
    worst = 0.0
    for rows, columns in ((2, 3), (5, 2)):
        shape = (1, rows * info.stride, columns * info.stride, len(info.bands))
        images = random.uniform(low, np.maximum(high, low), shape).astype(np.float32)
        here = run_session(session, images)
        there = np.asarray(network(images, training=False), dtype=np.float32)
        if here.shape != there.shape:
            msg = f"Model file must give probabilities of Keras' shape {there.shape}, got {here.shape} in {path}."
            raise ModelError(msg)
        # A NaN compares false with everything, and must not pass for equal.
        worst = max(worst, float(np.nan_to_num(np.abs(here - there), nan=np.inf).max()))
    if not worst <= tolerance:
        msg = f"Model file must give Keras' probabilities to {tolerance:g}, got a difference of {worst:.3g} in {path}."
        raise ModelError(msg)
    return worst


def _load(path: Path) -> onnx.ModelProto:
    """Parse the file, leaving external data alone."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types

    try:
        size = path.stat().st_size
        if size > LARGEST:
            msg = f"Model file must be smaller than 2 GiB, got {size / 2**30:.1f} GiB in {path}."
            raise ModelError(msg)
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        msg = f"Model file must be readable, got {error.strerror or error} for {path}."
        raise ModelError(msg) from error
    except DecodeError as error:
        msg = f"Model file must be an ONNX file, got something else or a part of one in {path}."
        raise ModelError(msg) from error
    if not model.graph.node:
        msg = f"Model file must be an ONNX file with a graph, got none in {path}."
        raise ModelError(msg)
    return model


def _parse(model: onnx.ModelProto, path: Path) -> ModelInfo:
    """Read satmask's metadata."""
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        msg = f"Model file must have been written by satmask, got no {KEY!r} metadata in {path}. Export it again."
        raise ModelError(msg)
    try:
        content = json.loads(text)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA:
            msg = f"Model file must have schema version {SCHEMA}, got {version!r} in {path}. "
            msg += "Update satmask." if isinstance(version, int) and version > SCHEMA else "Export it again."
            raise ModelError(msg)
        return ModelInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "metadata"
        msg = f"Model metadata must be whole, got a bad {where!r} in {path}: {first['msg']}."
        raise ModelError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"Model metadata must be JSON, got {text!r:.60} in {path}."
        raise ModelError(msg) from error


def _check_tensor(values: list[onnx.ValueInfoProto], name: str, channels: int, path: Path) -> None:
    """Refuse anything but one float32 tensor `(any, any, any, channels)` of the right name."""
    shapes = {
        value.name: [side.dim_value or None for side in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == 1
        else "no float32"
        for value in values
    }
    if shapes != {name: [None, None, None, channels]}:
        msg = f"Model file must have one float32 {name!r} (batch, height, width, {channels}), got {shapes} in {path}."
        raise ModelError(msg)


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators outside of standard ONNX."""
    for node in _nodes(model.graph):
        if node.domain not in _DOMAINS:
            msg = f"Model file must use standard ONNX operators only, got {node.domain}.{node.op_type} in {path}."
            raise ModelError(msg)
    if model.functions:
        msg = f"Model file must use standard ONNX operators only, got function {model.functions[0].name!r} in {path}."
        raise ModelError(msg)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Walk the nodes of a graph and of the graphs inside of it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Walk every stored tensor of a graph and of the graphs inside of it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
