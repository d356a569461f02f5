"""Tests training images without a label."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_dataset, silent, strategy

from cifar_jax import Batch, Config, build_program, fit, init_state, train_step
from cifar_jax.optimization import LOSSES
from cifar_jax.training import initial
from cifar_jax.training.compiled import CompiledSteps

take_step = jax.jit(train_step, static_argnums=0)
DATASET = make_dataset()
IMAGES, LABELS = DATASET.train.images[:16], DATASET.train.labels[:16]
LABELED = np.arange(16) % 3 > 0
RANDOM = np.random.RandomState(0)
EXTRA = {
    "weight": RANDOM.uniform(0, 3, 16).astype(np.float32),
    "teacher": RANDOM.standard_normal((16, 3)).astype(np.float32),
    "soft_labels": RANDOM.dirichlet(np.ones(3), 16).astype(np.float32),
}


class Mean:
    """The mean cross-entropy of the labeled examples, as a single number."""

    name = "mean"

    def __call__(self, logits, targets, extra):
        log_p = jax.nn.log_softmax(logits)
        chosen = jax.nn.one_hot(targets, 3)
        return -(chosen * log_p).sum() / chosen.sum()


def config(**changes) -> Config:
    values = {"model": "small", "batch_size": 16, "train_dir": None, "weight_decay": 0}
    # The position of an image in its batch must not matter for what it looks like.
    return Config(**values | {"distortions": "center_crop"} | changes)


def step(settings: Config, labels, kept=slice(None), extra=None):
    """Returns the change of the params, and the metrics, of a step on some images."""
    program = build_program(settings, 3)
    state = init_state(program, jax.random.key(0), IMAGES)
    chosen = {name: array[kept] for name, array in (extra or {}).items()}
    batch = Batch.from_arrays(IMAGES[kept], labels[kept], chosen)
    batch = batch._replace(indices=jnp.arange(16)[kept])
    after, metrics = take_step(program, state, batch)
    return jax.tree.map(jnp.subtract, after.params, state.params), metrics


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        "cross_entropy(0.1)",
        "squared_error",
        "weighted(cross_entropy)",
        "balanced(cross_entropy, counts=(1, 2, 3))",
        "soft_labels(cross_entropy)",
        "distillation(cross_entropy)",
        "label_noise(cross_entropy, 0.5)",
        "mean",
    ],
)
def test_they_are_in_no_loss_and_no_accuracy(loss, monkeypatch):
    monkeypatch.setitem(LOSSES, "mean", Mean)
    settings = config(loss=loss, metrics="accuracy, grad_norm")
    partly = np.where(LABELED, LABELS, -1)
    found = step(settings, partly, extra=EXTRA)
    assert_close(found, step(settings, LABELS, LABELED, EXTRA))
    assert found[1]["total_loss"] > 0


def test_a_batch_without_labels_changes_nothing():
    change, metrics = step(config(metrics="accuracy"), np.full(16, -1))
    assert metrics["total_loss"] == metrics["accuracy"] == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(change))


def test_weight_decay_is_that_of_all_images():
    settings = config(weight_decay=0.1)
    _, partly = step(settings, np.where(LABELED, LABELS, -1))
    _, whole = step(settings, LABELS)
    (name,) = (name for name in whole if name.endswith("weight_loss"))
    assert partly[name] == whole[name] > 0


@pytest.mark.parametrize("mixture", ["mixup(1)", "cutmix"])
def test_of_mixed_images_the_labeled_share_counts(mixture):
    class Spy:
        """Returns the entropy of the targets, which is that of a labeled mixture."""

        name = "spy"
        seen: list = []  # noqa: RUF012

        def __call__(self, logits, targets, extra):
            jax.debug.callback(self.seen.append, targets)
            return -(targets * jnp.log(targets + 1e-30)).sum(axis=-1)

    program = build_program(config(distortions=f"crop, {mixture}"), 3)
    program = dataclasses.replace(program, loss=Spy())
    state = init_state(program, jax.random.key(0), IMAGES)
    labels = np.tile([0, -1, 1, 1, -1, -1, 2, 0], 2)
    _, metrics = take_step(program, state, Batch.from_arrays(IMAGES, labels))
    jax.effects_barrier()
    targets = np.asarray(Spy.seen[0])
    # Each image is mixed with the next.
    neither = (labels < 0) & (np.roll(labels, -1) < 0)
    np.testing.assert_allclose(targets.sum(axis=1), ~neither, atol=1e-6)
    partial = (labels < 0) != (np.roll(labels, -1) < 0)
    np.testing.assert_allclose(targets[partial].max(axis=1), 1, rtol=1e-6)
    # The share of the first image, from one of two labeled images of two classes.
    share = targets[6, 2]
    assert 0 < share < 1
    kept = (labels >= 0) * share + (np.roll(labels, -1) >= 0) * (1 - share)
    entropy = -(targets * np.log(targets + 1e-30)).sum(axis=1)
    expected = (kept * entropy).sum() / kept.sum()
    assert metrics["total_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_mean_is_over_the_whole_batch():
    """As of many devices, for which see devices/test_parallel.py."""
    settings = config(metrics="accuracy")
    program = build_program(settings, 3)
    labels = np.where(np.arange(64) % 4, DATASET.train.labels, -1)
    train = dataclasses.replace(DATASET.train, labels=labels)
    one = strategy()
    state = initial.create(program, 0, train.images, one.mesh)
    steps = CompiledSteps(program, train, 64, state, 1, one)
    after, metrics = steps.train_steps(state, 0, 1)
    batch = Batch.from_arrays(*(x[labels >= 0] for x in (train.images, labels)))
    expected, of_labeled = take_step(program, state, batch)
    assert_close(after.params, expected.params)
    for name in ("total_loss", "accuracy"):
        assert float(metrics[name]) == pytest.approx(float(of_labeled[name]), rel=1e-4)


def test_a_balance_counts_labeled_images(dataset):
    labels = np.where(np.arange(64) % 2, dataset.train.labels, -1)
    train = dataclasses.replace(dataset.train, labels=labels)
    partly = dataclasses.replace(dataset, train=train)
    settings = config(batch_size=8, max_steps=2, loss="balanced(cross_entropy)")
    counts = partly.class_counts
    assert sum(counts) == 32
    given = dataclasses.replace(
        settings, loss=f"balanced(cross_entropy, counts={counts})"
    )
    ends = [fit(one, partly, silent).state.params for one in (settings, given)]
    assert_close(*ends)
