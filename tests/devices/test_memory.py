"""Tests of what is said when memory is used up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_one_line

from cifar_jax import (
    Config,
    Hook,
    Network,
    RunError,
    Trained,
    fit,
    models,
    predict_logits,
)
from cifar_jax.devices import memory
from cifar_jax.evaluation.inference import classify


class Greedy(Network):
    """Needs 4 TB for each image."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(1)(images.reshape(len(images), -1))
        numbers = jax.lax.broadcasted_iota(jnp.float32, (1 << 20, 1 << 20), 1)
        # XLA cannot compile the gradient of a sort of this size.
        rows = jnp.sort(jax.lax.stop_gradient(x[:, :, None] * numbers), axis=-1)
        return nn.Dense(self.num_classes)(rows[:, :: 1 << 19, 0])


@pytest.fixture
def greedy(monkeypatch):
    monkeypatch.setitem(models.MODELS, "greedy", Greedy)


def network(model):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    config = Config(model=model, image_size=32, distortions="")
    own = models.create(model, num_classes=3)
    like = jax.eval_shape(own.init, jax.random.key(0), images.astype(np.float32))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    names = ("red", "green", "blue")
    return Trained(own, zeros, config.preprocessing, None, 0, names, (32, 32, 3))


@pytest.mark.parametrize(
    ("predict", "way_out"),
    [
        (predict_logits, "batches of 80 images .*; lower --batch_size"),
        (classify, "batches of 8 images .*; use smaller images or a smaller network"),
    ],
)
def test_predictions_that_do_not_fit_are_one_line(greedy, predict, way_out):
    with pytest.raises(RunError, match=f"not enough memory for {way_out}") as raised:
        predict(network("greedy"), np.zeros((9, 32, 32, 3), np.uint8))
    assert "\n" not in str(raised.value)


def test_a_training_that_does_not_fit_is_one_line(greedy, dataset, tmp_path):
    config = Config(
        model="greedy", batch_size=8, max_steps=2, train_dir=str(tmp_path / "run")
    )
    with pytest.raises(RunError, match=r"memory for batches of 8 images.*--batch_size"):
        fit(config, dataset, log=lambda line: None)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("batch_size", [10**9, 2**31 - 1, 10**30])
@pytest.mark.parametrize("count", [1, 100])
def test_no_more_is_padded_than_there_is(batch_size, count):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    own = network("small")
    found = predict_logits(own, images, batch_size)
    np.testing.assert_array_equal(found, predict_logits(own, images))


def test_arrays_that_do_not_fit_are_one_line(call_command, monkeypatch):
    def fail(*_):
        return np.zeros(1 << 60, np.uint8)

    monkeypatch.setattr("cifar_jax.train.data.load", fail)
    result = call_command("train", "--dataset=digits", "--max_steps=1")
    assert_one_line(result, 1, "there is not enough memory (Unable to allocate")


def test_other_errors_are_not_explained():
    with (
        pytest.raises(ValueError, match=r"^memory$"),
        memory.shortage_as_run_error("a test", "none"),
    ):
        raise ValueError("memory")
    assert memory.shortage(MemoryError()) == "MemoryError"


def test_a_state_that_a_failed_call_has_used_up_is_not_saved(dataset, tmp_path):
    class Failing(Hook):
        every = 1

        def __call__(self, now):
            for leaf in jax.tree.leaves(now.state.params):
                leaf.delete()
            raise MemoryError

    config = Config(model="small", batch_size=8, max_steps=2, train_dir=str(tmp_path))
    with pytest.raises(RunError, match="not enough memory"):
        fit(config, dataset, lambda line: None, [Failing()])
    assert not (tmp_path / "checkpoints").exists()
