"""Laws of the encoders: levels aligned, weights where they belong, whatever the number of bands."""

import functools
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import h5py
import keras
import numpy as np
import onnx
import pytest
from onnx import helper

from satmask.errors import InstallError, ModelError, SettingError
from satmask.models import save_keras
from satmask.models.encoder_weights import spread_bands
from satmask.models.encoders import encoder_scaling, encoder_unet

SLIM = (4, 4, 4, 4, 4)
WEIGHTS = "weights/mobilenet_v2_imagenet_float32.npz"


@pytest.mark.parametrize("bands", [1, 3, 8])
def test_any_number_of_bands_at_any_size(bands):
    network = encoder_unet(bands, 2, decoder=SLIM)
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 96, bands)).astype(np.float32)
    assert np.asarray(network(images)).shape == (1, 32, 96, 2)


@pytest.mark.parametrize("encoder", ["Xception", "EfficientNetB0", "ConvNeXtTiny"])
def test_uneven_levels_own_normalisation_and_missing_levels_are_dealt_with(encoder):
    network = encoder_unet(3, 1, encoder=encoder, decoder=SLIM)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds.count("Rescaling") == 1
    assert "Normalization" not in kinds
    assert np.asarray(network(np.zeros((1, 32, 64, 3), np.float32))).shape == (1, 32, 64, 1)


@pytest.mark.parametrize("encoder", ["MobileNetV2", "EfficientNetV2B0", "ResNet50", "DenseNet121"])
def test_scaling_is_what_keras_says_the_weights_expect(encoder):
    import keras

    pixels = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    scale, offset = (np.float32(values) for values in encoder_scaling(encoder))
    module = {"MobileNetV2": "mobilenet_v2", "ResNet50": "resnet", "DenseNet121": "densenet"}.get(encoder)
    if module:
        expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    else:
        inside = getattr(keras.applications, encoder)(include_top=False, weights=None, input_shape=(32, 32, 3))
        first = next(layer for layer in inside.layers if layer.name == "stem_conv")
        expected = np.asarray(keras.Model(inside.input, first.input)(np.tile(pixels, (1, 8, 8, 1))))[:, :4, :4]
    expected = expected[..., ::-1] if encoder == "ResNet50" else expected
    np.testing.assert_allclose(pixels * scale + offset, expected, atol=1e-4)


