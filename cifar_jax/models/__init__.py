"""The networks, by name."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from flax.typing import Dtype
from jaxtyping import Array, PyTree

from cifar_jax.checks import as_kind, check_integer, check_type
from cifar_jax.errors import UserError
from cifar_jax.models.airbench import (
    airbench94,
    airbench94_sgd,
    airbench95,
    airbench96,
    sprint,
)
from cifar_jax.models.block import Block
from cifar_jax.models.conv_mixer import ConvMixer
from cifar_jax.models.cuda_convnet import CudaConvnet11pct, CudaConvnet18pct
from cifar_jax.models.densenet import DenseNet, densenet121
from cifar_jax.models.dla import DLA, SimpleDLA
from cifar_jax.models.dpn import dpn26, dpn92
from cifar_jax.models.efficientnet import EfficientNet
from cifar_jax.models.googlenet import GoogLeNet
from cifar_jax.models.keras.inception import InceptionResNetV2, InceptionV3
from cifar_jax.models.keras.mobilenet import MobileNet
from cifar_jax.models.keras.weights import from_keras
from cifar_jax.models.keras.xception import Xception
from cifar_jax.models.lenet import LeNet
from cifar_jax.models.mlp_mixer import MLPMixer
from cifar_jax.models.mobilenet_v2 import MobileNetV2
from cifar_jax.models.network import Network
from cifar_jax.models.pnasnet import PNASNetA, PNASNetB
from cifar_jax.models.preact_resnet import WideResNet, preact_resnet18, senet18
from cifar_jax.models.pytorch.weights import from_pytorch
from cifar_jax.models.regnet import regnet_x_200mf, regnet_y_400mf
from cifar_jax.models.resnet import (
    cifar_resnet50,
    cifar_resnet101,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet110,
)
from cifar_jax.models.resnext import resnext29
from cifar_jax.models.shufflenet import ShuffleNet
from cifar_jax.models.shufflenet_v2 import ShuffleNetV2
from cifar_jax.models.tutorial import TutorialCNN
from cifar_jax.models.vgg import vgg16, vgg16_bn, vgg19, vgg19_bn
from cifar_jax.models.vit import vit_b, vit_s, vit_ti
from cifar_jax.ops import Implementation
from cifar_jax.registry import Registry, names, resolve

__all__ = ["MODELS", "Block", "Network", "create", "from_keras", "from_pytorch"]

MODELS: Registry[Network] = Registry(
    Network,
    {
        "tutorial": TutorialCNN,
        "cuda_convnet_18pct": CudaConvnet18pct,
        "cuda_convnet_11pct": CudaConvnet11pct,
        "vgg16": vgg16,
        "vgg19": vgg19,
        "vgg16_bn": vgg16_bn,
        "vgg19_bn": vgg19_bn,
        "resnet18": resnet18,
        "resnet34": resnet34,
        "cifar_resnet50": cifar_resnet50,
        "cifar_resnet101": cifar_resnet101,
        "resnet20": resnet20,
        "resnet32": resnet32,
        "resnet44": resnet44,
        "resnet56": resnet56,
        "resnet110": resnet110,
        "resnet50": resnet50,
        "wrn": WideResNet,
        "preact_resnet18": preact_resnet18,
        "senet18": senet18,
        "densenet": DenseNet,
        "densenet121": densenet121,
        "resnext29": resnext29,
        "regnet_x_200mf": regnet_x_200mf,
        "regnet_y_400mf": regnet_y_400mf,
        "dpn26": dpn26,
        "dpn92": dpn92,
        "mobilenet": MobileNet,
        "inception_v3": InceptionV3,
        "xception": Xception,
        "inception_resnet_v2": InceptionResNetV2,
        "lenet": LeNet,
        "mobilenet_v2": MobileNetV2,
        "efficientnet_b0": EfficientNet,
        "googlenet": GoogLeNet,
        "dla": DLA,
        "simple_dla": SimpleDLA,
        "shufflenet": ShuffleNet,
        "shufflenet_v2": ShuffleNetV2,
        "pnasnet_a": PNASNetA,
        "pnasnet_b": PNASNetB,
        "sprint": sprint,
        "airbench94": airbench94,
        "airbench94_sgd": airbench94_sgd,
        "airbench95": airbench95,
        "airbench96": airbench96,
        "vit_ti": vit_ti,
        "vit_s": vit_s,
        "vit_b": vit_b,
        "conv_mixer": ConvMixer,
        "mlp_mixer": MLPMixer,
    },
)
# Fields that the program and Flax set in each network, so they are not options.
RESERVED = tuple(inspect.signature(Network).parameters)


def create(
    text: str,
    num_classes: int | None = None,
    dtype: Dtype = jnp.float32,
    ops: Implementation = "auto",
) -> Network:
    """Creates the network that a text describes, such as `resnet18(width=32)`.

    Args:
        text: one of MODELS, with or without options.
        num_classes: the number of logits; None for the network's default.
        dtype: the data type of the computation; parameters are float32.
        ops: how the operations in `cifar_jax.ops` are computed.

    Raises:
        UserError: there is no network of that name, it is not a `Network`, or an
            argument or an option is invalid.
    """
    try:
        given = {"dtype": dtype, "ops": as_kind("ops", ops, Implementation)}
    except ValueError as error:
        raise UserError(str(error)) from None
    if num_classes is not None:
        given["num_classes"] = check_integer(num_classes, "num_classes", at_least=1)
    for name in names(text, "model"):
        kind = MODELS.get(name, Network)
        if isinstance(kind, type) and not issubclass(kind, Network):
            raise UserError(
                f"--model={text}: {kind.__name__} is not a cifar_jax.Network"
            )
    return resolve(text, MODELS, "model", RESERVED, given)


def check(network: Any, name: str = "model") -> None:
    """Raises UserError unless it is a `Network`."""
    check_type(network, name, Network)


def describe(network: Network) -> str:
    """Returns a network's class and fields as one line, the same in every process."""
    return _describe(network)


