"""What tests share beside fixtures: a small data set, the commands as processes."""

import os
import pathlib
import sys

import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from cifar_jax import Dataset, Network, Split, checkpoints, parallel
from cifar_jax.data.dataset import fingerprint
from cifar_jax.data_parallel import MODES, ByJit


class SmallBatchNorm(Network):
    """A convolution, BatchNorm and a head: enough to see statistics at work."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (3, 3), strides=2, use_bias=False, name="conv")(images)
        x = self.batch_norm("norm", train)(x)
        x = self.tap("conv", nn.relu(x)).mean(axis=(1, 2))
        return self.tap("head", nn.Dense(self.num_classes, name="head")(x))


def make_dataset(train: int = 64, test: int = 20, seed: int = 0) -> Dataset:
    """Images of three colours with noise, which a network can tell apart."""
    random = np.random.RandomState(seed)

    def split(n: int) -> Split:
        labels = random.randint(0, 3, n).astype(np.int32)
        images = random.randint(0, 128, (n, 32, 32, 3), dtype=np.uint8)
        images[np.arange(n), :, :, labels] += 100
        return Split(images, labels)

    parts = split(train), split(test)
    return Dataset(
        name="cifar10",
        train=parts[0],
        validation=None,
        test=parts[1],
        class_names=("red", "green", "blue"),
        source="a test",
        fingerprint=fingerprint(*parts),
        notice=None,
    )


def command(name: str, *arguments: object) -> list[str]:
    """The words of `python -m cifar_jax.NAME ...`, warnings of ours as errors."""
    return [
        *(sys.executable, "-W", "error:::cifar_jax", "-m", f"cifar_jax.{name}"),
        *map(str, arguments),
    ]


def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """An environment in which no data set of this user's is found."""
    return os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds")}


def spread(mode: str = "jit", num_devices: int = 1) -> ByJit:
    """A way to compile steps, on the first so many devices."""
    return MODES[mode](parallel.mesh(num_devices))


def latest(directory: pathlib.Path, like: PyTree) -> PyTree | None:
    """The state of the newest checkpoint that is whole; None if there is none."""
    step = checkpoints.newest(directory)
    return None if step is None else checkpoints.restore(directory, step, like)
