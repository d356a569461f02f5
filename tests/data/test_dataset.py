import dataclasses
import json

import numpy as np
import pytest
from helpers import OnDisk, make_dataset

from cifar_jax import Dataset, Split, UserError, load_trained, read_run
from cifar_jax.data import DATASETS, digits, load
from cifar_jax.data.dataset import check_dataset, hold_out_validation
from cifar_jax.data.split import check_split, fingerprint


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
        ({"images": zeros(6, 32, 32, 3, dtype=np.float32)}, "after multiplying by 255"),
        ({"images": zeros(6, 32, 32)}, r"repeat gray images.* with np\.stack"),
        ({"images": zeros(6, 32, 32, 1)}, r"repeat gray images.* with np\.repeat"),
        ({"images": zeros(32, 32, 3)}, r"a batch with image\[None\]"),
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
        ({"labels": np.array([0, 1, 2, 0, 1, -2])}, "contains -2; with .* or -1 for"),
        ({"labels": np.full(6, -1)}, "are all -1; some images must have labels"),
        ({"extra": [1.0]}, "must be a mapping of names to arrays, .*, not list"),
        (
            {"extra": {"a": [1.0] * 6}},
            r"\['a'\] must be an array of numbers .*not list",
        ),
        ({"extra": {"a": np.array(["b"] * 6)}}, r"array of numbers .* not <U1 \[6\]"),
        ({"extra": {"a": np.float32(3)}}, r"array of numbers .* not float32 \[\]"),
        ({"extra": {"a": np.ones(5)}}, r"6 images but 5 rows of dataset.train.extra"),
        ({"extra": {"index": np.ones(6)}}, "taken by the number of an image"),
        ({"extra": {"a": np.full(6, 2**31)}}, "contains 2147483648; integers have 32"),
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


def test_valid_data_sets_pass():
    check_dataset(hold_out_validation(make_dataset(), 10))
    check_dataset(changed(labels=np.arange(6, dtype=np.int64) % 3))
    check_dataset(changed(extra={"a": np.ones((6, 2), bool), "b": np.full(6, -3)}))
    check_dataset(changed(labels=np.array([0, -1, 2, -1, 1, 1])))


def test_what_belongs_to_an_image_is_held_out_with_it():
    weights = np.arange(6.0)
    held_out = hold_out_validation(changed(extra={"weight": weights}), 2)
    np.testing.assert_array_equal(held_out.train.extra["weight"], weights[:4])
    np.testing.assert_array_equal(held_out.validation.extra["weight"], weights[4:])


def test_images_on_disk_are_held_out_without_reading_any():
    whole = make_dataset(6, 4)
    images, labels = whole.train.images, whole.train.labels
    on_disk = Split(OnDisk(images), OnDisk(labels), {"weight": OnDisk(labels)})
    held_out = hold_out_validation(dataclasses.replace(whole, train=on_disk), 2)
    assert on_disk.images.read == on_disk.labels.read == []
    check_dataset(held_out)
    for split, part in (
        (held_out.train, slice(0, 4)),
        (held_out.validation, slice(4, 6)),
    ):
        assert len(split) == len(labels[part])
        np.testing.assert_array_equal(split.images[:], images[part])
        np.testing.assert_array_equal(split.labels[:], labels[part])
        np.testing.assert_array_equal(split.extra["weight"][:], labels[part])


def test_the_validation_size_is_the_number_of_images_held_out():
    whole = make_dataset(6, 4)
    assert whole.validation_size == 0
    assert hold_out_validation(whole, 2).validation_size == 2
    names = whole.class_names
    parts = {"train": whole.train, "test": whole.test, "validation": whole.test}
    own = Dataset.create("own", **parts, class_names=names)
    assert own.validation_size == 4
    # As of a folder that has validation images of its own.
    assert dataclasses.replace(own, held_out=0).validation_size == 0


@pytest.mark.wrong_types
def test_a_data_set_is_checked_when_it_is_made():
    split = make_dataset(6, 4).train
    lists = Split(split.images.tolist(), split.labels)
    with pytest.raises(UserError, match=r"dataset\.test\.images must be an array"):
        Dataset.create("own", split, lists, class_names=("a", "b", "c"))


def test_names_go_with_their_images(dataset):
    names = tuple(f"{i}.png" for i in range(len(dataset.train)))
    train = dataclasses.replace(dataset.train, names=names)
    named = dataclasses.replace(dataset, train=train)
    check_dataset(named)
    held_out = hold_out_validation(named, 4)
    assert held_out.train.names == names[:-4]
    assert held_out.validation.names == names[-4:]
    wrong = dataclasses.replace(
        named, train=dataclasses.replace(train, names=names[1:])
    )
    with pytest.raises(UserError, match=r"64 images but 63 dataset\.train\.names"):
        check_dataset(wrong)


