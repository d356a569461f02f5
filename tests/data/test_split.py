import dataclasses
import hashlib

import numpy as np
import pytest
from helpers import OnDisk, make_dataset

from cifar_jax import Split, UserError
from cifar_jax.data.split import check_images, fingerprint


@pytest.mark.parametrize(
    "gray", [np.zeros((6, 4, 4), np.uint8), np.zeros((6, 4, 4, 1), np.uint8)]
)
def test_the_advice_on_gray_images_makes_them_valid(gray):
    with pytest.raises(UserError) as caught:
        check_images(gray, "images")
    advice = str(caught.value).partition(" with ")[2]
    check_images(eval(advice, {"np": np, "images": gray}), "images")


def test_a_fingerprint_is_the_sha256_of_pixels_and_labels():
    split = make_dataset(6, 4).train
    expected = hashlib.sha256(split.images.tobytes())
    expected.update(split.labels.astype("<i4").tobytes())
    assert fingerprint(split) == expected.hexdigest()
    weighted = dataclasses.replace(split, extra={"weight": np.ones(6)})
    assert fingerprint(weighted) == expected.hexdigest()


def test_a_fingerprint_is_taken_in_blocks(monkeypatch):
    split = make_dataset(6, 4).train
    on_disk = Split(OnDisk(split.images), OnDisk(split.labels))
    monkeypatch.setattr("cifar_jax.data.arrays.BYTES_PER_BLOCK", 2 * 32 * 32 * 3)
    assert fingerprint(on_disk) == fingerprint(split)
    assert on_disk.images.read == [[0, 1], [2, 3], [4, 5]]
