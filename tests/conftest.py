"""What the tests share: the real data, where it is there."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import satmask  # noqa: F401  # says how TensorFlow computes, which counts only before any test loads it

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("satmask", deadline=None)
hypothesis.settings.load_profile("satmask")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real imagery with labels; tests that need it are skipped where it is absent, but never in CI."""
    folder = Path(os.environ.get("SATMASK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real test data, but {folder} isn't a folder. Set SATMASK_TEST_DATA.")
        pytest.skip(f"The real test data isn't at {folder}. Set SATMASK_TEST_DATA.")
    return folder


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """A function that writes a model file without Keras: see `write_linear_model`."""
    return write_linear_model


@pytest.fixture(scope="session")
def write_convolutions() -> Callable[..., Path]:
    """A function that writes a model file whose pixels know their neighbours: see `write_convolution_model`."""
    return write_convolution_model


def write_convolution_model(path, classes=("house",), *, layers=2, width=4, sees_all=False, seed=0, **settings):
    """Write a network of some 5 × 5 convolutions for three 8-bit bands as a model file.

    Args:
        path: The file.
        classes: Names; they overlap.
        layers: Convolutions; each adds two pixels to the halo.
        width: Channels between them.
        sees_all: Whether the window's mean is added at the end, so that the network isn't local.
        seed: Of the weights.
        **settings: Other fields of `ModelInfo`.
    """
    from onnx import TensorProto, helper, numpy_helper

    from satmask.legend import Legend
    from satmask.model_file import BandInfo, ModelInfo

    random = np.random.default_rng(seed)
    node, tensor = helper.make_node, helper.make_tensor_value_info
    nodes, weights, last, channels = [node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2])], [], "t", 3
    for layer in range(layers):
        out = len(classes) if layer == layers - 1 else width
        values = random.normal(0, 0.3 if layer else 0.004, (out, channels, 5, 5)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[2] * 4))
        last, channels = f"c{layer}", out
        if layer < layers - 1:
            nodes.append(node("Relu", [last], [f"r{layer}"]))
            last = f"r{layer}"
    if sees_all:
        nodes += [node("GlobalAveragePool", [last], ["mean"]), node("Add", [last, "mean"], ["sum"])]
        last = "sum"
    nodes += [node("Transpose", [last], ["u"], perm=[0, 2, 3, 1]), node("Sigmoid", ["u"], ["probabilities"])]
    sides = [None] * 3
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [tensor("image", TensorProto.FLOAT, [*sides, 3])],
        [tensor("probabilities", TensorProto.FLOAT, [*sides, len(classes)])],
        weights,
    )
    info = ModelInfo(
        legend=Legend.of(classes),
        bands=tuple(BandInfo(name=f"band {index}") for index in (1, 2, 3)),
        dtype="uint8",
        value_range=((0, 255),) * 3,
        fill=(100,) * 3,
        stride=1,
        halo=2 * layers,
        local=not sees_all,
        activation="sigmoid",
        network="convolutions",
        **settings,
    )
    return save_model(path, graph, info)


def write_linear_model(path, bands, classes, *, dtype="uint8", top=255, seed=0, stride=1, halo=0, **settings):
    """Write a network of one matrix product as a model file: probabilities of a pixel from its bands alone."""
    from onnx import TensorProto, helper, numpy_helper

    from satmask.legend import Legend
    from satmask.model_file import BandInfo, ModelInfo

    weights = np.random.default_rng(seed).normal(0, 0.02, (len(bands), len(classes))).astype(np.float32)
    shape = [None, None, None]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "w"], ["x"]), helper.make_node("Sigmoid", ["x"], ["probabilities"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [*shape, len(bands)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [*shape, len(classes)])],
        [numpy_helper.from_array(weights, "w")],
    )
    info = ModelInfo(
        legend=Legend.of(classes),
        bands=tuple(BandInfo(name=name) for name in bands),
        dtype=dtype,
        value_range=((0, top),) * len(bands),
        fill=(100,) * len(bands),
        stride=stride,
        halo=halo,
        activation="sigmoid",
        network="linear",
        **settings,
    )
    return save_model(path, graph, info)


def save_model(path, graph, info):
    """Write a graph with what it says of itself."""
    import onnx

    from satmask.model_file import KEY

    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    model.metadata_props.add(key=KEY, value=info.model_dump_json())
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)
    return path
