"""Digests: a few hundred numbers that represent a whole tensor, for comparison."""

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

PROJECTIONS = 8
SAMPLES = 256


@functools.cache
def _signs(size: int) -> NDArray[np.float64]:
    """Returns fixed vectors of random +1 and -1."""
    bits = np.random.RandomState(0).randint(2, size=(PROJECTIONS, size), dtype=np.int8)
    return 2.0 * bits - 1.0


def digest(tensor: ArrayLike) -> NDArray[np.float32]:
    """Returns a tensor's norm, its dot products with random signs, and a sample of it.

    All three are on the scale of the norm: the dot product of a difference d with
    random signs has mean square ||d||^2, so d shows up in the dot products wherever it
    is in the tensor; each sampled entry is multiplied by sqrt(size). A tensor of fewer
    than 512 entries is sampled completely.
    """
    flat = np.asarray(tensor, np.float64).ravel()
    # The stride is odd so that samples do not all come from a few of the 2^k channels.
    stride = (flat.size // SAMPLES) | 1
    samples = np.sqrt(flat.size) * flat[::stride]
    norm = np.linalg.norm(flat, keepdims=True)
    return np.concatenate([norm, _signs(flat.size) @ flat, samples]).astype(np.float32)


def relative_error(tensor: ArrayLike, golden: NDArray[np.float32]) -> float:
    """Returns the largest difference from a golden digest, relative to its norm."""
    difference = np.abs(digest(tensor).astype(np.float64) - golden)
    return float(difference.max() / golden[0])
