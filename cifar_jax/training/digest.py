"""What the summaries keep of the inside of a network."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from cifar_jax.training.steps import Inspection

# As `tf.summary.image` with its default max_outputs.
_IMAGES = 3
_BINS = 64


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts of values between edges, with the moments TensorBoard wants."""

    counts: np.ndarray
    edges: np.ndarray
    minimum: float
    maximum: float
    total: float
    squares: float

    @classmethod
    def of(cls, values: Array) -> "Histogram":
        """Sorts the values, which must be finite, into bins of equal width."""
        flat = np.asarray(values, np.float32).ravel()
        counts, edges = np.histogram(flat, _BINS)
        return cls(
            counts,
            edges,
            float(flat.min()),
            float(flat.max()),
            float(flat.sum(dtype=np.float64)),
            float(np.dot(flat, flat)),
        )


@dataclasses.dataclass(frozen=True)
class Digest:
    """What the summaries keep of an Inspection: small, and on the host."""

    scalars: dict[str, float]
    histograms: dict[str, Histogram]
    images: dict[str, UInt8[np.ndarray, "h w 3"]]


def digest(inside: Inspection) -> Digest:
    """The tutorial's summaries of the inside of the network, under its names.

    Of every layer a histogram of its activations and their sparsity (the share of
    zeros), histograms of all parameters and gradients, and the first few inputs.
    """
    activations = {
        f"{layer}/activations": values for layer, values in inside.activations.items()
    }
    parameters = _by_name(inside.params)
    gradients = {f"{k}/gradients": v for k, v in _by_name(inside.grads).items()}
    everything = activations | parameters | gradients
    return Digest(
        scalars={
            f"{layer}/sparsity": float(np.mean(np.asarray(values) == 0))
            for layer, values in inside.activations.items()
        },
        histograms={name: Histogram.of(values) for name, values in everything.items()},
        images={
            f"images/image/{i}": as_picture(image)
            for i, image in enumerate(np.asarray(inside.images[:_IMAGES]))
        },
    )


def as_picture(
    image: Float[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Shows a standardised image as `tf.summary.image` does: zero becomes grey 127.

    Scaled by the largest factor that keeps all of it within 0..255.
    """
    largest = max(image.max() / 128, -image.min() / 127, np.finfo(np.float32).tiny)
    return np.clip(image / largest + 127, 0, 255).astype(np.uint8)


def _by_name(tree: Any) -> dict[str, Array]:
    """Leaves of a nested dict by path: `conv1/kernel`."""
    return {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
