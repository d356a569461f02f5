"""What is computed on a batch: one step of training, a look inside, logits.

All are pure functions of their arguments; the loop compiles them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int32, Key, PyTree, UInt8

from cifar_jax.data.dataset import check_images, check_labels
from cifar_jax.data.inputs import Inputs, Statistics
from cifar_jax.models import Network
from cifar_jax.optimization import losses as objective
from cifar_jax.training import train_state
from cifar_jax.training.train_state import TrainState

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
    images: UInt8[Array, "n h w 3"],
    inputs: Inputs,
    axis_name: str | None = None,
) -> Float[Array, "n {inputs.size} {inputs.size} 3"]:
    """The batch, or this device's share of it, as this step sees it."""
    keys = image_keys(state, len(images), axis_name)
    return jax.vmap(inputs.training, (0, 0, None))(keys, images, state.statistics)


def train_step(
    state: TrainState,
    images: UInt8[Array, "n h w 3"],
    labels: Int32[Array, " n"],
    *,
    model: Network,
    tx: optax.GradientTransformation,
    inputs: Inputs,
    weight_decay: float,
    label_smoothing: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """One step of SGD.

    Args:
        state: before the step.
        images: of the batch, or of this device's share of it.
        labels: of the images.
        model: the network.
        tx: the optax chain.
        inputs: what is done to images before the network sees them.
        weight_decay: of the kernels that `model.weight_decays` says.
        label_smoothing: see `objective.cross_entropy`.
        axis_name: of the axis over which the batch is shared out equally, if it is
            (by shard_map or pmap); the step is then that of the whole batch.

    Returns:
        The state after the step, and each loss term before it.

    Raises:
        UserError: images or labels are not what they should be.
    """
    check_images(images, "images")
    check_labels(labels, "labels", len(images))
    x = distorted(state, images, inputs, axis_name)
    model = model.clone(axis_name=axis_name)

    def loss_fn(params: PyTree) -> tuple[Array, PyTree]:
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        loss = objective.cross_entropy(logits, labels, label_smoothing)
        return loss, updated.get("batch_stats", {})

    (cross_entropy, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params
    )
    if axis_name is not None:
        cross_entropy, grads = jax.lax.pmean((cross_entropy, grads), axis_name)
    losses = objective.loss_terms(
        cross_entropy, state.params, model.weight_decays, weight_decay
    )
    # The new statistics go through the chain with no update, to be averaged.
    variables = {"params": state.params, "batch_stats": batch_stats}
    gradients = {"params": grads, "batch_stats": optax.tree.zeros_like(batch_stats)}
    updates, opt_state = tx.update(gradients, state.opt_state, variables)
    variables = optax.apply_updates(variables, updates)
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
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
    return jnp.array(finite, bool).all()


def inspect(
    state: TrainState,
    images: UInt8[Array, "n h w 3"],
    labels: Int32[Array, " n"],
    *,
    model: Network,
    inputs: Inputs,
    weight_decay: float,
    label_smoothing: float = 0.0,
) -> Inspection:
    """The inside of the step that `train_step` would take from here.

    Raises:
        UserError: images or labels are not what they should be.
    """
    check_images(images, "images")
    check_labels(labels, "labels", len(images))
    x = distorted(state, images, inputs)

    def loss_fn(params: PyTree) -> tuple[Array, PyTree]:
        logits, variables = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            x,
            train=True,
            mutable=["batch_stats", "intermediates"],
        )
        decay = objective.weight_losses(params, model.weight_decays, weight_decay)
        cross_entropy = objective.cross_entropy(logits, labels, label_smoothing)
        loss = sum(decay.values(), start=cross_entropy)
        return loss, variables["intermediates"]["activations"]

    grads, sown = jax.grad(loss_fn, has_aux=True)(state.params)
    finite = all_finite((sown, state.params, grads))
    # Copied, because the state is donated to the next step and this may be read later.
    params = jax.tree.map(jnp.copy, state.params)
    return Inspection(x, sown, params, grads, finite)


def eval_step(
    variables: PyTree,
    images: UInt8[Array, "n h w 3"],
    statistics: Statistics | None,
    *,
    model: Network,
    inputs: Inputs,
) -> Float[Array, "n classes"]:
    """Logits of images; of several views, the logarithm of their mean probability.

    Raises:
        UserError: images are not what they should be.
    """
    check_images(images, "images")
    views = jax.vmap(inputs.evaluation, (0, None))(images, statistics)
    logits = model.apply(variables, views.reshape(-1, *views.shape[2:]))
    assert isinstance(logits, Array)  # not a tuple: no collection is mutable
    if inputs.views == 1:
        return logits
    log_probabilities = jax.nn.log_softmax(logits.reshape(*views.shape[:2], -1))
    return jax.nn.logsumexp(log_probabilities, axis=1) - jnp.log(inputs.views)
