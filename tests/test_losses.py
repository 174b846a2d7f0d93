"""Losses against NumPy's and Keras' numbers; weights, compilation and saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from satmask.errors import SettingError
from satmask.losses import LOSSES, make_loss

# Keras hands its variables to NumPy 2 in a way that NumPy deprecates, whenever a model is saved.
SAVING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
HEADS = ("sigmoid", "softmax")


def batch(activation, *, classes=3, seed=0, shape=(2, 6, 5)):
    """Truth uint8, probabilities float32 and weights float32 with zeros, of one random batch."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(*shape, classes))
    if activation == "softmax":
        truth = np.eye(classes, dtype=np.uint8)[random.integers(classes, size=shape)]
        probability = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    else:
        truth = random.integers(2, size=scores.shape, dtype=np.uint8)
        probability = 1 / (1 + np.exp(-scores))
    weight = random.uniform(0.5, 2, shape) * (random.random(shape) < 0.7)
    return truth, probability.astype(np.float32), weight.astype(np.float32)


def by_hand(name, activation, data, *, classes):
    """The formulas of the docstrings in float64, written out class by class."""
    y, p, w = (part.astype(float) for part in data)
    k = np.asarray(classes, float)
    sides = np.stack([y * np.log(p), (1 - y) * np.log(1 - p) * (activation == "sigmoid")])
    per_class = (w[..., None] * k * (y if activation == "softmax" else 1)).sum()
    cross_entropy = -(w[..., None] * k * sides.sum(axis=0)).sum() / per_class

    def sums(value, axis=(0, 1, 2)):
        return (w[..., None] * value).sum(axis=axis)

    def average(value):
        return (value * k).sum(axis=-1) / k.sum()

    dice = average((2 * sums(y * p) + 1) / (sums(y + p) + 1))
    if name == "focal":
        easy = np.stack([(1 - p) ** 2, p**2]) * (
            np.reshape([0.25, 0.75], (2, 1, 1, 1, 1)) if activation == "sigmoid" else 1
        )
        return -(w[..., None] * k * (easy * sides).sum(axis=0)).sum() / per_class
    if name == "building":
        by_image = average((2 * sums(y * p, (1, 2)) + 1) / (sums(y + p, (1, 2)) + 1))
        return 0.05 * cross_entropy - by_image.mean()
    jaccard = average(sums(y * p) / sums(y + p - y * p))
    values = {"bce": cross_entropy, "dice": 1 - dice, "bce_dice": cross_entropy + 1 - dice}
    return values.get(name, cross_entropy - np.log(jaccard))


@pytest.mark.parametrize("activation", HEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_its_formula(name, activation):
    truth, probability, weight = batch(activation)
    classes = (1.0, 0.25, 3.0)
    loss = make_loss(name, activation=activation, class_weights=classes)(truth, probability, weight)
    assert float(loss) == pytest.approx(
        by_hand(name, activation, (truth, probability, weight), classes=classes), rel=1e-5
    )


def test_losses_are_those_of_keras_where_both_define_them():
    truth, probability, _ = batch("sigmoid")
    one_hot, shares, _ = batch("softmax")
    pairs = [
        (make_loss("bce"), keras.losses.BinaryCrossentropy(), truth, probability),
        (make_loss("dice", smooth=1e-7), keras.losses.Dice(axis=(0, 1, 2)), truth, probability),
        (make_loss("focal"), keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True), truth, probability),
        (make_loss("bce", activation="softmax"), keras.losses.CategoricalCrossentropy(), one_hot, shares),
        (make_loss("focal", activation="softmax"), keras.losses.CategoricalFocalCrossentropy(alpha=1), one_hot, shares),
    ]
    for ours, theirs, y, p in pairs:
        assert float(ours(y, p)) == pytest.approx(float(np.mean(theirs(y.astype(np.float32), p))), rel=1e-5)


