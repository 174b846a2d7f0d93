"""Steps: what is compiled, and training in 16 bits that ends in a model file of 32."""

import numpy as np
import onnx
import pytest

from reportless import reportless
from satmask.datasets import read_dataset
from satmask.datasets.town import write_tiles
from satmask.recipe import Recipe
from satmask.training import train
from satmask.training.stepping import short_floats, worth_compiling


def test_a_cpu_compiles_nothing_and_computes_in_its_own_short_floats(monkeypatch):
    assert (worth_compiling(), short_floats()) == (False, "mixed_bfloat16")
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [kind])
    assert (worth_compiling(), short_floats()) == (True, "mixed_float16")


def test_training_in_sixteen_bits_learns_and_writes_thirty_two(tmp_path):
    data = read_dataset(write_tiles(tmp_path / "town", count=6, size=64, seed=3))
    small = ["network.filters=[4, 8]", "window=32", "batch=4", "windows_per_epoch=64", "epochs=2", "learning_rate=0.01"]
    with reportless():
        long, short = (
            train(data, tmp_path / str(mixed), Recipe.load(settings=[*small, f"mixed_precision={mixed}"]), quiet=True)
            for mixed in ("false", "true")
        )
    for one, other in zip(long.history, short.history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=0.1)
        assert other["loss"] != one["loss"]
    kinds = {onnx.numpy_helper.to_array(tensor).dtype for tensor in onnx.load(short.model).graph.initializer}
    assert np.dtype("float32") in kinds
    assert not kinds & {np.dtype("float16")}
    assert all(kind.kind in "fi" for kind in kinds)
