"""Laws of the model file: same probabilities, same bytes, and no stranger gets in."""

import functools
import json
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from satmask import models
from satmask.decisions import Merge
from satmask.engines import open_engine
from satmask.errors import ModelError
from satmask.legend import Legend
from satmask.model_card import for_deepness
from satmask.model_file import ModelInfo, check, check_parity, export, read_info, rewrite
from satmask.models import measure_reach, onnx_export
from satmask.models.onnx_export import as_float32, convert


def randomise(network, seed=0):
    """Give every weight a value of its own: what starts at 0 or 1 hides mistakes."""
    random = np.random.default_rng(seed)
    spread = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.3, 0.3)}
    spread["bias"] = (-0.3, 0.3)
    network.set_weights([random.uniform(*spread[w.name], w.shape) if w.name in spread else w for w in network.weights])
    return network


def run(model, images, *, plainly=False):
    """The probabilities of a converted network that isn't a model file yet; plainly, without any optimisation."""
    options = onnxruntime.SessionOptions()
    if plainly:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def describe(network, **changes):
    bands, classes = network.input_shape[-1], network.output_shape[-1]
    reach = measure_reach(network)
    values = {
        "legend": Legend.of([f"class {i}" for i in range(classes)]),
        "bands": [{"name": f"band {i}"} for i in range(bands)],
        "dtype": "uint8",
        "value_range": [(0, 255)] * bands,
        "fill": [0.0] * bands,
        "stride": reach.stride,
        "halo": reach.halo,
        "activation": "sigmoid",
        "network": network.name,
        "created": "2026-01-01T00:00:00+00:00",
    }
    return ModelInfo(**values | changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small U-Net, its information and its model file."""
    network = randomise(models.unet(3, 2, filters=(3, 4, 5)))
    info = describe(network, gsd_m=(0.1, 0.4), training={"tiles": 7, "scores": {"iou": 0.5}})
    return network, info, export(network, tmp_path_factory.mktemp("model") / "model.onnx", info)


def test_what_was_written_is_read(exported):
    _, info, path = exported
    assert read_info(path) == info
    assert info.thresholds == (0.5, 0.5)
    assert info.min_area_m2 == (0.0, 0.0)


@pytest.mark.parametrize("sides", [(16, 16), (48, 32), (64, 112)])
def test_probabilities_are_those_of_keras_at_any_size(exported, sides):
    network, _, path = exported
    images = np.random.default_rng(3).uniform(0, 255, (2, *sides, 3)).astype(np.float32)
    np.testing.assert_allclose(open_engine(path).run(images), np.asarray(network(images)), atol=1e-5)


SMALL = {
    "unet": {"filters": (3, 4, 5, 6)},
    "cnn": {"filters": (4, 4, 6, 6)},
    "dilated": {"filters": (4, 4, 6, 6), "window": 64},
    "encoder": {"decoder": (8, 6, 6, 4, 4)},
}


@functools.cache
def converted(name, bands):
    """A network, what it is converted to, and the bytes that tf2onnx wrote on the way: made once, for this takes long."""
    network, written, convert_here = (
        randomise(models.build(name, bands=bands, classes=2, **SMALL[name])),
        [],
        onnx_export._convert_here,
    )

    def note(network, target):
        convert_here(network, target)
        written.append(target.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_convert_here", note)
        model = convert(network)
    return network, model, written[0]


@pytest.mark.parametrize("name", SMALL)
def test_every_network_keeps_its_probabilities_and_repeats_no_tensor(name):
    network, model, _ = converted(name, 3)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Resize") == sum(isinstance(layer, keras.layers.UpSampling2D) for layer in network.layers)
    assert "Tile" not in kinds
    for sides in ((32, 32), (96, 224), (160, 32)):
        images = np.random.default_rng(3).uniform(0, 255, (2, *sides, 3)).astype(np.float32)
        np.testing.assert_allclose(run(model, images), np.asarray(network(images)), atol=2e-5)


def enlarge(*sizes):
    """A network that does nothing but enlarge, between convolutions that copy."""
    x = image = keras.Input((None, None, 2))
    for size in sizes:
        x = keras.layers.UpSampling2D(size)(keras.layers.Conv2D(2, 1)(x))
    network = keras.Model(image, keras.layers.Conv2D(2, 1)(x))
    network.set_weights([np.eye(2).reshape(w.shape) if len(w.shape) == 4 else w for w in network.weights])
    return network


@pytest.mark.parametrize("sizes", [[(2, 2)], [(3, 1)], [(1, 4), (5, 2)], [(1, 1)]])
def test_pixels_are_repeated_as_often_as_the_layer_says(sizes):
    model = convert(enlarge(*sizes))
    images = np.random.default_rng(0).uniform(0, 255, (2, 6, 11, 2)).astype(np.float32)
    rows, columns = np.prod(sizes, axis=0)
    np.testing.assert_array_equal(run(model, images), images.repeat(rows, axis=1).repeat(columns, axis=2))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    assert [constants[node.input[2]].tolist() for node in resizes] == [[1, 1, *size] for size in sizes]


# Operator, size of the result from those of the tensor and of the image, settings.
RESIZES = {
    "to the size of another tensor": ("ResizeNearestNeighbor", lambda own, image: image, {}),
    "by pixels": ("ResizeNearestNeighbor", lambda own, image: own + 3, {}),
    "from the middles of pixels": ("ResizeNearestNeighbor", lambda own, image: own * 2, {"half_pixel_centers": True}),
    "smoothly": ("ResizeBilinear", lambda own, image: own * 2, {}),
}


@pytest.mark.parametrize("case", RESIZES)
def test_other_resizes_are_left_alone(case):
    import tensorflow as tf

    kind, choose, options = RESIZES[case]

    def resize(tensors):
        size = choose(*(tf.shape(tensor)[1:3] for tensor in tensors))
        return getattr(tf.raw_ops, kind)(images=tensors[0], size=size, **options)

    image = keras.Input((None, None, 2))
    small = keras.layers.Conv2D(2, 1)(keras.layers.MaxPooling2D(2)(image))
    network = keras.Model(image, keras.layers.Lambda(resize)([small, image]))
    model = convert(network)
    (node,) = [node for node in model.graph.node if node.op_type == "Resize"]
    assert len(node.input) == 4
    images = np.random.default_rng(0).uniform(0, 1, (1, 7, 12, 2)).astype(np.float32)
    np.testing.assert_allclose(run(model, images), np.asarray(network(images)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "bands"), [("unet", 2), ("unet", 3), ("unet", 5), ("cnn", 3), ("dilated", 3), ("encoder", 3)]
)
def test_bands_come_first_before_they_are_normalised_and_no_number_changes(monkeypatch, name, bands):
    """The graph as tf2onnx wrote it is the oracle, run without any optimisation, node by node."""
    network, ours, written = converted(name, bands)
    monkeypatch.setattr(onnx_export, "_convert_here", lambda _, target: target.write_bytes(written))
    monkeypatch.setattr(onnx_export, "_normalise_by_band", lambda model: model)
    theirs = convert(network)
    kinds = [[node.op_type for node in graph.graph.node] for graph in (ours, theirs)]
    assert kinds[0].index("Transpose") == 0 < kinds[1].index("Transpose")
    assert sorted(kinds[0]) == sorted(kinds[1])
    image = np.random.default_rng(bands).uniform(0, 255, (1, 32, 64, bands)).astype(np.float32)
    np.testing.assert_array_equal(run(ours, image, plainly=True), run(theirs, image, plainly=True))


@pytest.mark.parametrize("turned", [[0, 3, 1, 2], [0, 2, 1, 3]])
@pytest.mark.parametrize("read_twice", [False, True])
def test_what_else_is_read_stays_bands_last(turned, read_twice):
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["y"], perm=turned),
    ]
    ends = [
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None] * 4)]
        for n in ("x", "scaled" if read_twice else "y")
    ]
    if read_twice:
        nodes.append(helper.make_node("Relu", ["scaled"], ["z"]))
    scale = onnx.numpy_helper.from_array(np.arange(1, 4, dtype=np.float32), "scale")
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, initializer=[scale]))
    image = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype(np.float32)
    before = ReferenceEvaluator(model).run(None, {"x": image})
    changed = onnx_export._normalise_by_band(onnx.ModelProto.FromString(model.SerializeToString()))
    moved = changed.graph.node[0].op_type == "Transpose"
    assert moved == (turned[1] == 3 and not read_twice)
    for one, other in zip(ReferenceEvaluator(changed).run(None, {"x": image}), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [None, (1, 5, 3)])
def test_what_is_no_scaling_of_bands_stays_in_front(shape):
    """A product of the image with itself, and one with a constant that differs from pixel to pixel."""
    factor = "x" if shape is None else "scale"
    nodes = [
        helper.make_node("Mul", ["x", factor], ["s"]),
        helper.make_node("Transpose", ["s"], ["y"], perm=[0, 3, 1, 2]),
    ]
    ends = [[helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None] * 4)] for n in ("x", "y")]
    scale = onnx.numpy_helper.from_array(np.ones(shape or (3,), np.float32), "scale")
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, initializer=[scale]))
    text = model.SerializeToString()
    assert onnx_export._normalise_by_band(model).SerializeToString() == text


def test_the_same_network_gives_the_same_bytes(exported, tmp_path):
    network, info, path = exported
    twin = models.unet(3, 2, filters=(3, 4, 5))
    twin.set_weights(network.get_weights())
    assert export(twin, tmp_path / "twin.onnx", info).read_bytes() == path.read_bytes()


def test_mixed_precision_is_exported_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.unet(1, 1, filters=(3, 4))
    finally:
        keras.config.set_dtype_policy(before)
    plain = as_float32(network)
    path = export(plain, tmp_path / "model.onnx", describe(plain))
    assert check_parity(network, path, describe(plain), tolerance=0.05) > check_parity(plain, path, describe(plain))


def test_a_network_that_differs_is_found_out_and_leaves_no_file(exported, tmp_path):
    _, info, path = exported
    other = randomise(models.unet(3, 2, filters=(3, 4, 5)), seed=9)
    with pytest.raises(ModelError, match="must give Keras' probabilities"):
        check_parity(other, path, info)
    with pytest.raises(ModelError, match="must fit the network's 3 bands and 1 classes"):
        export(models.unet(3, 1, filters=(3, 4)), tmp_path / "model.onnx", info)
    assert not list(tmp_path.iterdir())


def change(path, target, alter):
    model = onnx.load(path)
    alter(model)
    target.write_bytes(model.SerializeToString())
    return target


def set_metadata(model, text):
    entry = next(entry for entry in model.metadata_props if entry.key == "satmask")
    entry.value = text


def put_outside(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def hide_outside(model):
    constant = helper.make_tensor("secret", 1, [1], [0.0])
    constant.external_data.add(key="location", value="elsewhere")
    branch = helper.make_graph([helper.make_node("Constant", [], ["x"], value=constant)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=branch, else_branch=branch))


HOSTILE = {
    "must carry its weights itself": put_outside,
    "must carry its weights itself, got external data for 'secret'": hide_outside,
    "no 'satmask' metadata": lambda model: model.metadata_props.pop(),
    "must be JSON": lambda model: set_metadata(model, "{"),
    "schema version 1, got 2.*Update satmask": lambda model: set_metadata(model, '{"schema_version": 2}'),
    "got a bad 'legend'": lambda model: set_metadata(model, '{"schema_version": 1}'),
    "standard ONNX operators only, got evil": lambda model: setattr(model.graph.node[1], "domain", "evil"),
    "one float32 'image'": lambda model: setattr(model.graph.input[0], "name", "picture"),
    r"one float32 'probabilities' \(batch, height, width, 2\)": lambda model: setattr(
        model.graph.output[0].type.tensor_type.shape.dim[3], "dim_value", 7
    ),
}


@pytest.mark.parametrize("rule", HOSTILE)
def test_strange_files_are_refused_in_one_line(exported, tmp_path, rule):
    def alter(model):
        order = sorted(model.metadata_props, key=lambda entry: entry.key == "satmask")
        kept = [(entry.key, entry.value) for entry in order]
        del model.metadata_props[:]
        for key, value in kept:
            model.metadata_props.add(key=key, value=value)
        HOSTILE[rule](model)

    with pytest.raises(ModelError, match=rule) as caught:
        check(change(exported[2], tmp_path / "bad.onnx", alter))
    assert "\n" not in str(caught.value)


def test_what_is_no_model_file_is_refused(exported, tmp_path):
    text, part, none = tmp_path / "text.onnx", tmp_path / "part.onnx", tmp_path / "none.onnx"
    text.write_text("This is a text, not a network.")
    part.write_bytes(exported[2].read_bytes()[:-1000])
    for path in (text, part):
        with pytest.raises(ModelError, match="must be an ONNX file"):
            check(path)
    for path in (none, tmp_path):
        with pytest.raises(ModelError, match="must be readable"):
            check(path)


def test_information_that_does_not_fit_is_refused(exported):
    content = exported[1].model_dump()
    for changes in ({"fill": (0.0,)}, {"dtype": "object"}, {"thresholds": (0.5, 2.0)}, {"surprise": 1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            ModelInfo(**content | changes)


def test_reading_loads_no_keras(exported):
    code = (
        "import sys; from satmask.model_file import read_info; read_info(sys.argv[1]); "
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(exported[2])], check=False).returncode == 0


def test_stac_item_lies_beside(exported):
    item = json.loads(exported[2].with_name("model.stac.json").read_text())
    (result,) = item["properties"]["mlm:output"]
    assert item["assets"]["model"]["href"] == "./model.onnx"
    assert [entry["name"] for entry in result["classification:classes"]] == ["class 0", "class 1"]


def test_deepness_copy_gives_the_same_probabilities_from_what_the_plugin_feeds(exported, tmp_path):
    path = for_deepness(exported[2], tmp_path / "qgis.onnx", window=32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    keys = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    images = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    mean, deviation = np.float32(keys["standardization_mean"]), np.float32(keys["standardization_std"])
    fed = ((images / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
    (there,) = session.run(None, {session.get_inputs()[0].name: fed})
    here = open_engine(exported[2]).run(images.astype(np.float32))
    np.testing.assert_allclose(there.transpose(0, 2, 3, 1), here, atol=1e-5)
    assert keys["class_names"] == {"0": "class 0", "1": "class 1"}
    assert keys["resolution"] == 20


def test_what_a_file_says_can_be_replaced_and_its_network_stays(exported, tmp_path):
    _, info, path = exported
    copy = tmp_path / "model.onnx"
    copy.write_bytes(path.read_bytes())
    names = info.legend.names
    changed = info.model_copy(update={"thresholds": (0.25, 0.75), "merges": (Merge(names[0], names[1:]),)})
    assert read_info(rewrite(copy, changed)) == changed
    assert read_info(copy).decision.merges == changed.merges
    images = np.random.default_rng(3).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(open_engine(copy).run(images), open_engine(path).run(images))
    assert rewrite(copy, info).read_bytes() == path.read_bytes()


def test_merging_rules_must_fit_the_classes(exported):
    with pytest.raises(ValueError, match="Class must be one of"):
        ModelInfo.model_validate(exported[1].model_dump() | {"merges": [{"where": "lake", "clears": ["class 0"]}]})