@pytest.mark.parametrize("activation", HEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_pixels_of_weight_0_change_neither_value_nor_gradient(name, activation):
    truth, probability, weight = batch(activation)
    loss = make_loss(name, activation=activation)
    spoiled = np.where(weight[..., None] > 0, probability, np.nan)
    unknown = np.where(weight[..., None] > 0, truth, np.nan)
    value, gradient = value_and_gradient(loss, truth, probability, weight)
    other, other_gradient = value_and_gradient(loss, unknown, spoiled, weight)
    assert value == other
    np.testing.assert_array_equal(gradient, other_gradient)
    assert not gradient[weight == 0].any()
    assert gradient[weight > 0].any()


@pytest.mark.parametrize("activation", HEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_without_any_weight_loss_and_gradient_are_0(name, activation):
    truth, probability, weight = batch(activation)
    value, gradient = value_and_gradient(make_loss(name, activation=activation), truth, probability, 0 * weight)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("activation", HEADS)
@pytest.mark.parametrize("name", LOSSES)
def test_certain_predictions_give_finite_numbers(name, activation):
    truth, _, weight = batch(activation)
    loss = make_loss(name, activation=activation)
    for probability in (truth, 1 - truth, 0 * truth):
        value, gradient = value_and_gradient(loss, truth, probability.astype(np.float32), weight)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    best, _ = value_and_gradient(loss, truth, truth.astype(np.float32), weight)
    worst, _ = value_and_gradient(loss, truth, (1 - truth).astype(np.float32), weight)
    assert best < worst


@pytest.mark.parametrize("name", LOSSES)
def test_whole_weights_count_pixels_as_often(name):
    truth, probability, _ = batch("softmax", shape=(1, 4, 4))
    weight = np.zeros((1, 4, 8), np.float32)
    weight[:, :, :4] = 2
    twice = np.concatenate([truth] * 2, axis=2), np.concatenate([probability] * 2, axis=2)
    loss = make_loss(name, activation="softmax")
    assert float(loss(*twice, weight)) == pytest.approx(float(loss(*twice)), rel=1e-5)


def test_interior_leaves_the_border_out():
    truth, probability, weight = batch("sigmoid", shape=(2, 8, 9))
    inside = np.s_[:, 3:-3, 3:-3]
    for name in LOSSES:
        whole = make_loss(name, interior=3)(truth, probability, weight)
        assert float(whole) == pytest.approx(float(make_loss(name)(truth[inside], probability[inside], weight[inside])))


@pytest.mark.parametrize("name", LOSSES)
def test_a_border_weighs_what_it_is_given(name):
    truth, probability, weight = batch("sigmoid", shape=(2, 8, 9))
    edge = np.full(weight.shape, 0.25, weight.dtype)
    edge[:, 3:-3, 3:-3] = 1
    by_hand = make_loss(name)(truth, probability, weight * edge)
    assert float(make_loss(name, interior=3, border=0.25)(truth, probability, weight)) == pytest.approx(float(by_hand))
    assert float(make_loss(name, interior=3, border=1)(truth, probability, weight)) == pytest.approx(
        float(make_loss(name)(truth, probability, weight))
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_full(dtype):
    truth = np.ones((1, 300, 300, 1), np.uint8)
    probability = tf.fill(truth.shape, tf.cast(0.5, dtype))
    assert float(make_loss("dice", smooth=1e-7)(truth, probability)) == pytest.approx(1 / 3, rel=1e-5)
    assert make_loss("bce")(truth, probability).dtype == "float32"


@pytest.mark.parametrize("activation", HEADS)
def test_compiled_values_and_gradients_are_the_same(activation):
    truth, probability, weight = batch(activation)
    losses = [make_loss(name, activation=activation, interior=1) for name in LOSSES]

    @tf.function(jit_compile=True)
    def compiled(truth, probability, weight):
        with tf.GradientTape(persistent=False) as tape:
            tape.watch(probability)
            values = tf.stack([loss(truth, probability, weight) for loss in losses])
        return values, tape.jacobian(values, probability)

    values, gradients = compiled(*map(tf.constant, (truth, probability, weight)))
    for position, loss in enumerate(losses):
        value, gradient = value_and_gradient(loss, truth, probability, weight)
        assert float(values[position]) == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(gradients[position], gradient, rtol=1e-4, atol=1e-6)


@SAVING
@pytest.mark.parametrize("name", LOSSES)
def test_saved_models_bring_their_loss_back(name, tmp_path):
    options = {"gamma": 1.5} if name == "focal" else {}
    loss = make_loss(name, class_weights=(1, 2), interior=1, **options)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1, activation="sigmoid")])
    model.compile(loss=loss, optimizer="sgd")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").loss
    truth, probability, weight = batch("sigmoid", classes=2)
    assert loaded.get_config() == loss.get_config()
    assert float(loaded(truth, probability, weight)) == float(loss(truth, probability, weight))


def test_fit_passes_pixel_weights_and_learns_from_the_rest():
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    image = random.random((8, 8, 8, 1), dtype=np.float32)
    truth = (image > 0.5).astype(np.uint8)
    weight = np.ones((8, 8, 8), np.float32)
    weight[:, :4], truth[:, :4] = 0, 1 - truth[:, :4]
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 1, activation="sigmoid")])
    model.compile(loss=make_loss("bce_dice"), optimizer=keras.optimizers.Adam(0.3), jit_compile=True)
    model.fit(image, truth, sample_weight=weight, epochs=15, batch_size=8, verbose=0)
    right = (model.predict(image, verbose=0) >= 0.5) == truth
    assert right[:, 4:].mean() > 0.9
    assert right[:, :4].mean() < 0.1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "dices"}, "one of bce, dice"),
        ({"name": "bce", "smooth": 1}, "It has none"),
        ({"name": "dice", "gamma": 1}, "Use smooth"),
        ({"name": "dice", "smooth": 0}, "above 0"),
        ({"name": "focal", "gamma": -1}, "0 or more"),
        ({"name": "focal", "alpha": 1}, "between 0 and 1"),
        ({"name": "focal", "alpha": 0.3, "activation": "softmax"}, "class_weights"),
        ({"name": "bce", "activation": "relu"}, "'sigmoid' or 'softmax'"),
        ({"name": "bce", "class_weights": (1, -1)}, "0 or more"),
        ({"name": "bce", "class_weights": ()}, "0 or more"),
        ({"name": "bce", "interior": -1}, "0 border pixels"),
        ({"name": "bce", "interior": 1, "border": 1.5}, "weigh 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(settings, says):
    with pytest.raises(SettingError, match=says):
        make_loss(settings.pop("name"), **settings)


def test_shapes_that_would_broadcast_silently_are_refused():
    truth, probability, _ = batch("sigmoid")
    with pytest.raises(SettingError, match="like the probabilities"):
        make_loss("bce")(truth[..., :1], probability)
    with pytest.raises(SettingError, match="each of 3 classes"):
        make_loss("bce", class_weights=(1, 2))(truth, probability)
    with pytest.raises(SettingError, match="Use 2 or less"):
        make_loss("bce", interior=3)(truth, probability)
    with pytest.raises(SettingError, match="two classes or more"):
        make_loss("bce", activation="softmax")(truth[..., :1], probability[..., :1])


def value_and_gradient(loss, truth, probability, weight):
    probability = tf.constant(probability)
    with tf.GradientTape() as tape:
        tape.watch(probability)
        value = loss(truth, probability, weight)
    gradient = tape.gradient(value, probability)
    return float(value), np.zeros(probability.shape) if gradient is None else gradient.numpy()
