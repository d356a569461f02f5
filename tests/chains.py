"""Optimizer chains as in runs, for the tests of optimizers."""

import jax
import jax.numpy as jnp
import optax

from cifar_jax.optimization import OPTIMIZERS, chain
from cifar_jax.optimization.averages import AVERAGES
from cifar_jax.optimization.param_groups import PARAM_GROUPS
from cifar_jax.optimization.weight_decay import WeightDecay
from cifar_jax.registry import resolve, resolve_all

PARAMS = {
    "conv": {"kernel": jnp.full((3, 2), 5.0), "bias": jnp.full(2, 7.0)},
    "dense": {"kernel": jnp.full((4, 2), 3.0), "bias": jnp.full(2, 7.0)},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def create(
    optimizer="sgd",
    rate=0.1,
    groups="",
    average="none",
    weight_decay=0.0,
    factors=None,
    max_steps=100,
):
    """Returns the chain for these flags; the rate is a number or a schedule."""
    if isinstance(optimizer, str):
        optimizer = resolve(optimizer, OPTIMIZERS, "optimizer")
    groups = resolve_all(groups, PARAM_GROUPS, "param_groups")
    schedules = {
        "": rate if callable(rate) else lambda step: rate,
        "cosine": lambda step: 10.0 * (step + 1),
    }
    return chain.create(
        optimizer,
        schedules.__getitem__,
        max_steps=max_steps,
        weight_decay=WeightDecay(
            weight_decay, optimizer.decay_in_loss, factors, groups
        ),
        average=resolve(average, AVERAGES, "average"),
        groups=groups,
    )


def updates_of(tx, gradients, params=PARAMS):
    """Returns the first updates."""
    return jax.jit(tx.update)(gradients, tx.init(params), params)[0]


def descend(tx, gradients, params=PARAMS):
    """Yields the params and the state after each gradient's update."""
    state, update = tx.init(params), jax.jit(tx.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        yield params, state
