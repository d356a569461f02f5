"""Muon: orthogonalized momentum for matrices, Adam for everything else."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey
from jaxtyping import Array, PyTree
from optax import contrib

from cifar_jax.checks import check_range
from cifar_jax.optimization.optimizers.base import Optimizer

# Flax attention layers whose kernels have two output axes: heads and head size.
_INTO_HEADS = ("query", "key", "value")


@dataclasses.dataclass(frozen=True)
class Muon(Optimizer):
    """Orthogonalized momentum for kernels, Adam for everything else.

    A convolution kernel is treated as a matrix from all values in a window to output
    channels, and a Flax attention kernel as a matrix with all heads together as outputs
    or inputs. Biases, scales and anything else not named kernel are not treated as
    matrices, whatever their rank. (Jordan, Muon: An Optimizer for Hidden Layers,
    https://kellerjordan.github.io/posts/muon)

    Attributes:
        beta: weight of the previous momentum.
        nesterov: whether to look ahead along the momentum.
        steps: number of Newton-Schulz iterations.
        adam_factor: learning rate of the other parameters relative to kernels.
        keep_norm: whether to scale kernels, before each update, to the norm of a matrix
            whose output channels have norm 1, as in Jordan's Airbench.
    """

    beta: float = 0.95
    nesterov: bool = True
    steps: int = 5
    adam_factor: float = 1.0
    keep_norm: bool = False
    decay_in_loss: ClassVar[bool] = False
    has_momentum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("beta", self.beta, at_least=0, below=1)
        # The iterations are unrolled when compiled; five are enough.
        check_range("steps", self.steps, at_least=1, at_most=30)
        check_range("adam_factor", self.adam_factor, at_least=0)

    def transform(
        self, schedule: optax.Schedule, decay: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        adam = optax.chain(optax.scale_by_adam(), optax.scale(self.adam_factor))
        parts = [
            optax.partition(
                {0: adam, 1: self._for_matrices(1), 2: self._for_matrices(2)},
                _output_axes,
            ),
            decay,
            optax.scale_by_learning_rate(schedule),
        ]
        if self.keep_norm:
            parts.append(optax.stateless(_add_normalization))
        return optax.chain(*parts)

    def _for_matrices(self, output_axes: int) -> optax.GradientTransformation:
        """Returns Muon for kernels whose last `output_axes` axes are outputs."""

        def as_matrices(params: PyTree) -> PyTree:
            def axes(param: Array) -> contrib.MuonDimensionNumbers:
                every = tuple(range(param.ndim))
                return contrib.MuonDimensionNumbers(
                    every[:-output_axes], every[-output_axes:]
                )

            return jax.tree.map(axes, params)

        def scale_by_shape(updates: PyTree, _: PyTree | None) -> PyTree:
            """Scales by sqrt(max(1, outputs / inputs)), as Jordan's code does."""
            return jax.tree.map(
                lambda u: u * max(1.0, _outputs(u, output_axes) ** 2 / u.size) ** 0.5,
                updates,
            )

        return optax.chain(
            # Unlike optax's Muon, Jordan's has no bias correction in its momentum.
            optax.trace(self.beta, self.nesterov),
            contrib.scale_by_muon(
                ns_steps=self.steps,
                beta=0.0,
                eps=1e-7,
                nesterov=False,
                weight_dimension_numbers=as_matrices,
            ),
            optax.stateless(scale_by_shape),
        )


def _output_axes(params: PyTree) -> PyTree:
    """Returns, for each parameter, how many of its last axes are matrix outputs.

    That is 0 for anything but a matrix, 2 for a kernel whose bias has two axes, and 1
    for other kernels. If a layer has no bias among these params, its name decides.
    """
    ranks = {
        path[:-1]: param.ndim
        for path, param in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "bias"
    }

    def axes(path: tuple[DictKey, ...], param: Array) -> int:
        if path[-1].key != "kernel" or param.ndim < 2:
            return 0
        if path[:-1] in ranks:
            return 2 if param.ndim > 2 and ranks[path[:-1]] == 2 else 1
        into_heads = len(path) > 1 and path[-2].key in _INTO_HEADS
        return 2 if param.ndim == 3 and into_heads else 1

    return jax.tree_util.tree_map_with_path(axes, params)


def _outputs(matrix: Array, output_axes: int) -> int:
    """Returns the number of outputs of a kernel: the size of its last axes."""
    return math.prod(matrix.shape[-output_axes:])


def _add_normalization(updates: PyTree, params: PyTree | None) -> PyTree:
    """Adds the update that scales each kernel to norm sqrt(outputs)."""

    def scaled(output_axes: int, update: Array, param: Array) -> Array:
        if output_axes == 0:
            return update
        norm = jnp.sqrt(jnp.sum(param**2))
        return update + (_outputs(param, output_axes) ** 0.5 / norm - 1) * param

    return jax.tree.map(scaled, _output_axes(params), updates, params)
