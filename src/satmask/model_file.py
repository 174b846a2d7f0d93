"""The model file: one ONNX file that carries everything needed to use a network.

Raw pixel values go in, probabilities come out; what they mean is JSON under one metadata key. Reading and checking a
model file loads neither Keras nor TensorFlow; only `export` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

import satmask
from satmask.decisions import Decision
from satmask.errors import ModelError
from satmask.legend import Legend
from satmask.merges import Merge
from satmask.refinements import Refinement
from satmask.scaling import Scaling
from satmask.shapes import Shape

if TYPE_CHECKING:
    import onnx

KEY = "satmask"
SCHEMA = 1
INPUT, OUTPUT = "image", "probabilities"
LARGEST = 2**31 - 1  # protobuf's limit for one file

# An ONNX file may import these operator sets; everything else would need code that runtimes don't have.
_DOMAINS = ("", "ai.onnx")


class BandInfo(BaseModel):
    """One band that a network was trained on.

    Attributes:
        name: What people call it.
        wavelength_nm: Middle of its spectral range in nanometres, where known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    wavelength_nm: float | None = Field(default=None, gt=0)


class ModelInfo(BaseModel):
    """What a model file says about its network.

    Attributes:
        legend: The classes, in the order of the output channels.
        bands: The bands, in the order of the input channels.
        dtype: Data type of the training images, such as "uint8".
        value_range: Lowest and highest raw value of each band met in training (percentiles, or the extremes).
        gsd_m: Smallest and largest ground sampling distance of the training images, in metres; None where unknown.
        fill: Raw value of each band that takes the place of nodata.
        stride: Sides of what the network is given must be multiples of this.
        halo: Pixels of context that a block of output pixels aligned to the stride depends on.
        margin: Pixels that a scene is continued by on each side, mirrored, for a network that learned nothing about what
            lies so near to a window's edge.
        local: True where the network sees nothing farther away than the halo, so that windows are exact.
        activation: The last activation.
        temperatures: What the logits of each class are divided by, see `satmask.scaling`; 1 where left out.
        biases: What is added to them afterwards; 0 where left out.
        thresholds: Probability, so scaled, from which a pixel belongs to each class, 0 to 1; 0.5 where left out.
        min_area_m2: Smallest object of each class that is kept, in square metres; 0 where left out.
        min_area_px: The same in pixels, for scenes whose pixels have no known size.
        merges: Rules between classes that overlap, see `satmask.decisions`.
        shapes: What objects of some classes must look like.
        refinements: What is done to the masks of some classes: opened, closed, filled, parted.
        network: Name of the network in `satmask.models.NETWORKS`.
        options: What it was built with.
        training: Data, number of tiles, scores and whatever else the training wants to tell.
        version: Version of satmask that wrote the file.
        created: When, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    legend: Annotated[
        Legend,
        BeforeValidator(lambda value: value if isinstance(value, Legend) else Legend.from_dict(value)),
        PlainSerializer(Legend.to_dict),
    ]
    bands: tuple[BandInfo, ...] = Field(min_length=1)
    dtype: str
    value_range: tuple[tuple[float, float], ...]
    gsd_m: tuple[float, float] | None = None
    fill: tuple[float, ...]
    stride: int = Field(ge=1)
    halo: int = Field(ge=0)
    margin: int = Field(default=0, ge=0)
    local: bool = True
    activation: Literal["sigmoid", "softmax"]
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = ()
    biases: tuple[float, ...] = ()
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    min_area_m2: tuple[Annotated[float, Field(ge=0)], ...] = ()
    min_area_px: tuple[Annotated[float, Field(ge=0)], ...] = ()
    merges: tuple[Merge, ...] = ()
    shapes: tuple[Shape, ...] = ()
    refinements: tuple[Refinement, ...] = ()
    network: str
    options: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    version: str = satmask.__version__
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        """Refuse what isn't the name of a real number type."""
        if not re.fullmatch(r"u?int(8|16|32|64)|float(16|32|64)", value):
            msg = f"must be a type such as uint8 or float32, got {value!r}"
            raise ValueError(msg)
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        """Give every class a temperature, a bias, a threshold and a smallest area."""
        legend = values.get("legend") if isinstance(values, dict) else None
        count = len(legend) if isinstance(legend, Legend) else len((legend or {}).get("classes", ()))
        if isinstance(values, dict):
            values = dict(values)
            values["temperatures"] = values.get("temperatures") or (1.0,) * count
            values["biases"] = values.get("biases") or (0.0,) * count
            values["thresholds"] = values.get("thresholds") or (0.5,) * count
            values["min_area_m2"] = values.get("min_area_m2") or (0.0,) * count
            values["min_area_px"] = values.get("min_area_px") or (0.0,) * count
        return values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse lists whose lengths don't fit the bands or the classes."""
        for name, wanted in (
            ("value_range", len(self.bands)),
            ("fill", len(self.bands)),
            ("temperatures", len(self.legend)),
            ("biases", len(self.legend)),
            ("thresholds", len(self.legend)),
            ("min_area_m2", len(self.legend)),
            ("min_area_px", len(self.legend)),
        ):
            if len(getattr(self, name)) != wanted:
                msg = f"{name} must have {wanted} entries, got {len(getattr(self, name))}"
                raise ValueError(msg)
        _ = self.decision, self.scaling  # refuse what doesn't fit the classes
        return self

    @property
    def decision(self) -> Decision:
        """How the network's probabilities become classes."""
        return Decision(
            self.legend,
            self.thresholds,
            self.min_area_px,
            self.min_area_m2,
            self.merges,
            self.shapes,
            self.refinements,
        )

    @property
    def scaling(self) -> Scaling:
        """How what the graph gives becomes probabilities."""
        return Scaling(self.temperatures, self.biases, exclusive=self.legend.exclusive)


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
