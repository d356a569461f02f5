"""Tests trainings whose loss gives all classes the same weight."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import make_dataset, silent
from sklearn.utils.class_weight import compute_sample_weight

from cifar_jax import Config, Dataset, UserError, fit

CONFIG = Config(
    model="small",
    loss="balanced(cross_entropy)",
    max_steps=4,
    batch_size=8,
    train_dir=None,
)


@pytest.fixture(scope="module")
def uneven() -> Dataset:
    """Returns images of which most are of one class."""
    data = make_dataset(96)
    labels = data.train.labels
    kept = np.flatnonzero((labels == 1) | (np.arange(96) % 7 == 0))
    train = dataclasses.replace(
        data.train, images=data.train.images[kept], labels=labels[kept]
    )
    return Dataset.create("own", train, data.test, class_names=data.class_names)


def leaves(result):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result.state.params)]


def test_it_is_the_loss_weighted_by_scikit_learn(uneven):
    weights = compute_sample_weight("balanced", uneven.train.labels)
    assert len(np.unique(weights)) > 1
    train = dataclasses.replace(
        uneven.train, extra={"weight": weights.astype(np.float32)}
    )
    weighted = fit(
        dataclasses.replace(CONFIG, loss="weighted(cross_entropy)"),
        dataclasses.replace(uneven, train=train),
        silent,
    )
    plain = fit(dataclasses.replace(CONFIG, loss="cross_entropy"), uneven, silent)
    balanced = leaves(fit(CONFIG, uneven, silent))
    for a, b in zip(balanced, leaves(weighted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    changes = zip(balanced, leaves(plain), strict=True)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in changes)


def test_labels_that_are_mixed_have_no_class(uneven):
    config = dataclasses.replace(CONFIG, distortions="crop, mixup")
    with pytest.raises(UserError, match=r"balanced needs labels.*leave out mixup"):
        fit(config, uneven, silent)
