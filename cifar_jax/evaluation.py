"""What trained parameters say of images, and how often it is right."""

import functools

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, UInt8

from cifar_jax import steps
from cifar_jax.compiled import slow_in_loops
from cifar_jax.data import Split
from cifar_jax.trained import Trained

# On a CPU the quickest for the tutorial's network, of those tried from 25 to 1,000.
BATCH_SIZE = 80

_eval_step = jax.jit(steps.eval_step, static_argnames="model")


@functools.partial(jax.jit, static_argnames="model")
def _eval_steps(
    params: PyTree, batches: UInt8[Array, "m n 32 32 3"], *, model: nn.Module
) -> Float[Array, "m n classes"]:
    eval_step = functools.partial(steps.eval_step, params, model=model)
    return jax.lax.map(eval_step, batches)


def predict_logits(
    model: nn.Module,
    params: PyTree,
    images: UInt8[np.ndarray, "n 32 32 3"],
    batch_size: int = BATCH_SIZE,
) -> Float[np.ndarray, "n classes"]:
    """Logits of each image's central crop.

    One call of the device goes through all batches; the last one is filled up, and
    cut again.
    """
    missing = -len(images) % batch_size
    padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
    batches = padded.reshape(-1, batch_size, *images.shape[1:])
    if slow_in_loops(_eval_step.lower(params, batches[0], model=model)):
        parts = [_eval_step(params, batch, model=model) for batch in batches]
        logits = np.concatenate(parts)
    else:
        logits = np.concatenate(_eval_steps(params, batches, model=model))
    return logits[: len(images)]


def evaluate(
    model: nn.Module, params: PyTree, split: Split, batch_size: int = BATCH_SIZE
) -> float:
    """Share of the images whose highest logit is their label: accuracy.

    The tutorial calls it precision @ 1, and so do we.
    """
    logits = predict_logits(model, params, split.images, batch_size)
    return float(np.mean(logits.argmax(axis=-1) == split.labels))


def classify(
    network: Trained, images: UInt8[np.ndarray, "n 32 32 3"]
) -> Float[np.ndarray, "n classes"]:
    """Probability of each class for each image, preprocessed as in evaluation."""
    # In eights whatever n: the same image always gives the same numbers, and no n
    # needs a compilation of its own.
    logits = [
        predict_logits(network.model, network.params, images[i : i + 8], batch_size=8)
        for i in range(0, len(images), 8)
    ]
    return np.asarray(jax.nn.softmax(np.concatenate(logits), axis=-1))