def mobilenet_by_onnx(arrays):
    """MobileNetV2's features from the same file, written as plain convolutions: the oracle."""
    nodes, tensors, count = [], [], iter(range(10_000))

    def add(kind, *inputs, **settings):
        name = f"v{next(count)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **settings))
        return name

    def constant(array):
        name = f"w{next(count)}"
        tensors.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    low, high = constant(np.float32(0)), constant(np.float32(6))

    def convolve(x, kernel, norm, *, stride=1, act=True):
        weight, side = arrays[kernel + ".weight"], arrays[kernel + ".weight"].shape[2]
        groups = len(weight) if weight.shape[1] == 1 else 1
        factor = arrays[norm + ".weight"] / np.sqrt(arrays[norm + ".running_var"] + 1e-5)
        bias = arrays[norm + ".bias"] - arrays[norm + ".running_mean"] * factor
        pads = [0, 0, 1, 1] if stride == 2 else [side // 2] * 4
        settings = {"strides": [stride] * 2, "pads": pads, "group": groups}
        x = add("Conv", x, constant(weight * factor[:, None, None, None]), constant(bias), **settings)
        return add("Clip", x, low, high) if act else x

    x = convolve("image", "features.0.0", "features.0.1", stride=2)
    strided = {2, 4, 7, 14}
    for block in range(1, 18):
        name, before, stride = f"features.{block}.conv", x, 2 if block in strided else 1
        last = 1 if block == 1 else 2
        if block > 1:
            x = convolve(x, f"{name}.0.0", f"{name}.0.1")
        x = convolve(x, f"{name}.{last - 1}.0", f"{name}.{last - 1}.1", stride=stride)
        x = convolve(x, f"{name}.{last}", f"{name}.{last + 1}", act=False)
        same = arrays.get(f"features.{block - 1}.conv.{1 if block == 2 else 2}.weight", np.empty(0)).shape[:1]
        if stride == 1 and block > 1 and same == arrays[f"{name}.{last}.weight"].shape[:1]:
            x = add("Add", before, x)
    x = convolve(x, "features.18.0", "features.18.1")
    shapes = [helper.make_tensor_value_info(n, 1, [None] * 4) for n in ("image", x)]
    graph = helper.make_graph(nodes, "oracle", shapes[:1], shapes[1:], initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_mobilenet_from_npz_has_the_features_of_an_independent_network(data):
    import cv2
    import keras
    import onnxruntime

    with np.load(data / WEIGHTS) as content:
        arrays = dict(content)
    network = encoder_unet(3, 1, weights=data / WEIGHTS, decoder=SLIM)
    tile = next((data / "buildings" / "val" / "images").glob("*.jpg"))
    image = cv2.cvtColor(cv2.imread(str(tile)), cv2.COLOR_BGR2RGB)[None, :224, :224].astype(np.float32)
    here = np.asarray(keras.Model(network.input, network.get_layer("out_relu").output)(image))
    session = onnxruntime.InferenceSession(mobilenet_by_onnx(arrays).SerializeToString())
    (there,) = session.run(None, {"image": (image / 127.5 - 1).transpose(0, 3, 1, 2)})
    assert there.std() > 0.1
    np.testing.assert_allclose(here, there.transpose(0, 2, 3, 1), atol=1e-4)


def test_folded_normalisation_stays_as_it_is_in_training(data):
    network = encoder_unet(3, 1, weights=data / WEIGHTS, decoder=SLIM)
    assert not network.get_layer("bn_Conv1").trainable
    assert network.get_layer("Conv1").trainable
    assert network.get_layer("up0_1_norm").trainable


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8])
def test_spread_bands_keep_the_response_to_grey(bands):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8))
    spread = spread_bands(kernel, bands)
    assert spread.shape == (3, 3, bands, 8)
    if bands < 4:
        np.testing.assert_allclose(spread.sum(axis=2), kernel.sum(axis=2))
    else:
        np.testing.assert_allclose(spread[:, :, 3], kernel[:, :, 0] * 3 / bands)


@pytest.mark.parametrize("kind", [".weights.h5", ".keras"])
def test_files_of_keras_are_read_back(tmp_path, kind):
    import keras

    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    path = tmp_path / f"encoder{kind}"
    save_keras(source, path)
    network = encoder_unet(3, 1, weights=path, decoder=SLIM)
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 96, 3)).astype(np.float32)
    features = keras.Model(network.input, network.get_layer("out_relu").output)(image)
    np.testing.assert_allclose(np.asarray(features), np.asarray(source(image / 127.5 - 1)), atol=1e-4)


def test_bad_weights_are_refused_in_one_line(tmp_path):
    rubbish = {name: tmp_path / name for name in ("a.h5", "a.keras", "a.npz")}
    for path in rubbish.values():
        path.write_bytes(b"rubbish")
    for path in (*rubbish.values(), tmp_path / "none.h5"):
        with pytest.raises(ModelError, match="Weights must be") as caught:
            encoder_unet(3, 1, weights=path, decoder=SLIM)
        assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match="Only MobileNetV2"):
        encoder_unet(3, 1, encoder="MobileNet", weights=rubbish["a.npz"], decoder=SLIM)


def test_offline_the_way_out_is_a_file(monkeypatch, tmp_path):
    def refuse(*_args, **_settings):
        msg = "no network"
        raise socket.gaierror(msg)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    with pytest.raises(InstallError, match="Give a file of them"):
        encoder_unet(3, 1, weights="imagenet", decoder=SLIM)


