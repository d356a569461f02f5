"""PyTorch's weights as variables of the networks."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
from flax import traverse_util
from jaxtyping import Float32

from cifar_jax.checks import check_regular_file, check_type
from cifar_jax.errors import UserError
from cifar_jax.models.network import Network
from cifar_jax.models.pytorch import files, names
from cifar_jax.models.resnet import BottleneckResNet, CifarResNet
from cifar_jax.models.variables import Variables

Path = tuple[str, ...]
Tensor = Float32[np.ndarray, "..."]

# The collection of each tensor of a layer, and its name there.
_LEAVES: Mapping[str, tuple[str, str]] = {
    "weight": ("params", "kernel"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def from_pytorch(path: str | os.PathLike[str], network: Network) -> Variables:
    """Reads weights from PyTorch as the variables of a network.

    This works for resnet18, resnet34, cifar_resnet50, and cifar_resnet101 with the
    weights of torchvision, timm, or kuangliu/pytorch-cifar, if their stem is that for
    small images; for wrn with those by the layer names that are usual for CIFAR; for
    vit_ti, vit_s, and vit_b with those of timm, torchvision, or Transformers; and for
    conv_mixer and mlp_mixer with timm's. For example::

        network = models.create("vit_b(patch=16)", num_classes=1000)
        variables = models.from_pytorch("vit_b_16.safetensors", network)
        logits = network.apply(variables, images)

    The images must be 224x224 pixels in this example, and normalized as in PyTorch.
    Some options leave no trace in a file, such as the number of a ViT's heads: the
    network must have those with which the weights were trained. Transformers adds 1e-12
    to variances in LayerNorm, where the other libraries and this package add 1e-6.

    Args:
        path: a safetensors file with a state dict, as safetensors.torch.save_file
            writes it.
        network: a network from `create`.

    Returns:
        {"params": ..., "batch_stats": ...}.

    Raises:
        UserError: the file cannot be read; its tensors have no place in the network; or
            it is known that this network computes something else from them. Whether
            all are there, with the right shapes, only `apply` will show.
    """
    check_type(network, "network", Network)
    path = check_regular_file(path)
    files.refuse_pickles(path)
    table = _table(network, path)
    flat: dict[Path, Tensor] = {}
    for name, tensor in files.read(path).items():
        parts = _convert(name, tensor, table)
        if not parts:
            raise UserError(
                f"{path} has {name} of shape {tensor.shape}, for which "
                f"{type(network).__name__} has no place"
            )
        if flat.keys() & parts.keys():
            raise UserError(f"{path} has {name} twice, by two names")
        flat |= parts
    _check_stem(flat, network, path)
    return {"params": {}, "batch_stats": {}} | traverse_util.unflatten_dict(flat)


def _table(network: Network, path: pathlib.Path) -> names.Table:
    """Returns the names of a network's layers in PyTorch.

    Raises:
        UserError: there are none, or the network there is another one.
    """
    if (table := names.TABLES.get(type(network))) is not None:
        return table
    kind = type(network).__name__
    if type(network) is BottleneckResNet:
        raise UserError(
            f"{path}: {kind} is the ResNet of Keras, which halves images in 1x1 "
            "convolutions; PyTorch's halve them in 3x3 convolutions, so their weights "
            "do not fit; pass a file of Keras"
        )
    known = ", ".join(kind.__name__ for kind in names.TABLES)
    raise UserError(
        f"{path} does not say which network it is for, as files of python -m "
        f"cifar_jax.export do; PyTorch's weights can be used by {known}, not {kind}"
    )


def _convert(name: str, tensor: Tensor, table: names.Table) -> dict[Path, Tensor]:
    """Returns the parts of a tensor in Flax's layout; none if there is no place."""
    place = names.find(name, table)
    if place is None:
        return {}
    if place.leaf is None:
        return {("params", *place.layers): tensor}
    count = len(place.layers)
    if place.leaf not in _LEAVES or not tensor.ndim or len(tensor) % count:
        return {}
    collection, leaf = _LEAVES[place.leaf]
    if tensor.ndim > 1:
        # Outputs and inputs come first, before the window of a convolution.
        tensor = np.moveaxis(tensor, (0, 1), (-1, -2))
    elif leaf == "kernel":
        leaf = "scale"
    parts = zip(place.layers, np.split(tensor, count, axis=-1), strict=True)
    return {(collection, *layer.split("/"), leaf): part for layer, part in parts}


def _check_stem(
    flat: Mapping[Path, Tensor], network: Network, path: pathlib.Path
) -> None:
    """Raises UserError for a ResNet for ImageNet."""
    stem = flat.get(("params", "conv1_conv", "kernel"))
    if isinstance(network, CifarResNet) and stem is not None and len(stem) == 7:
        raise UserError(
            f"{path} is of a ResNet for ImageNet, which begins with a 7x7 convolution "
            "and pooling; networks here with these blocks begin with a 3x3 "
            "convolution, for images of 32x32; pass weights of such a network"
        )
