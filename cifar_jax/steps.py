"""What is computed on a batch: one step of training, a look inside, logits.

All are pure functions of their arguments; the loop compiles them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int32, Key, PyTree, UInt8

from cifar_jax import objective, train_state
from cifar_jax.data import augment
from cifar_jax.train_state import TrainState

# The tutorial's `_add_loss_summaries`.
LOSS_AVERAGE_DECAY = 0.9


def image_keys(
    state: TrainState, count: int, axis_name: str | None = None
) -> Key[Array, " count"]:
    """The keys by which this step distorts its images, each by one of its own.

    Args:
        state: before the step.
        count: how many images there are: the batch, or this device's share of it.
        axis_name: of the axis over which the batch is shared out, if it is.
    """
    _, _, distort_key = train_state.streams(state.key)
    step_key = jax.random.fold_in(distort_key, state.step)
    # By the position in the whole batch, whatever device that falls on.
    positions = jnp.arange(count)
    if axis_name is not None:
        positions += jax.lax.axis_index(axis_name) * count
    return jax.vmap(jax.random.fold_in, (None, 0))(step_key, positions)


def distorted(
    state: TrainState,
    images: UInt8[Array, "n 32 32 3"],
    axis_name: str | None = None,
) -> Float[Array, "n 24 24 3"]:
    """The batch, or this device's share of it, as this step sees it."""
    keys = image_keys(state, len(images), axis_name)
    return jax.vmap(augment.distort)(keys, images)


def train_step(
    state: TrainState,
    images: UInt8[Array, "n 32 32 3"],
    labels: Int32[Array, " n"],
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    weight_decay: float,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step of SGD.

    Args:
        state: before the step.
        images: of the batch, or of this device's share of it.
        labels: of the images.
        model: the network.
        tx: the optax chain.
        weight_decay: of `model.decayed_layers`.
        axis_name: of the axis over which the batch is shared out equally, if it is
            (by shard_map or pmap); the step is then that of the whole batch.

    Returns:
        The state after the step, and each loss term before it.
    """
    inputs = distorted(state, images, axis_name)

    def loss_fn(params: PyTree) -> Array:
        return objective.cross_entropy(_logits(model, params, inputs), labels)

    cross_entropy, grads = jax.value_and_grad(loss_fn)(state.params)
    if axis_name is not None:
        cross_entropy, grads = jax.lax.pmean((cross_entropy, grads), axis_name)
    losses = objective.loss_terms(
        cross_entropy, state.params, model.decayed_layers, weight_decay
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
        # From zero and without bias correction: what TensorFlow's average of a
        # tensor does, so these curves start low, as the tutorial's do.
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
        sown: {layer: activations} of each layer, in the order of the network.
        params: before the step.
        grads: of the whole loss, weight decay included.
        finite: whether no number among these is infinite or NaN.
    """

    images: Float[Array, "n h w 3"]
    sown: tuple[dict[str, Array], ...]
    params: PyTree
    grads: PyTree
    finite: Bool[Array, ""]

    @property
    def activations(self) -> dict[str, Array]:
        """The activations by layer, in the order of the network.

        Not a field: a dict that passes through jit comes out sorted by name.
        """
        return {k: v for layer in self.sown for k, v in layer.items()}


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no leaf of floating point holds an infinity or a NaN."""
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.stack(finite).all()


def inspect(
    state: TrainState,
    images: UInt8[Array, "n 32 32 3"],
    labels: Int32[Array, " n"],
    *,
    model: nn.Module,
    weight_decay: float,
) -> Inspection:
    """The inside of the step that `train_step` would take from here."""
    inputs = distorted(state, images)

    def loss_fn(params: PyTree) -> tuple[Array, PyTree]:
        logits, variables = model.apply(
            {"params": params}, inputs, mutable=["intermediates"]
        )
        decay = objective.weight_losses(params, model.decayed_layers, weight_decay)
        loss = objective.cross_entropy(logits, labels) + sum(decay.values())
        return loss, variables["intermediates"]["activations"]

    grads, sown = jax.grad(loss_fn, has_aux=True)(state.params)
    finite = all_finite((sown, state.params, grads))
    # Copied, because the state is donated to the next step and this may be read later.
    params = jax.tree.map(jnp.copy, state.params)
    return Inspection(inputs, sown, params, grads, finite)


def eval_step(
    params: PyTree, images: UInt8[Array, "n 32 32 3"], *, model: nn.Module
) -> Float[Array, "n classes"]:
    """Logits of the central crops."""
    return _logits(model, params, jax.vmap(augment.center)(images))


def _logits(
    model: nn.Module, params: PyTree, inputs: Float[Array, "n h w 3"]
) -> Float[Array, "n classes"]:
    logits = model.apply({"params": params}, inputs)
    assert isinstance(logits, Array)  # not a tuple: no collection is mutable
    return logits
