"""The networks, by name."""

from collections.abc import Callable

import jax.numpy as jnp
from flax.typing import Dtype

from cifar_jax.errors import UserError
from cifar_jax.models.cuda_convnet import CudaConvnet11pct, CudaConvnet18pct
from cifar_jax.models.keras_weights import from_keras
from cifar_jax.models.mobilenet import MobileNet
from cifar_jax.models.network import Network
from cifar_jax.models.resnet import resnet18, resnet50
from cifar_jax.models.tutorial import TutorialCNN
from cifar_jax.models.vgg import vgg16, vgg16_bn, vgg19, vgg19_bn
from cifar_jax.ops import Implementation

__all__ = ["MODELS", "Network", "create", "from_keras"]

MODELS: dict[str, Callable[..., Network]] = {
    "tutorial": TutorialCNN,
    "cuda_convnet_18pct": CudaConvnet18pct,
    "cuda_convnet_11pct": CudaConvnet11pct,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet": MobileNet,
}


def create(
    name: str,
    num_classes: int | None = None,
    dtype: Dtype = jnp.float32,
    ops: Implementation = "auto",
) -> Network:
    """The network of that name.

    Args:
        name: one of MODELS.
        num_classes: how many logits it gives; None: as many as is usual for it.
        dtype: of the computation; parameters are float32.
        ops: how its operations are computed, see `cifar_jax.ops`.

    Raises:
        UserError: there is no network of that name.
    """
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}")
    options = {} if num_classes is None else {"num_classes": num_classes}
    return MODELS[name](**options, dtype=dtype, ops=ops)