@pytest.fixture
def weights_server(monkeypatch, tmp_path):
    """Where Keras would download MobileNetV2's weights from, on this machine; random ones, and the network they are of."""
    import keras
    from keras.src.applications import mobilenet_v2
    from keras.src.legacy.saving import legacy_h5_format

    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    served = tmp_path / "served"
    served.mkdir()
    with h5py.File(served / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, source)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"http://127.0.0.1:{server.server_port}/")
        # Keras takes /tmp/.keras, which outlives the test, where this folder isn't there.
        (tmp_path / "cache").mkdir()
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "cache"))
        yield source
        server.shutdown()


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_downloaded_weights_arrive_where_they_belong(weights_server):
    network = encoder_unet(3, 1, weights="imagenet", decoder=SLIM)
    ours = [layer for layer in network.layers if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D")]
    theirs = [layer for layer in weights_server.layers if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D")]
    for mine, other in zip(ours, theirs, strict=False):
        np.testing.assert_array_equal(mine.get_weights()[0], other.get_weights()[0])
    assert len(ours) > len(theirs) == 52


@pytest.mark.parametrize("encoder", ["InceptionV3", "NASNetMobile", "Nope", "applications"])
def test_encoders_that_cannot_be_aligned_are_refused(encoder):
    with pytest.raises(SettingError, match="MobileNetV2, EfficientNetV2B0"):
        encoder_unet(3, 1, encoder=encoder)


def test_narrow_skips_are_the_ends_of_mobilenets_levels(data):
    network = encoder_unet(3, 1, decoder=SLIM, skips="narrow", weights=data / WEIGHTS)
    whole = encoder_unet(3, 1, decoder=SLIM, weights=data / WEIGHTS)
    # The outputs of MobileNetV2's stages (Sandler et al., 2018, table 2): 16, 24, 32, 96 bands, and 320 at the bottom.
    joined = [network.get_layer(f"up{level}_join").input[1] for level in (1, 2, 3, 4)]
    assert [tensor.shape[-1] for tensor in joined] == [16, 24, 32, 96]
    assert network.get_layer("up4_grow").input.shape[-1] == 320
    assert "up0_join" not in {layer.name for layer in network.layers}
    # What they see is what the whole encoder sees there.
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    names = [tensor._keras_history.operation.name for tensor in [*joined, network.get_layer("up4_grow").input]]
    for one, other in zip(*(keras.Model(n.input, [n.get_layer(x).output for x in names])(image) for n in (network, whole)), strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)


def test_the_decoder_has_the_activation_asked_for_and_the_encoder_its_own():
    kinds = {}
    for activation in ("elu", "relu"):
        network = encoder_unet(3, 1, decoder=SLIM, decoder_activation=activation)
        found = [layer for layer in network.layers if isinstance(layer, keras.layers.Activation)]
        assert {layer.activation.__name__ for layer in found if layer.name.startswith("up")} == {activation}
        kinds[activation] = sorted(type(layer).__name__ for layer in network.layers)
    assert kinds["elu"] == kinds["relu"]


@pytest.mark.parametrize(
    ("skips", "frozen", "learns"),
    [
        ("narrow", 3, "block_6_expand"),
        # What is joined here is the widest tensor of the level, which the next block begins with.
        ("last", 3, "block_6_depthwise"),
        ("narrow", 5, None),
    ],
)
def test_frozen_levels_do_not_learn(skips, frozen, learns):
    network = encoder_unet(3, 1, decoder=SLIM, skips=skips, frozen=frozen)
    weighted = [layer for layer in network.layers if layer.weights]
    encoder = [layer.name for layer in weighted if not layer.name.startswith(("up", "scores"))]
    held = encoder[: encoder.index(learns) if learns else None]
    assert {layer.name for layer in weighted if not layer.trainable} == set(held)


def test_what_a_decoder_may_be_is_said():
    for levels in (-1, 6):
        with pytest.raises(SettingError, match=f"Frozen levels must be 0 to 5 for MobileNetV2, got {levels}"):
            encoder_unet(3, 1, decoder=SLIM, frozen=levels)
    with pytest.raises(SettingError, match="Decoder's activation must be one of elu, relu, got 'tanh'"):
        encoder_unet(3, 1, decoder=SLIM, decoder_activation="tanh")
    with pytest.raises(SettingError, match="Skips must be one of last, narrow, got 'wide'"):
        encoder_unet(3, 1, decoder=SLIM, skips="wide")
