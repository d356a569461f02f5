"""The parameters of a run on disk, ready for evaluation and prediction."""

import dataclasses

import jax
from flax import linen as nn
from jaxtyping import PyTree

from cifar_jax import checkpoints, optimizer, program
from cifar_jax.errors import UserError
from cifar_jax.run_dir import Run


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: the network.
        params: averaged over the training, or those of the last step.
        step: how many steps they were trained for.
        class_names: of the labels, in their order.
    """

    model: nn.Module
    params: PyTree
    step: int
    class_names: tuple[str, ...]


def load(run: Run, step: int | None = None, raw_params: bool = False) -> Trained:
    """The parameters saved at a step, or at the newest that can be read.

    Args:
        run: from `run_dir.read`.
        step: one of `checkpoints.steps(run.checkpoints)`; None for the newest.
        raw_params: those of that very step instead of the averaged ones.

    Raises:
        UserError: there is no checkpoint yet.
        RunError: the checkpoint is damaged or of another network.
    """
    parts = program.build(run.config, len(run.class_names))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        jax.eval_shape(parts.create_state, jax.random.key(0)),
    )
    if step is None:
        step = checkpoints.newest(run.checkpoints)
    if step is None:
        raise UserError(
            f"no checkpoint in {run.path} yet: the training saves one every "
            "--save_interval_secs and at its end"
        )
    state = checkpoints.restore(run.checkpoints, step, like)
    params = state.params
    if not raw_params:
        params = optimizer.averaged_params(state.opt_state)
    return Trained(parts.model, params, int(state.step), run.class_names)
