"""Looks inside a train step, for summaries and to locate non-finite values."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree

from cifar_jax.devices import compilation
from cifar_jax.devices.share import WHOLE
from cifar_jax.training.batch import Batch, check_batch
from cifar_jax.training.program import Program
from cifar_jax.training.steps import Forward, forward
from cifar_jax.training.train_state import TrainState


@struct.dataclass
class Inspection:
    """What happens inside the network in one step, layer by layer.

    Attributes:
        images: the distorted inputs.
        taps: {layer: activations} for each tapped layer, in order.
        params: the params before the step.
        grads: gradients of the whole loss, including penalties.
        finite: whether the activations, params and gradients are all finite.
    """

    images: Float[Array, "n h w c"]
    taps: tuple[dict[str, Array], ...]
    params: PyTree
    grads: PyTree
    finite: Bool[Array, ""]

    @property
    def activations(self) -> dict[str, Array]:
        """The activations by layer, in network order.

        Not a field, because jit sorts the keys of a dict.
        """
        return {k: v for layer in self.taps for k, v in layer.items()}


def inspect(program: Program, state: TrainState, batch: Batch) -> Inspection:
    """Looks inside the step that `train_step` would take, without taking it.

    Raises:
        UserError: the batch cannot be used, or lacks what the loss needs.
    """
    check_batch(batch, program.model.num_classes, program.preprocessing)

    def total_loss(params: PyTree) -> tuple[Array, Forward]:
        loss, seen = forward(program, params, state, batch, tap=True)
        penalties = program.weight_decay.penalties(params)
        return sum(penalties.values(), start=loss), seen

    grads, seen = jax.grad(total_loss, has_aux=True)(state.params)
    finite = all_finite((seen.taps, state.params, grads))
    return Inspection(seen.inputs, seen.taps, state.params, grads, finite)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Returns whether no floating-point leaf contains an infinity or NaN."""
    finite = [
        jnp.isfinite(leaf).all()
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.array(finite, bool).all()


def compile_inspect(
    program: Program, mesh: Mesh, arguments: PyTree
) -> jax.stages.Compiled:
    """Returns `inspect`, compiled so that XLA divides the work, since it is rare.

    Args:
        program: what is trained.
        mesh: the devices.
        arguments: arguments for the result: the state, the data and the batches of one
            step, as for `take_steps`.
    """
    program = dataclasses.replace(program, share=WHOLE)
    whole = NamedSharding(mesh, PartitionSpec())

    def first(state: TrainState, data: PyTree, batches: PyTree) -> Inspection:
        return inspect(program, state, Batch.from_batches(data, batches, 0))

    def make() -> jax.stages.Compiled:
        return compilation.compile_lowered(
            jax.jit(first, out_shardings=whole).lower(*arguments)
        )

    return compilation.compile_once((inspect, program, mesh), arguments, make)
