"""What the summaries keep of the inside of a network."""

import concurrent.futures
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from cifar_jax.runs.summaries import Digest, Histogram, Writer
from cifar_jax.training.steps import Inspection

# As `tf.summary.image` with its default max_outputs.
_IMAGES = 3


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


class BackgroundWriter:
    """Digests and writes in a thread, in order, one summary at a time.

    An error of one write is raised by the next, or on leaving.
    """

    def __init__(self, writer: Writer):
        self._writer = writer
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._last: concurrent.futures.Future | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._raise()

    def write(
        self, step: int, scalars: Mapping[str, Array], inside: Inspection
    ) -> None:
        """Records scalars and the digest of an inspection at a step, some time."""
        self._raise()
        self._last = self._thread.submit(
            lambda: self._writer.write(step, scalars, digest(inside))
        )

    def _raise(self) -> None:
        if self._last is not None:
            self._last.result()
