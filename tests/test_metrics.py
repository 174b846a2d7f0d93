"""The training metric against scikit-learn, and its counts where float32 would stop counting."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import jaccard_score

from satmask.errors import SettingError
from satmask.metrics import CARRY, SegmentationIoU

# Keras hands its variables to NumPy 2 in a way that NumPy deprecates, whenever a model is saved.
SAVING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def batch(activation, *, seed, shape=(2, 7, 5), classes=4):
    random = np.random.default_rng(seed)
    probability = random.random((*shape, classes), dtype=np.float32)
    weight = (random.random(shape) < 0.6).astype(np.float32) * 0.5
    if activation == "softmax":
        return np.eye(classes, dtype=np.uint8)[random.integers(classes, size=shape)], probability, weight
    return random.integers(2, size=probability.shape, dtype=np.uint8), probability, weight


def test_sigmoid_iou_is_that_of_scikit_learn():
    metric = SegmentationIoU(classes=4)
    batches = [batch("sigmoid", seed=seed) for seed in range(3)]
    for one in batches:
        metric.update_state(*one)
    truth, probability, weight = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    seen = weight > 0
    expected = jaccard_score(truth[seen], probability[seen] >= 0.5, average="macro")
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_softmax_iou_is_that_of_scikit_learn():
    metric = SegmentationIoU(classes=4, activation="softmax")
    truth, probability, weight = batch("softmax", seed=5)
    metric.update_state(truth, probability, weight)
    seen = weight > 0
    expected = jaccard_score(truth.argmax(-1)[seen], probability.argmax(-1)[seen], average="macro")
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_classes_that_occur_nowhere_are_left_out_and_false_alarms_are_not():
    truth = np.zeros((1, 2, 2, 3), np.uint8)
    truth[..., 0] = 1
    probability = truth.astype(np.float32)
    metric = SegmentationIoU(classes=3)
    metric.update_state(truth, probability)
    assert float(metric.result()) == 1
    probability[0, 0, 0, 1] = 1
    metric.update_state(truth, probability)
    assert float(metric.result()) == 0.5


def test_nothing_seen_is_0_and_a_reset_forgets():
    metric = SegmentationIoU(classes=2)
    assert float(metric.result()) == 0
    truth, probability, weight = batch("sigmoid", seed=1, classes=2)
    metric.update_state(truth, np.full_like(probability, np.nan), 0 * weight)
    assert float(metric.result()) == 0
    metric.update_state(truth, probability)
    assert metric.counts().any()
    metric.reset_state()
    assert not metric.counts().any()


def test_the_border_is_not_counted():
    random = np.random.default_rng(3)
    truth, probability = random.integers(0, 2, (2, 9, 8, 3)), random.random((2, 9, 8, 3)).astype(np.float32)
    weight = random.integers(0, 2, (2, 9, 8)).astype(np.float32)
    inside = np.s_[:, 2:-2, 2:-2]
    cut, whole = SegmentationIoU(classes=3, interior=2), SegmentationIoU(classes=3)
    cut.update_state(truth, probability, weight)
    whole.update_state(truth[inside], probability[inside], weight[inside])
    assert (cut.counts() == whole.counts()).all()


def test_counts_stay_exact_beyond_float32_and_32_bits():
    truth, probability, weight = batch("sigmoid", seed=2)
    metric = SegmentationIoU(classes=4)
    metric.update_state(truth, probability, weight)
    one = metric.counts()
    many = CARRY * 5 - 1
    metric.low.assign(np.full((3, 4), many % CARRY))
    metric.high.assign(np.full((3, 4), many // CARRY))
    metric.update_state(truth, probability, weight)
    np.testing.assert_array_equal(metric.counts(), one + many)
    assert int(keras.ops.max(metric.low)) < CARRY
    metric.high.assign(np.full((3, 4), 2**20))
    assert float(metric.result()) == pytest.approx(1 / 3)


def test_large_pixel_counts_add_one_by_one():
    # float32 can't tell 2²⁴ from 2²⁴ + 1.
    whole = np.ones((1, 4096, 4096, 1), np.uint8)
    metric = SegmentationIoU(classes=1)
    metric.update_state(whole, whole)
    metric.update_state(whole[:, :1, :1], whole[:, :1, :1])
    assert metric.counts().ravel().tolist() == [2**24 + 1, 0, 0]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_compiled_updates_count_the_same(activation):
    eager, compiled = (SegmentationIoU(classes=4, activation=activation) for _ in range(2))
    update = tf.function(compiled.update_state, jit_compile=True)
    for seed in range(2):
        truth, probability, weight = batch(activation, seed=seed)
        eager.update_state(truth, probability, weight)
        update(*map(tf.constant, (truth, probability, weight)))
    np.testing.assert_array_equal(eager.counts(), compiled.counts())


@SAVING
def test_keras_reports_it_under_its_name_with_weights(tmp_path):
    truth, probability, weight = batch("sigmoid", seed=3, classes=1)
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Activation("linear")])
    model.compile(loss="mse", weighted_metrics=[SegmentationIoU(classes=1)], jit_compile=True)
    score = model.evaluate(probability, truth, sample_weight=weight, verbose=0, return_dict=True)["iou"]
    seen = weight > 0
    assert score == pytest.approx(jaccard_score(truth[seen], probability[seen] >= 0.5), rel=1e-6)
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras")
    metric = SegmentationIoU(classes=2, threshold=0.3)
    assert SegmentationIoU.from_config(metric.get_config()).get_config() == metric.get_config()


def test_impossible_settings_are_refused():
    with pytest.raises(SettingError, match="got 0"):
        SegmentationIoU(classes=0)
    with pytest.raises(SettingError, match="'relu'"):
        SegmentationIoU(classes=1, activation="relu")
