"""What trained parameters say of images, and how often it is right."""

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Float, PyTree, UInt8

from cifar_jax import steps
from cifar_jax.data import Split
from cifar_jax.trained import Trained

_eval_step = jax.jit(steps.eval_step, static_argnames="model")


def predict_logits(
    model: nn.Module,
    params: PyTree,
    images: UInt8[np.ndarray, "n 32 32 3"],
    batch_size: int = 128,
) -> Float[np.ndarray, "n classes"]:
    """Logits of each image's central crop.

    The last batch is filled up, so that one shape is compiled, and cut again.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        missing = batch_size - len(batch)
        padded = np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)])
        parts.append(np.asarray(_eval_step(params, padded, model=model))[: len(batch)])
    return np.concatenate(parts)


def evaluate(
    model: nn.Module, params: PyTree, split: Split, batch_size: int = 128
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
    # One batch size whatever n: the same image always gives the same numbers.
    logits = predict_logits(network.model, network.params, images, batch_size=8)
    return np.asarray(jax.nn.softmax(logits, axis=-1))
