"""Orders of the training images, by name."""

import dataclasses

from cifar_jax import models
from cifar_jax.checks import check_range
from cifar_jax.errors import UserError
from cifar_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Every image once in each epoch, in a new random order; see `BatchOrder`."""


@dataclasses.dataclass(frozen=True)
class Hardest:
    """Only the images of each pool that a small network, the proxy, finds hardest.

    Pools are batches of a shuffled order. Before the run, the proxy is trained on them
    with the run's settings, on the hardest images as well. Jordan's
    airbench96_faster.py, https://github.com/KellerJordan/cifar10-airbench, 2024.

    Attributes:
        keep: the fraction of a pool that the batch is.
        proxy: the proxy's network.
        every: it is trained on one of this many pools, and chooses from all.
    """

    keep: float = 0.5
    proxy: str = "airbench96(widths=(32, 64, 64), depth=2)"
    every: int = 4

    def __post_init__(self) -> None:
        check_range("keep", self.keep, above=0, at_most=1)
        check_range("every", self.every, at_least=1, at_most=1000)
        try:
            models.create(self.proxy)
        except UserError as error:
            raise ValueError(f"proxy={self.proxy!r}: {error}") from error


ORDERS: Registry[Shuffled | Hardest] = Registry(
    Shuffled | Hardest, {"shuffled": Shuffled, "hardest": Hardest}
)
