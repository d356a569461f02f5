"""One step of training, and a look inside it: pure functions of their arguments."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int32, Integer, Key, PyTree, UInt8

from cifar_jax.checks import check_type
from cifar_jax.data.dataset import check_images, check_labels
from cifar_jax.optimization.averages import LOSS_AVERAGE_DECAY
from cifar_jax.optimization.losses import Targets, as_probabilities
from cifar_jax.training import train_state
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState

# Every loss term by name.
Losses = dict[str, Float[Array, "..."]]

# No image has this position in a batch, so no key of an image is the batch's.
_BATCH = 2**32 - 1


class Batch(NamedTuple):
    """The images of a step, or one device's share of them.

    Attributes:
        images: bytes.
        labels: of the images.
        indices: of the images in the training set, for distortions that need them.
        epochs: how many times each image was seen before, likewise.
    """

    images: UInt8[Array, "n h w c"]
    labels: Integer[Array, " n"]
    indices: Int32[Array, " n"]
    epochs: Int32[Array, " n"]

    @classmethod
    def of(
        cls,
        images: UInt8[Array | np.ndarray, "n h w c"],
        labels: Integer[Array | np.ndarray, " n"],
    ) -> "Batch":
        """Returns a batch of images that are not part of a training set.

        Raises:
            UserError: images or labels cannot be used.
        """
        check_images(images, "images")
        check_labels(labels, "labels", len(images))
        count = len(images)
        return cls(
            jnp.asarray(images),
            jnp.asarray(labels, jnp.int32),
            jnp.arange(count),
            jnp.zeros(count, jnp.int32),
        )


def image_keys(
    state: TrainState, count: int, axis_name: str | None = None
) -> Key[Array, " count"]:
    """Returns the keys that the distortions of this step are drawn from, one per image.

    Args:
        state: before the step.
        count: number of images: of the batch, or of this device's share.
        axis_name: see `train_step`.
    """
    # By the position in the whole batch, whatever device holds it.
    positions = jnp.arange(count)
    if axis_name is not None:
        positions += jax.lax.axis_index(axis_name) * count
    return jax.vmap(jax.random.fold_in, (None, 0))(_step_key(state), positions)


def distort(
    program: Program, state: TrainState, batch: Batch, axis_name: str | None = None
) -> tuple[Float[Array, "n size size c"], Targets]:
    """Returns the network's inputs and targets in this step."""
    preprocessing = program.preprocessing
    keys = image_keys(state, len(batch.images), axis_name)
    each = (keys, batch.images, batch.epochs, batch.indices)
    if not preprocessing.mixtures:
        training = jax.vmap(preprocessing.training, (0, 0, 0, 0, None))
        return training(*each, state.statistics), batch.labels
    images = jax.vmap(preprocessing.distorted)(*each)
    targets = as_probabilities(batch.labels, program.model.num_classes)
    key = jax.random.fold_in(_step_key(state), jnp.uint32(_BATCH))
    if axis_name is None:
        images, targets = preprocessing.mixed(key, images, targets)
    else:
        # Images are mixed across shares, so every device mixes the whole batch.
        whole = jax.lax.all_gather((images, targets), axis_name, tiled=True)
        mixed = preprocessing.mixed(key, *whole)
        count = len(images)
        start = jax.lax.axis_index(axis_name) * count
        images, targets = (
            jax.lax.dynamic_slice_in_dim(array, start, count) for array in mixed
        )
    finish = jax.vmap(preprocessing.finished, (0, None))
    return finish(images, state.statistics), targets


