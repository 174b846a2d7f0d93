"""Fused batch normalisation: the numbers of Keras' own layer, in training, in use, and in its statistics."""

import keras
import numpy as np
import pytest

from satmask.models import build, save_keras
from satmask.training.fusing import fuse_normalisation


def layer_on_images(**options):
    image = keras.Input((None, None, 3))
    layer = keras.layers.BatchNormalization(**options)
    return keras.Model(image, layer(image)), layer


@pytest.fixture
def images():
    return np.random.default_rng(3).normal((5, 0, -9), (3, 0.1, 20), (4, 7, 5, 3)).astype("float32")


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 3, "momentum": 0.5}])
def test_fused_layers_compute_what_keras_computes(images, options):
    plain, own = layer_on_images(**options)
    fused, other = layer_on_images(**options)
    assert fuse_normalisation(fused) == 1
    for values in (images, images[:2] * 3):
        np.testing.assert_allclose(fused(values, training=True), plain(values, training=True), atol=1e-4)
    for weight, same in zip(own.weights, other.weights, strict=True):
        np.testing.assert_allclose(same, weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fused(images, training=False), plain(images, training=False), atol=1e-4)


def test_layers_that_do_not_learn_keep_their_statistics(images):
    fused, layer = layer_on_images()
    fuse_normalisation(fused)
    layer.trainable = False
    np.testing.assert_allclose(fused(images, training=True), images / np.sqrt(1.001), rtol=1e-5)
    assert not np.any(layer.moving_mean)


@pytest.mark.parametrize("options", [{"axis": 1}, {"epsilon": 1e-6}])
def test_layers_that_the_kernel_cannot_compute_stay(images, options):
    image = keras.Input((7, 5, 3))
    network = keras.Model(image, keras.layers.BatchNormalization(**options)(image))
    before = np.asarray(network(images, training=False))
    assert fuse_normalisation(network) == 0
    np.testing.assert_array_equal(network(images, training=False), before)


def prepare(network):
    """Compile a network; with the optimiser's variables there, its step is traced once, not twice."""
    network.compile(keras.optimizers.SGD(0.01), loss="binary_crossentropy", jit_compile=False)
    network.optimizer.build(network.trainable_variables)


@pytest.mark.parametrize("name", ["unet", "encoder"])
def test_networks_learn_the_same_and_are_saved_the_same(tmp_path, name):
    """One step of gradient descent, each weight against that of the network as Keras computes it."""
    options = {"filters": [4, 8]} if name == "unet" else {"decoder": [4, 4, 4, 4, 4]}
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (2, 64, 64, 3)).astype("float32")
    truth = (generator.random((2, 64, 64, 1)) > 0.5).astype("float32")
    networks = []
    for fuse in (False, True):
        keras.utils.set_random_seed(5)
        network = build(name, bands=3, classes=1, activation="sigmoid", **options)
        if fuse:
            assert fuse_normalisation(network) > 4
        prepare(network)
        network.train_on_batch(images, truth)
        networks.append(network)
    for mine, own in zip(networks[1].weights, networks[0].weights, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-2, atol=2e-4, err_msg=own.path)
    save_keras(networks[1], tmp_path / "fused.keras")
    again = keras.saving.load_model(tmp_path / "fused.keras", compile=False)
    np.testing.assert_allclose(again(images), networks[1](images), atol=1e-5)


def test_steps_of_an_encoder_give_the_same_bits_each_time():
    """Unfused, sums of large batches are added up by threads in any order: losses then drift apart from run to run."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (4, 160, 160, 3)).astype("float32")
    truth = (generator.random((4, 160, 160, 1)) > 0.5).astype("float32")
    network = build("encoder", bands=3, classes=1, activation="sigmoid", decoder=[8] * 5)
    fuse_normalisation(network)
    prepare(network)
    begun, ended = network.get_weights(), []
    for _ in range(3):
        network.set_weights(begun)
        network.train_on_batch(images, truth)
        ended.append(np.concatenate([weight.ravel() for weight in network.get_weights()]))
    np.testing.assert_array_equal(ended[0], ended[1])
    np.testing.assert_array_equal(ended[0], ended[2])
