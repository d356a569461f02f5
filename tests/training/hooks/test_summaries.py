import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import Batch, Config, build_program, init_state, inspect
from cifar_jax.training.hooks.summaries import summary
from cifar_jax.writers import Histogram


def test_histogram_counts_and_moments():
    values = np.array([[0.0, 1.0], [1.0, 4.0]])
    histogram = Histogram.from_values(values)
    assert histogram.counts.sum() == 4
    assert (histogram.minimum, histogram.maximum) == (0, 4)
    assert (histogram.total, histogram.squares) == (6, 18)
    assert histogram.counts[0] == 1
    assert histogram.counts[-1] == 1


def test_histogram_of_one_value_and_of_bfloat16():
    assert Histogram.from_values(np.full(5, 0.1)).counts.sum() == 5
    assert Histogram.from_values(jnp.ones(5, jnp.bfloat16)).total == 5


@pytest.mark.slow
def test_a_summary_has_what_the_tutorial_shows(dataset):
    program = build_program(Config(), num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:4], dataset.train.labels[:4])
    kept = summary(0, {}, jax.jit(functools.partial(inspect, program))(state, batch))
    layers = ["conv1", "conv2", "local3", "local4", "softmax_linear"]
    parameters = [f"{layer}/{kind}" for layer in layers for kind in ("bias", "kernel")]
    expected = [f"{layer}/activations" for layer in layers] + parameters
    expected += [f"{name}/gradients" for name in parameters]
    assert sorted(kept.histograms) == sorted(expected)
    assert sorted(kept.scalars) == [f"{layer}/sparsity" for layer in layers]
    assert 0.3 < kept.scalars["conv1/sparsity"] < 0.7
    assert kept.scalars["softmax_linear/sparsity"] == 0
    assert sorted(kept.images) == [f"images/image/{i}" for i in range(3)]
    assert kept.histograms["conv1/activations"].counts.sum() == 4 * 24 * 24 * 64
