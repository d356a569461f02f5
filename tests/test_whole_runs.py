"""Tests that whole runs on the device match the train command's runs."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import make_dataset, silent

from cifar_jax import Config, UserError, evaluate, fit
from experiments.harness.whole_runs import WholeRuns


@pytest.mark.slow
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_whole_runs_are_those_of_fit(drop_remainder):
    dataset = make_dataset()
    # The batches extend into a third epoch; epochs are not whole numbers of batches.
    assert len(dataset.train) % 24
    assert 2 * len(dataset.train) < 7 * 24
    config = Config(
        model="small",
        batch_size=24,
        max_steps=7,
        distortions="crop, alternating_flip",
        param_groups="group('hidden/kernel', until=0.5)",
        drop_remainder=drop_remainder,
        train_dir=None,
    )
    runs = WholeRuns(config, dataset)
    for seed in (3, 4):
        state = runs.train(seed)
        expected = fit(dataclasses.replace(config, seed=seed), dataset, silent)
        for ours, theirs in zip(
            jax.tree.leaves(state.averaged_variables),
            jax.tree.leaves(expected.state.averaged_variables),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert runs.evaluate(state) == evaluate(expected.trained, dataset.test)


@pytest.mark.slow
def test_convolutions_are_called_step_by_step_on_a_cpu():
    dataset = make_dataset()
    config = Config(model="batch_norm", batch_size=8, max_steps=2, train_dir=None)
    runs = WholeRuns(config, dataset)
    state = runs.train(0)
    assert int(state.step) == 2
    assert runs.evaluate(state) == evaluate(
        fit(config, dataset, silent).trained, dataset.test
    )


def test_another_order_of_the_images_is_refused():
    config = Config(order="hardest(proxy='lenet')", image_size=32, train_dir=None)
    with pytest.raises(UserError, match=r"--order=hardest.* has no program"):
        WholeRuns(config, make_dataset())
