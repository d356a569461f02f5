"""Tests changes of training labels."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_dataset

from cifar_jax import Dataset, Split, UserError
from cifar_jax.data.changes import DATA_CHANGES, apply
from cifar_jax.data.cifar.cifar10 import LABELS
from cifar_jax.data.dataset import hold_out_validation
from cifar_jax.data.split import fingerprint
from cifar_jax.optimization.losses import LabelNoise

COUNT = 10_000


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    """Returns images of CIFAR-10's classes, of one pixel each."""
    images = np.zeros((COUNT, 1, 1, 3), np.uint8)
    split = Split(images, (np.arange(COUNT) % 10).astype(np.uint8))
    return Dataset.create("cifar10", split, split, class_names=LABELS.class_names)


def test_noise_in_the_data_is_the_noise_of_the_loss(cifar10):
    seen = []

    class Spy:
        name = "spy"

        def __call__(self, logits, targets, extra):
            seen.append(np.asarray(targets))
            return jnp.zeros(len(targets))

    labels = cifar10.train.labels.astype(np.int32)
    extra = {"index": np.arange(COUNT)}
    LabelNoise(Spy(), 0.4, 7)(jnp.zeros((COUNT, 10)), labels, extra)
    noisy = apply(cifar10, "label_noise(0.4, seed=7)").train.labels
    np.testing.assert_array_equal(noisy, seen[0])
    # Five standard deviations of the binomial distribution.
    changes = (noisy != labels).sum()
    assert abs(changes - 0.4 * COUNT) < 5 * (COUNT * 0.4 * 0.6) ** 0.5


def test_only_training_labels_are_replaced(cifar10):
    noisy = apply(hold_out_validation(cifar10, 100), "label_noise(0.4)")
    np.testing.assert_array_equal(noisy.test.labels, np.arange(COUNT) % 10)
    np.testing.assert_array_equal(noisy.validation.labels, np.arange(100) % 10)
    splits = noisy.train, noisy.test, noisy.validation
    assert noisy.fingerprint == fingerprint(*splits) != cifar10.fingerprint
    assert noisy.test_fingerprint == cifar10.fingerprint
    assert noisy.validation_size == 100
    count = (noisy.train.labels != np.arange(COUNT - 100) % 10).sum()
    assert noisy.source.endswith(f"; {count:,} training labels replaced")


def test_asymmetric_noise_replaces_classes_by_similar_ones(cifar10):
    names = np.array(cifar10.class_names)
    before = names[cifar10.train.labels]
    after = names[apply(cifar10, "asymmetric_noise(0.3, seed=1)").train.labels]
    pairs = set(zip(before[before != after], after[before != after], strict=True))
    assert pairs == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    }
    assert abs((before != after).sum() - 0.15 * COUNT) < 5 * (0.105 * COUNT) ** 0.5


def test_pairs_may_be_given():
    whole = make_dataset()
    text = "asymmetric_noise(1, pairs=(('red', 'green'), ('green', 'blue')))"
    noisy = apply(whole, text)
    expected = np.array([1, 2, 2])[whole.train.labels]
    np.testing.assert_array_equal(noisy.train.labels, expected)


def test_no_noise_is_the_data_set_itself():
    whole = make_dataset()
    for text in ("label_noise(0)", "hide_labels(64)"):
        assert apply(whole, text) is whole


def test_labels_are_hidden_except_for_the_same_share_of_each_class(cifar10):
    partly = apply(cifar10, "hide_labels(40)")
    labels = partly.train.labels
    assert partly.class_counts == (4,) * 10
    assert len(labels) == COUNT
    kept = labels >= 0
    np.testing.assert_array_equal(labels[kept], cifar10.train.labels[kept])
    assert partly.source.endswith("; 40 of 10,000 training labels")
    fewer = apply(partly, "hide_labels(20)").train.labels
    assert (fewer >= 0).sum() == 20
    assert kept[fewer >= 0].all()


def test_what_has_no_label_gets_none(cifar10):
    partly = apply(cifar10, "hide_labels(5000), label_noise(1), asymmetric_noise(1)")
    assert (partly.train.labels >= 0).sum() == 5000


def test_images_without_a_label_are_sampled_like_a_class(cifar10):
    few = apply(cifar10, "hide_labels(5000), sample(60)")
    assert few.class_counts == (3,) * 10
    assert (few.train.labels == -1).sum() == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_noise(1.5)", "fraction=1.5 must be at most 1"),
        ("label_noise(seed=-1)", "seed=-1 must be at least 0"),
        ("asymmetric_noise", "pairs with 'truck', which is not a class of cifar10"),
        ("asymmetric_noise(pairs=())", r"pairs=\(\) must begin with different classes"),
        ("asymmetric_noise(pairs=(('red', 'blue'), ('red', 'green')))", "must begin"),
        ("asymmetric_noise(pairs=('red', 'blue'))", "pairs=.* must be"),
        ("hide_labels(65)", r"hide_labels\(kept=65\) is more than the 64 training lab"),
        ("hide_labels(0)", "kept=0 must be at least 1"),
    ],
)
def test_impossible_changes_are_refused(text, message):
    with pytest.raises(UserError, match=f"--data_changes.*{message}"):
        apply(make_dataset(), text)


def test_a_change_must_return_a_valid_data_set(monkeypatch):
    class Wrong:
        def __call__(self, dataset):
            train = dataclasses.replace(dataset.train, labels=dataset.train.labels + 1)
            return dataclasses.replace(dataset, train=train)

    monkeypatch.setitem(DATA_CHANGES, "wrong", Wrong)
    with pytest.raises(UserError, match=r"dataset\.train\.labels contains 3"):
        apply(make_dataset(), "wrong")
