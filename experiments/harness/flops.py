"""What a forward pass through a network costs, counted without compiling it."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from cifar_jax import Network


def forward(network: Network, image_size: int) -> tuple[int, int]:
    """Returns the numbers of parameters and of operations for one image.

    The operations are the multiplications and additions of convolutions and matrix
    products, those with padding included.

    Args:
        network: The network; `ops` makes no difference.
        image_size: The height and width of the image.
    """
    image = jnp.zeros((1, image_size, image_size, 3))
    # Initialization multiplies no matrices.
    program, (_, variables) = jax.make_jaxpr(
        network.clone(ops="plain").init_with_output, return_shape=True
    )(jax.random.key(0), image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return parameters, _operations(program)


def _operations(program: Any) -> int:
    """Counts the operations of a jaxpr and of those that it calls."""
    total = 0
    for equation in program.eqns:
        outputs = math.prod(equation.outvars[0].aval.shape)
        kind, options = equation.primitive.name, equation.params
        if kind == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[options["dimension_numbers"].rhs_spec[0]]
            total += 2 * outputs * math.prod(kernel) // features
        elif kind == "dot_general":
            left = equation.invars[0].aval.shape
            (contracted, _), _ = options["dimension_numbers"]
            total += 2 * outputs * math.prod(left[axis] for axis in contracted)
        for option in jax.tree.leaves(options):
            if hasattr(option, "eqns"):
                total += _operations(option)
    return total
