"""Layer-wise decay: learning rates that fall from the last layer to the first."""

import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import PyTree

from cifar_jax.models import Network


def layer_rates(model: Network, size: int, decay: float) -> FrozenDict[str, float]:
    """Returns decay ** (number of layers above) for each part; empty if decay is 1.

    It is used in fine-tuning (Clark et al., ELECTRA, 2020; Bao et al., BEiT, 2022).

    Args:
        model: the network.
        size: height and width of its inputs.
        decay: factor of the learning rate from one layer to the one below it.
    """
    if decay == 1:
        return FrozenDict()
    layers = list_layers(model, size)
    return FrozenDict(
        {
            name: decay ** (len(layers) - number)
            for number, layer in enumerate(layers, 1)
            for name in layer
        }
    )


def list_layers(model: Network, size: int) -> list[list[str]]:
    """Returns the names of a network's parts, layer by layer from input to output.

    Parts are the entries of its params, in the order in which they are first used. A
    layer is a part with a kernel, such as a convolution or a whole residual block, and
    the parts without one that follow, such as BatchNorm; any before the first kernel
    are in the first layer.

    Args:
        model: the network.
        size: height and width of its inputs.
    """
    parts: dict[str, PyTree] = {}

    def initialize() -> None:
        images = jnp.zeros((1, size, size, 3))
        # Here, since JAX sorts the keys of what it returns.
        parts.update(model.init(jax.random.key(0), images).get("params", {}))

    jax.eval_shape(initialize)
    layers: list[list[str]] = []
    complete = True
    for name, params in parts.items():
        has_kernel = any(
            path and path[-1].key == "kernel"
            for path, _ in jax.tree_util.tree_leaves_with_path(params)
        )
        if not layers or (complete and has_kernel):
            layers.append([])
            complete = False
        layers[-1].append(name)
        complete |= has_kernel
    return layers
