"""The networks, by name."""

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from cifar_jax.errors import UserError
from cifar_jax.models.tutorial import TutorialCNN

MODELS: dict[str, type[nn.Module]] = {"tutorial": TutorialCNN}


def create(name: str, num_classes: int = 10, dtype: Dtype = jnp.float32) -> nn.Module:
    """The network of that name, computing in `dtype` with float32 parameters.

    Raises:
        UserError: there is no network of that name.
    """
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}")
    return MODELS[name](num_classes=num_classes, dtype=dtype)
