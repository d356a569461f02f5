"""CIFAR-10: ten classes."""

import dataclasses
import os

from cifar_jax.data import digits
from cifar_jax.data.cifar import batch_files, near_misses
from cifar_jax.data.cifar import source as cifar
from cifar_jax.data.cifar.download import Download
from cifar_jax.data.cifar.published import (
    HOME_PAGE,
    Fingerprints,
    Labels,
    Layout,
    Part,
    Published,
)
from cifar_jax.data.dataset import Dataset

LABELS = Labels(
    key="labels",
    feature="label",
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)
OFFICIAL = Fingerprints(
    ordered="9bb26ea52d5b395389569734654d923ce7ba78a18a63b56115e3cecfb33f114d",
    unordered="0e83502e3df56826c98125fb5db0a3fd7dea18207d683f20412560b3bc9fdabd",
)
CIFAR10 = Published(
    name="cifar10",
    title="CIFAR-10",
    train=tuple(Part(f"data_batch_{number}", 10_000) for number in range(1, 6)),
    test=(Part("test_batch", 10_000),),
    labels=(LABELS,),
    layouts=(
        Layout("cifar-10-binary.tar.gz", "cifar-10-batches-bin", batch_files.BINARY),
        Layout("cifar-10-python.tar.gz", "cifar-10-batches-py", batch_files.PYTHON),
        Layout("cifar-10-matlab.tar.gz", "cifar-10-batches-mat", batch_files.MATLAB),
    ),
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    # The official python archive on PaddlePaddle's server.
    mirrors=(
        Download(
            url="https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            size=170_498_071,
            sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            name="cifar-10-python.tar.gz",
            title="CIFAR-10",
            home_page=HOME_PAGE,
        ),
    ),
    official=OFFICIAL,
)


def load(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Loads CIFAR-10.

    Args:
        data_dir: see `cifar.load`.

    Raises:
        UserError: data_dir cannot be used, the data on disk are damaged, or CIFAR-10 is
            neither on disk nor reachable.
        RunError: downloading or preparing the data failed midway.
    """
    return cifar.load(CIFAR10, data_dir, LABELS)


def load_or_digits(data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Loads CIFAR-10, or the digits if it is neither on disk nor reachable.

    A directory that the user names but that holds other things is refused: the digits
    are not what they meant.

    Args:
        data_dir: see `cifar.load`.

    Raises:
        UserError: data_dir cannot be used, the data on disk are damaged, or data_dir
            holds other data.
        RunError: downloading or preparing the data failed midway.
    """
    check = near_misses.refuse if data_dir else None
    dataset, problem = cifar.find(CIFAR10, data_dir, LABELS, check)
    if dataset is not None:
        return dataset
    if data_dir:
        directory = cifar.data_directory(data_dir)
        near_misses.refuse_stand_in(CIFAR10, directory, problem)
    notice = f"{digits.NOTICE}\nThe reason: {problem}."
    return dataclasses.replace(digits.load(), notice=notice)
