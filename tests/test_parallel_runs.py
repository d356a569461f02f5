"""Tests that whole runs side by side match the train command's runs."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import make_dataset

from cifar_jax import Config, evaluate, fit
from experiments.harness.parallel_runs import ParallelRuns


@pytest.mark.slow
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_runs_side_by_side_are_those_of_fit(drop_remainder):
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
    runs = ParallelRuns(config, dataset, num_seeds=2)
    states = runs.train(first_seed=3)
    accuracies = runs.evaluate(states)
    for place, seed in enumerate([3, 4]):
        expected = fit(dataclasses.replace(config, seed=seed), dataset, log=_nothing)
        for ours, theirs in zip(
            jax.tree.leaves(states.averaged_variables),
            jax.tree.leaves(expected.state.averaged_variables),
            strict=True,
        ):
            np.testing.assert_allclose(ours[place], theirs, rtol=1e-4, atol=1e-5)
        assert accuracies[place] == evaluate(expected.trained, dataset.test)


@pytest.mark.slow
def test_convolutions_are_called_step_by_step_on_a_cpu():
    dataset = make_dataset()
    config = Config(model="batch_norm", batch_size=8, max_steps=2, train_dir=None)
    runs = ParallelRuns(config, dataset, num_seeds=2)
    states = runs.train(first_seed=0)
    assert states.step.tolist() == [2, 2]
    for place, accuracy in enumerate(runs.evaluate(states)):
        expected = fit(dataclasses.replace(config, seed=place), dataset, log=_nothing)
        assert accuracy == evaluate(expected.trained, dataset.test)


def _nothing(line: str) -> None:
    del line
