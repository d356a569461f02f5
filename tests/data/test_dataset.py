import dataclasses

import jax
import numpy as np
import pytest
from helpers import make_dataset

from cifar_jax import UserError
from cifar_jax.data.dataset import (
    check_dataset,
    check_images,
    check_split,
    empty_images,
    with_validation,
)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="others have own memory")
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_the_cpu_uses_images_without_copying_them(count):
    images = empty_images(count, (32, 32, 3))
    images[...] = 7
    assert images.shape == (count, 32, 32, 3)
    on_device = jax.device_put(images)
    assert on_device.unsafe_buffer_pointer() == images.ctypes.data


def test_image_shape_is_that_of_the_training_images():
    assert make_dataset(3).image_shape == (32, 32, 3)


def changed(**changes):
    """Returns a small data set whose training split has other images or labels."""
    whole = make_dataset(6, 4)
    train = dataclasses.replace(whole.train, **changes)
    return dataclasses.replace(whole, train=train)


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": zeros(6, 32, 32, 3, dtype=np.float32)}, "must be bytes .uint8"),
        ({"images": zeros(6, 32, 32, 3, dtype=np.float32)}, "after 255 . images"),
        ({"images": zeros(6, 32, 32)}, r"repeat gray images.* by np\.stack"),
        ({"images": zeros(6, 32, 32, 1)}, r"repeat gray images.* by np\.repeat"),
        ({"images": zeros(32, 32, 3)}, r"a batch by image\[None\]"),
        ({"images": [[1, 2]]}, "must be an array .n, h, w, 3., not list"),
        ({"images": zeros(0, 32, 32, 3)}, "is empty"),
        (
            {"images": zeros(7, 32, 32, 3)},
            "there are 7 images but 6 dataset.train.labels",
        ),
        ({"images": zeros(6, 24, 24, 3)}, r"dataset\.test\.images must be an array"),
        (
            {"labels": zeros(6, dtype=float)},
            "must be an array of integers .n., not float64",
        ),
        ({"labels": zeros(6, 1, dtype=int)}, r"not int64 \[6, 1\]"),
        ({"labels": np.array([0, 1, 2, 0, 1, 3])}, "contains 3; with 3 classes"),
        ({"labels": np.array([0, 1, 2, 0, 1, -1])}, "contains -1; with 3 classes"),
    ],
)
def test_an_invalid_split_is_named(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        check_dataset(changed(**changes))
    assert "dataset.t" in str(caught.value)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    "names", [(), ("a", "a", "b"), ["a", "b", "c"], (0, 1, 2), ([], [], [])]
)
def test_class_names_must_be_distinct_strings(names):
    with pytest.raises(UserError, match=r"dataset\.class_names must be a tuple of"):
        check_dataset(dataclasses.replace(make_dataset(), class_names=names))


def test_objects_of_the_wrong_type_are_named():
    with pytest.raises(UserError, match=r"must be a cifar_jax\.Dataset, not a str"):
        check_dataset("cifar10")
    with pytest.raises(UserError, match=r"must be a cifar_jax\.Split, not a tuple"):
        check_split((1, 2), "split", 3)


@pytest.mark.parametrize("gray", [zeros(6, 4, 4), zeros(6, 4, 4, 1)])
def test_the_advice_on_gray_images_makes_them_valid(gray):
    with pytest.raises(UserError) as caught:
        check_images(gray, "images")
    advice = str(caught.value).partition(" by ")[2]
    check_images(eval(advice, {"np": np, "images": gray}), "images")


def test_valid_data_sets_pass():
    check_dataset(with_validation(make_dataset(), 10))
    check_dataset(changed(labels=np.arange(6, dtype=np.int64) % 3))
