"""Laws of the networks: the published counts, any size, and how far they see."""

import subprocess
import sys

import numpy as np
import pytest

from satmask import models
from satmask.errors import SettingError
from satmask.models import measure_reach

SMALL = {
    "unet": {"filters": (3, 4, 5, 6, 7)},
    "cnn": {"filters": (3, 4, 5, 6)},
    "dilated": {"filters": (3, 3, 4, 5)},
}


def trainable(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def test_parameter_counts_are_those_of_the_published_networks():
    unet, cnn = models.unet(3, 1), models.cnn(3, 2)
    assert (unet.count_params(), trainable(unet)) == (7_858_433, 7_852_545)
    assert models.unet(20, 10).count_params() == 7_863_626
    assert (cnn.count_params(), trainable(cnn)) == (2_058_690, 2_054_914)
    spelled = models.cnn(3, 2, down=(64, 128, 256), up=(256, 128, 64, 32))
    assert spelled.count_params() == models.cnn(3, 2, filters=(32, 64, 128, 256)).count_params() == 2_058_690


@pytest.mark.parametrize("name", SMALL)
def test_output_has_the_sides_of_the_input_and_probabilities_in_range(name):
    network = models.build(name, bands=5, classes=3, activation="softmax", **SMALL[name])
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 80, 5)).astype(np.float32)
    probabilities = np.asarray(network(images))
    assert probabilities.shape == (2, 32, 80, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


def test_scale_and_offset_act_on_raw_values_band_by_band():
    raw = np.random.default_rng(0).uniform(0, 4000, (1, 16, 16, 2)).astype(np.float32)
    scale, offset = [1 / 2000, 1 / 500], [-1.0, 0.25]
    inside = models.unet(2, 1, filters=(3, 4), scale=scale, offset=offset)
    outside = models.unet(2, 1, filters=(3, 4), scale=1.0)
    outside.set_weights(inside.get_weights())
    normalised = raw * np.float32(scale) + np.float32(offset)
    np.testing.assert_allclose(np.asarray(inside(raw)), np.asarray(outside(normalised)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "filters", "stride", "halo"),
    [("unet", (2, 2, 2, 2, 2), 16, 96), ("cnn", (2, 2, 2, 2), 16, 112), ("dilated", (2, 2, 2, 2), 16, 48)],
)
def test_reach_is_what_the_layers_add_up_to(name, filters, stride, halo):
    reach = measure_reach(models.build(name, bands=1, classes=2, filters=filters))
    assert (reach.stride, -(-reach.halo // stride) * stride, reach.local) == (stride, halo, True)


def test_reach_of_the_dilated_network_follows_its_window():
    # Three 3×3 convolutions, one with dilation window / 8, one 3×3: 3 + window / 8 + 1.
    for window in (64, 128):
        assert measure_reach(models.dilated(1, 1, window=window, filters=(2, 2, 2, 2))).halo == window // 8 + 4


def test_reach_does_not_depend_on_widths():
    narrow, wide = (measure_reach(models.unet(1, 1, filters=filters)) for filters in ((2, 3, 4), (7, 5, 6)))
    assert narrow == wide


def test_one_block_less_than_the_halo_changes_the_result():
    import keras

    network = models.unet(1, 1, filters=(2, 2, 2))
    # Averages: nothing cancels, nothing grows.
    network.set_weights(
        [np.full(w.shape, 1 / np.prod(w.shape[:3])) if w.name == "kernel" else w for w in network.weights]
    )
    reach = measure_reach(network)
    margin = -(-reach.halo // reach.stride) * reach.stride
    scores = keras.Model(network.input, network.get_layer("scores").output)
    image = np.random.default_rng(0).uniform(0, 255, (1, 4 * margin, 8, 1)).astype(np.float32)
    whole, exact, short = (
        np.asarray(scores(image[:, start:]))[:, 2 * margin - start :] for start in (0, margin, margin + reach.stride)
    )
    np.testing.assert_array_equal(exact, whole)
    assert np.abs(short - whole).max() > 0


def test_global_pooling_is_not_local():
    import keras

    image, x = models_input()
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    network = keras.Model(image, keras.layers.Multiply()([x, gate]))
    assert not measure_reach(network).local


def test_a_global_view_without_a_known_layer_is_not_local():
    import keras

    image, x = models_input()
    network = keras.Model(image, x - keras.ops.mean(x, axis=(1, 2), keepdims=True))
    assert not measure_reach(network).local


def models_input():
    from satmask.models.blocks import image_input

    return image_input(1, scale=1.0, offset=0.0)


def test_mixed_precision_ends_in_float32():
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.unet(3, 2, filters=(3, 4), activation="softmax")
    finally:
        keras.config.set_dtype_policy(before)
    assert network.layers[-2].compute_dtype == "bfloat16"
    assert network(np.zeros((1, 8, 8, 3), np.float32)).dtype == "float32"


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("vnet", {}, "Network must be one of unet"),
        ("unet", {"filter": (3, 4)}, "Option of network 'unet' must be one of"),
        ("unet", {"filters": (3, 0)}, "at least 1, got 0"),
        ("unet", {"filters": 3}, "sequence of at least 2"),
        ("unet", {"classes": 1, "activation": "softmax"}, "at least two classes"),
        ("unet", {"activation": "relu"}, "sigmoid or softmax"),
        ("unet", {"scale": [1.0, 2.0]}, "one a band, got 2 for 3"),
        ("unet", {"scale": 0.0}, "not 0"),
        ("unet", {"bands": 0}, "Bands must be"),
        ("cnn", {"up": (4, 4)}, "one width more"),
        ("dilated", {"window": 4}, "at least 8"),
    ],
)
def test_bad_settings_are_refused_with_the_rule(name, options, rule):
    with pytest.raises(SettingError, match=rule):
        models.build(name, **{"bands": 3, "classes": 2} | options)


def test_naming_a_network_loads_no_keras():
    code = "import sys; from satmask.models import NETWORKS, build; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
