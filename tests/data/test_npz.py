"""Tests arrays of one's own in a .npz file."""

import os
import zipfile

import numpy as np
import pytest

from cifar_jax import UserError, load_data, load_trained, read_run
from cifar_jax.data import npz
from cifar_jax.data.cifar.cifar10 import CIFAR10, LABELS
from cifar_jax.data.cifar.published import Fingerprints


def arrays(**changes: object) -> dict[str, object]:
    rng = np.random.default_rng(0)
    found = {
        "x_train": rng.integers(0, 256, (12, 8, 6, 3), np.uint8),
        "y_train": np.arange(12)[:, None] % 3,
        "x_test": rng.integers(0, 256, (4, 8, 6, 3), np.uint8),
        "y_test": np.array([0, 1, 2, 0]),
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def write(folder, **changes):
    np.savez(folder / "data.npz", **arrays(**changes))
    return folder / "data.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_images_and_labels_are_those_of_the_file(tmp_path, save, place):
    own = arrays(class_names=np.array(["a", "b", "c"]))
    save(tmp_path / "data.npz", **own)
    there = tmp_path / "data.npz" if place == "file" else tmp_path
    dataset = load_data("npz", there, validation_size=2)
    np.testing.assert_array_equal(dataset.train.images, own["x_train"][:10])
    np.testing.assert_array_equal(dataset.validation.images, own["x_train"][10:])
    np.testing.assert_array_equal(dataset.train.labels, own["y_train"][:10, 0])
    np.testing.assert_array_equal(dataset.test.images, own["x_test"])
    np.testing.assert_array_equal(dataset.test.labels, own["y_test"])
    assert dataset.class_names == ("a", "b", "c")
    assert not dataset.official


@pytest.mark.parametrize("shape", [(12, 8, 6), (12, 8, 6, 1)])
def test_shades_of_gray_become_three_equal_channels(tmp_path, shape):
    gray = np.arange(12 * 48, dtype=np.uint8).reshape(shape)
    dataset = npz.load(write(tmp_path, x_train=gray))
    assert dataset.class_names == ("0", "1", "2")
    for channel in range(3):
        own = dataset.train.images[..., channel]
        np.testing.assert_array_equal(own, gray.reshape(12, 8, 6))


def test_official_pixels_are_known(tmp_path, monkeypatch):
    own = arrays()
    known = npz.load(write(tmp_path)).fingerprint
    monkeypatch.setattr(npz, "OFFICIAL", Fingerprints(known, ""))
    dataset = npz.load(write(tmp_path, class_names=np.array(["x", "y", "z"])))
    assert dataset.official
    assert dataset.class_names == LABELS.class_names
    assert dataset.source.startswith("official CIFAR-10, from ")
    assert len(own["x_train"]) != sum(part.records for part in CIFAR10.train)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"it has no y_test, but x_train, .*numpy.savez"),
        ({"x_train": np.zeros((12, 8, 6, 3), np.float32)}, "x_train is float32"),
        ({"x_train": np.zeros((12, 3, 8, 6), np.uint8)}, r"transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.zeros((12, 8, 6, 4), np.uint8)}, "not .n, height, width, 3"),
        ({"x_train": np.zeros((0, 8, 6, 3), np.uint8)}, r"x_train is uint8 \(0, "),
        ({"x_test": np.zeros((4, 9, 9, 3), np.uint8)}, "9"),
        ({"y_train": np.arange(11)}, "y_train has shape .11,., not .12,."),
        ({"y_train": np.full(12, -2)}, "y_train must have integers from 0 up, or -1"),
        ({"y_test": np.full(4, -1)}, "y_test must have integers from 0 up$"),
        ({"y_train": np.zeros(12)}, "y_train must have integers from 0 up"),
        ({"y_train": np.array([None] * 12)}, "allow_pickle"),
        ({"class_names": np.array(["a", "b"])}, "class_names has 2 names"),
        ({"class_names": np.array(["a", "a", "b"])}, "class_names has 3 names"),
    ],
)
def test_other_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        npz.load(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_the_file_must_be_there_alone(tmp_path):
    with pytest.raises(UserError, match="needs --data_dir"):
        npz.load(None)
    with pytest.raises(UserError, match=r"neither a .npz file nor a folder"):
        npz.load(tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"exactly one .npz file, not none"):
        npz.load(tmp_path)
    write(tmp_path)
    (tmp_path / "other.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"not data.npz, other.npz; pass the file"):
        npz.load(tmp_path)
    with pytest.raises(UserError, match=r"other.npz cannot be used: "):
        npz.load(tmp_path / "other.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UserError, match=r"neither a .npz file nor a folder"):
        npz.load(tmp_path / "pipe.npz")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x_train.npy", bytes(20_000))
    with pytest.raises(UserError, match="it unpacks to 20,000 bytes"):
        npz.load(tmp_path)


def test_it_trains_and_is_evaluated(tmp_path, call_command):
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    write(
        tmp_path,
        x_train=images[:16],
        y_train=np.arange(16) % 4 - 1,
        x_test=images[16:],
        y_test=np.arange(8) % 3,
    )
    words = ("train", "--dataset=npz", "--data_dir=data.npz", "--train_dir=run")
    done = call_command(*words, "--model=small", "--max_steps=2", "--batch_size=8")
    assert done.returncode == 0, done.stderr
    assert (
        "npz: 16 training and 8 test images from the arrays in data.npz" in done.stdout
    )
    assert load_trained(read_run(tmp_path / "run")).class_names == ("0", "1", "2")
    done = call_command("eval", "--checkpoint_dir=run")
    assert done.returncode == 0, done.stderr
    assert "precision @ 1 = " in done.stdout
