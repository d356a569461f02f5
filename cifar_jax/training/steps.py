"""One step of training: pure functions of their arguments."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from cifar_jax import models
from cifar_jax.metrics.steps import StepResults, measure
from cifar_jax.models import batch_norm
from cifar_jax.optimization.averages import LOSS_AVERAGE_DECAY, average_batch_stats
from cifar_jax.optimization.losses import Targets, as_probabilities, mean_loss
from cifar_jax.training import train_state
from cifar_jax.training.batch import Batch, check_batch
from cifar_jax.training.program import Program
from cifar_jax.training.train_state import TrainState

# Every loss term and the other metrics of a step, by name.
Metrics = dict[str, Float[Array, "..."]]

# No image has this position in a batch, so the batch's key differs from all image keys.
_BATCH = 2**32 - 1


class Forward(NamedTuple):
    """The results of a step's forward pass.

    Attributes:
        logits: logits of the distorted images.
        targets: labels, or class probabilities.
        weights: the examples' weights in the loss; see `mean_loss`.
        losses: the loss terms without weight decay: the loss of the logits, and terms
            sown by the network itself.
        batch_stats: BatchNorm running averages after the step.
        inputs: the distorted images.
        taps: {layer: activations} for each tapped layer, in order.
    """

    logits: Float[Array, "n classes"]
    targets: Targets
    weights: Float[Array, " n"]
    losses: dict[str, Float[Array, ""]]
    batch_stats: PyTree
    inputs: Float[Array, "n h w c"]
    taps: tuple[dict[str, Array], ...]


def train_step(
    program: Program, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Takes one training step.

    Args:
        program: what is trained and how.
        state: the state before the step.
        batch: the batch, or one device's share of it if the function is mapped over
            `program.share.axis_name`; the step is then that of the whole batch.

    Returns:
        The state after the step, and the metrics: every loss term before the step,
        their sum, `total_loss`, and the program's metrics.

    Raises:
        UserError: the batch cannot be used, or lacks what the loss needs.
    """
    check_batch(batch, program.model.num_classes, program.preprocessing)
    loss_and_grad = jax.value_and_grad(forward, argnums=1, has_aux=True)
    (loss, seen), grads = loss_and_grad(program, state.params, state, batch)
    # Labels out of range make the loss NaN, since traced values cannot be rejected.
    known = ((batch.labels >= -1) & (batch.labels < program.model.num_classes)).all()
    losses = {name: jnp.where(known, x, jnp.nan) for name, x in seen.losses.items()}
    loss, losses, grads = program.share.mean((loss, losses, grads))
    if (point := program.gradient_point(state.params, grads)) is not None:
        grads = program.share.mean(loss_and_grad(program, point, state, batch)[1])
    losses = program.loss_terms(losses, state.params)
    updates, opt_state = program.tx.update(
        grads, state.opt_state, state.params, value=loss
    )
    results = StepResults(
        seen.logits, seen.targets, grads, updates, state.params, seen.weights
    )
    metrics = measure(program.metrics, results, losses.keys())
    step = state.step + 1
    state = dataclasses.replace(
        state,
        step=step,
        params=optax.apply_updates(state.params, updates),
        batch_stats=seen.batch_stats,
        opt_state=opt_state,
        averaged_batch_stats=average_batch_stats(
            program.average,
            seen.batch_stats,
            state.averaged_batch_stats,
            step,
            program.schedule_settings.max_steps,
            program.optimizer.every,
        ),
        # They start at 0 without bias correction, as the tutorial's averages do.
        loss_averages=optax.incremental_update(
            {name: losses[name] for name in state.loss_averages},
            state.loss_averages,
            1 - LOSS_AVERAGE_DECAY,
        ),
    )
    return state, losses | program.share.mean(metrics)


def forward(
    program: Program,
    params: PyTree,
    state: TrainState,
    batch: Batch,
    tap: bool = False,
) -> tuple[Float[Array, ""], Forward]:
    """Returns the loss of a batch as a function of the params, and the forward pass.

    The loss excludes weight decay, which the optax chain adds to the gradients.

    Args:
        program: what is trained and how.
        params: the network's params.
        state: the state before the step; its params are not used.
        batch: see `train_step`.
        tap: whether to tap layer activations.
    """
    inputs, targets = distort(program, state, batch)
    streams = train_state.streams(state.key)
    dropout = program.share.own_key(jax.random.fold_in(streams.dropout, state.step))
    with batch_norm.in_training(program.never_trained, program.share.axis_name):
        logits, updated = program.model.apply(
            {"params": program.stop_frozen(params), "batch_stats": state.batch_stats},
            inputs,
            train=True,
            mutable=["batch_stats", "losses", *(["intermediates"] if tap else [])],
            # Flax derives streams with other names from the params stream.
            rngs={"dropout": dropout, "params": jax.random.fold_in(dropout, _BATCH)},
        )
    extra = {**batch.extra, "index": batch.indices}
    loss, weights = mean_loss(program.loss, logits, targets, extra, program.share.mean)
    losses = {program.loss.name: loss} | models.collect_losses(updated)
    first, *rest = losses.values()
    taps = models.collect_taps(updated.get("intermediates", {}))
    batch_stats = updated.get("batch_stats", {})
    seen = Forward(logits, targets, weights, losses, batch_stats, inputs, taps)
    return sum(rest, start=first), seen


def distort(
    program: Program, state: TrainState, batch: Batch
) -> tuple[Float[Array, "n size size c"], Targets]:
    """Returns the network's inputs and targets for this step."""
    preprocessing = program.preprocessing
    keys = image_keys(program, state, len(batch.images))
    each = (keys, batch.images, batch.epochs, batch.indices)
    if not preprocessing.mixtures:
        training = jax.vmap(preprocessing.prepare_train, (0, 0, 0, 0, None, None))
        return training(*each, state.key, state.statistics), batch.labels
    distorted = jax.vmap(preprocessing.distort, (0, 0, 0, 0, None))
    images = distorted(*each, state.key)
    targets = as_probabilities(batch.labels, program.model.num_classes)
    key = jax.random.fold_in(_step_key(state), jnp.uint32(_BATCH))

    def mixed(images: Array, targets: Array) -> tuple[Array, Array]:
        return preprocessing.mix(key, images, targets)

    images, targets = program.share.call_on_whole(mixed, images, targets)
    finish = jax.vmap(preprocessing.finish, (0, None))
    return finish(images, state.statistics), targets


def image_keys(program: Program, state: TrainState, count: int) -> Key[Array, " count"]:
    """Returns the keys for the distortions of this step, one per image.

    Args:
        program: contains the share of the batch.
        state: the state before the step.
        count: number of images in the batch, or in this share of it.
    """
    # By position in the whole batch, regardless of which device holds the image.
    positions = program.share.positions(count)
    return jax.vmap(jax.random.fold_in, (None, 0))(_step_key(state), positions)


def _step_key(state: TrainState) -> Key[Array, ""]:
    """Returns the key for all distortions of this step."""
    return jax.random.fold_in(train_state.streams(state.key).distortion, state.step)
