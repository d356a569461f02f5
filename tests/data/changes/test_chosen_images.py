"""Tests changes that leave images out."""

import dataclasses

import numpy as np
import pytest
from helpers import make_dataset
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import Dataset, Split, UserError
from cifar_jax.data.changes import apply
from cifar_jax.data.changes.base import rank_in_class, stratify
from cifar_jax.data.dataset import hold_out_validation

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(np.array)


def of_counts(*counts: int) -> Dataset:
    """Returns small images whose first pixel is their number, in a mixed order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.RandomState(3).permutation(labels)
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    names = tuple(f"c{i}" for i in range(len(counts)))
    split = Split(images, labels)
    return Dataset.create("own", split, split, class_names=names)


def numbers(dataset: Dataset) -> list[int]:
    """Returns the numbers of the training images."""
    return (dataset.train.images[:, 0, 0, :2].astype(int) @ [256, 1]).tolist()


@given(LABELS, st.integers(0, 2**32 - 1))
def test_each_class_has_an_order_of_its_own(labels, seed):
    places, sizes = rank_in_class(labels, seed)
    for label in np.unique(labels):
        of_class = labels == label
        assert sorted(places[of_class]) == list(range(of_class.sum()))
        assert (sizes[of_class] == of_class.sum()).all()


@given(LABELS, st.integers(0, 3), st.data())
def test_shares_of_classes_are_equal_up_to_an_image(labels, seed, data):
    size = data.draw(st.integers(1, len(labels)))
    found = stratify(labels, size, seed)
    assert len(found) == size
    assert (np.diff(found) > 0).all()
    _, all_of_class = np.unique(labels, return_counts=True)
    known = np.unique(labels)
    chosen = np.array([(labels[found] == label).sum() for label in known])
    # A class with one image less would have a smaller share than all others have.
    assert max((chosen - 1) / all_of_class) <= min(chosen / all_of_class)
    assert (chosen > 0).all() or size < len(known)
    fewer = stratify(labels, data.draw(st.integers(1, size)), seed)
    assert set(fewer) <= set(found)


def test_equal_classes_have_equal_shares():
    few = apply(of_counts(*[50] * 10), "sample(70)")
    assert few.class_counts == (7,) * 10
    assert apply(of_counts(90, 9, 1), "sample(50)").class_counts == (44, 5, 1)


def test_another_seed_draws_another_sample_in_the_same_order():
    whole = of_counts(50, 50)
    first, again, other = (
        numbers(apply(whole, f"sample(20, seed={seed})")) for seed in (0, 0, 1)
    )
    assert first == again == sorted(first)
    assert first != other


def test_all_images_are_the_data_set_itself():
    whole = of_counts(5, 6)
    for text in ("sample(11)", "long_tail(1)", "classes(('c0', 'c1'))", ""):
        assert apply(whole, text) is whole


# Published for CIFAR-10-LT and CIFAR-100-LT with an imbalance of 100.
@pytest.mark.parametrize(
    ("classes", "count", "total"), [(10, 5000, 12_406), (100, 500, 10_847)]
)
def test_a_long_tail_has_the_published_numbers_of_images(classes, count, total):
    tail = apply(of_counts(*[count] * classes), "long_tail(100)")
    counts = tail.class_counts
    assert sum(counts) == total
    assert (counts[0], counts[-1]) == (count, count / 100)
    if classes == 10:
        assert counts == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert numbers(tail) == sorted(numbers(tail))


def test_a_long_tail_leaves_an_image_of_each_class():
    assert apply(of_counts(3, 3, 7), "long_tail(1000)").class_counts == (3, 1, 1)
    assert apply(of_counts(3), "long_tail(10)").class_counts == (3,)


def test_a_long_tail_keeps_images_without_a_label():
    whole = of_counts(10, 10)
    labels = np.where(np.arange(20) % 2, whole.train.labels, -1)
    train = dataclasses.replace(whole.train, labels=labels)
    tail = apply(dataclasses.replace(whole, train=train), "long_tail(10)")
    assert (tail.train.labels == -1).sum() == 10


def test_classes_are_chosen_in_all_splits_and_renumbered():
    whole = hold_out_validation(make_dataset(64, 20), 16)
    whole = dataclasses.replace(whole, official=True)
    two = apply(whole, "classes(('blue', 'red'))")
    assert two.class_names == ("blue", "red")
    for name in ("train", "validation", "test"):
        before, after = getattr(whole, name), getattr(two, name)
        kept = np.flatnonzero(before.labels != 1)
        np.testing.assert_array_equal(after.images, before.images[kept])
        expected = np.where(before.labels[kept] == 2, 0, 1)
        np.testing.assert_array_equal(after.labels, expected)
    assert two.validation_size == 16
    assert not two.official
    assert two.source == "a test; 2 of 3 classes"
    assert two.test_fingerprint == two.fingerprint != whole.fingerprint


def test_changes_are_made_in_order():
    whole = make_dataset(64, 20)
    found = apply(whole, "classes(('blue', 'red')), sample(10)")
    assert found.class_names == ("blue", "red")
    assert sum(found.class_counts) == 10
    assert found.source == "a test; 2 of 3 classes; 10 training images chosen from " + (
        str(sum(whole.class_counts[::2]))
    )
    assert found.origin == apply(whole, "classes(('blue', 'red'))").fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes(('cat',))", "has no class 'cat'; choose from red, green, blue"),
        ("classes(())", "must be one or more different names"),
        ("classes(('red', 'red'))", "must be one or more different names"),
        ("classes('red')", "names='red' must be a list of texts"),
        ("classes", "classes cannot be used: missing a required argument: 'names'"),
        ("sample(65)", "65 .* were asked for, but cifar10 has 64"),
        ("sample(0)", "size=0 must be at least 1"),
        ("sample(2.5)", "size=2.5 must be an integer"),
        ("long_tail(0.5)", "factor=0.5 must be at least 1"),
        ("long_tail(2, seed=-1)", "seed=-1 must be at least 0"),
        ("half", "half is unknown; choose from classes, sample, long_tail"),
    ],
)
def test_impossible_changes_are_refused(text, message):
    with pytest.raises(UserError, match=f"--data_changes.*{message}"):
        apply(make_dataset(), text)


def test_a_split_without_the_classes_is_named():
    labels = np.array([0, 1, 2, 0])
    test = Split(np.zeros((4, 32, 32, 3), np.uint8), labels % 2)
    whole = dataclasses.replace(make_dataset(), test=test)
    with pytest.raises(UserError, match="has no test image of the classes blue"):
        apply(whole, "classes(('blue',))")