def train_step(
    program: Program,
    state: TrainState,
    batch: Batch,
    axis_name: str | None = None,
) -> tuple[TrainState, Losses]:
    """Takes one step of training.

    Args:
        program: what is trained and how.
        state: before the step.
        batch: the batch, or this device's share of it.
        axis_name: the mesh axis over which the batch is shared equally by shard_map or
            pmap; the step is that of the whole batch. None if the batch is whole.

    Returns:
        The state after the step, and each loss term before it.

    Raises:
        UserError: images or labels cannot be used.
    """
    _check(batch)
    inputs, targets = distort(program, state, batch, axis_name)
    (loss, (batch_stats, _)), grads = jax.value_and_grad(_forward, has_aux=True)(
        state.params, program, state, inputs, targets, axis_name
    )
    if axis_name is not None:
        loss, grads = jax.lax.pmean((loss, grads), axis_name)
    losses = program.loss_terms(loss, state.params)
    updates, opt_state = program.tx.update(
        grads, state.opt_state, state.params, value=loss
    )
    step = state.step + 1
    state = dataclasses.replace(
        state,
        step=step,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        averaged_batch_stats=program.averaged(
            batch_stats, state.averaged_batch_stats, step
        ),
        # From zero and without bias correction, as TensorFlow averages a tensor, so
        # these curves start low, as the tutorial's do.
        loss_averages=optax.incremental_update(
            losses, state.loss_averages, 1 - LOSS_AVERAGE_DECAY
        ),
    )
    return state, losses


@struct.dataclass
class Inspection:
    """What happens inside the network in one step, layer by layer.

    Attributes:
        images: the distorted inputs.
        recorded: {layer: activations} of each recorded layer, in order.
        params: before the step.
        grads: of the whole loss, penalties included.
        finite: whether all of these numbers are finite.
    """

    images: Float[Array, "n h w c"]
    recorded: tuple[dict[str, Array], ...]
    params: PyTree
    grads: PyTree
    finite: Bool[Array, ""]

    @property
    def activations(self) -> dict[str, Array]:
        """The activations by layer, in the order of the network.

        Not a field: a dict that passes through jit is sorted by name.
        """
        return {k: v for layer in self.recorded for k, v in layer.items()}


def inspect(program: Program, state: TrainState, batch: Batch) -> Inspection:
    """Looks inside the step that `train_step` would take, without taking it.

    Raises:
        UserError: images or labels cannot be used.
    """
    _check(batch)
    inputs, targets = distort(program, state, batch)

    def total_loss(params: PyTree) -> tuple[Array, PyTree]:
        loss, (_, recorded) = _forward(
            params, program, state, inputs, targets, record=True
        )
        return sum(program.penalties(params).values(), start=loss), recorded

    grads, recorded = jax.grad(total_loss, has_aux=True)(state.params)
    finite = all_finite((recorded, state.params, grads))
    return Inspection(inputs, recorded, state.params, grads, finite)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no floating-point leaf holds an infinity or a NaN."""
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.array(finite, bool).all()


def _forward(
    params: PyTree,
    program: Program,
    state: TrainState,
    inputs: Float[Array, "n h w c"],
    targets: Targets,
    axis_name: str | None = None,
    record: bool = False,
) -> tuple[Float[Array, ""], tuple[PyTree, PyTree]]:
    """Returns the loss without penalties, the new batch_stats, and the activations.

    The latter are recorded only if that is asked for.
    """
    model = program.model.clone(axis_name=axis_name)
    dropout = jax.random.fold_in(train_state.streams(state.key).dropout, state.step)
    if axis_name is not None:
        dropout = jax.random.fold_in(dropout, jax.lax.axis_index(axis_name))
    logits, updated = model.apply(
        {"params": program.trained(params), "batch_stats": state.batch_stats},
        inputs,
        train=True,
        mutable=["batch_stats", "intermediates"] if record else ["batch_stats"],
        rngs={"dropout": dropout},
    )
    recorded = updated.get("intermediates", {}).get("activations", ())
    return program.loss(logits, targets), (updated.get("batch_stats", {}), recorded)


def _step_key(state: TrainState) -> Key[Array, ""]:
    """Returns the key of all distortions of this step."""
    return jax.random.fold_in(train_state.streams(state.key).distortion, state.step)


def _check(batch: Batch) -> None:
    check_type(batch, "batch", Batch)
    check_images(batch.images, "images")
    check_labels(batch.labels, "labels", len(batch.images))
