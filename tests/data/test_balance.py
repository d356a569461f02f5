"""Tests what is said about the number of training images of each class."""

import dataclasses

import numpy as np
import pytest

from cifar_jax import Dataset, Split
from cifar_jax.data import balance


def of_counts(*counts, name="own"):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)[::-1]
    split = Split(np.zeros((len(labels), 4, 4, 3), np.uint8), labels)
    names = tuple(f"c{i}" for i in range(len(counts)))
    return Dataset.create(name, split, split, class_names=names)


def lines(data, loss="cross_entropy"):
    return list(balance.describe(data, loss))


def test_few_classes_are_listed():
    data = of_counts(12, 30, 1200)
    assert data.class_counts == (12, 30, 1200)
    first, notice = lines(data)
    assert first == "training images per class: c0 12, c1 30, c2 1,200"
    assert notice.startswith("notice: c2 has more than 3 times as many training images")
    assert 'as c0; --loss="balanced(cross_entropy)" gives' in notice


def test_images_without_a_label_are_counted():
    data = of_counts(6, 6)
    labels = np.where(np.arange(12) % 3, data.train.labels.astype(int), -1)
    train = dataclasses.replace(data.train, labels=labels)
    first, second = lines(dataclasses.replace(data, train=train))
    assert first == "training images without a label: 4"
    assert second == "training images per class: c0 4, c1 4"


def test_many_classes_are_summed_up():
    counts = range(7, 18)
    assert lines(of_counts(*counts)) == [
        "training images per class: from 7 (c0) to 17 (c10)"
    ]
    assert ", c9 10" in lines(of_counts(*[10] * 10))[0]


@pytest.mark.parametrize(("counts", "count"), [((5, 15), 1), ((5, 16), 2), ((0, 1), 2)])
def test_more_than_three_times_as_many_is_a_notice(counts, count):
    assert len(lines(of_counts(*counts))) == count


def test_a_balanced_loss_needs_no_advice():
    assert len(lines(of_counts(1, 9), "label_noise(balanced(cross_entropy))")) == 1


def test_cifar_says_nothing_as_long_as_it_is_even():
    even = of_counts(50, 51, name="cifar10")
    assert lines(even) == []
    assert len(lines(dataclasses.replace(even, name="npz"))) == 1
    assert len(lines(of_counts(50, 5, name="cifar100"))) == 2