def test_a_data_set_is_found_again_by_the_name_it_was_loaded_by(monkeypatch):
    monkeypatch.setitem(DATASETS, "mine", lambda data_dir, size=8: digits.load())
    loaded = load("mine", size=9)
    assert (loaded.name, loaded.options) == ("mine", {"size": 9})
    assert (load("digits").name, load("digits").options) == ("digits", {})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat", "dog", "cat"), "must be a tuple of different names"),
        (("cat", "dog", "\x1b[31mred"), r"'\\x1b\[31mred', which cannot be printed"),
        (("cat", "dog", "two\nlines"), r"'two\\nlines', which cannot be printed"),
        (("cat", "dog", "\ud800"), r"'\\ud800', which cannot be printed"),
    ],
)
def test_class_names_are_different_and_can_be_printed(names, message, finished_run):
    whole = make_dataset(6, 4)
    with pytest.raises(UserError, match=f"dataset.class_names .*{message}"):
        check_dataset(dataclasses.replace(whole, class_names=names))
    with pytest.raises(UserError, match=f"class_names .*{message}"):
        dataclasses.replace(load_trained(read_run(finished_run)), class_names=names)


def test_class_names_of_a_run_are_different_and_can_be_printed(finished_run, tmp_path):
    saved = json.loads((finished_run / "config.json").read_text())
    del saved["sha256"]
    saved["data"]["class_names"][:2] = ["cat", "cat"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"config\.json .*different names"):
        read_run(tmp_path)


def test_a_subset_has_what_belongs_to_its_images():
    whole = changed(extra={"weight": np.arange(6.0)}, names=tuple("abcdef"))
    few = whole.subset([4, 0, 4])
    for name in ("images", "labels"):
        expected = getattr(whole.train, name)[[4, 0, 4]]
        np.testing.assert_array_equal(getattr(few.train, name), expected)
    assert few.train.extra["weight"].tolist() == [4, 0, 4]
    assert few.train.names == ("e", "a", "e")
    assert few.test is whole.test
    assert few.source == "a test; 3 training images chosen from 6"
    assert few.fingerprint == fingerprint(few.train, few.test)
    assert few.test_fingerprint == few.origin == whole.fingerprint
    assert few.subset([1]).test_fingerprint == whole.fingerprint


def test_a_subset_is_official_only_if_it_is_all_there_is():
    whole = dataclasses.replace(make_dataset(6, 4), official=True)
    assert whole.subset(np.ones(6, bool)) is whole
    assert not whole.subset(np.arange(6)[::-1]).official
    assert whole.subset(np.arange(6)[::-1]).fingerprint != whole.fingerprint


def test_held_out_images_stay_held_out():
    whole = hold_out_validation(make_dataset(6, 4), 2)
    few = whole.subset([0, 2])
    assert few.validation is whole.validation
    assert few.validation_size == 2
    assert few.fingerprint == fingerprint(few.train, few.test, few.validation)


def test_a_subset_of_images_on_disk_stays_on_disk(monkeypatch):
    whole = make_dataset(6, 4)
    on_disk = OnDisk(whole.train.images)
    train = dataclasses.replace(whole.train, images=on_disk)
    few = dataclasses.replace(whole, train=train).subset([5, 1, 3])
    assert few.fingerprint == whole.subset([5, 1, 3]).fingerprint
    assert on_disk.read == [[1, 3, 5]]


def test_images_without_a_label_are_in_no_class_and_no_evaluation():
    partly = changed(labels=np.array([0, -1, 2, -1, 1, 1]))
    assert partly.class_counts == (1, 2, 1)
    split = partly.split("train_eval")
    assert split.labels.tolist() == [0, 2, 1, 1]
    np.testing.assert_array_equal(split.images, partly.train.images[[0, 2, 4, 5]])
    for name in ("test", "validation"):
        unlabeled = dataclasses.replace(partly, **{name: partly.train})
        with pytest.raises(UserError, match=rf"{name}.labels contains -1; .* 0 to 2$"):
            check_dataset(unlabeled)


def test_choices_are_options_of_any_data_set():
    chosen = load("digits", train_size=20, data_changes=" long_tail( factor = 10)")
    assert chosen.options == {
        "train_size": 20,
        "data_changes": "long_tail(factor=10)",
    }
    assert len(chosen.train) == 20
    assert chosen.test_fingerprint == load("digits").fingerprint
    held_out = load("digits", validation_size=97, train_size=20)
    assert len(held_out.validation) == 97
    whole = load("digits", validation_size=97)
    np.testing.assert_array_equal(held_out.validation.images, whole.validation.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 0}, "--train_size=0 must be at least 1"),
        ({"train_size": 1498}, "--train_size .* 1498 training .*digits has 1497"),
        ({"data_changes": "longtail"}, "--data_changes=longtail: longtail is unknown"),
    ],
)
def test_impossible_choices_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        load("digits", **options)