def _describe(value: Any) -> str:
    if isinstance(value, nn.Module):
        fields = (f.name for f in dataclasses.fields(value))
        options = {
            name: getattr(value, name)
            for name in fields
            if name not in ("parent", "name")
        }
        return f"{_place(type(value))}({_list_arguments((), options)})"
    if isinstance(value, functools.partial):
        return f"{_describe(value.func)}({_list_arguments(value.args, value.keywords)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, np.dtype) or hasattr(value, "dtype"):
        return str(np.dtype(value).name)
    return _place(value) if hasattr(value, "__qualname__") else repr(value)


def _list_arguments(positional: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    options = (f"{name}={_describe(value)}" for name, value in named.items())
    return ", ".join([*map(_describe, positional), *options])


def _place(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def collect_losses(collections: Mapping[str, PyTree]) -> dict[str, Array]:
    """Returns the losses that layers have sown, by path; adds several at one path."""
    found: dict[str, Array] = {}
    sown = collections.get("losses", {})
    for path, value in jax.tree_util.tree_leaves_with_path(sown):
        name = "/".join(key.key for key in path if hasattr(key, "key"))
        found[name] = found.get(name, 0) + value
    return found


def collect_taps(intermediates: Mapping[str, PyTree]) -> tuple[dict[str, Array], ...]:
    """Returns {layer: activations} for each tapped layer, in order.

    Args:
        intermediates: the collection of that name, as returned by `apply`.
    """
    found: list[dict[str, Array]] = []
    for (*path, name), sown in flatten_dict(intermediates).items():
        if name == "activations":
            # Layers inside a Flax transformation are found below the whole network's.
            place = "".join(f"{part}/" for part in path)
            found += [{place + k: v for k, v in layer.items()} for layer in sown]
    return tuple(found)
