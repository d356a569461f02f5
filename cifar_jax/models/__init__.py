"""The networks, by name."""

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from cifar_jax.errors import UserError
from cifar_jax.models.tutorial import TutorialCNN
from cifar_jax.ops import Implementation

MODELS: dict[str, type[nn.Module]] = {"tutorial": TutorialCNN}


def create(
    name: str,
    num_classes: int = 10,
    dtype: Dtype = jnp.float32,
    ops: Implementation = "auto",
) -> nn.Module:
    """The network of that name.

    Args:
        name: one of MODELS.
        num_classes: how many logits it gives.
        dtype: of the computation; parameters are float32.
        ops: how its operations are computed, see `cifar_jax.ops`.

    Raises:
        UserError: there is no network of that name.
    """
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}")
    return MODELS[name](num_classes=num_classes, dtype=dtype, ops=ops)
