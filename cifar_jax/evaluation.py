"""What trained parameters say of images, and how often it is right."""

import functools

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree, UInt8

from cifar_jax import parallel, steps
from cifar_jax.compiled import slow_in_loops
from cifar_jax.data import Split
from cifar_jax.trained import Trained

# On a CPU the quickest for the tutorial's network, of those tried from 25 to 1,000.
BATCH_SIZE = 80


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
    num_devices: int | None = None,
) -> Float[np.ndarray, "n classes"]:
    """Logits of each image's central crop.

    One call goes through all batches, and each batch is shared out among the devices.
    The last one is filled up, and cut again.

    Args:
        model: the network.
        params: its parameters.
        images: as they are read.
        batch_size: how many to compute at a time; raised to a multiple of the devices.
        num_devices: use the first so many; None: all.
    """
    mesh = parallel.mesh(num_devices)
    batch_size += -batch_size % mesh.size
    missing = -len(images) % batch_size
    padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
    batches = padded.reshape(-1, batch_size, *images.shape[1:])
    whole = NamedSharding(mesh, PartitionSpec())
    params = jax.device_put(params, whole)
    in_one_call = jax.jit(_eval_steps, static_argnames="model", out_shardings=whole)
    if not slow_in_loops(in_one_call.lower(params, batches[:1], model=model)):
        sharding = NamedSharding(mesh, PartitionSpec(None, parallel.AXIS))
        batches = parallel.place(batches, sharding)
        logits = in_one_call(params, batches, model=model)
    else:
        eval_step = jax.jit(
            steps.eval_step, static_argnames="model", out_shardings=whole
        )
        sharding = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
        logits = [
            eval_step(params, parallel.place(batch, sharding), model=model)
            for batch in batches
        ]
    return np.concatenate(logits)[: len(images)]


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
