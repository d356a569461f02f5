"""What trained networks say of images, and how often it is right."""

import functools

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from cifar_jax.checks import check_integer, check_type
from cifar_jax.data import Split
from cifar_jax.data.dataset import check_images, check_split
from cifar_jax.data.inputs import Inputs
from cifar_jax.devices import parallel
from cifar_jax.evaluation import metrics
from cifar_jax.models import Network
from cifar_jax.training import steps
from cifar_jax.training.compiled import slow_in_loops
from cifar_jax.training.trained import Trained

# On a CPU the quickest for the tutorial's network, of those tried from 25 to 1,000.
BATCH_SIZE = 80


def _eval_steps(
    weights: tuple,
    batches: UInt8[Array, "m n h w 3"],
    *,
    model: Network,
    inputs: Inputs,
) -> Float[Array, "m n classes"]:
    eval_step = functools.partial(_eval_step, weights, model=model, inputs=inputs)
    return jax.lax.map(eval_step, batches)


def _eval_step(
    weights: tuple, images: UInt8[Array, "n h w 3"], *, model: Network, inputs: Inputs
) -> Float[Array, "n classes"]:
    variables, statistics = weights
    return steps.eval_step(variables, images, statistics, model=model, inputs=inputs)


def predict_logits(
    network: Trained,
    images: UInt8[np.ndarray, "n h w 3"],
    batch_size: int = BATCH_SIZE,
    num_devices: int | None = None,
) -> Float[np.ndarray, "n classes"]:
    """Logits of each image, or of the mean over its views if the network wants it.

    One call goes through all batches, and each batch is shared out among the devices.
    The last one is filled up, and cut again.

    Args:
        network: a trained one.
        images: as they are read.
        batch_size: how many to compute at a time; raised to a multiple of the devices.
        num_devices: use the first so many; None: all.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(network, "network", Trained)
    check_images(images, "images", network.image_shape)
    batch_size = check_integer(batch_size, "batch_size", at_least=1)
    mesh = parallel.mesh(num_devices)
    batch_size += -batch_size % mesh.size
    missing = -len(images) % batch_size
    padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
    batches = padded.reshape(-1, batch_size, *images.shape[1:])
    whole = NamedSharding(mesh, PartitionSpec())
    weights = jax.device_put((network.variables, network.statistics), whole)
    what = {"model": network.model, "inputs": network.inputs}
    compile_ = functools.partial(
        jax.jit, static_argnames=tuple(what), out_shardings=whole
    )
    in_one_call = compile_(_eval_steps)
    if not slow_in_loops(in_one_call.lower(weights, batches[:1], **what)):
        sharding = NamedSharding(mesh, PartitionSpec(None, parallel.AXIS))
        logits = in_one_call(weights, parallel.place(batches, sharding), **what)
    else:
        eval_step = compile_(_eval_step)
        sharding = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
        logits = [
            eval_step(weights, parallel.place(batch, sharding), **what)
            for batch in batches
        ]
    return np.concatenate(logits)[: len(images)]


def evaluate(network: Trained, split: Split, batch_size: int = BATCH_SIZE) -> float:
    """Share of the images whose highest logit is their label: accuracy.

    The tutorial calls it precision @ 1, and so do we.

    Raises:
        UserError: an argument cannot be used.
    """
    check_type(network, "network", Trained)
    check_split(split, "split", len(network.class_names), network.image_shape)
    logits = predict_logits(network, split.images, batch_size)
    return metrics.accuracy(logits, split.labels)


def classify(
    network: Trained, images: UInt8[np.ndarray, "n h w 3"]
) -> Float[np.ndarray, "n classes"]:
    """Probability of each class for each image, preprocessed as in evaluation.

    Raises:
        UserError: the images cannot be used.
    """
    check_type(network, "network", Trained)
    check_images(images, "images", network.image_shape)
    # In eights whatever n: the same image always gives the same numbers, and no n
    # needs a compilation of its own.
    logits = [
        predict_logits(network, images[i : i + 8], batch_size=8)
        for i in range(0, len(images), 8)
    ]
    return np.asarray(jax.nn.softmax(np.concatenate(logits), axis=-1))
