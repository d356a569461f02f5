"""Reduces an inspection of a network to what the summaries show."""

import concurrent.futures
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from cifar_jax.data.folder.pictures import as_picture
from cifar_jax.runs.summaries import Digest, Histogram, Writer
from cifar_jax.training.steps import Inspection

# The default max_outputs of `tf.summary.image`.
_IMAGES = 3


def digest(inspection: Inspection) -> Digest:
    """Returns the tutorial's summaries of an inspection, under the tutorial's names.

    They are a histogram of each layer's activations and their sparsity (the fraction
    of zeros), histograms of all parameters and gradients, and the first few inputs.
    """
    activations = {
        f"{layer}/activations": values
        for layer, values in inspection.activations.items()
    }
    parameters = _by_name(inspection.params)
    gradients = {f"{k}/gradients": v for k, v in _by_name(inspection.grads).items()}
    everything = activations | parameters | gradients
    return Digest(
        scalars={
            f"{layer}/sparsity": float(np.mean(np.asarray(values) == 0))
            for layer, values in inspection.activations.items()
        },
        histograms={name: Histogram.of(values) for name, values in everything.items()},
        images={
            f"images/image/{i}": as_picture(image)
            for i, image in enumerate(np.asarray(inspection.images[:_IMAGES]))
        },
    )


def _by_name(tree: Any) -> dict[str, Array]:
    """Returns the leaves of a nested dict by path, such as `conv1/kernel`."""
    return {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


class BackgroundWriter:
    """Computes and writes summaries in a background thread, one at a time, in order.

    An error in one write is raised by the next write or on leaving the context.
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
        self, step: int, scalars: Mapping[str, Array], inspection: Inspection
    ) -> None:
        """Schedules the writing of a step's scalars and of an inspection's digest."""
        self._raise()
        self._last = self._thread.submit(
            lambda: self._writer.write(step, scalars, digest(inspection))
        )

    def _raise(self) -> None:
        if self._last is not None:
            self._last.result()
