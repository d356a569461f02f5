"""Where the images come from."""

from cifar_jax.data.dataset import Dataset, Split
from cifar_jax.data.sources import load

__all__ = ["Dataset", "Split", "load"]
