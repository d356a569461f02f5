import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cifar_jax.data import digits

FINGERPRINT = "bc2e5c90b55f57936792f2dcaeb90efd6c7456b9d29f2515e8149c3702e1529a"


def test_shapes_and_ranges():
    dataset = digits.load()
    assert (len(dataset.train), len(dataset.test)) == (1_497, 300)
    for split in (dataset.train, dataset.test):
        assert split.images.shape == (len(split), 32, 32, 3)
        assert split.images.dtype == np.uint8
        assert split.images.min() == 0
        assert split.images.max() == 255
        assert split.labels.dtype == np.int32
    assert dataset.validation is None
    assert dataset.class_names == tuple("0123456789")


def test_split_is_stratified():
    dataset = digits.load()
    assert np.bincount(dataset.test.labels).min() >= 29
    assert np.bincount(dataset.test.labels).max() <= 31


def test_split_is_the_same_everywhere():
    # Results on the stand-in stay comparable between machines and versions.
    assert digits.load().fingerprint == FINGERPRINT


def test_the_file_is_scikit_learns():
    found = load_digits()
    parts = train_test_split(
        *(found.images, found.target),
        test_size=300,
        random_state=0,
        stratify=found.target,
    )
    with np.load(digits.FILE) as file:
        np.testing.assert_array_equal(file["images"], np.concatenate(parts[:2]))
        np.testing.assert_array_equal(file["labels"], np.concatenate(parts[2:]))


def test_images_are_the_digits_enlarged():
    dataset = digits.load()
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert (images == images[..., :1]).all()
    # Bilinear interpolation: the four pixels in the middle of a 4x4 block surround its
    # center, where the small picture's value belongs, so their mean is close to it.
    middles = images[..., 0].reshape(-1, 8, 4, 8, 4)[:, :, 1:3, :, 1:3].mean((2, 4))
    originals = load_digits().images * 255 / 16
    np.testing.assert_allclose(middles.mean(0), originals.mean(0), atol=20)
    assert middles.std() > 0.7 * originals.std()
