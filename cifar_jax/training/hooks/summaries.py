"""The tutorial's summaries of losses, activations, parameters and gradients."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from cifar_jax.data.folder.pictures import as_picture
from cifar_jax.devices import sharding
from cifar_jax.training.hooks.finite import divergence_error
from cifar_jax.training.inspection import Inspection
from cifar_jax.training.loop import Hook, Moment, Steps
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState
from cifar_jax.writers import Histogram, Summary, Writers

# The default max_outputs of `tf.summary.image`.
_IMAGES = 3


class Summaries(Hook):
    """Summarizes every `frequency`-th step, including the first.

    Such a step is a separate device call. All processes compute the summaries, and the
    main one writes them in the background.
    """

    def __init__(
        self,
        program: Program,
        steps: Steps,
        state: TrainState,
        frequency: int,
        writers: Writers,
    ):
        """Starts from a state."""
        self._program = program
        self._steps = steps
        self._frequency = frequency
        self._writers = writers
        self._before = state
        self._paced = int(state.step), 0.0

    def due(self, step: int) -> int:
        """Returns the step before or after the next summarized step."""
        return step + (-step % self._frequency or 1)

    def __call__(self, now: Moment) -> None:
        """Summarizes the last step if it is due."""
        before, self._before = self._before, now.state
        step = now.first
        if step % self._frequency:
            return
        inspection = self._steps.inspect(before, step)
        if not inspection.finite:
            raise divergence_error(self._program, self._steps, before, now.step)
        raw = {f"{name}_raw": now.metrics[name] for name in now.state.loss_averages}
        others = now.metrics.keys() - now.state.loss_averages
        measured = {name: now.metrics[name] for name in sorted(others)}
        # Local copies, since the other processes do not read these values.
        values, inspection = sharding.to_local(
            (raw | now.state.loss_averages | measured, inspection)
        )
        last, seconds = self._paced
        self._paced = now.step, now.seconds
        known = {
            "learning_rate": self._program.learning_rate(step),
            "global_step/sec": (now.step - last) / (now.seconds - seconds),
        }
        self._writers.write(lambda: summary(step, values | known, inspection))


def summary(
    step: int, scalars: Mapping[str, float | Array], inspection: Inspection
) -> Summary:
    """Returns the tutorial's summaries of a step, under the tutorial's names.

    They consist of the scalars, a histogram of each layer's activations and their
    sparsity (the fraction of zeros), histograms of all parameters and gradients, and
    the first few inputs.
    """
    activations = {
        f"{layer}/activations": values
        for layer, values in inspection.activations.items()
    }
    parameters = _by_name(inspection.params)
    gradients = {f"{k}/gradients": v for k, v in _by_name(inspection.grads).items()}
    everything = activations | parameters | gradients
    sparsity = {
        f"{layer}/sparsity": float(np.mean(np.asarray(values) == 0))
        for layer, values in inspection.activations.items()
    }
    return Summary(
        "train",
        step,
        scalars={name: float(value) for name, value in scalars.items()} | sparsity,
        histograms={
            name: Histogram.from_values(values) for name, values in everything.items()
        },
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
