"""A look inside a train step, for the summaries and when numbers are not finite."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PyTree

from cifar_jax.training.program import Program
from cifar_jax.training.steps import Batch, Forward, check, forward
from cifar_jax.training.train_state import TrainState


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
        UserError: the batch cannot be used, or lacks what the loss needs.
    """
    check(program, batch)

    def total_loss(params: PyTree) -> tuple[Array, Forward]:
        loss, seen = forward(program, params, state, batch, record=True)
        return sum(program.penalties(params).values(), start=loss), seen

    grads, seen = jax.grad(total_loss, has_aux=True)(state.params)
    finite = all_finite((seen.recorded, state.params, grads))
    return Inspection(seen.inputs, seen.recorded, state.params, grads, finite)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no floating-point leaf holds an infinity or a NaN."""
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.array(finite, bool).all()
