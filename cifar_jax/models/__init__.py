"""Creates networks by name."""

from collections.abc import Callable
from typing import Any, get_args

import jax.numpy as jnp
from flax.typing import Dtype

from cifar_jax.checks import check_integer
from cifar_jax.errors import UserError
from cifar_jax.models.airbench import (
    airbench94,
    airbench94_sgd,
    airbench95,
    airbench96,
    sprint,
)
from cifar_jax.models.cuda_convnet import CudaConvnet11pct, CudaConvnet18pct
from cifar_jax.models.keras.inception import InceptionResNetV2, InceptionV3
from cifar_jax.models.keras.mobilenet import MobileNet
from cifar_jax.models.keras.weights import from_keras
from cifar_jax.models.keras.xception import Xception
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
    "inception_v3": InceptionV3,
    "xception": Xception,
    "inception_resnet_v2": InceptionResNetV2,
    "sprint": sprint,
    "airbench94": airbench94,
    "airbench94_sgd": airbench94_sgd,
    "airbench95": airbench95,
    "airbench96": airbench96,
}


def create(
    name: str,
    num_classes: int | None = None,
    dtype: Dtype = jnp.float32,
    ops: Implementation = "auto",
) -> Network:
    """Returns the network with the given name.

    Args:
        name: one of MODELS.
        num_classes: the number of logits; None for the network's default.
        dtype: the data type of the computation; parameters are float32.
        ops: how the operations of `cifar_jax.ops` are computed.

    Raises:
        UserError: there is no network of that name, it is not a `Network`, or an
            argument cannot be used.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}")
    options: dict[str, Any] = {"dtype": dtype, "ops": ops}
    if num_classes is not None:
        options["num_classes"] = check_integer(num_classes, "num_classes", at_least=1)
    if ops not in get_args(Implementation):
        raise UserError(
            f"ops={ops!r} is unknown; choose from {', '.join(get_args(Implementation))}"
        )
    network: Any
    try:
        network = MODELS[name](**options)
    except TypeError as error:
        network = error
    if not isinstance(network, Network):
        raise UserError(f"model {name!r} is not a cifar_jax.Network: {network}")
    return network
